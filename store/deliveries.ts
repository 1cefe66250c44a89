/**
 * What channels and webhooks must still be told, and the telling of it by any number of workers (worker/outbound.ts).
 *
 * - A row is there while it is pending or has failed for good; what is delivered is deleted, and the message says so from then on.
 * - What goes to one place (a lane: a channel, or a workspace's webhooks to one host) about one conversation goes in its order: an earlier row that is
 *   pending, claimed or not, holds up the later ones; a failed one does not. Two claims at once cannot pass over it: it stays pending until it is done.
 * - A claim is a lease in the row. Who dies leaves it there, and the row is due again when it ends: then it is sent a second time, with the same id.
 * - What waits behind a row that was put off is due with it, and not before. So a claim looks at what is due only, not at all that waits for a
 *   channel that has been away for days. Where the row ends sooner, since people hurried it or its receiver is well again, it frees the next one,
 *   and that the one behind it.
 * - Lanes are served in turn, by as many rows as there is room for: the next claim goes on behind the last one served.
 */
import type { Queryable } from './database.ts';

export const deliveriesChannel = 'switchyard_deliveries';

/** SQL that wakes the deliverers at commit; a hint only, they poll as well. */
export const wakeDeliverersSql = `pg_notify('${deliveriesChannel}', '')`;

export interface ClaimedDelivery {
  /** Also the `webhook-id`, the same each time it is sent. */
  readonly id: string;
  readonly lane: string;
  readonly workspaceId: string;
  readonly kind: 'message' | 'webhook';
  /** Null: the channel has none any more. */
  readonly url: string | null;
  /** The first is the one that counts; a second one still does. Empty: the workspace has none yet. */
  readonly secrets: readonly string[];
  readonly payload: Readonly<Record<string, unknown>>;
  /** Those that failed. */
  readonly attempts: number;
  /** Since it was written, or sent again by hand. */
  readonly triedForMs: number;
}

export interface LaneRoom {
  /** How many of these lanes may be taken, in place of `maxRowsPerLane`. */
  readonly roomByLane: ReadonlyMap<string, number>;
  /** Lanes of which no more than `ailingRoom` may be taken in all, those first that come first. */
  readonly ailingLanes: readonly string[];
  readonly ailingRoom: number;
}

export interface ClaimOptions {
  readonly claimedBy: string;
  readonly leaseMs: number;
  readonly maxRows: number;
  readonly maxRowsPerLane: number;
  readonly room: LaneRoom;
  /** The lane after which to begin; null: at the first. */
  readonly afterLane: string | null;
}

/** In one claim; where there are more, the next one goes on behind them. */
const maxLanes = 256;
const firstLane = '00000000-0000-0000-0000-000000000000';

/** Takes what is due, some of each lane, and tells behind which lane the next claim is to begin: null where none is left, so at the first again. */
export async function claimDeliveries(
  db: Queryable,
  { claimedBy, leaseMs, maxRows, maxRowsPerLane, room, afterLane }: ClaimOptions,
): Promise<{ readonly claimed: readonly ClaimedDelivery[]; readonly afterLane: string | null }> {
  const { rows } = await db.query<ClaimedDelivery & { lastLane: string | null }>({
    name: 'claim-deliveries',
    text: claimDeliveriesSql,
    values: [
      claimedBy,
      leaseMs,
      maxRows,
      maxRowsPerLane,
      [...room.roomByLane.keys()],
      [...room.roomByLane.values()],
      afterLane ?? firstLane,
      maxLanes,
      room.ailingLanes,
      room.ailingRoom,
    ],
  });
  return {
    // Where nothing is due there is one row without an id.
    claimed: rows.filter(({ id }) => id !== null),
    afterLane: rows[0]?.lastLane ?? null,
  };
}

/** How a secret that was replaced goes on signing, so that a receiver can change over without losing anything. */
const secretsSql = (row: string, name: string): string => `
  array_remove(ARRAY[${row}.${name}, CASE WHEN ${row}.${name}_at > now() - interval '1 day' THEN ${row}.${name}_before END], NULL)`;

