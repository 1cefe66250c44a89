import type pg from 'pg';
import { newId } from '../platform/id.ts';
import type { Presence } from '../routing/conversation.ts';
import { endAwaits } from './affinity.ts';
import { transact, type Queryable } from './database.ts';
import { assertTeamsHeld, lockMatching, readTeamsOfAgents, type MatchingLock } from './locks.ts';
import { drainQueues } from './matching.ts';
import { readTeamsOfOffers } from './offer-ends.ts';
import { changePresence } from './presence.ts';
import { defaultWorkspaceSettings } from './settings.ts';

export interface Agent {
  readonly id: string;
  readonly name: string;
  /** Units of conversations that the agent may have at a time. */
  readonly capacity: number;
  /** Units that the agent's open conversations take now. */
  readonly load: number;
  /** Level by skill, 1 to 5. */
  readonly skills: Readonly<Record<string, number>>;
  /** Most conversations at once by key of the channel, where that is limited. */
  readonly channelLimits: Readonly<Record<string, number>>;
  /** How many there are now. */
  readonly channelLoads: Readonly<Record<string, number>>;
  readonly teamIds: readonly string[];
  readonly presence: Presence;
  readonly presenceChangedAt: Date;
  readonly heartbeatAt: Date | null;
  readonly lastAssignedAt: Date | null;
  /** Offers in a row that ran out unanswered. */
  readonly missedOffers: number;
  readonly createdAt: Date;
}

/** What an agent was to have and the workspace does not: all of it. */
export interface UnknownReferences {
  readonly kind: 'unknown_references';
  readonly teamIds: readonly string[];
  readonly channels: readonly string[];
}

interface AgentKey {
  readonly workspaceId: string;
  readonly agentId: string;
}

