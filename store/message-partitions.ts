/**
 * The months of `messages`: made ahead, and dropped when they are older than messages are to be kept. Any number of workers may do either at once.
 *
 * What may go wrong, and why it does not:
 * - A message has no partition: months are made three ahead, and what fits none goes to the default partition, from where it moves to its
 *   month when that is made. A message is never refused.
 * - A month that must go holds what is still needed: a message that waits or one of an open conversation. It is kept until that has ended. Closed
 *   conversations are never opened again, so what was found free stays free; it is looked at once more under the lock, for the sake of
 *   clocks that are months late.
 * - The same delivery comes again after its message is gone: dedupe keys go with the messages, so it is a new message. Keys go first, as
 *   a key without a message would have no answer. A worker that ends in between is followed by one that starts that month anew.
 * - Others wait for the locks: each is asked for 100 ms only, since whoever comes later queues behind the one who asks; what did not get it
 *   comes again with the next round. `DETACH … CONCURRENTLY` would not lock, but PostgreSQL refuses it where there is a default partition.
 */
import type pg from 'pg';
import { isConflict, withTransaction, type Queryable } from '../platform/pool.ts';

/** Of one month, but for the oldest of an installation that was there before messages had partitions. */
export interface MessagePartition {
  readonly name: string;
  /** Null: no limit. */
  readonly from: Date | null;
  readonly to: Date;
}

/** Oldest first, without the default partition. */
export async function readMessagePartitions(db: Queryable): Promise<MessagePartition[]> {
  const { rows } = await db.query<{ name: string; from: string | null; to: string }>({
    name: 'read-message-partitions',
    text: `SELECT name, substring(bound FROM $$FROM \\('([0-9a-f-]+)$$) AS "from", substring(bound FROM $$TO \\('([0-9a-f-]+)$$) AS "to"
           FROM (SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound
                 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'messages'::regclass) p
           WHERE bound <> 'DEFAULT' ORDER BY 3`,
  });
  return rows.map(({ name, from, to }) => ({ name, from: from === null ? null : timeOf(from), to: timeOf(to) }));
}

/** A UUIDv7 begins with its milliseconds. */
const timeOf = (id: string): Date => new Date(Number.parseInt(id.replace('-', '').slice(0, 12), 16));

/** @returns the names of the partitions that were missing, of this month and of so many after it */
export async function createMessagePartitions(
  pool: pg.Pool,
  { monthsAhead, now = new Date() }: { monthsAhead: number; now?: Date },
): Promise<string[]> {
  const existing = await readMessagePartitions(pool);
  const created: string[] = [];
  for (let month = 0; month <= monthsAhead; month += 1) {
    const at = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + month, 1));
    if (existing.some(({ from, to }) => (from === null || from <= at) && at < to)) continue;
    const name = await withTransaction(pool, async (tx) => {
      // Who makes months waits for others who do, where nobody else waits; the short limit is for the table, where everybody would.
      await tx.query(`SELECT pg_advisory_xact_lock(hashtext('create_message_partition'))`);
      await limitLockWait(tx);
      const { rows } = await tx.query<{ name: string | null }>('SELECT create_message_partition($1) AS name', [at]);
      return rows[0]!.name;
    });
    if (name !== null) created.push(name);
  }
  return created;
}

const limitLockWait = (tx: Queryable) => tx.query(`SET LOCAL lock_timeout = '100ms'`);

/**
 * Makes the planner forget that a partition is empty, where it was told so (by `ANALYZE` over all tables, or a tool that does that). It would plan to
 * read such a one from end to end, and go on doing so through the first minutes of its month, until it is analyzed again: with a thousand
 * messages a second that is a hundred thousand rows for each look. Of a partition it knows nothing about it takes ten pages for granted, and
 * uses the indexes.
 */
export async function forgetEmptiness(db: Queryable): Promise<void> {
  await db.query({
    name: 'forget-emptiness',
    text: `SELECT pg_clear_relation_stats(c.relnamespace::regnamespace::text, c.relname::text)
           FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
           WHERE i.inhparent = 'messages'::regclass AND c.reltuples = 0`,
  });
}

export type RetentionOutcome =
  | { readonly kind: 'none' }
  | { readonly kind: 'held'; readonly partition: MessagePartition; readonly by: 'pending' | 'open' }
  /** Dedupe keys of its messages are being forgotten. */
  | { readonly kind: 'clearing'; readonly partition: MessagePartition; readonly keys: number }
  /** Somebody held a lock for longer than is waited. */
  | { readonly kind: 'busy'; readonly partition: MessagePartition }
  | { readonly kind: 'dropped'; readonly partition: MessagePartition };

export interface MessageRetention {
  /** Does what can be done in about `budgetMs` for the oldest month that is to go. */
  advance(options: { budgetMs: number; now?: Date }): Promise<RetentionOutcome>;
}

export function createMessageRetention(pool: pg.Pool, { days }: { days: number }): MessageRetention {
  /** Up to where the keys of which partition are forgotten. */
  let progress: { name: string; after: MessageKeyset | null } | null = null;

  async function advance({ budgetMs, now = new Date() }: { budgetMs: number; now?: Date }): Promise<RetentionOutcome> {
    const deadline = performance.now() + budgetMs;
    const [partition] = await readMessagePartitions(pool);
    if (partition === undefined || partition.to.getTime() > now.getTime() - days * dayMs) return { kind: 'none' };
    try {
      return await retire(partition, deadline);
    } catch (error) {
      if (!isUndefinedTable(error) || (await isThere(pool, partition))) throw error;
      // Another worker dropped it between two statements of ours.
      progress = null;
      return { kind: 'none' };
    }
  }

  async function retire(partition: MessagePartition, deadline: number): Promise<RetentionOutcome> {
    if (progress?.name !== partition.name) {
      const by = await findHolder(pool, partition.name);
      if (by !== null) return { kind: 'held', partition, by };
      progress = { name: partition.name, after: firstKeyset };
    }
    let keys = 0;
    while (progress.after !== null) {
      if (performance.now() > deadline) return { kind: 'clearing', partition, keys };
      const page = await forgetKeys(pool, partition.name, progress.after);
      keys += page.keys;
      progress.after = page.last;
    }
    const outcome = await dropPartition(pool, partition);
    if (outcome.kind !== 'busy') progress = null;
    return outcome;
  }

  return { advance };
}

