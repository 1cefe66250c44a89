/**
 * The relay: does what the outbox says, and deletes a row only when it is done: actors are told, quiet conversations are woken.
 *
 * - Shards of the contact hash are leased, so that several workers share the outbox without locking rows; each takes its fair part
 *   and gives back what is too much when another joins. Two that overlap for a moment send twice, which nudges allow.
 * - A contact's rows are told together (relay-delivery.ts says how), and one contact has one delivery under way: a burst costs one call.
 * - The outbox is read when something was written, and again only if there may be more: what a reading left for want of room or by its limit,
 *   or rows of a contact that is being told. Rows that are told are deleted some 30 ms later, many at once; until then readings leave them out.
 *   At 30 conversations a second that is 1.3 readings and 0.5 deletions a conversation, where each delivery's end made them 3.7 and 1.4.
 * - Workspaces take turns: what is read has some of each, and each delivery that becomes free goes to the next of them.
 * - A contact that cannot be told is put off by itself, further each time; all others go on. While the server is away nothing is
 *   put off: the relay pauses and then drains.
 * - Wakes need the database only. They are read and carried out beside the deliveries, so that neither an absent Temporal nor a long
 *   outbox holds them up. Against the nudges and closes of their contact any order is right: a wake looks at what it finds.
 */
import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type pg from 'pg';
import { groupBy } from '../platform/group-by.ts';
import type { Logger } from '../platform/logger.ts';
import { createMicroBatcher } from '../platform/micro-batcher.ts';
import { deleteRows, outboxChannel, postponeRows, readDueRows, shardOf, type OutboxRow } from '../store/outbox.ts';
import { wakeConversation } from '../store/quiet.ts';
import { createBell, ringWhenWritten } from './relay-bell.ts';
import { createDelivery, isServerAway } from './relay-delivery.ts';
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
/**
 * Between two readings: under load, what has come meanwhile is read at once. At 60 rows a second 10 ms make as many readings, 0.9 a row; 20 ms make
 * 0.7, but a row then waits 10 ms in the median, not 3.
 */
const minReadMs = 5;
/** Nobody waits for the deletion of what is told. */
const maxDeletionWaitMs = 30;
const pauseMs = 500;
/** Of one workspace in one shard. */
const maxRowsPerQueue = 16;