// The recursion steps from lane to lane along the index, so it costs what there are lanes, not rows. What is locked and not taken is free again at the
// statement's end. OFFSET 0 keeps lookups by their key, also in plans made while the table was small, and lanes sorted before anything is locked.
const claimDeliveriesSql = `
  WITH RECURSIVE queue (lane, turn) AS (
    (SELECT lane, 1 FROM deliveries WHERE state = 'pending' AND lane > $7::uuid ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT next.lane, queue.turn + 1
    FROM queue CROSS JOIN LATERAL (
      SELECT d.lane FROM deliveries d WHERE d.state = 'pending' AND d.lane > queue.lane ORDER BY d.lane LIMIT 1
    ) next
    WHERE queue.turn < $8::int
  ), found AS MATERIALIZED (
    SELECT due.*, queue.turn, array_position($9::uuid[], queue.lane) AS ailing_turn
    FROM (SELECT * FROM queue ORDER BY turn OFFSET 0) queue
    CROSS JOIN LATERAL (
      SELECT d.id FROM deliveries d
      WHERE d.lane = queue.lane AND d.state = 'pending' AND d.due_at <= now()
        AND NOT EXISTS (SELECT FROM deliveries earlier
                        WHERE earlier.conversation_id = d.conversation_id AND earlier.lane = d.lane
                          AND earlier.state = 'pending' AND earlier.position < d.position OFFSET 0)
      ORDER BY d.due_at
      LIMIT least(
        coalesce((SELECT room.count FROM unnest($5::uuid[], $6::int[]) AS room (lane, count) WHERE room.lane = queue.lane), $4::int),
        greatest(1, $3::int / (SELECT greatest(count(*), 1) FROM queue))
      )
      FOR NO KEY UPDATE OF d SKIP LOCKED
    ) due
    ORDER BY queue.turn LIMIT $3::int
  ), picked AS MATERIALIZED (
    SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY ailing_turn IS NULL ORDER BY ailing_turn) AS place FROM found) f
    WHERE ailing_turn IS NULL OR place <= $10::int
  ), claimed AS (
    UPDATE deliveries d SET claimed_by = $1, due_at = now() + $2::float8 * interval '1 ms'
    WHERE d.id = ANY (ARRAY(SELECT id FROM picked))
    RETURNING d.*
  ), addressed AS (
    SELECT d.id, d.lane, d.workspace_id AS "workspaceId", d.kind, d.payload, d.attempts,
      extract(epoch FROM now() - d.tried_since)::float8 * 1000 AS "triedForMs",
      CASE d.kind WHEN 'message' THEN c.outbound_url ELSE d.url END AS url,
      CASE d.kind WHEN 'message' THEN ${secretsSql('c', 'outbound_secret')} ELSE ${secretsSql('w', 'webhook_secret')} END AS secrets
    FROM claimed d
    LEFT JOIN channels c ON c.workspace_id = d.workspace_id AND c.id = d.channel_id
    LEFT JOIN workspaces w ON w.id = d.workspace_id
  )
  SELECT addressed.*, (
    SELECT lane FROM queue WHERE turn = CASE
      WHEN (SELECT count(*) FROM found) = $3::int THEN (SELECT max(turn) FROM found)
      WHEN (SELECT count(*) FROM queue) = $8::int THEN $8::int
    END
  ) AS "lastLane"
  FROM (SELECT) here LEFT JOIN addressed ON true`;

/** Also what somebody else has claimed since: it has arrived, whoever says so. */
export async function settleDelivered(db: Queryable, ids: readonly string[]): Promise<void> {
  await db.query({ name: 'settle-delivered', text: settleDeliveredSql, values: [ids] });
}

/**
 * SQL for the next one behind each of these rows, which are no longer pending. Only that: it frees the one behind it when it ends itself, so that long
 * queues are not written from end to end each time. Whether it is due is not asked: it may have been put off since this statement began.
 */
const nextSql = (endedSql: string): string => `
  SELECT next.id FROM (${endedSql}) ended CROSS JOIN LATERAL (
    SELECT l.id, l.claimed_by FROM deliveries l
    WHERE l.conversation_id = ended.conversation_id AND l.lane = ended.lane AND l.state = 'pending' AND l.position > ended.position
    ORDER BY l.position LIMIT 1 OFFSET 0
  ) next WHERE next.claimed_by IS NULL`;

/**
 * SQL that locks those of these rows that wait, by id, as all do who change more than one unclaimed row: so none waits for the other in a circle. Asked
 * for `state = 'pending'`, PostgreSQL would read all of an index of that, in plans made while the table was small.
 */
const lockWaitingSql = (idsSql: string): string => `
  SELECT d.id FROM deliveries d
  WHERE d.id = ANY (ARRAY(${idsSql})) AND d.state <> 'failed' AND d.claimed_by IS NULL
  ORDER BY d.id FOR NO KEY UPDATE`;

