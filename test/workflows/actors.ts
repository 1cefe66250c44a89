/** Actors as in production, on the real server and database, in the test's own process; the test itself tells them, as the relay does. */
import { randomBytes } from 'node:crypto';
import type { WorkflowHandle } from '@temporalio/client';
import { Worker } from '@temporalio/worker';
import { inject } from 'vitest';
import { createActivityMetrics } from '../../activities/activity-metrics.ts';
import { createActivities } from '../../activities/create-activities.ts';
import { createNetworkAccess } from '../../activities/network-access.ts';
import { loadConfig } from '../../platform/config.ts';
import { newId } from '../../platform/id.ts';
import { createLogger } from '../../platform/logger.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { connectTemporalWorker, createTemporalClient } from '../../platform/temporal-client.ts';
import { requestClose } from '../../store/closing.ts';
import { publishFlow } from '../../store/flow-publishing.ts';
import { createFlow } from '../../store/flows.ts';
import { createDelivery } from '../../worker/relay-delivery.ts';
import { createRelayMetrics } from '../../worker/relay-metrics.ts';
import { actorBuildId, contactWorkflowId, getContactStateQuery, type ContactState } from '../../workflows/contract.ts';
import { createTestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { createStage, type Stage } from '../store/stage.ts';
import { installTemporalRuntime } from './temporal-runtime.ts';

export type Actors = Awaited<ReturnType<typeof startActors>>;

export interface ActorsOptions {
  /** What enrichment may reach, as the environment of a worker. */
  readonly env?: Readonly<Record<string, string>>;
  /** The code of an earlier build (see test/support/stepwise-bundle.ts), whose workers had no name. */
  readonly earlierBundle?: { readonly code: string };
  readonly temporalAddress?: string;
}

export async function startActors({
  env = {},
  earlierBundle,
  temporalAddress = inject('temporalAddress'),
}: ActorsOptions = {}) {
  installTemporalRuntime();
  const database = await createTestDatabase();
  const config = loadConfig({ ...env, TEMPORAL_ADDRESS: temporalAddress });
  const { client, connection } = createTemporalClient(config);
  const taskQueue = `actors-${randomBytes(6).toString('hex')}`;
  const workerConnection = await connectTemporalWorker(config);
  const worker = await Worker.create({
    connection: workerConnection,
    namespace: config.temporalNamespace,
    taskQueue,
    ...(earlierBundle === undefined
      ? { buildId: actorBuildId, workflowBundle: { codePath: inject('workflowBundlePath') } }
      : { workflowBundle: earlierBundle }),
    activities: createActivities({
      pool: database.pool,
      metrics: createActivityMetrics(createMetrics({ component: 'test' })),
      network: createNetworkAccess(config, createLogger({ logLevel: 'silent' }, 'test')),
    }),
  });
  const running = worker.run();
  const stopWorker = async (): Promise<void> => {
    if (worker.getState() === 'RUNNING') worker.shutdown();
    await running;
  };
  const workflowIds = new Set<string>();
  const metrics = createRelayMetrics(createMetrics({ component: 'test' }));

  /** One workspace a test: each sees its own flows, teams and agents only. */
  async function enter(): Promise<Scene> {
    const stage = await createStage(database.pool);
    const { workspaceId } = stage;
    const handleOf = (contactId: string): WorkflowHandle =>
      client.workflow.getHandle(contactWorkflowId({ workspaceId, contactId }));
    const tell = async (
      contactId: string,
      closeConversationId: string | null,
      { maxHistoryEvents = 2_000 }: TellOptions = {},
    ): Promise<void> => {
      const row = { id: 1, attempts: 0, workspaceId, contactId, closeConversationId, wakeConversationId: null };
      workflowIds.add(contactWorkflowId(row));
      await createDelivery({ client, taskQueue, maxHistoryEvents, metrics }).tellActor([row]);
    };
    const scene: Scene = {
      ...stage,
      handleOf,
      nudge: (contactId, options) => tell(contactId, null, options),
      tellToClose: tell,
      async say(contact, text = 'Hello') {
        const message = await stage.write(contact, {
          text,
          contact: { externalId: contact, name: `Name of ${contact}` },
        });
        await scene.nudge(message.contactId);
        return message.contactId;
      },
      async requestClose(contactId, conversationId) {
        await requestClose(database.pool, { workspaceId, conversationId, agentId: null, summary: 'Secret summary' });
        await scene.tellToClose(contactId, conversationId);
      },
      stateOf: (contactId) => handleOf(contactId).query(getContactStateQuery),
      untilOpen: (contactId, after) =>
        eventually('the actor waits for a close', async () => {
          const { phase } = await scene.stateOf(contactId);
          return phase.kind === 'open' && phase.conversationId !== after && phase.conversationId;
        }),
      async untilIdle(contactId) {
        await eventually('the actor is idle', async () => {
          const { phase, unread } = await scene.stateOf(contactId);
          return phase.kind === 'idle' && !unread.nudged;
        });
      },
      async publish(document) {
        const created = await createFlow(database.pool, { workspaceId, name: 'Flow', description: '', document });
        if (created.kind !== 'created') throw new Error(JSON.stringify(created));
        const published = await publishFlow(database.pool, { workspaceId, flowId: created.flow.id });
        if (published.kind !== 'published') throw new Error(published.kind);
      },
      async publishUnchecked(document) {
        const [flowId, versionId] = [newId(), newId()];
        await database.pool.query(
          `WITH flow AS (INSERT INTO flows (workspace_id, id, name, draft) VALUES ($1, $2, 'Broken', '{}'))
           INSERT INTO flow_versions (workspace_id, id, flow_id, number, document, uses_network) VALUES ($1, $3, $2, 1, $4, false)`,
          [workspaceId, flowId, versionId, JSON.stringify(document)],
        );
        await database.pool.query('UPDATE flows SET published_version_id = $3 WHERE workspace_id = $1 AND id = $2', [
          workspaceId,
          flowId,
          versionId,
        ]);
      },
    };
    return scene;
  }

  return {
    client,
    database,
    taskQueue,
    enter,
    /** Every actor that was told anything. */
    workflowIds,
    /** Resolves when the steps under way have ended. */
    stopWorker,
    async stop() {
      await Promise.allSettled(
        [...workflowIds].map((id) => client.workflow.getHandle(id).terminate('the test is over')),
      );
      await stopWorker();
      await workerConnection.close();
      await connection.close();
      await database.drop();
    },
  };
}

interface TellOptions {
  /** Of the run that this starts, if none is running. */
  readonly maxHistoryEvents?: number;
}

export interface Scene extends Stage {
  handleOf(contactId: string): WorkflowHandle;
  nudge(contactId: string, options?: TellOptions): Promise<void>;
  /** Told alone, without a stored request. */
  tellToClose(contactId: string, conversationId: string, options?: TellOptions): Promise<void>;
  /** Stores a message and tells the actor. @returns the contact's id */
  say(contact: string, text?: string): Promise<string>;
  /** Stores the request and tells the actor, as API and relay do. */
  requestClose(contactId: string, conversationId: string): Promise<void>;
  stateOf(contactId: string): Promise<ContactState>;
  /** @returns the conversation that is open, another one than `after` */
  untilOpen(contactId: string, after?: string): Promise<string>;
  untilIdle(contactId: string): Promise<void>;
  publish(document: unknown): Promise<void>;
  /** A version that no check of ours would let through. */
  publishUnchecked(document: unknown): Promise<void>;
}
