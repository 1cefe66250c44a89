import type pg from 'pg';
import { newId } from '../platform/id.ts';
import type { Presence } from '../routing/conversation.ts';
import { transact, type Queryable } from './database.ts';
import { recordEvents } from './events.ts';
import { assertTeamsHeld, lockMatching, readTeamsOfAgents } from './locks.ts';
import { drainQueues } from './matching.ts';

export interface Agent {
  readonly id: string;
  readonly name: string;
  /** Units of conversations that the agent may have at a time. */
  readonly capacity: number;
  /** Units that the agent's open conversations take now. */
  readonly load: number;
  /** Level by skill, 1 to 5. */
  readonly skills: Readonly<Record<string, number>>;
  readonly teamIds: readonly string[];
  readonly presence: Presence;
  readonly presenceChangedAt: Date;
  readonly heartbeatAt: Date | null;
  readonly createdAt: Date;
}

interface AgentKey {
  readonly workspaceId: string;
  readonly agentId: string;
}

const selectAgent = `
  SELECT a.id, a.name, a.capacity, a.load, a.skills, a.created_at AS "createdAt", p.status AS presence,
         p.changed_at AS "presenceChangedAt", p.heartbeat_at AS "heartbeatAt",
         ARRAY(SELECT team_id FROM team_members m
               WHERE m.workspace_id = a.workspace_id AND m.agent_id = a.id ORDER BY team_id) AS "teamIds"
  FROM agents a JOIN agent_presence p ON p.workspace_id = a.workspace_id AND p.agent_id = a.id
  WHERE a.workspace_id = $1`;

/** A new agent is offline, so no queue has to be drained. */
export async function createAgent(
  pool: pg.Pool,
  agent: {
    workspaceId: string;
    name: string;
    capacity: number;
    teamIds: readonly string[];
    skills: Readonly<Record<string, number>>;
  },
): Promise<{ kind: 'created'; agent: Agent } | { kind: 'unknown_team'; teamId: string }> {
  const { workspaceId } = agent;
  return transact(pool, async (tx) => {
    const lock = await lockMatching(tx, workspaceId, { teamIds: agent.teamIds });
    const unknown = agent.teamIds.find((id) => !lock.teams.has(id));
    if (unknown !== undefined) return { kind: 'unknown_team', teamId: unknown };
    const agentId = newId();
    await tx.query('INSERT INTO agents (workspace_id, id, name, capacity, skills) VALUES ($1, $2, $3, $4, $5)', [
      workspaceId,
      agentId,
      agent.name,
      agent.capacity,
      JSON.stringify(agent.skills),
    ]);
    await tx.query('INSERT INTO agent_presence (workspace_id, agent_id) VALUES ($1, $2)', [workspaceId, agentId]);
    await writeMemberships(tx, { workspaceId, agentId }, agent.teamIds);
    return { kind: 'created', agent: (await getAgent(tx, { workspaceId, agentId }))! };
  });
}

/** More capacity or another team is room for those who wait: their queues drain in the same transaction. */
export async function updateAgent(
  pool: pg.Pool,
  change: AgentKey & {
    name?: string;
    capacity?: number;
    teamIds?: readonly string[];
    skills?: Readonly<Record<string, number>>;
  },
): Promise<{ kind: 'updated'; agent: Agent } | { kind: 'not_found' } | { kind: 'unknown_team'; teamId: string }> {
  const { workspaceId, agentId, teamIds } = change;
  return transact(pool, async (tx) => {
    const held = await holdAgent(tx, change, teamIds ?? []);
    if (held === null) return { kind: 'not_found' };
    const unknown = teamIds?.find((id) => !held.teams.has(id));
    if (unknown !== undefined) return { kind: 'unknown_team', teamId: unknown };
    await tx.query(
      `UPDATE agents SET name = coalesce($3, name), capacity = coalesce($4, capacity), skills = coalesce($5::jsonb, skills)
       WHERE workspace_id = $1 AND id = $2`,
      [
        workspaceId,
        agentId,
        change.name ?? null,
        change.capacity ?? null,
        change.skills === undefined ? null : JSON.stringify(change.skills),
      ],
    );
    if (teamIds !== undefined) await writeMemberships(tx, change, teamIds);
    if (change.capacity === undefined && change.skills === undefined && teamIds === undefined) {
      return { kind: 'updated', agent: (await getAgent(tx, change))! };
    }
    await tx.query('UPDATE teams SET version = version + 1 WHERE workspace_id = $1 AND id = ANY($2::uuid[])', [
      workspaceId,
      [...held.teams.keys()],
    ]);
    await drainHeld(tx, workspaceId, [...held.teams.keys()]);
    return { kind: 'updated', agent: (await getAgent(tx, change))! };
  });
}

/**
 * Coming online drains the agent's queues, oldest first, in the same transaction. `ifSilentForMs` makes it conditional: only if the
 * agent's last heartbeat is that old, for whoever expires presences.
 */