const dayMs = 24 * 60 * 60 * 1_000;

const isUndefinedTable = (error: unknown): boolean => (error as { code?: unknown }).code === '42P01';

async function isThere(db: Queryable, { name }: MessagePartition): Promise<boolean> {
  return (await readMessagePartitions(db)).some((partition) => partition.name === name);
}

interface MessageKeyset {
  readonly workspaceId: string;
  readonly id: string;
}

const nil = '00000000-0000-0000-0000-000000000000';
const firstKeyset: MessageKeyset = { workspaceId: nil, id: nil };
const pageRows = 2_000;

/** Names come from the catalogue and are of our own making; statements about one partition cannot take them as values. */
const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** Step by step from the open conversations: a join would read the whole month. */
async function findHolder(db: Queryable, name: string): Promise<'pending' | 'open' | null> {
  const { rows } = await db.query<{ by: 'pending' | 'open' | null }>(
    `SELECT CASE
       WHEN EXISTS (SELECT FROM ${quote(name)} WHERE conversation_id IS NULL) THEN 'pending'
       WHEN EXISTS (SELECT FROM conversations v
                    CROSS JOIN LATERAL (SELECT FROM ${quote(name)} m
                                        WHERE m.workspace_id = v.workspace_id AND m.conversation_id = v.id LIMIT 1) held
                    WHERE v.closed_at IS NULL) THEN 'open'
     END AS by`,
  );
  return rows[0]!.by;
}

/** Nobody who writes keys waits for us with a key that we want, so this cannot deadlock with ingest. */
async function forgetKeys(
  db: Queryable,
  name: string,
  after: MessageKeyset,
): Promise<{ keys: number; last: MessageKeyset | null }> {
  const { rows } = await db.query<{ keys: number; last: MessageKeyset | null }>(
    `WITH page AS MATERIALIZED (
       SELECT workspace_id, id, direction, channel_id, conversation_id, external_id FROM ${quote(name)}
       WHERE (workspace_id, id) > ($1::uuid, $2::uuid) ORDER BY workspace_id, id LIMIT ${pageRows}
     ), written AS (
       DELETE FROM message_keys k USING page p
       WHERE p.direction = 'inbound' AND k.workspace_id = p.workspace_id AND k.channel_id = p.channel_id
         AND k.external_id = p.external_id AND k.message_id = p.id
       RETURNING 1
     ), replied AS (
       DELETE FROM reply_keys k USING page p
       WHERE p.direction = 'outbound' AND k.workspace_id = p.workspace_id AND k.conversation_id = p.conversation_id
         AND k.external_id = p.external_id AND k.message_id = p.id
       RETURNING 1
     )
     SELECT (SELECT count(*) FROM written) + (SELECT count(*) FROM replied) AS keys,
            (SELECT jsonb_build_object('workspaceId', workspace_id, 'id', id) FROM page
             ORDER BY workspace_id DESC, id DESC LIMIT 1) AS last`,
    [after.workspaceId, after.id],
  );
  return rows[0]!;
}

async function dropPartition(pool: pg.Pool, partition: MessagePartition): Promise<RetentionOutcome> {
  try {
    return await withTransaction(pool, async (tx): Promise<RetentionOutcome> => {
      await limitLockWait(tx);
      // In the order in which dropping takes them; another worker's drop ends before or begins after.
      await tx.query('LOCK TABLE ONLY messages IN ACCESS EXCLUSIVE MODE');
      if (!(await isThere(tx, partition))) return { kind: 'none' };
      const by = await findHolder(tx, partition.name);
      if (by !== null) return { kind: 'held', partition, by };
      await tx.query(`DROP TABLE ${quote(partition.name)}`);
      return { kind: 'dropped', partition };
    });
  } catch (error) {
    if (isConflict(error)) return { kind: 'busy', partition };
    throw error;
  }
}

export interface PartitionGauges {
  /** Until the first time for which there is no month. */
  readonly aheadSeconds: number;
  /** Since the end of the oldest month that is kept; 0 while it has not ended. */
  readonly oldestSeconds: number;
  /** Messages that fit no month. */
  readonly strayed: number;
}

export async function readPartitionGauges(db: Queryable): Promise<PartitionGauges> {
  const partitions = await readMessagePartitions(db);
  const { rows } = await db.query<{ strayed: number }>({
    name: 'count-strayed-messages',
    text: 'SELECT count(*) AS strayed FROM (SELECT FROM messages_stray LIMIT 1000) strays',
  });
  const now = new Date();
  let end = now;
  // One after the other: a month made by hand, for messages that strayed far ahead, says nothing of those before it.
  for (const { from, to } of partitions) if ((from === null || from <= end) && to > end) end = to;
  const secondsFromNow = (at: Date): number => (at.getTime() - now.getTime()) / 1_000;
  return {
    aheadSeconds: secondsFromNow(end),
    oldestSeconds: Math.max(0, -secondsFromNow(partitions[0]?.to ?? now)),
    strayed: rows[0]!.strayed,
  };
}
