import { isDeepStrictEqual } from 'node:util';
import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { defaultTeamSettings, type Strategy, type TeamSettings } from '../routing/team-rules.ts';
import { endAwaits } from './affinity.ts';
import { transact, type Queryable } from './database.ts';
import { lockMatching } from './locks.ts';

export interface Team extends TeamSettings {
  readonly id: string;
  readonly name: string;
  readonly strategy: Strategy;
  /** Grows with every change of what matching uses. */
  readonly version: number;
  /** Takes the conversations that no flow routes. */
  readonly isDefault: boolean;
  readonly createdAt: Date;
}

export type TeamRefusal =
  | { readonly kind: 'name_taken' }
  /** The priority list names them, and the workspace has no such agents. */
  | { readonly kind: 'unknown_agents'; readonly agentIds: readonly string[] };

const selectTeam = `
  SELECT t.id, t.name, t.strategy, t.settings, t.version, t.id = w.default_team_id AS "isDefault",
         t.created_at AS "createdAt"
  FROM teams t JOIN workspaces w ON w.id = t.workspace_id
  WHERE t.workspace_id = $1`;

interface TeamRow extends Omit<Team, keyof TeamSettings> {
  readonly settings: Partial<TeamSettings>;
}

export async function createTeam(
  db: Queryable,
  team: { workspaceId: string; name: string; strategy: Strategy; settings?: Partial<TeamSettings> },
): Promise<{ kind: 'created'; team: Team } | TeamRefusal> {
  const { workspaceId, name, strategy, settings = {} } = team;
  const unknown = await findUnknownAgents(db, workspaceId, settings.priorityList ?? []);
  if (unknown.length > 0) return { kind: 'unknown_agents', agentIds: unknown };
  const teamId = newId();
  const { rowCount } = await db.query(
    `INSERT INTO teams (workspace_id, id, name, strategy, settings) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (workspace_id, name) DO NOTHING`,
    [workspaceId, teamId, name, strategy, JSON.stringify(settings)],
  );
  if (rowCount === 0) return { kind: 'name_taken' };
  return { kind: 'created', team: (await getTeam(db, { workspaceId, teamId }))! };
}

/**
 * Live for the next decision on every worker: they read a team's rules under the lock that this takes. Of the settings, those that are
 * named are replaced whole. No rule makes room, so nothing is drained; what clocks were set by is looked at again by whoever keeps them.
 */
export async function updateTeam(
  pool: pg.Pool,
  change: {
    workspaceId: string;
    teamId: string;
    name?: string;
    strategy?: Strategy;
    settings?: Partial<TeamSettings>;
  },
): Promise<{ kind: 'updated'; team: Team } | { kind: 'not_found' } | TeamRefusal> {
  const { workspaceId, teamId, name, strategy, settings = {} } = change;
  type Outcome = { kind: 'updated'; team: Team } | { kind: 'not_found' } | TeamRefusal;
  const updated = transact(pool, async (tx): Promise<Outcome> => {
    const lock = await lockMatching(tx, workspaceId, { teamIds: [teamId] });
    const before = lock.teams.get(teamId);
    if (before === undefined) return { kind: 'not_found' };
    const unknown = await findUnknownAgents(tx, workspaceId, settings.priorityList ?? []);
    if (unknown.length > 0) return { kind: 'unknown_agents', agentIds: unknown };
    await tx.query(
      // By the clock, not by the transaction's beginning: two changes in a row never leave the same review.
      `UPDATE teams SET name = coalesce($3, name), strategy = coalesce($4, strategy), settings = settings || $5::jsonb,
              version = version + 1, review_at = CASE WHEN $6 THEN clock_timestamp() ELSE review_at END
       WHERE workspace_id = $1 AND id = $2`,
      [workspaceId, teamId, name ?? null, strategy ?? null, JSON.stringify(settings), changesClocks(before, settings)],
    );
    const { affinity } = settings;
    const changesAffinity = affinity !== undefined && JSON.stringify(affinity) !== JSON.stringify(before.affinity);
    if (changesAffinity) await endAwaits(tx, lock, null);
    return { kind: 'updated', team: (await getTeam(tx, { workspaceId, teamId }))! };
  });
  return updated.catch((error: unknown) => {
    if ((error as { code?: unknown }).code === uniqueViolation) return { kind: 'name_taken' };
    throw error;
  });
}

/** SQLSTATE; the name is the only thing unique here that a change can collide with. */
const uniqueViolation = '23505';

/** Whether conversations that agents have would now fall silent or quiet, or go back from who is offline, at other times than their clocks say. */
function changesClocks(before: TeamSettings, settings: Partial<TeamSettings>): boolean {
  const { silenceMinutes, quietMinutes, offline } = { ...before, ...settings };
  return (
    silenceMinutes !== before.silenceMinutes ||
    quietMinutes !== before.quietMinutes ||
    !isDeepStrictEqual(offline, before.offline)
  );
}

/** Agents are never removed, so whoever is known now stays known. */
async function findUnknownAgents(db: Queryable, workspaceId: string, agentIds: readonly string[]): Promise<string[]> {
  if (agentIds.length === 0) return [];
  const { rows } = await db.query<{ id: string }>(
    `SELECT named.id FROM unnest($2::uuid[]) AS named (id)
     WHERE NOT EXISTS (SELECT FROM agents a WHERE a.workspace_id = $1 AND a.id = named.id)`,
    [workspaceId, agentIds],
  );
  return rows.map((row) => row.id);
}

export async function getTeam(
  db: Queryable,
  { workspaceId, teamId }: { workspaceId: string; teamId: string },
): Promise<Team | null> {
  const { rows } = await db.query<TeamRow>(`${selectTeam} AND t.id = $2`, [workspaceId, teamId]);
  return rows[0] === undefined ? null : toTeam(rows[0]);
}

export async function listTeams(
  db: Queryable,
  { workspaceId, after, limit }: { workspaceId: string; after: string | null; limit: number },
): Promise<Team[]> {
  const { rows } = await db.query<TeamRow>(`${selectTeam} AND ($2::uuid IS NULL OR t.id > $2) ORDER BY t.id LIMIT $3`, [
    workspaceId,
    after,
    limit,
  ]);
  return rows.map(toTeam);
}

/** What was never set has its default. */
const toTeam = ({ settings, ...row }: TeamRow): Team => ({ ...defaultTeamSettings, ...settings, ...row });

export async function readDefaultTeam(db: Queryable, workspaceId: string): Promise<string> {
  const { rows } = await db.query<{ default_team_id: string }>({
    name: 'read-default-team',
    text: 'SELECT default_team_id FROM workspaces WHERE id = $1',
    values: [workspaceId],
  });
  return rows[0]!.default_team_id;
}