const selectAgent = `
  SELECT a.id, a.name, a.capacity, a.load, a.skills, a.channel_limits AS "channelLimits", a.channel_loads AS "channelLoads",
         a.last_assigned_at AS "lastAssignedAt", a.missed_offers AS "missedOffers", a.created_at AS "createdAt",
         p.status AS presence, p.changed_at AS "presenceChangedAt", p.heartbeat_at AS "heartbeatAt",
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
    channelLimits?: Readonly<Record<string, number>>;
  },
): Promise<{ kind: 'created'; agent: Agent } | UnknownReferences> {
  const { workspaceId, channelLimits = {} } = agent;
  return transact(pool, async (tx) => {
    const lock = await lockMatching(tx, workspaceId, { teamIds: agent.teamIds });
    const unknown = await findUnknown(tx, lock, { teamIds: agent.teamIds, channelLimits });
    if (unknown !== null) return unknown;
    const agentId = newId();
    await tx.query(
      'INSERT INTO agents (workspace_id, id, name, capacity, skills, channel_limits) VALUES ($1, $2, $3, $4, $5, $6)',
      [workspaceId, agentId, agent.name, agent.capacity, JSON.stringify(agent.skills), JSON.stringify(channelLimits)],
    );
    await tx.query('INSERT INTO agent_presence (workspace_id, agent_id) VALUES ($1, $2)', [workspaceId, agentId]);
    await writeMemberships(tx, { workspaceId, agentId }, agent.teamIds);
    return { kind: 'created', agent: (await getAgent(tx, { workspaceId, agentId }))! };
  });
}

/** More capacity, a higher limit, a skill or another team is room for those who wait: their queues drain in the same transaction. */
export async function updateAgent(
  pool: pg.Pool,
  change: AgentKey & {
    name?: string;
    capacity?: number;
    teamIds?: readonly string[];
    skills?: Readonly<Record<string, number>>;
    channelLimits?: Readonly<Record<string, number>>;
  },
): Promise<{ kind: 'updated'; agent: Agent } | { kind: 'not_found' } | UnknownReferences> {
  const { workspaceId, agentId, teamIds, capacity, skills, channelLimits } = change;
  return transact(pool, async (tx) => {
    const held = await holdAgent(tx, change, teamIds ?? []);
    if (held === null) return { kind: 'not_found' };
    const unknown = await findUnknown(tx, held, { teamIds: teamIds ?? [], channelLimits: channelLimits ?? {} });
    if (unknown !== null) return unknown;
    await tx.query(
      `UPDATE agents SET name = coalesce($3, name), capacity = coalesce($4, capacity), skills = coalesce($5::jsonb, skills),
              channel_limits = coalesce($6::jsonb, channel_limits)
       WHERE workspace_id = $1 AND id = $2`,
      [workspaceId, agentId, change.name ?? null, capacity ?? null, jsonOrNull(skills), jsonOrNull(channelLimits)],
    );
    if (teamIds !== undefined) await writeMemberships(tx, change, teamIds);
    if ([capacity, skills, channelLimits, teamIds].every((part) => part === undefined)) {
      return { kind: 'updated', agent: (await getAgent(tx, change))! };
    }
    await tx.query('UPDATE teams SET version = version + 1 WHERE workspace_id = $1 AND id = ANY($2::uuid[])', [
      workspaceId,
      [...held.teams.keys()],
    ]);
    if (skills !== undefined || teamIds !== undefined) await endAwaits(tx, held, agentId);
    await drainHeld(tx, change, held);
    return { kind: 'updated', agent: (await getAgent(tx, change))! };
  });
}

/**
 * Coming online drains the agent's queues, oldest first, in the same transaction. Leaving takes back what was offered to the agent; going
 * offline also plans what its teams' rules say about its conversations.
 */
export async function setPresence(
  pool: pg.Pool,
  { workspaceId, agentId, status }: AgentKey & { status: Presence },
): Promise<{ kind: 'set'; agent: Agent } | { kind: 'not_found' }> {
  return transact(pool, async (tx) => {
    const offeringTeamIds = status === 'online' ? [] : await readTeamsOfOffers(tx, workspaceId, agentId);
    const held = await holdAgent(tx, { workspaceId, agentId }, offeringTeamIds);
    if (held === null) return { kind: 'not_found' };
    // Also when it leaves: whom others rejected may now go to them, as nobody else is left.
    if (await changePresence(tx, held, { agentId, status })) await drainHeld(tx, { workspaceId, agentId }, held);
    return { kind: 'set', agent: (await getAgent(tx, { workspaceId, agentId }))! };
  });
}

/** For whoever keeps the clocks. An agent that was heard in between stays as it is. */
export async function setAwayIfSilent(pool: pg.Pool, { workspaceId, agentId }: AgentKey): Promise<void> {
  await transact(pool, async (tx) => {
    const held = await holdAgent(tx, { workspaceId, agentId }, await readTeamsOfOffers(tx, workspaceId, agentId));
    if (held === null) return;
    const changed = await changePresence(tx, held, { agentId, status: 'away', reason: 'silent' });
    if (changed) await drainHeld(tx, { workspaceId, agentId }, held);
  });
}

/** Tells that an agent who is online still is. Touches nothing that assignment locks. */
export async function recordHeartbeat(
  db: Queryable,
  { workspaceId, agentId }: AgentKey,
): Promise<{ kind: 'set'; agent: Agent } | { kind: 'not_found' }> {
  await db.query({
    name: 'record-heartbeat',
    text: `UPDATE agent_presence p
           SET heartbeat_at = now(),
               expires_at = now() + coalesce((w.settings ->> 'heartbeatExpirySeconds')::float8, $3) * interval '1 s'
           FROM workspaces w
           WHERE p.workspace_id = $1 AND p.agent_id = $2 AND p.status = 'online' AND w.id = p.workspace_id`,
    values: [workspaceId, agentId, defaultWorkspaceSettings.heartbeatExpirySeconds],
  });
  const agent = await getAgent(db, { workspaceId, agentId });
  return agent === null ? { kind: 'not_found' } : { kind: 'set', agent };
}

/** Online agents that have sent a heartbeat since they came online and whose next one is overdue, longest first. */
export async function readSilentAgents(db: Queryable, { maxRows }: { maxRows: number }): Promise<AgentKey[]> {
  const { rows } = await db.query<AgentKey>({
    name: 'read-silent-agents',
    text: `SELECT workspace_id AS "workspaceId", agent_id AS "agentId" FROM agent_presence
           WHERE status = 'online' AND expires_at <= now() ORDER BY expires_at LIMIT $1`,
    values: [maxRows],
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
  assertTeamsHeld(lock);
  return lock;
}

/** Reads the held rows again, as this transaction has changed them, and drains. */
async function drainHeld(tx: Queryable, { workspaceId, agentId }: AgentKey, held: MatchingLock): Promise<void> {
  const teamIds = [...held.teams.keys()];
  await drainQueues(tx, await lockMatching(tx, workspaceId, { teamIds, agentIds: [agentId] }));
}

/** Channels are never removed and keep their keys, so they need no lock. */
async function findUnknown(
  tx: Queryable,
  { workspaceId, teams }: MatchingLock,
  named: { teamIds: readonly string[]; channelLimits: Readonly<Record<string, number>> },
): Promise<UnknownReferences | null> {
  const teamIds = named.teamIds.filter((id) => !teams.has(id));
  const { rows } = await tx.query<{ key: string }>(
    `SELECT named.key FROM unnest($2::text[]) AS named (key)
     WHERE NOT EXISTS (SELECT FROM channels c WHERE c.workspace_id = $1 AND c.key = named.key)`,
    [workspaceId, Object.keys(named.channelLimits)],
  );
  const channels = rows.map((row) => row.key);
  return teamIds.length + channels.length === 0 ? null : { kind: 'unknown_references', teamIds, channels };
}

const jsonOrNull = (value: object | undefined): string | null => (value === undefined ? null : JSON.stringify(value));

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
