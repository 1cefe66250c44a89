/**
 * Leases: what one process at a time does for all (a shard of the outbox, the house timer, gauges read from the database). A
 * process that dies loses its leases when they expire; two that overlap for a moment do no harm, since all leased work is
 * idempotent.
 */
import type { Queryable } from './database.ts';

/** @returns the names now held by `owner`: those that were free, expired, or its own already. */
export async function acquireLeases(
  db: Queryable,
  { names, owner, ttlMs }: { names: readonly string[]; owner: string; ttlMs: number },
): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>({
    name: 'acquire-leases',
    text: `INSERT INTO leases (name, owner, expires_at)
           SELECT name, $2, now() + $3 * interval '1 ms' FROM unnest($1::text[]) AS name
           ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
           WHERE leases.owner = excluded.owner OR leases.expires_at < now()
           RETURNING name`,
    values: [[...names].sort(), owner, ttlMs],
  });
  return rows.map((row) => row.name);
}

export async function releaseLeases(
  db: Queryable,
  { names, owner }: { names: readonly string[]; owner: string },
): Promise<void> {
  await db.query('DELETE FROM leases WHERE name = ANY($1::text[]) AND owner = $2', [names, owner]);
}

/** Live leases whose name begins with `prefix`. */
export async function readLeases(db: Queryable, prefix: string): Promise<{ name: string; owner: string }[]> {
  const { rows } = await db.query<{ name: string; owner: string }>({
    name: 'read-leases',
    text: `SELECT name, owner FROM leases WHERE starts_with(name, $1) AND expires_at >= now() ORDER BY name`,
    values: [prefix],
  });
  return rows;
}

/** Killed workers leave their membership behind. An hour late, since an expired lease is as good as none. */
export async function forgetExpiredLeases(db: Queryable): Promise<void> {
  await db.query("DELETE FROM leases WHERE expires_at < now() - interval '1 hour'");
}
