/** What people see of deliveries, and do about them: listed, read, sent again, forgotten. How they are delivered is told in deliveries.ts. */
import type { Queryable } from './database.ts';
import { wakeDeliverersSql } from './deliveries.ts';

export interface DeliveryRow {
  readonly id: string;
  readonly kind: 'message' | 'webhook';
  readonly state: DeliveryState;
  readonly conversationId: string;
  readonly contactId: string;
  readonly messageId: string | null;
  /** The channel's key; null for a webhook. */
  readonly channel: string | null;
  /** Of a webhook. */
  readonly url: string | null;
  readonly attempts: number;
  readonly lastError: string | null;
  /** Of a pending one. */
  readonly dueAt: Date | null;
  readonly createdAt: Date;
}

export const deliveryStates = ['pending', 'failed'] as const;
export type DeliveryState = (typeof deliveryStates)[number];

const beforeAllIds = '00000000-0000-0000-0000-000000000000';

/** By id. */
export async function listDeliveries(
  db: Queryable,
  options: { workspaceId: string; state: DeliveryState; after: string | null; limit: number },
): Promise<DeliveryRow[]> {
  const { rows } = await db.query<DeliveryRow>({
    name: 'list-deliveries',
    text: `${selectDeliverySql} AND d.state = $2 AND d.id > $3 ORDER BY d.id LIMIT $4`,
    values: [options.workspaceId, options.state, options.after ?? beforeAllIds, options.limit],
  });
  return rows;
}

export async function getDelivery(
  db: Queryable,
  { workspaceId, deliveryId }: { workspaceId: string; deliveryId: string },
): Promise<DeliveryRow | null> {
  const { rows } = await db.query<DeliveryRow>({
    name: 'get-delivery',
    text: `${selectDeliverySql} AND d.id = $2`,
    values: [workspaceId, deliveryId],
  });
  return rows[0] ?? null;
}

const selectDeliverySql = `
  SELECT d.id, d.kind, d.state, d.conversation_id AS "conversationId", d.contact_id AS "contactId", d.message_id AS "messageId",
    c.key AS channel, d.url, d.attempts, d.last_error AS "lastError", CASE d.state WHEN 'pending' THEN d.due_at END AS "dueAt",
    d.created_at AS "createdAt"
  FROM deliveries d LEFT JOIN channels c ON c.workspace_id = d.workspace_id AND c.id = d.channel_id
  WHERE d.workspace_id = $1`;

/**
 * One that has failed begins anew, before what is pending behind it; so does one that is pending, after those before it, which hold it up: if its
 * receiver is still away, nobody who hurried it must have made it later. One that is being tried is left alone.
 */
export async function retryDelivery(
  db: Queryable,
  { workspaceId, deliveryId }: { workspaceId: string; deliveryId: string },
): Promise<void> {
  await db.query({
    name: 'retry-delivery',
    text: retrySql(`
      SELECT d.id FROM deliveries d
      WHERE d.claimed_by IS NULL AND d.id = ANY (ARRAY(
        SELECT id FROM deliveries WHERE workspace_id = $1 AND id = $2
        UNION ALL
        SELECT before.id FROM deliveries wished CROSS JOIN LATERAL (
          SELECT id FROM deliveries earlier
          WHERE earlier.conversation_id = wished.conversation_id AND earlier.lane = wished.lane
            AND earlier.state = 'pending' AND earlier.position < wished.position OFFSET 0
        ) before
        WHERE wished.workspace_id = $1 AND wished.id = $2))
      ORDER BY d.id FOR NO KEY UPDATE`),
    values: [workspaceId, deliveryId],
  });
}

/** All that have failed, or those of one channel. @returns how many */
export async function retryFailedDeliveries(
  db: Queryable,
  { workspaceId, channelId }: { workspaceId: string; channelId: string | null },
): Promise<number> {
  let count = 0;
  // By id, each once: what fails again meanwhile is not taken a second time.
  for (let after: string | null = beforeAllIds; after !== null;) {
    const { rows }: { rows: { count: number; last: string | null }[] } = await db.query({
      name: 'retry-failed-deliveries',
      text: retrySql(`SELECT id FROM deliveries
                      WHERE workspace_id = $1 AND state = 'failed' AND id > $2 AND ($3::uuid IS NULL OR channel_id = $3)
                      ORDER BY id LIMIT ${maxRetriedAtOnce} FOR NO KEY UPDATE`),
      values: [workspaceId, after, channelId],
    });
    count += rows[0]!.count;
    after = rows[0]!.last;
  }
  return count;
}

const maxRetriedAtOnce = 1_000;

// What is claimed after it was chosen is being tried, and must not become due beside that.
const retrySql = (chosenSql: string): string => `
  WITH chosen AS (${chosenSql}),
  retried AS (
    UPDATE deliveries d
    SET state = 'pending', attempts = 0, tried_since = now(), due_at = now()
    WHERE d.id = ANY (ARRAY(SELECT id FROM chosen)) AND d.claimed_by IS NULL
    RETURNING d.workspace_id, d.id, d.message_id, old.state AS was
  ), marked AS (
    UPDATE messages m SET delivery = 'pending'
    FROM retried WHERE retried.was = 'failed' AND m.workspace_id = retried.workspace_id AND m.id = retried.message_id
  ), rung AS (
    SELECT ${wakeDeliverersSql} FROM retried LIMIT 1
  )
  SELECT count(*), max(id::text)::uuid AS last FROM retried LEFT JOIN rung ON true`;

/**
 * Failed ones hold what was said to contacts, so they are not kept for longer than that is; nor for ever, since nobody may want them any more.
 * @returns how many
 */
export async function forgetFailedDeliveries(
  db: Queryable,
  { olderThanDays, maxRows }: { olderThanDays: number; maxRows: number },
): Promise<number> {
  const { rowCount } = await db.query({
    name: 'forget-failed-deliveries',
    text: `DELETE FROM deliveries WHERE state = 'failed' AND id = ANY (ARRAY(
             SELECT id FROM deliveries WHERE state = 'failed' AND created_at < now() - $1::int * interval '1 day'
             ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))`,
    values: [olderThanDays, maxRows],
  });
  return rowCount!;
}
