import { newId } from '../platform/id.ts';
import type { Queryable } from './database.ts';

/** Where contacts write: a chat widget, a mailbox, a phone number. Messages name a channel by its key, which never changes. */
export interface Channel {
  id: string;
  key: string;
  name: string;
  /** What a conversation that begins here takes of an agent's capacity. */
  units: number;
  createdAt: Date;
}

const channelColumns = 'id, key, name, units, created_at AS "createdAt"';

export async function createChannel(
  db: Queryable,
  { workspaceId, key, name, units = 1 }: { workspaceId: string; key: string; name: string; units?: number },
): Promise<{ kind: 'created'; channel: Channel } | { kind: 'key_taken' }> {
  const { rows } = await db.query<Channel>({
    name: 'insert-channel',
    text: `INSERT INTO channels (workspace_id, id, key, name, units) VALUES ($1, $2, $3, $4, $5)
      ON CONFLICT (workspace_id, key) DO NOTHING RETURNING ${channelColumns}`,
    values: [workspaceId, newId(), key, name, units],
  });
  const [channel] = rows;
  return channel === undefined ? { kind: 'key_taken' } : { kind: 'created', channel };
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

/** Other units are for conversations that begin from now on: what an open one takes was fixed when it began. */
export async function updateChannel(
  db: Queryable,
  { workspaceId, channelId, name, units }: { workspaceId: string; channelId: string; name?: string; units?: number },
): Promise<{ kind: 'updated'; channel: Channel } | { kind: 'not_found' }> {
  const { rows } = await db.query<Channel>({
    name: 'update-channel',
    text: `UPDATE channels SET name = coalesce($3, name), units = coalesce($4, units)
      WHERE workspace_id = $1 AND id = $2 RETURNING ${channelColumns}`,
    values: [workspaceId, channelId, name ?? null, units ?? null],
  });
  const [channel] = rows;
  return channel === undefined ? { kind: 'not_found' } : { kind: 'updated', channel };
}
