import { setTimeout as delay } from 'node:timers/promises';
import type { Client, WorkflowHandle } from '@temporalio/client';
import { Worker } from '@temporalio/worker';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createActivityMetrics } from '../../activities/activity-metrics.ts';
import { createActivities } from '../../activities/create-activities.ts';
import { createNetworkAccess } from '../../activities/network-access.ts';
import { loadConfig } from '../../platform/config.ts';
import { createLogger } from '../../platform/logger.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { connectTemporalWorker, createTemporalClient } from '../../platform/temporal-client.ts';
import { deleteRows, readDueRows, shardCount, type OutboxRow } from '../../store/outbox.ts';
import { contactWorkflowId } from '../../workflows/contract.ts';
import * as stepwise from '../histories/stepwise/contract.ts';
import { eventually } from '../support/eventually.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { bundleStepwiseActors } from '../support/stepwise-bundle.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { startTraffic } from '../support/traffic.ts';
import { fillWorkspace } from '../support/workspace.ts';
import { installTemporalRuntime } from '../workflows/temporal-runtime.ts';

let system: TestSystem;
let client: Client;
let oldWorker: OldWorker;

beforeAll(async () => {
  system = await startSystem({ workers: 0 });
  await fillWorkspace(system);
  oldWorker = await startOldWorker();
  ({ client } = oldWorker);
});
afterAll(async () => {
  await oldWorker?.stop();
  await oldWorker?.disconnect();
  await system?.stop();
});

test('a worker of the build before gives over to the present one under load: all goes on, nothing is lost or done twice', async () => {
  const { pool } = system.database;
  const { workspaceId } = system.workspace;
  const api = system.apis[0]!;
  const traffic = startTraffic({ apis: () => system.apis, contacts: 8, paceMs: 60, closes: true });
  const accepted: Parameters<typeof assertSoundHistory>[1]['accepted'] & object[] = [];
  const say = async (contact: string): Promise<string> => {
    const { status, body } = await api.send(contact, 'Where is my invoice?');
    expect(status).toBe(202);
    accepted.push(body);
    return body.contactId;
  };
  const close = (conversationId: string) => api.post(`/v1/conversations/${conversationId}/close`, {});

  // Actors of the old form: some with nothing open, some with an open conversation.
  const idle = await Promise.all(names('idle').map(say));
  const open = await Promise.all(names('open').map(say));
  for (const contactId of idle) await close(await untilAssigned(contactId));
  const conversations = await Promise.all(open.map((contactId) => untilAssigned(contactId)));
  await eventually('cycles of the old build', () => traffic.closed.size >= 25);

  // Both builds at once, with closes just under way.
  const [closing, kept] = [conversations.slice(0, 2), conversations.slice(2)];
  const starting = system.startWorker();
  await Promise.all(closing.map(close));
  const worker = await starting;
  const closedWithBoth = traffic.closed.size;
  await eventually('cycles of both builds', () => traffic.closed.size >= closedWithBoth + 20);
  await oldWorker.stop();
  const closedBefore = traffic.closed.size;
  await eventually('cycles of the present build alone', () => traffic.closed.size >= closedBefore + 25);

  // What the old build left behind goes on: the idle ones open, the open ones close.
  const begun = await Promise.all([...idle, ...open].map(readActivities));
  await Promise.all(names('idle').map(say));
  await Promise.all(kept.map(close));
  await traffic.stop();
  await waitUntilSettled({ pool, workspaceId });
  await assertSoundHistory(pool, { workspaceId, accepted: [...traffic.accepted, ...accepted] });
  const { rows } = await pool.query<{ state: string }>(
    'SELECT state FROM conversations WHERE workspace_id = $1 AND contact_id = ANY($2::uuid[])',
    [workspaceId, [...idle, ...open]],
  );
  const count = (state: string): number => rows.filter((row) => row.state === state).length;
  expect([count('closed'), count('assigned')]).toEqual([idle.length + open.length, idle.length]);

  // They did so in their form, told by update.
  expect(begun.every((activities) => activities.has('openConversation'))).toBe(true);
  for (const contactId of idle) expect(await readActivities(contactId)).not.toContain('advanceContact');
  const page = await (await fetch(worker.metricsUrl)).text();
  const told = /^switchyard_relay_calls_total\{.*by="update".*\} (\d+)$/m.exec(page);
  // How many depends on how busy the machine is: what is not taken in time is told by signal.
  expect(Number(told?.[1])).toBeGreaterThan(0);
  expect(await readTaskFailures()).toEqual([]);
});