export function startRelay(options: RelayOptions): Relay {
  const { pool, logger, metrics } = options;
  const stopping = new AbortController();
  // While the server is away, every delivery under way waits with it.
  setMaxListeners(maxDeliveries + 10, stopping.signal);
  const leases = createShardLeases({ pool, owner: randomUUID(), logger });
  const bell = createBell();
  const listening = ringWhenWritten(pool, { channel: outboxChannel, bell, signal: stopping.signal, logger });
  const errands = createErrands(options, stopping.signal);
  /** By contact. */
  const deliveries = new Map<string, Promise<void>>();
  /** Contacts of which more rows were seen while they were being told. Readings leave them out until that has ended. */
  const waitingContacts = new Set<string>();
  /** Whether the last reading left something that is due, for want of room or by its limit. */
  let isCut = false;
  /** By conversation. */
  const wakes = new Map<string, Promise<void>>();
  /** The workspace after which the next reading begins, while there are more than one reading takes. */
  let afterWorkspaceId: string | null = null;
  let readAt = -Infinity;
  const running = run();

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const shards = await leases.hold();
        metrics.shards.set(shards.length);
        if (shards.length > 0) await dispatchDue(shards);
        if (!isCut || deliveries.size >= maxDeliveries) await bell.wait(pollMs);
      } catch (error) {
        logger.warn({ err: error }, 'the relay could not read the outbox');
        await delay(pauseMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      }
    }
    await Promise.all([...deliveries.values(), ...wakes.values()]);
    await errands.close();
    await leases.release();
  }

  /** Starts a delivery for each contact, and a wake for each conversation, that has due rows and none under way. */
  async function dispatchDue(shards: readonly number[]): Promise<void> {
    const room = maxDeliveries - deliveries.size;
    const wakeRoom = maxWakes - wakes.size;
    if (room <= 0) isCut = true;
    if (room <= 0 && wakeRoom <= 0) return;
    await delay(Math.max(0, readAt + minReadMs - performance.now()));
    readAt = performance.now();
    const due = await readDueRows(pool, {
      shards,
      nudges: {
        busyIds: [...waitingContacts],
        heldRowIds: errands.heldRowIds(),
        maxRowsPerQueue: room <= 0 ? 0 : maxRowsPerQueue,
        afterWorkspaceId,
      },
      wakes: { busyIds: [...wakes.keys()], maxRowsPerShard: Math.ceil((wakeRoom * 8) / shards.length) },
    });
    const isPart = afterWorkspaceId !== null || due.afterWorkspaceId !== null;
    ({ afterWorkspaceId } = due);
    const { nudges, wakes: calls } = due;
    const turns = takeTurns(nudges);
    const free = turns.filter(([first]) => !deliveries.has(first!.contactId));
    for (const [first] of turns) if (deliveries.has(first!.contactId)) waitingContacts.add(first!.contactId);
    for (const group of free.slice(0, room)) deliver(group[0]!.contactId, group);
    isCut = room <= 0 || free.length > room || isPart || hasFullQueue(nudges);
    for (const [conversationId, group] of [...groupBy(calls, (row) => row.wakeConversationId!)].slice(0, wakeRoom)) {
      wake(conversationId, group);
    }
  }

  function deliver(contactId: string, rows: readonly OutboxRow[]): void {
    const work = errands.deliver(rows).then((isTold) => {
      deliveries.delete(contactId);
      const hasMore = waitingContacts.delete(contactId);
      // What was not told stands in the outbox as before.
      if (hasMore || isCut || !isTold) bell.ring();
    });
    deliveries.set(contactId, work);
  }

  function wake(conversationId: string, rows: readonly OutboxRow[]): void {
    const work = errands.wake(conversationId, rows).then(() => {
      wakes.delete(conversationId);
      bell.ring();
    });
    wakes.set(conversationId, work);
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

interface Errands {
  /**
   * Tells an actor what its rows say, and has them deleted. Never rejects: what fails is put off, or stays as it is while the server is away.
   * @returns whether it was told
   */
  deliver(rows: readonly OutboxRow[]): Promise<boolean>;
  /** Rows that are being told, or are told and not yet deleted. */
  heldRowIds(): readonly number[];
  /** The same for a quiet conversation that is to count again. */
  wake(conversationId: string, rows: readonly OutboxRow[]): Promise<void>;
  close(): Promise<void>;
}

function createErrands(options: RelayOptions, stopping: AbortSignal): Errands {
  const { pool, logger, metrics } = options;
  const delivery = createDelivery(options);
  const held = new Set<number>();
  /** Told rows are deleted together, whoever they are for. They may be repeated, so nothing is lost if a deletion is. */
  const deletions = createMicroBatcher<readonly number[], void>({
    name: 'told outbox rows',
    keyOf: ([id]) => String(id),
    async flush(groups) {
      await deleteRows(pool, groups.flat());
      return groups.map(() => ({ ok: true, value: undefined }));
    },
    isIsolatable: () => false,
    maxWaitMs: maxDeletionWaitMs,
    maxInFlight: 1,
  });
  let away = false;
  let answeredAt = -Infinity;

  async function deliver(rows: readonly OutboxRow[]): Promise<boolean> {
    const ids = rows.map((row) => row.id);
    for (const id of ids) held.add(id);
    const isTold = await tell(rows, ids);
    if (isTold) void drop(ids);
    else release(ids);
    return isTold;
  }

  async function drop(ids: readonly number[]): Promise<void> {
    try {
      await deletions.add(ids);
      metrics.delivered.inc(ids.length);
    } catch (error) {
      logger.warn({ err: error }, 'could not delete told outbox rows; they are told again');
    }
    release(ids);
  }

  function release(ids: readonly number[]): void {
    for (const id of ids) held.delete(id);
  }

  async function tell(rows: readonly OutboxRow[], ids: readonly number[]): Promise<boolean> {
    const startedAt = performance.now();
    try {
      await delivery.tellActor(rows);
      away = false;
      answeredAt = performance.now();
      return true;
    } catch (error) {
      metrics.failed.inc();
      // A server that meanwhile answers for others is not away: this one contact is the trouble.
      if (isServerAway(error) && answeredAt < startedAt) {
        if (!away) logger.warn({ err: error }, 'Temporal is away; the outbox waits');
        away = true;
        await delay(pauseMs, undefined, { signal: stopping }).catch(() => undefined);
        return false;
      }
      logger.error(
        { err: error, contactId: rows[0]!.contactId, attempts: rows[0]!.attempts },
        'could not tell an actor',
      );
      await postponeRows(pool, ids).catch(() => undefined);
      return false;
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

  return { deliver, heldRowIds: () => [...held], wake, close: () => deletions.close() };
}

/** Whether there may be more due rows in a queue than were read. */
const hasFullQueue = (rows: readonly OutboxRow[]): boolean =>
  [...groupBy(rows, (row) => `${row.workspaceId}/${shardOf(row.contactId)}`).values()].some(
    (queue) => queue.length >= maxRowsPerQueue,
  );

/** The rows of each contact, one contact of each workspace after the other. */
function takeTurns(rows: readonly OutboxRow[]): OutboxRow[][] {
  const turns: OutboxRow[][][] = [];
  for (const ofWorkspace of groupBy(rows, (row) => row.workspaceId).values()) {
    [...groupBy(ofWorkspace, (row) => row.contactId).values()].forEach((ofContact, turn) => {
      (turns[turn] ??= []).push(ofContact);
    });
  }
  return turns.flat();
}
