// Keys read `sy_<id>_<secret>`: the id finds the row, the secret proves that the caller holds the key. Only the secret's
// SHA-256 is stored. A plain hash is enough because the secret is 32 random bytes: there is nothing to guess.
import { hash, randomBytes } from 'node:crypto';
import type { Queryable } from './database.ts';

export type KeyScope = 'ingest' | 'agent' | 'admin';

/** What may be told about a key after it was made; the secret is not among it. */
export interface Key {
  id: string;
  scope: KeyScope;
  name: string;
  agentId: string | null;
  createdAt: Date;
  revokedAt: Date | null;
}

/** What authentication needs to know. */
export interface StoredKey {
  id: string;
  workspaceId: string;
  scope: KeyScope;
  agentId: string | null;
  secretHash: Buffer;
  revokedAt: Date | null;
}

export interface NewKey {
  workspaceId: string;
  scope: KeyScope;
  name: string;
  /** The one agent the key acts as; only for scope `agent`. The agent must exist in the workspace. */
  agentId?: string | null;
}

/** Makes a key. `key` is the only copy of the secret: show it once. */
export async function createKey(
  db: Queryable,
  { workspaceId, scope, name, agentId = null }: NewKey,
): Promise<{ id: string; key: string; createdAt: Date }> {
  const id = randomBytes(10).toString('hex');
  const secret = randomBytes(32).toString('base64url');
  const { rows } = await db.query<{ createdAt: Date }>({
    name: 'insert-key',
    text: `INSERT INTO keys (id, workspace_id, scope, name, secret_hash, agent_id) VALUES ($1, $2, $3, $4, $5, $6)
      RETURNING created_at AS "createdAt"`,
    values: [id, workspaceId, scope, name, hashSecret(secret), agentId],
  });
  const [row] = rows;
  if (row === undefined) throw new Error('The insert of a key returned no row');
  return { id, key: `sy_${id}_${secret}`, createdAt: row.createdAt };
}

/** The parts of a key's text, or null when it is not one of ours. */
export function parseKey(text: string): { id: string; secret: string } | null {
  const match = KEY_TEXT.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) return null;
  return { id: match[1], secret: match[2] };
}

export const KEY_ID_PATTERN = '^[0-9a-f]{20}$';
const KEY_TEXT = /^sy_([0-9a-f]{20})_([A-Za-z0-9_-]{43})$/;

export function hashSecret(secret: string): Buffer {
  return hash('sha256', secret, 'buffer');
}

/** For authentication: the only read that is not bound to a workspace, because the key is what tells the workspace. */
export async function findKey(db: Queryable, id: string): Promise<StoredKey | null> {
  const { rows } = await db.query<StoredKey>({
    name: 'find-key',
    text: `SELECT id, workspace_id AS "workspaceId", scope, agent_id AS "agentId", secret_hash AS "secretHash",
        revoked_at AS "revokedAt"
      FROM keys WHERE id = $1`,
    values: [id],
  });
  return rows[0] ?? null;
}

const keyColumns = `id, scope, name, agent_id AS "agentId", created_at AS "createdAt", revoked_at AS "revokedAt"`;

export async function getKey(
  db: Queryable,
  { workspaceId, keyId }: { workspaceId: string; keyId: string },
): Promise<Key | null> {
  const { rows } = await db.query<Key>({
    name: 'get-key',
    text: `SELECT ${keyColumns} FROM keys WHERE workspace_id = $1 AND id = $2`,
    values: [workspaceId, keyId],
  });
  return rows[0] ?? null;
}

/** In the order of ids, which is random for keys. */
export async function listKeys(
  db: Queryable,
  { workspaceId, after, limit }: { workspaceId: string; after: string | null; limit: number },
): Promise<Key[]> {
  const { rows } = await db.query<Key>({
    name: 'list-keys',
    text: `SELECT ${keyColumns} FROM keys WHERE workspace_id = $1 AND ($2::text IS NULL OR id > $2) ORDER BY id LIMIT $3`,
    values: [workspaceId, after, limit],
  });
  return rows;
}

export interface KeyChange {
  workspaceId: string;
  keyId: string;
  name?: string | undefined;
  /** A key that was revoked stays revoked; revoking it again keeps the first time. */
  revoke?: boolean | undefined;
}

export async function updateKey(
  db: Queryable,
  { workspaceId, keyId, name, revoke = false }: KeyChange,
): Promise<{ kind: 'updated'; key: Key } | { kind: 'not_found' }> {
  const { rows } = await db.query<Key>({
    name: 'update-key',
    text: `UPDATE keys SET name = coalesce($3, name),
        revoked_at = CASE WHEN $4::boolean THEN coalesce(revoked_at, now()) ELSE revoked_at END
      WHERE workspace_id = $1 AND id = $2 RETURNING ${keyColumns}`,
    values: [workspaceId, keyId, name ?? null, revoke],
  });
  const [key] = rows;
  return key === undefined ? { kind: 'not_found' } : { kind: 'updated', key };
}
