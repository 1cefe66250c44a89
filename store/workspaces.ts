import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { transact } from './database.ts';
import { createKey } from './keys.ts';

export interface NewWorkspace {
  readonly workspaceId: string;
  readonly name: string;
  readonly defaultTeamId: string;
  /** Shown here and never again: only their hashes are stored. */
  readonly keys: { readonly ingest: string; readonly agent: string; readonly admin: string };
}

/** A workspace is usable from the start: it has a default team, which takes whatever no flow routes, and a key of each scope. */
export function createWorkspace(pool: pg.Pool, { name }: { name: string }): Promise<NewWorkspace> {
  return transact(pool, async (tx) => {
    const workspaceId = newId();
    const defaultTeamId = newId();
    await tx.query('INSERT INTO workspaces (id, name) VALUES ($1, $2)', [workspaceId, name]);
    await tx.query(`INSERT INTO teams (workspace_id, id, name, strategy) VALUES ($1, $2, 'Default', 'least_loaded')`, [
      workspaceId,
      defaultTeamId,
    ]);
    await tx.query('UPDATE workspaces SET default_team_id = $2 WHERE id = $1', [workspaceId, defaultTeamId]);
    const ingest = await createKey(tx, { workspaceId, scope: 'ingest', name: 'Ingest' });
    const agent = await createKey(tx, { workspaceId, scope: 'agent', name: 'Agents' });
    const admin = await createKey(tx, { workspaceId, scope: 'admin', name: 'Admin' });
    return { workspaceId, name, defaultTeamId, keys: { ingest: ingest.key, agent: agent.key, admin: admin.key } };
  });
}
