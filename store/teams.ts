import type pg from 'pg';
import { newId } from '../platform/id.ts';
import type { Strategy } from '../routing/matching.ts';
import { transact, type Queryable } from './database.ts';
import { lockMatching } from './locks.ts';

export interface Team {
  readonly id: string;
  readonly name: string;
  readonly strategy: Strategy;
  /** Grows with every change of what matching uses. */
  readonly version: number;
  /** Takes the conversations that no flow routes. */
  readonly isDefault: boolean;
  readonly createdAt: Date;
}

const selectTeam = `
  SELECT t.id, t.name, t.strategy, t.version, t.id = w.default_team_id AS "isDefault", t.created_at AS "createdAt"
  FROM teams t JOIN workspaces w ON w.id = t.workspace_id
  WHERE t.workspace_id = $1`;

export async function createTeam(
  db: Queryable,
  { workspaceId, name, strategy }: { workspaceId: string; name: string; strategy: Strategy },
): Promise<{ kind: 'created'; team: Team } | { kind: 'name_taken' }> {
  const teamId = newId();
  const { rowCount } = await db.query(
    `INSERT INTO teams (workspace_id, id, name, strategy) VALUES ($1, $2, $3, $4)
     ON CONFLICT (workspace_id, name) DO NOTHING`,
    [workspaceId, teamId, name, strategy],
  );
  if (rowCount === 0) return { kind: 'name_taken' };
  return { kind: 'created', team: (await getTeam(db, { workspaceId, teamId }))! };
}

/** Live for the next decision on every worker: they read a team's rules under the lock that this takes. */
export async function updateTeam(
  pool: pg.Pool,
  { workspaceId, teamId, name, strategy }: { workspaceId: string; teamId: string; name?: string; strategy?: Strategy },
): Promise<{ kind: 'updated'; team: Team } | { kind: 'not_found' } | { kind: 'name_taken' }> {
  const updated = transact(pool, async (tx): Promise<{ kind: 'updated'; team: Team } | { kind: 'not_found' }> => {
    const lock = await lockMatching(tx, workspaceId, { teamIds: [teamId] });
    if (!lock.teams.has(teamId)) return { kind: 'not_found' };
    await tx.query(
      `UPDATE teams SET name = coalesce($3, name), strategy = coalesce($4, strategy), version = version + 1
       WHERE workspace_id = $1 AND id = $2`,
      [workspaceId, teamId, name ?? null, strategy ?? null],
    );
    return { kind: 'updated', team: (await getTeam(tx, { workspaceId, teamId }))! };
  });
  return updated.catch((error: unknown) => {
    if ((error as { code?: unknown }).code === uniqueViolation) return { kind: 'name_taken' };
    throw error;
  });
}

/** SQLSTATE; the name is the only thing unique here that a change can collide with. */
const uniqueViolation = '23505';

export async function getTeam(
  db: Queryable,
  { workspaceId, teamId }: { workspaceId: string; teamId: string },
): Promise<Team | null> {
  const { rows } = await db.query<Team>(`${selectTeam} AND t.id = $2`, [workspaceId, teamId]);
  return rows[0] ?? null;
}

export async function listTeams(
  db: Queryable,
  { workspaceId, after, limit }: { workspaceId: string; after: string | null; limit: number },
): Promise<Team[]> {
  const { rows } = await db.query<Team>(`${selectTeam} AND ($2::uuid IS NULL OR t.id > $2) ORDER BY t.id LIMIT $3`, [
    workspaceId,
    after,
    limit,
  ]);
  return rows;
}

export async function readDefaultTeam(db: Queryable, workspaceId: string): Promise<string> {
  const { rows } = await db.query<{ default_team_id: string }>({
    name: 'read-default-team',
    text: 'SELECT default_team_id FROM workspaces WHERE id = $1',
    values: [workspaceId],
  });
  return rows[0]!.default_team_id;
}
