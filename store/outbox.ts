/**
 * What must still be done outside the transaction that makes it necessary: actors to be told, and quiet conversations to be woken. A row is
 * written in that transaction and deleted only after Temporal has answered, or the waking has committed, so a crash anywhere does it
 * again; all of it is idempotent.
 */
import type pg from 'pg';
import type { Queryable } from './database.ts';

/** Enough that many workers can share the load; changing it needs an empty outbox. */
export const shardCount = 16;

/** The tail of a UUIDv7 is random, so it spreads contacts evenly. */
export const shardOf = (contactId: string): number => parseInt(contactId.slice(-4), 16) % shardCount;

/** SQL for the same, where the contact is only known to the statement. */
export const shardSql = (contactId: string): string =>
  `((get_byte(uuid_send(${contactId}), 14) * 256 + get_byte(uuid_send(${contactId}), 15)) % ${shardCount})::smallint`;

export const outboxChannel = 'switchyard_outbox';

export interface OutboxEntry {
  readonly workspaceId: string;
  readonly contactId: string;
  /** Null: look, messages wait. Set: this conversation is to be closed. */
  readonly closeConversationId: string | null;
}

export interface OutboxRow extends OutboxEntry {
  readonly id: number;
  readonly attempts: number;
  /** Set: the contact wrote to this conversation while it was quiet. No actor has to know. Ingest writes these rows. */
  readonly wakeConversationId: string | null;
}

/**
 * SQL that wakes the relays at commit. Once a transaction: a notification takes a lock of the whole server at commit, and one
 * per inserted row nearly halved the ingest rate. It is a hint only; relays poll as well.
 */
export const wakeRelaysSql = `pg_notify('${outboxChannel}', '')`;

/** Writes entries and, once for all of them, wakes the relays when the transaction commits. */
export async function enqueueNudges(tx: Queryable, entries: readonly OutboxEntry[]): Promise<void> {
  if (entries.length === 0) return;
  await tx.query({
    name: 'enqueue-nudges',
    text: `WITH written AS (
             INSERT INTO outbox (shard, workspace_id, contact_id, close_conversation_id)
             SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::uuid[])
           )
           SELECT ${wakeRelaysSql}`,
    values: [
      entries.map((entry) => shardOf(entry.contactId)),
      entries.map((entry) => entry.workspaceId),
      entries.map((entry) => entry.contactId),
      entries.map((entry) => entry.closeConversationId),
    ],
  });
}

export interface DueRows {
  /** By workspace and shard, each queue's oldest first. */
  readonly nudges: readonly OutboxRow[];
  /** The oldest first. */
  readonly wakes: readonly OutboxRow[];
  /** Where the next reading is to begin; null: at the first. */
  readonly afterWorkspaceId: string | null;
}

/** In one reading. With fewer queues than this, each reading sees all of them. */
export const maxQueues = 256;

/**
 * Due rows of the given shards, leaving out those that the caller has at hand, and conversations already being woken. Only the shards' lease
 * holder calls it.
 *
 * Nudges come from each workspace's own queue in each shard, some of each: however long one workspace's queue is, the others' are read beside
 * it. The recursion steps along the index `outbox_nudges` from queue to queue, so it costs what there are workspaces with rows, not what
 * waits. Where there are more queues than one reading takes, the next one goes on after the last that was seen in every shard.
 *
 * Wakes are read by an index of their own: they must not wait behind nudges that cannot be delivered.
 */
export async function readDueRows(
  db: Queryable,
  options: {
    readonly shards: readonly number[];
    readonly nudges: {
      /** Contacts to leave out. */
      readonly busyIds: readonly string[];
      /** Rows to leave out. */
      readonly heldRowIds: readonly number[];
      /** 0 reads none. */
      readonly maxRowsPerQueue: number;
      readonly afterWorkspaceId: string | null;
    };
    readonly wakes: {
      /** Conversations to leave out. */
      readonly busyIds: readonly string[];
      readonly maxRowsPerShard: number;
    };
  },
): Promise<DueRows> {
  const { shards, nudges, wakes } = options;
  const { rows } = await db.query<OutboxRow & { queueShard: number | null; queueWorkspaceId: string | null }>({
    name: 'read-due-rows',
    text: readDueRowsSql,
    values: [
      shards,
      nudges.busyIds,
      nudges.maxRowsPerQueue,
      wakes.busyIds,
      wakes.maxRowsPerShard,
      nudges.afterWorkspaceId ?? nobody,
      nudges.maxRowsPerQueue === 0 ? 0 : maxQueues,
      nudges.heldRowIds,
    ],
  });
  /** The workspaces seen in each shard, in their order. */
  const seen = new Map<number, string[]>();
  const due = { nudges: [] as OutboxRow[], wakes: [] as OutboxRow[] };
  for (const { queueShard, queueWorkspaceId, ...row } of rows) {
    if (queueShard !== null && queueWorkspaceId !== null) {
      const ofShard = seen.get(queueShard) ?? [];
      seen.set(queueShard, ofShard);
      if (ofShard.at(-1) !== queueWorkspaceId) ofShard.push(queueWorkspaceId);
    }
    // A queue of which nothing is due has one row without an id.
    if (row.id !== null) (row.wakeConversationId === null ? due.nudges : due.wakes).push(row);
  }
  return { ...due, afterWorkspaceId: endOfReading([...seen.values()]) };
}

