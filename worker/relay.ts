/**
 * The relay: does what the outbox says, and deletes a row only when it is done: actors are told, quiet conversations are woken.
 *
 * - Shards of the contact hash are leased, so that several workers share the outbox without locking rows; each takes its fair part
 *   and gives back what is too much when another joins. Two that overlap for a moment send twice, which nudges allow.
 * - A contact's rows are told together, and one contact has one delivery under way: a burst costs one call.
 * - Every signal starts the actor if none runs, so no actor has to be created first, and a lost one comes back.
 * - A contact that cannot be told is put off by itself, further each time; all others go on. While the server is away nothing is
 *   put off: the relay pauses and then drains.
 * - Wakes need the database only. They are read and carried out beside the deliveries, so that neither an absent Temporal nor a long
 *   outbox holds them up. Against the nudges and closes of their contact any order is right: a wake looks at what it finds.
 */
import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { isGrpcServiceError, type Client } from '@temporalio/client';
import type pg from 'pg';
import { groupBy } from '../platform/group-by.ts';
import type { Logger } from '../platform/logger.ts';
import { deleteRows, outboxChannel, postponeRows, readDueRows, type OutboxRow } from '../store/outbox.ts';
import { wakeConversation } from '../store/quiet.ts';
import {
  closeConversationSignal,
  contactWorkflowId,
  contactWorkflowType,
  nudgeSignal,
  type ContactWorkflowInput,
} from '../workflows/contract.ts';
import type { RelayMetrics } from './relay-metrics.ts';
import { createShardLeases } from './shard-leases.ts';

export interface RelayOptions {
  readonly pool: pg.Pool;
  readonly client: Client;
  readonly taskQueue: string;
  readonly maxHistoryEvents: number;
  readonly logger: Logger;
  readonly metrics: RelayMetrics;
}

export interface Relay {
  /** Resolves when the deliveries under way are done and the shards are given back. */
  stop(): Promise<void>;
}

/** Deliveries under way at a time: enough to hide the server's latency, few enough not to flood it after an outage. */
const maxDeliveries = 64;
/** Each takes a connection of the pool that activities use, too. */
const maxWakes = 4;
/** Only a fallback: a notification wakes the relay. */
const pollMs = 250;
const pauseMs = 500;
const deadlineMs = 10_000;

export function startRelay(options: RelayOptions): Relay {
  const { pool, logger, metrics } = options;
  const stopping = new AbortController();
  // While the server is away, every delivery under way waits with it.
  setMaxListeners(maxDeliveries + 10, stopping.signal);
  const leases = createShardLeases({ pool, owner: randomUUID(), logger });
  const bell = createBell();
  const listening = listen(pool, bell.ring, stopping.signal, logger);
  /** By contact. */
  const deliveries = new Map<string, Promise<void>>();
  /** By conversation. */
  const wakes = new Map<string, Promise<void>>();
  let away = false;
  let answeredAt = -Infinity;
  const running = run();

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const shards = await leases.hold();
        metrics.shards.set(shards.length);
        const due = shards.length === 0 ? 0 : await dispatchDue(shards);
        if (due === 0 || deliveries.size >= maxDeliveries) await bell.wait(pollMs);
      } catch (error) {
        logger.warn({ err: error }, 'the relay could not read the outbox');
        await delay(pauseMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      }
    }
    await Promise.all([...deliveries.values(), ...wakes.values()]);
    await leases.release();
  }

  /** Starts a delivery for each contact, and a wake for each conversation, that has due rows and none under way. */
  async function dispatchDue(shards: readonly number[]): Promise<number> {
    const room = maxDeliveries - deliveries.size;
    const wakeRoom = maxWakes - wakes.size;
    if (room <= 0 && wakeRoom <= 0) return 0;
    const rows = await readDueRows(pool, {
      shards,
      nudges: { busyIds: [...deliveries.keys()], maxRowsPerShard: Math.ceil((room * 8) / shards.length) },
      wakes: { busyIds: [...wakes.keys()], maxRowsPerShard: Math.ceil((wakeRoom * 8) / shards.length) },
    });
    const nudges = rows.filter((row) => row.wakeConversationId === null);
    const calls = rows.filter((row) => row.wakeConversationId !== null);
    for (const [contactId, group] of [...groupBy(nudges, (row) => row.contactId)].slice(0, room)) {
      track(deliveries, contactId, deliver(group));
    }
    for (const [conversationId, group] of [...groupBy(calls, (row) => row.wakeConversationId!)].slice(0, wakeRoom)) {
      track(wakes, conversationId, wake(conversationId, group));
    }
    return rows.length;
  }

  function track(underWay: Map<string, Promise<void>>, key: string, work: Promise<void>): void {
    const tracked = work.finally(() => {
      underWay.delete(key);
      bell.ring();
    });
    underWay.set(key, tracked);
  }

  async function deliver(rows: readonly OutboxRow[]): Promise<void> {
    const ids = rows.map((row) => row.id);
    const startedAt = performance.now();
    try {
      await options.client.withDeadline(Date.now() + deadlineMs, () => tellActor(options, rows));
      away = false;
      answeredAt = performance.now();
      await deleteRows(pool, ids);
      metrics.delivered.inc(ids.length);
    } catch (error) {
      metrics.failed.inc();
      // A server that meanwhile answers for others is not away: this one contact is the trouble.
      if (isServerAway(error) && answeredAt < startedAt) {
        if (!away) logger.warn({ err: error }, 'Temporal is away; the outbox waits');
        away = true;
        await delay(pauseMs, undefined, { signal: stopping.signal }).catch(() => undefined);
        return;
      }
      logger.error(
        { err: error, contactId: rows[0]!.contactId, attempts: rows[0]!.attempts },
        'could not tell an actor',
      );
      await postponeRows(pool, ids).catch(() => undefined);
    }
  }

  async function wake(conversationId: string, rows: readonly OutboxRow[]): Promise<void> {
    const ids = rows.map((row) => row.id);
    const { workspaceId, contactId } = rows[0]!;
    try {
      await wakeConversation(pool, { workspaceId, contactId, conversationId });
      await deleteRows(pool, ids);
      metrics.woken.inc(ids.length);
    } catch (error) {
      metrics.wakeFailures.inc();
      logger.error({ err: error, conversationId, attempts: rows[0]!.attempts }, 'could not wake a conversation');
      await postponeRows(pool, ids).catch(() => undefined);
    }
  }

  return {
    async stop() {
      stopping.abort();
      bell.ring();
      await running;
      await listening;
    },
  };
}

