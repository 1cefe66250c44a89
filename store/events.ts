/**
 * The feed of everything that happens, read by cursor. A cursor must never pass over an event that is still to come, and ids
 * alone do not give that: an id is drawn when an event is written, but the event appears only when its transaction commits,
 * and a transaction with a higher id may commit first.
 *
 * A reader therefore stops at the safe id: the highest id below which nothing can appear any more. To find one, read the last
 * id that was drawn (L), and only then take a transaction id of one's own (X). Writers have a transaction id before they draw
 * an event id (`recordEvents` makes sure), so whoever drew an id up to L has one below X. Once no transaction below X runs,
 * every id up to L is final. `pg_snapshot_xmax` would not do for X: it is one above the last transaction that *ended*, so
 * writers that still run may lie beyond it.
 *
 * A transaction that stays open for long holds the feed back (never breaks it): readers then get what was final before.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Queryable } from './database.ts';

export const eventTypes = [
  'conversation.opened',
  'conversation.asked',
  'conversation.answered',
  'conversation.enriched',
  'conversation.routed',
  'conversation.waiting',
  'conversation.ring_passed',
  'conversation.offered',
  'conversation.offer_ended',
  'conversation.assigned',
  'conversation.unassigned',
  'conversation.quiet',
  'conversation.woken',
  'conversation.close_requested',
  'conversation.closed',
  'conversation.fell_back',
  'message.received',
  'message.sent',
  'message.delivered',
  'message.delivery_failed',
  'agent.presence_changed',
] as const;

export type EventType = (typeof eventTypes)[number];

export interface NewEvent {
  readonly type: EventType;
  readonly conversationId: string | null;
  readonly contactId: string | null;
  /** Ids and short facts; what people wrote stays in the messages. */
  readonly data: Readonly<Record<string, unknown>>;
}

export interface EventRow extends NewEvent {
  /** Also the cursor: ids grow in the order in which things happened to a conversation. */
  readonly id: number;
  readonly at: Date;
}

/** Writes events in the caller's transaction, which holds the locks of what they tell about; they keep their order. */
export async function recordEvents(tx: Queryable, workspaceId: string, events: readonly NewEvent[]): Promise<void> {
  if (events.length === 0) return;
  await tx.query({
    name: 'record-events',
    text: recordEventsSql,
    values: [
      workspaceId,
      events.map((event) => event.type),
      events.map((event) => event.conversationId),
      events.map((event) => event.contactId),
      events.map((event) => JSON.stringify(event.data)),
    ],
  });
}

export interface EventFeed {
  /** The highest id up to which no event can appear any more. */
  safeId(): Promise<number>;
  /** The last id that was drawn: where someone begins who wants only what happens from now on. */
  lastId(): Promise<number>;
  /** Events after the cursor, in order. Everything committed before the call is there, unless an older transaction still runs. */
  readEvents(workspaceId: string, after: number, limit: number): Promise<EventRow[]>;
  /** The same up to an id that `safeId` has told. */
  readEventsUpTo(workspaceId: string, after: number, safeId: number, limit: number): Promise<EventRow[]>;
}

/** @param maxWaitMs how long a reader waits for older transactions before it is content with what was final before. */
export function createEventFeed(pool: pg.Pool, { maxWaitMs = 1000, pollMs = 5 } = {}): EventFeed {
  const advance = createSafeId(pool, maxWaitMs, pollMs);
  let running: Promise<number> | null = null;
  let following: Promise<number> | null = null;

  function start(): Promise<number> {
    const started = advance().finally(() => {
      if (running === started) running = null;
    });
    running = started;
    return started;
  }

  /** Callers share a sampling, but only one that began after they came: else they could miss what they have just done. */
  function safeId(): Promise<number> {
    if (running === null) return start();
    following ??= running
      .catch(() => 0)
      .then(() => {
        following = null;
        return start();
      });
    return following;
  }

  const readEventsUpTo: EventFeed['readEventsUpTo'] = async (workspaceId, after, upTo, limit) => {
    if (after >= upTo) return [];
    const { rows } = await pool.query<EventRow>({
      name: 'read-events',
      text: readEventsSql,
      values: [workspaceId, after, upTo, limit],
    });
    return rows;
  };

  return {
    safeId,
    lastId: () => readLastId(pool),
    readEventsUpTo,
    readEvents: async (workspaceId, after, limit) => readEventsUpTo(workspaceId, after, await safeId(), limit),
  };
}

function createSafeId(pool: pg.Pool, maxWaitMs: number, pollMs: number): () => Promise<number> {
  let safe = 0;
  // A sample that did not become final in time is kept: a new one each time might never become final under constant load.
  let sample: { lastId: number; xid: string } | null = null;

  async function isFinal(xid: string): Promise<boolean> {
    const { rows } = await pool.query<{ final: boolean }>({ name: 'is-sample-final', text: isFinalSql, values: [xid] });
    return rows[0]?.final === true;
  }

  return async function advance() {
    const deadline = performance.now() + maxWaitMs;
    if (sample !== null && (await isFinal(sample.xid))) {
      safe = sample.lastId;
      sample = null;
    }
    if (sample === null) {
      const lastId = await readLastId(pool);
      // Nothing was drawn since: no transaction id need be spent.
      if (lastId <= safe) return safe;
      sample = { lastId, xid: await drawTransactionId(pool) };
    }
    for (let pauseMs = pollMs; !(await isFinal(sample.xid)); pauseMs = Math.min(pauseMs * 2, 100)) {
      if (performance.now() >= deadline) return safe;
      await delay(pauseMs);
    }
    safe = sample.lastId;
    sample = null;
    return safe;
  };
}

async function readLastId(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ lastId: number }>({ name: 'read-last-event-id', text: readLastIdSql });
  return rows[0]?.lastId ?? 0;
}

async function drawTransactionId(pool: pg.Pool): Promise<string> {
  const { rows } = await pool.query<{ xid: string }>({ name: 'draw-transaction-id', text: drawTransactionIdSql });
  const xid = rows[0]?.xid;
  if (xid === undefined) throw new Error('PostgreSQL gave no transaction id');
  return xid;
}

// The condition is evaluated before the first row, so that the transaction has its id before it draws one for an event.
const recordEventsSql = `
  INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
  SELECT $1, type, conversation_id, contact_id, data
  FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::jsonb[])
    WITH ORDINALITY AS event (type, conversation_id, contact_id, data, place)
  WHERE pg_current_xact_id() IS NOT NULL
  ORDER BY place`;

const readLastIdSql = `SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS "lastId" FROM events_id_seq`;

const drawTransactionIdSql = `SELECT pg_current_xact_id()::text AS xid`;

const isFinalSql = `SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8 AS final`;

const readEventsSql = `
  SELECT id, type, conversation_id AS "conversationId", contact_id AS "contactId", data, at
  FROM events
  WHERE workspace_id = $1 AND id > $2 AND id <= $3
  ORDER BY id
  LIMIT $4`;