/**
 * Shards are stepped through side by side, so one of which fewer workspaces were seen than of others has no more of them. Of the rest, the one
 * that is behind says where to go on; what others have beyond it is read again.
 */
function endOfReading(seenByShard: readonly (readonly string[])[]): string | null {
  if (seenByShard.reduce((sum, { length }) => sum + length, 0) < maxQueues) return null;
  const most = Math.max(...seenByShard.map(({ length }) => length));
  const unfinished = seenByShard.filter(({ length }) => length >= most - 1);
  return unfinished.map((workspaceIds) => workspaceIds.at(-1)!).toSorted()[0]!;
}

const nobody = '00000000-0000-0000-0000-000000000000';

const rowColumns = `
  o.id, o.attempts, o.workspace_id AS "workspaceId", o.contact_id AS "contactId",
  o.close_conversation_id AS "closeConversationId", o.wake_conversation_id AS "wakeConversationId"`;

/**
 * `BETWEEN` and the shard and workspace in the order say nothing new. With `=` the planner walked the primary key instead, past the rows
 * of all other shards: 450 ms for a drained shard beside 375,000 rows.
 */
const readDueRowsSql = `
  WITH RECURSIVE queue AS (
    SELECT held.shard, first.workspace_id
    FROM unnest($1::smallint[]) AS held (shard)
    CROSS JOIN LATERAL (
      SELECT o.workspace_id FROM outbox o
      WHERE o.shard BETWEEN held.shard AND held.shard AND o.workspace_id > $6::uuid AND o.wake_conversation_id IS NULL
      ORDER BY o.shard, o.workspace_id LIMIT 1
    ) first
    UNION ALL
    SELECT queue.shard, next.workspace_id
    FROM queue CROSS JOIN LATERAL (
      SELECT o.workspace_id FROM outbox o
      WHERE o.shard BETWEEN queue.shard AND queue.shard AND o.workspace_id > queue.workspace_id
        AND o.wake_conversation_id IS NULL
      ORDER BY o.shard, o.workspace_id LIMIT 1
    ) next
  )
  (SELECT queue.shard AS "queueShard", queue.workspace_id AS "queueWorkspaceId", due.*
   FROM (SELECT * FROM queue LIMIT $7) queue
   LEFT JOIN LATERAL (
     SELECT ${rowColumns} FROM outbox o
     WHERE o.shard BETWEEN queue.shard AND queue.shard
       AND o.workspace_id BETWEEN queue.workspace_id AND queue.workspace_id
       AND o.wake_conversation_id IS NULL AND o.due_at <= now()
       AND o.contact_id <> ALL($2::uuid[]) AND o.id <> ALL($8::bigint[])
     ORDER BY o.shard, o.workspace_id, o.id LIMIT $3
   ) due ON true)
  UNION ALL
  (SELECT null, null, due.*
   FROM unnest($1::smallint[]) AS held (shard)
   CROSS JOIN LATERAL (
     SELECT ${rowColumns} FROM outbox o
     WHERE o.shard BETWEEN held.shard AND held.shard AND o.due_at <= now() AND o.wake_conversation_id IS NOT NULL
       AND o.wake_conversation_id <> ALL($4::uuid[])
     ORDER BY o.shard, o.id LIMIT $5
   ) due
   ORDER BY due.id)`;

/**
 * By id, not by contact: a row written meanwhile must still be sent. The commit does not wait for the disk: a deletion that a crash undoes is
 * made again, after the row has been told again. It took 0.09 CPU-ms of PostgreSQL's where it took 0.3. Hence a pool: no transaction of anybody's may be
 * made to commit so.
 */
export async function deleteRows(pool: pg.Pool, ids: readonly number[]): Promise<void> {
  await pool.query({
    name: 'delete-outbox-rows',
    text: `WITH commit AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
           DELETE FROM outbox USING commit WHERE id = ANY($1::bigint[])`,
    values: [ids],
  });
}

/** Puts rows off, doubling from 0.2 s to a minute, so that a contact that cannot be told blocks no other. */
export async function postponeRows(db: Queryable, ids: readonly number[]): Promise<void> {
  await db.query({
    name: 'postpone-outbox-rows',
    text: `UPDATE outbox
           SET attempts = attempts + 1, due_at = now() + least(interval '0.2 s' * 2 ^ least(attempts, 12), interval '1 min')
           WHERE id = ANY($1::bigint[])`,
    values: [ids],
  });
}
