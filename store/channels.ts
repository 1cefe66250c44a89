import { newId } from '../platform/id.ts';
import { createWebhookSecret } from '../platform/webhook-signature.ts';
import type { Queryable } from './database.ts';
import { wakeDeliverersSql } from './deliveries.ts';

/** Where contacts write: a chat widget, a mailbox, a phone number. Messages name a channel by its key, which never changes. */
export interface Channel {
  id: string;
  key: string;
  name: string;
  /** What a conversation that begins here takes of an agent's capacity. */
  units: number;
  /** Where it takes what is said to its contacts; null: nowhere. */
  outboundUrl: string | null;
  createdAt: Date;
}

/** Told by the call that made it, and never again. */
export interface MadeSecret {
  /** Null: none was made. */
  readonly outboundSecret: string | null;
}

const channelColumns = 'id, key, name, units, outbound_url AS "outboundUrl", created_at AS "createdAt"';

export async function createChannel(
  db: Queryable,
  {
    workspaceId,
    key,
    name,
    units = 1,
    outboundUrl = null,
  }: { workspaceId: string; key: string; name: string; units?: number; outboundUrl?: string | null },
): Promise<{ kind: 'created'; channel: Channel & MadeSecret } | { kind: 'key_taken' }> {
  const outboundSecret = outboundUrl === null ? null : createWebhookSecret();
  const { rows } = await db.query<Channel>({
    name: 'insert-channel',
    text: `INSERT INTO channels (workspace_id, id, key, name, units, outbound_url, outbound_secret)
      VALUES ($1, $2, $3, $4, $5, $6, $7)
      ON CONFLICT (workspace_id, key) DO NOTHING RETURNING ${channelColumns}`,
    values: [workspaceId, newId(), key, name, units, outboundUrl, outboundSecret],
  });
  const [channel] = rows;
  return channel === undefined ? { kind: 'key_taken' } : { kind: 'created', channel: { ...channel, outboundSecret } };
}

export async function getChannel(
  db: Queryable,
  { workspaceId, channelId }: { workspaceId: string; channelId: string },
): Promise<Channel | null> {
  const { rows } = await db.query<Channel>({
    name: 'get-channel',
    text: `SELECT ${channelColumns} FROM channels WHERE workspace_id = $1 AND id = $2`,
    values: [workspaceId, channelId],
  });
  return rows[0] ?? null;
}

/** In the order in which they were made. */
export async function listChannels(
  db: Queryable,
  { workspaceId, after, limit }: { workspaceId: string; after: string | null; limit: number },
): Promise<Channel[]> {
  const { rows } = await db.query<Channel>({
    name: 'list-channels',
    text: `SELECT ${channelColumns} FROM channels
      WHERE workspace_id = $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3`,
    values: [workspaceId, after, limit],
  });
  return rows;
}

/**
 * Other units are for conversations that begin from now on: what an open one takes was fixed when it began. The first outbound URL brings a secret,
 * which stays when the URL changes or goes. A change of the URL makes what waits due at once: at another URL it is tried, without one it fails.
 */
export async function updateChannel(
  db: Queryable,
  { workspaceId, channelId, name, units, outboundUrl }: ChannelChanges,
): Promise<{ kind: 'updated'; channel: Channel & MadeSecret } | { kind: 'not_found' }> {
  const made = createWebhookSecret();
  const { rows } = await db.query<Channel & { secret: string | null }>({
    name: 'update-channel',
    text: `WITH changed AS (
        UPDATE channels SET name = coalesce($3, name), units = coalesce($4, units),
          outbound_url = CASE WHEN $5::boolean THEN $6 ELSE outbound_url END,
          outbound_secret = CASE WHEN $5::boolean AND $6::text IS NOT NULL THEN coalesce(outbound_secret, $7) ELSE outbound_secret END
        WHERE workspace_id = $1 AND id = $2
        RETURNING ${channelColumns}, outbound_secret AS secret
      ), waiting AS (
        SELECT d.id FROM changed JOIN deliveries d ON d.lane = changed.id
        WHERE $5::boolean AND d.state = 'pending' AND d.due_at > now() AND d.claimed_by IS NULL
        -- As the deliverers' settling does: who locks them in another order waits for one that waits for this.
        ORDER BY d.id FOR NO KEY UPDATE OF d
      ), hurried AS (
        UPDATE deliveries d SET due_at = now(), tried_since = now()
        WHERE d.id = ANY (ARRAY(SELECT id FROM waiting)) AND d.claimed_by IS NULL
        RETURNING d.id
      ), rung AS (
        SELECT ${wakeDeliverersSql} FROM hurried LIMIT 1
      )
      SELECT changed.* FROM changed LEFT JOIN rung ON true`,
    values: [workspaceId, channelId, name ?? null, units ?? null, outboundUrl !== undefined, outboundUrl ?? null, made],
  });
  if (rows[0] === undefined) return { kind: 'not_found' };
  const { secret, ...channel } = rows[0];
  return { kind: 'updated', channel: { ...channel, outboundSecret: secret === made ? made : null } };
}

export interface ChannelChanges {
  readonly workspaceId: string;
  readonly channelId: string;
  readonly name?: string;
  readonly units?: number;
  /** Null: none any more. */
  readonly outboundUrl?: string | null;
}

/** Another secret, whether it has a URL yet or not. The one before signs beside it for a day (store/deliveries.ts). */
export async function rotateChannelSecret(
  db: Queryable,
  { workspaceId, channelId }: { workspaceId: string; channelId: string },
): Promise<(Channel & MadeSecret) | null> {
  const outboundSecret = createWebhookSecret();
  const { rows } = await db.query<Channel>({
    name: 'rotate-channel-secret',
    text: `UPDATE channels
      SET outbound_secret_before = outbound_secret, outbound_secret = $3, outbound_secret_at = now()
      WHERE workspace_id = $1 AND id = $2 RETURNING ${channelColumns}`,
    values: [workspaceId, channelId, outboundSecret],
  });
  return rows[0] === undefined ? null : { ...rows[0], outboundSecret };
}

export async function findChannelId(
  db: Queryable,
  { workspaceId, key }: { workspaceId: string; key: string },
): Promise<string | null> {
  const { rows } = await db.query<{ id: string }>({
    name: 'find-channel-id',
    text: 'SELECT id FROM channels WHERE workspace_id = $1 AND key = $2',
    values: [workspaceId, key],
  });
  return rows[0]?.id ?? null;
}