// What is deleted first gives the transaction its id before it draws one for an event (store/events.ts).
const settleDeliveredSql = `
  WITH done AS (
    DELETE FROM deliveries WHERE id = ANY ($1::uuid[])
    RETURNING workspace_id, conversation_id, contact_id, message_id, lane, position
  ), next AS (
    ${lockWaitingSql(nextSql('SELECT * FROM done'))}
  ), freed AS (
    UPDATE deliveries d SET due_at = least(d.due_at, now()) WHERE d.id = ANY (ARRAY(SELECT id FROM next))
  ), marked AS (
    UPDATE messages m SET delivery = 'delivered', delivered_at = now()
    FROM done WHERE m.workspace_id = done.workspace_id AND m.id = done.message_id
  )
  INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
  SELECT workspace_id, 'message.delivered', conversation_id, contact_id, jsonb_build_object('messageId', message_id)
  FROM done WHERE message_id IS NOT NULL ORDER BY position`;

export interface FailedAttempt {
  readonly id: string;
  /** Shown to customers: names nothing of our own. */
  readonly error: string;
  /** Until the next attempt; null: there is none. */
  readonly retryAfterMs: number | null;
}

/** What is not claimed by `claimedBy` any more is left to who has it now. */
export async function settleFailedAttempts(
  db: Queryable,
  { claimedBy, attempts }: { claimedBy: string; attempts: readonly FailedAttempt[] },
): Promise<void> {
  await db.query({
    name: 'settle-failed-attempts',
    text: settleFailedAttemptsSql,
    values: [
      claimedBy,
      attempts.map(({ id }) => id),
      attempts.map(({ error }) => error),
      attempts.map(({ retryAfterMs }) => retryAfterMs),
    ],
  });
}

const settleFailedAttemptsSql = `
  WITH tried AS (
    UPDATE deliveries d
    SET attempts = least(d.attempts + 1, 32767), last_error = ($3::text[])[array_position($2::uuid[], d.id)], claimed_by = NULL,
        state = CASE WHEN ($4::float8[])[array_position($2::uuid[], d.id)] IS NULL THEN 'failed' ELSE 'pending' END,
        due_at = now() + coalesce(($4::float8[])[array_position($2::uuid[], d.id)], 0) * interval '1 ms'
    WHERE d.id = ANY ($2::uuid[]) AND d.claimed_by = $1 AND d.state <> 'failed'
    RETURNING d.*
  ), behind AS MATERIALIZED (
    -- All wait with one that is put off; one that has failed frees the next.
    SELECT later.id, tried.due_at AS until FROM tried CROSS JOIN LATERAL (
      SELECT l.id FROM deliveries l
      WHERE l.conversation_id = tried.conversation_id AND l.lane = tried.lane AND l.state = 'pending'
        AND l.position > tried.position AND l.claimed_by IS NULL AND l.due_at < tried.due_at OFFSET 0
    ) later
    WHERE tried.state = 'pending'
    UNION ALL
    SELECT id, NULL FROM (${nextSql("SELECT * FROM tried WHERE state = 'failed'")}) next
  ), waiting AS (
    ${lockWaitingSql('SELECT id FROM behind')}
  ), moved AS (
    UPDATE deliveries d SET due_at = CASE WHEN behind.until IS NULL THEN least(d.due_at, now()) ELSE greatest(d.due_at, behind.until) END
    FROM behind WHERE d.id = behind.id AND d.id = ANY (ARRAY(SELECT id FROM waiting))
  ), marked AS (
    UPDATE messages m SET delivery = 'failed'
    FROM tried WHERE tried.state = 'failed' AND m.workspace_id = tried.workspace_id AND m.id = tried.message_id
  )
  INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
  SELECT workspace_id, 'message.delivery_failed', conversation_id, contact_id,
         jsonb_build_object('messageId', message_id, 'attempts', attempts, 'error', last_error)
  FROM tried WHERE state = 'failed' AND message_id IS NOT NULL ORDER BY position`;

/** Gives back what was claimed and not tried to its end: another worker may take it at once. */
export async function releaseDeliveries(
  db: Queryable,
  { claimedBy, ids }: { claimedBy: string; ids: readonly string[] },
): Promise<void> {
  await db.query({
    name: 'release-deliveries',
    text: `WITH released AS (
             UPDATE deliveries SET claimed_by = NULL, due_at = now()
             WHERE id = ANY ($2::uuid[]) AND claimed_by = $1 AND state = 'pending' RETURNING id
           )
           SELECT ${wakeDeliverersSql} FROM released LIMIT 1`,
    values: [claimedBy, ids],
  });
}