const names = (prefix: string): string[] => Array.from({ length: 5 }, (_, i) => `${prefix}-${i + 1}`);

const handleOf = (contactId: string): WorkflowHandle =>
  client.workflow.getHandle(contactWorkflowId({ workspaceId: system.workspace.workspaceId, contactId }));

const untilAssigned = (contactId: string): Promise<string> =>
  eventually('assigned', async () => {
    const { items } = await system.apis[0]!.get(`/v1/conversations?contactId=${contactId}&state=assigned`);
    return items[0]?.id as string | undefined;
  });

/** The local activities that the actor's present run shows. */
async function readActivities(contactId: string): Promise<ReadonlySet<string>> {
  const { events } = await handleOf(contactId).fetchHistory();
  const markers = events!.map((event) => event.markerRecordedEventAttributes?.details?.['data']?.payloads?.[0]?.data);
  const texts = markers.flatMap((data) => (data == null ? [] : [Buffer.from(data).toString('utf8')]));
  return new Set(texts.flatMap((text) => /"activity_type":"(\w+)"/.exec(text)?.[1] ?? []));
}

/** Of all actors and runs. One that only met something new to hear is no failure. */
async function readTaskFailures(): Promise<string[]> {
  const failures: string[] = [];
  const { rows } = await system.database.pool.query<{ id: string }>('SELECT id FROM contacts WHERE workspace_id = $1', [
    system.workspace.workspaceId,
  ]);
  for (const { id } of rows) {
    let runId: string | undefined = (await handleOf(id).describe()).runId;
    while (runId !== undefined && runId !== '') {
      const { events } = await client.workflow.getHandle(handleOf(id).workflowId, runId).fetchHistory();
      for (const { workflowTaskFailedEventAttributes: failed } of events!) {
        if (failed == null || failed.failure?.message?.includes('UnhandledCommand')) continue;
        failures.push(`${id}: ${failed.cause} ${failed.failure?.message}`);
      }
      runId = events![0]!.workflowExecutionStartedEventAttributes!.continuedExecutionRunId ?? undefined;
    }
  }
  return failures;
}

type OldWorker = Awaited<ReturnType<typeof startOldWorker>>;

/** The frozen actors with the present activities, told by signals as the relay of that build did. */
async function startOldWorker() {
  installTemporalRuntime();
  const { taskQueue, database } = system;
  const config = loadConfig({ TEMPORAL_ADDRESS: system.temporalAddress });
  const workerConnection = await connectTemporalWorker(config);
  const { client: ownClient, connection } = createTemporalClient(config);
  const worker = await Worker.create({
    connection: workerConnection,
    taskQueue,
    workflowBundle: await bundleStepwiseActors(),
    activities: createActivities({
      pool: database.pool,
      metrics: createActivityMetrics(createMetrics({ component: 'test' })),
      network: createNetworkAccess(config, createLogger({ logLevel: 'silent' }, 'worker')),
    }),
    shutdownGraceTime: '10s',
  });
  const running = worker.run();
  let stopping = false;
  const relaying = relay();

  async function relay(): Promise<void> {
    while (!stopping) {
      const { nudges } = await readDueRows(database.pool, {
        shards: Array.from({ length: shardCount }, (_, shard) => shard),
        nudges: { busyIds: [], heldRowIds: [], maxRowsPerQueue: 20, afterWorkspaceId: null },
        wakes: { busyIds: [], maxRowsPerShard: 0 },
      });
      await Promise.all(nudges.map(tell));
      await deleteRows(
        database.pool,
        nudges.map(({ id }) => id),
      );
      await delay(10);
    }
  }

  async function tell({ workspaceId, contactId, closeConversationId }: OutboxRow): Promise<void> {
    const input = { workspaceId, contactId, maxHistoryEvents: 2_000 };
    const start = { workflowId: stepwise.contactWorkflowId(input), taskQueue, args: [input] };
    const { workflow } = ownClient;
    await (closeConversationId === null
      ? workflow.signalWithStart(stepwise.contactWorkflowType, {
          ...start,
          signal: stepwise.nudgeSignal,
          signalArgs: [],
        })
      : workflow.signalWithStart(stepwise.contactWorkflowType, {
          ...start,
          signal: stepwise.closeConversationSignal,
          signalArgs: [{ conversationId: closeConversationId }],
        }));
  }

  return {
    client: ownClient,
    async stop() {
      stopping = true;
      await relaying;
      if (worker.getState() === 'RUNNING') worker.shutdown();
      await running;
    },
    async disconnect() {
      await workerConnection.close();
      await connection.close();
    },
  };
}