export async function setPresence(
  pool: pg.Pool,
  { workspaceId, agentId, status, ifSilentForMs }: AgentKey & { status: Presence; ifSilentForMs?: number },
): Promise<{ kind: 'set'; agent: Agent } | { kind: 'not_found' }> {
  return transact(pool, async (tx) => {
    const held = await holdAgent(tx, { workspaceId, agentId }, []);
    if (held === null) return { kind: 'not_found' };
    // Heartbeats count anew from each time the agent comes online.
    const { rowCount } = await tx.query({
      name: 'set-presence',
      text: `UPDATE agent_presence
             SET status = $3, changed_at = now(), heartbeat_at = CASE WHEN $3 = 'online' THEN NULL ELSE heartbeat_at END
             WHERE workspace_id = $1 AND agent_id = $2 AND status <> $3
               AND ($4::float8 IS NULL OR heartbeat_at < now() - $4 * interval '1 ms')`,
      values: [workspaceId, agentId, status, ifSilentForMs ?? null],
    });
    if (rowCount === 1) {
      await recordEvents(tx, workspaceId, [
        { type: 'agent.presence_changed', conversationId: null, contactId: null, data: { agentId, status } },
      ]);
      if (status === 'online') await drainHeld(tx, workspaceId, [...held.teams.keys()]);
    }
    return { kind: 'set', agent: (await getAgent(tx, { workspaceId, agentId }))! };
  });
}

/** Tells that an agent who is online still is. Touches nothing that assignment locks. */
export async function recordHeartbeat(
  db: Queryable,
  { workspaceId, agentId }: AgentKey,
): Promise<{ kind: 'set'; agent: Agent } | { kind: 'not_found' }> {
  await db.query({
    name: 'record-heartbeat',
    text: `UPDATE agent_presence SET heartbeat_at = now()
           WHERE workspace_id = $1 AND agent_id = $2 AND status = 'online'`,
    values: [workspaceId, agentId],
  });
  const agent = await getAgent(db, { workspaceId, agentId });
  return agent === null ? { kind: 'not_found' } : { kind: 'set', agent };
}

/** Online agents that have sent a heartbeat since they came online, and none for `afterMs`. */
export async function readSilentAgents(
  db: Queryable,
  { afterMs, maxRows }: { afterMs: number; maxRows: number },
): Promise<AgentKey[]> {
  const { rows } = await db.query<AgentKey>({
    name: 'read-silent-agents',
    text: `SELECT workspace_id AS "workspaceId", agent_id AS "agentId" FROM agent_presence
           WHERE status = 'online' AND heartbeat_at < now() - $1 * interval '1 ms' LIMIT $2`,
    values: [afterMs, maxRows],
  });
  return rows;
}

export async function getAgent(db: Queryable, { workspaceId, agentId }: AgentKey): Promise<Agent | null> {
  const { rows } = await db.query<Agent>({
    name: 'get-agent',
    text: `${selectAgent} AND a.id = $2`,
    values: [workspaceId, agentId],
  });
  return rows[0] ?? null;
}

export async function listAgents(
  db: Queryable,
  { workspaceId, after, limit }: { workspaceId: string; after: string | null; limit: number },
): Promise<Agent[]> {
  const { rows } = await db.query<Agent>({
    name: 'list-agents',
    text: `${selectAgent} AND ($2::uuid IS NULL OR a.id > $2) ORDER BY a.id LIMIT $3`,
    values: [workspaceId, after, limit],
  });
  return rows;
}

/** Holds an agent with all its teams, old and new; null when there is no such agent. */
async function holdAgent(tx: Queryable, { workspaceId, agentId }: AgentKey, moreTeamIds: readonly string[]) {
  const teamIds = [...(await readTeamsOfAgents(tx, workspaceId, [agentId])), ...moreTeamIds];
  const lock = await lockMatching(tx, workspaceId, { teamIds, agentIds: [agentId] });
  if (!lock.agents.has(agentId)) return null;
  assertTeamsHeld(lock, agentId);
  return lock;
}

/** Reads the held rows again, as this transaction has changed them, and drains. */
async function drainHeld(tx: Queryable, workspaceId: string, teamIds: readonly string[]): Promise<void> {
  if (teamIds.length > 0) await drainQueues(tx, await lockMatching(tx, workspaceId, { teamIds }));
}

async function writeMemberships(
  tx: Queryable,
  { workspaceId, agentId }: AgentKey,
  teamIds: readonly string[],
): Promise<void> {
  await tx.query('DELETE FROM team_members WHERE workspace_id = $1 AND agent_id = $2 AND team_id <> ALL($3::uuid[])', [
    workspaceId,
    agentId,
    teamIds,
  ]);
  await tx.query(
    `INSERT INTO team_members (workspace_id, team_id, agent_id)
     SELECT $1, team_id, $2 FROM unnest($3::uuid[]) AS team_id ON CONFLICT DO NOTHING`,
    [workspaceId, agentId, teamIds],
  );
}