async function tellActor(
  { client, taskQueue, maxHistoryEvents }: RelayOptions,
  rows: readonly OutboxRow[],
): Promise<void> {
  const { workspaceId, contactId } = rows[0]!;
  const input: ContactWorkflowInput = { workspaceId, contactId, maxHistoryEvents };
  const start = { workflowId: contactWorkflowId(input), taskQueue, args: [input] as [ContactWorkflowInput] };
  const closeIds = new Set(rows.map((row) => row.closeConversationId).filter((id) => id !== null));
  for (const conversationId of closeIds) {
    await client.workflow.signalWithStart(contactWorkflowType, {
      ...start,
      signal: closeConversationSignal,
      signalArgs: [{ conversationId }],
    });
  }
  // A close makes the actor look as well, but only if it came first; a nudge of its own is right in any order.
  if (rows.some((row) => row.closeConversationId === null)) {
    await client.workflow.signalWithStart(contactWorkflowType, { ...start, signal: nudgeSignal, signalArgs: [] });
  }
}

const grpcDeadlineExceeded = 4;
const grpcUnavailable = 14;

/** The client wraps what gRPC reports, so the whole chain of causes is looked at. */
function isServerAway(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (isGrpcServiceError(cause)) return cause.code === grpcUnavailable || cause.code === grpcDeadlineExceeded;
  }
  return false;
}

/** Wakes one waiter, or the next one to wait: a ring while nobody waits is not lost. */
function createBell(): { ring: () => void; wait: (timeoutMs: number) => Promise<void> } {
  let rung = false;
  let wake: (() => void) | null = null;
  return {
    ring: () => {
      rung = true;
      wake?.();
    },
    wait: async (timeoutMs) => {
      if (!rung) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, timeoutMs);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      rung = false;
      wake = null;
    },
  };
}

/** Listens on a connection of its own until stopped; without it, polling carries the relay. */
async function listen(pool: pg.Pool, ring: () => void, signal: AbortSignal, logger: Logger): Promise<void> {
  while (!signal.aborted) {
    try {
      const client = await pool.connect();
      try {
        client.on('notification', ring);
        await client.query(`LISTEN ${outboxChannel}`);
        await lossOf(client, signal);
      } finally {
        client.release(true);
      }
    } catch (error) {
      logger.warn({ err: error }, 'cannot listen for notifications; polling');
    }
    if (!signal.aborted) await delay(1_000, undefined, { signal }).catch(() => undefined);
  }
}

/** Resolves when the connection is lost or the signal aborts, also when it has done so already. */
function lossOf(client: pg.PoolClient, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      signal.removeEventListener('abort', end);
      resolve();
    };
    client.once('error', end);
    client.once('end', end);
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
  });
}
