/**
 * What must still be done outside the transaction that makes it necessary: actors to be told, and quiet conversations to be woken. A row is
 * written in that transaction and deleted only after Temporal has answered, or the waking has committed, so a crash anywhere does it
 * again; all of it is idempotent.
 */
import type { Queryable } from './database.ts';

/** Enough that many workers can share the load; changing it needs an empty outbox. */
export const shardCount = 16;

/** The tail of a UUIDv7 is random, so it spreads contacts evenly. */
export const shardOf = (contactId: string): number => parseInt(contactId.slice(-4), 16) % shardCount;

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

/** Writes entries and, once for all of them, wakes the relays when the transaction commits. */
export async function enqueueNudges(tx: Queryable, entries: readonly OutboxEntry[]): Promise<void> {
  if (entries.length === 0) return;
  await tx.query({
    name: 'enqueue-nudges',
    text: `INSERT INTO outbox (shard, workspace_id, contact_id, close_conversation_id)
           SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::uuid[])`,
    values: [
      entries.map((entry) => shardOf(entry.contactId)),
      entries.map((entry) => entry.workspaceId),
      entries.map((entry) => entry.contactId),
      entries.map((entry) => entry.closeConversationId),
    ],
  });
  await announceNudges(tx);
}

/**
 * Wakes the relays at commit. Once a transaction at most: a notification takes a lock of the whole server at commit, and one
 * per inserted row nearly halved the ingest rate. It is a hint only; relays poll as well.
 */
export async function announceNudges(tx: Queryable): Promise<void> {
  await tx.query({ name: 'announce-nudges', text: `SELECT pg_notify('${outboxChannel}', '')` });
}

/**
 * Due rows of the given shards, oldest first, leaving out contacts already being told and conversations already being woken. Only the
 * shards' lease holder calls it. Shard by shard along the index, so that a long outbox after an outage is not sorted anew for every read.
 * Wakes are read by an index of their own: they must not wait behind nudges that cannot be delivered.
 *
 * `BETWEEN` and the shard in the order say nothing new. With `=` the planner walked the primary key instead, past the rows of all other
 * shards: 450 ms for a drained shard beside 375,000 rows.
 */
export async function readDueRows(
  db: Queryable,
  { shards, nudges, wakes }: { shards: readonly number[]; nudges: DueRows; wakes: DueRows },
): Promise<OutboxRow[]> {
  const { rows } = await db.query<OutboxRow>({
    name: 'read-due-rows',
    text: `SELECT due.id, due.attempts, due.workspace_id AS "workspaceId", due.contact_id AS "contactId",
                  due.close_conversation_id AS "closeConversationId", due.wake_conversation_id AS "wakeConversationId"
           FROM unnest($1::smallint[]) AS held (shard)
           CROSS JOIN LATERAL (
             (SELECT * FROM outbox o
              WHERE o.shard BETWEEN held.shard AND held.shard AND o.due_at <= now() AND o.wake_conversation_id IS NULL
                AND o.contact_id <> ALL($2::uuid[])
              ORDER BY o.shard, o.id LIMIT $3)
             UNION ALL
             (SELECT * FROM outbox o
              WHERE o.shard BETWEEN held.shard AND held.shard AND o.due_at <= now() AND o.wake_conversation_id IS NOT NULL
                AND o.wake_conversation_id <> ALL($4::uuid[])
              ORDER BY o.shard, o.id LIMIT $5)
           ) due
           ORDER BY due.id`,
    values: [shards, nudges.busyIds, nudges.maxRowsPerShard, wakes.busyIds, wakes.maxRowsPerShard],
  });
  return rows;
}

interface DueRows {
  /** Contacts, or for wakes conversations, to leave out. */
  readonly busyIds: readonly string[];
  /** 0 reads none. */
  readonly maxRowsPerShard: number;
}

/** By id, not by contact: a row written meanwhile must still be sent. */
export async function deleteRows(db: Queryable, ids: readonly number[]): Promise<void> {
  await db.query({
    name: 'delete-outbox-rows',
    text: 'DELETE FROM outbox WHERE id = ANY($1::bigint[])',
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
