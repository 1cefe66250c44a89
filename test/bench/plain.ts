/**
 * Switchyard without what makes it quick, to measure that: the same store and the same rows, but an actor of regular activities told by
 * signals, each row of the outbox by itself, and each step for one conversation at a time. Runs until told to stop; one worker only.
 */
import { fileURLToPath } from 'node:url';
import type { Client } from '@temporalio/client';
import { bundleWorkflowCode, type NativeConnection } from '@temporalio/worker';
import type pg from 'pg';
import type { WorkflowSandbox } from '../../platform/config.ts';
import type { Logger } from '../../platform/logger.ts';
import type { Phase } from '../../routing/phase.ts';
import { assignRouted } from '../../store/assignment.ts';
import { executeClose } from '../../store/closing.ts';
import { openForContact } from '../../store/opening.ts';
import { deleteRows, outboxChannel } from '../../store/outbox.ts';
import { readPhase } from '../../store/phases.ts';
import { enrichConversation } from '../../store/enriching.ts';
import { routeByFlow } from '../../store/routing.ts';
import { workersWithSandbox } from '../../worker/workflow-sandbox.ts';
import { contactWorkflowId, type ConversationRef } from '../../workflows/contract.ts';
import { plainCloseSignal, plainNudgeSignal, type PlainActivities } from './plain-workflow.ts';

export interface PlainWorkerOptions {
  readonly pool: pg.Pool;
  readonly client: Client;
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly taskQueue: string;
  readonly sandbox: WorkflowSandbox;
  readonly logger: Logger;
}

export interface PlainWorker {
  /** Rejects when the worker or its relay fails; resolves after stop(). */
  readonly running: Promise<void>;
  stop(): void;
}

export async function startPlainWorker(options: PlainWorkerOptions): Promise<PlainWorker> {
  const { pool, connection, namespace, taskQueue, sandbox, logger } = options;
  const worker = await workersWithSandbox(sandbox, { logger }).create({
    connection,
    namespace,
    taskQueue,
    workflowBundle: await bundle(),
    activities: createPlainActivities(pool),
    // As worker/main.ts has it.
    maxCachedWorkflows: 2_000,
    maxConcurrentWorkflowTaskExecutions: 40,
    maxConcurrentActivityTaskExecutions: 100,
    shutdownGraceTime: '5s',
  });
  const stopping = new AbortController();
  const stop = (): void => {
    if (stopping.signal.aborted) return;
    stopping.abort();
    if (worker.getState() === 'RUNNING') worker.shutdown();
  };
  const relaying = relay(options, stopping.signal);
  relaying.catch(stop);
  return { running: Promise.all([worker.run(), relaying]).then(() => undefined), stop };
}

function createPlainActivities(pool: pg.Pool): PlainActivities {
  async function after(applied: boolean, kind: 'assigning' | 'open', conversation: ConversationRef): Promise<Phase> {
    return applied ? { kind, conversationId: conversation.conversationId } : readPhase(pool, conversation);
  }
  return {
    openConversation: async (contact) => (await openForContact(pool, contact)).phase,
    async routeConversation(conversation) {
      await enrichConversation(pool, conversation);
      return after((await routeByFlow(pool, conversation)) !== null, 'assigning', conversation);
    },
    assignConversation: async (conversation) => after(await assignRouted(pool, conversation), 'open', conversation),
    closeConversation: async (conversation) => (await executeClose(pool, conversation)).phase,
  };
}

interface PlainRow {
  readonly id: number;
  readonly workspaceId: string;
  readonly contactId: string;
  readonly closeConversationId: string | null;
}

/** As many rows under way as our own relay has contacts. */
const maxDeliveries = 64;
const pollMs = 250;

async function relay({ pool, client, taskQueue }: PlainWorkerOptions, stopping: AbortSignal): Promise<void> {
  const underWay = new Map<number, Promise<void>>();
  let ring = (): void => undefined;
  const listener = await pool.connect();
  listener.on('notification', () => ring());
  await listener.query(`LISTEN ${outboxChannel}`);
  stopping.addEventListener('abort', () => ring());
  let failure: Error | undefined;

  async function deliver({ id, closeConversationId, ...contact }: PlainRow): Promise<void> {
    const start = { workflowId: contactWorkflowId(contact), taskQueue, args: [contact] as const };
    if (closeConversationId === null) {
      await client.workflow.signalWithStart('plainContactWorkflow', { ...start, signal: plainNudgeSignal });
    } else {
      const signalArgs: [{ conversationId: string }] = [{ conversationId: closeConversationId }];
      await client.workflow.signalWithStart('plainContactWorkflow', { ...start, signal: plainCloseSignal, signalArgs });
    }
    await deleteRows(pool, [id]);
  }

  try {
    while (!stopping.aborted && failure === undefined) {
      const rung = new Promise<void>((resolve) => {
        ring = resolve;
        setTimeout(resolve, pollMs);
      });
      const { rows } = await pool.query<PlainRow>({
        name: 'plain-outbox',
        text: `SELECT id, workspace_id AS "workspaceId", contact_id AS "contactId", close_conversation_id AS "closeConversationId"
               FROM outbox WHERE wake_conversation_id IS NULL AND id <> ALL($1::bigint[]) ORDER BY id LIMIT $2`,
        values: [[...underWay.keys()], maxDeliveries - underWay.size],
      });
      for (const row of rows) {
        const delivery = deliver(row)
          .catch((error: Error) => {
            failure = error;
          })
          .finally(() => {
            underWay.delete(row.id);
            ring();
          });
        underWay.set(row.id, delivery);
      }
      if (rows.length === 0 || underWay.size >= maxDeliveries) await rung;
    }
    await Promise.all(underWay.values());
    if (failure !== undefined) throw failure;
  } finally {
    listener.release(true);
  }
}

function bundle(): Promise<{ code: string }> {
  const quiet = () => undefined;
  const logger = { log: quiet, trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet };
  return bundleWorkflowCode({ workflowsPath: fileURLToPath(new URL('./plain-workflow.ts', import.meta.url)), logger });
}
