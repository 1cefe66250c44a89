/**
 * The one lock order: contacts, teams, agents, conversations, each by id. Every transaction that takes more than one of these
 * locks takes them through this file, top to bottom, so two of them can never wait for each other.
 *
 * The locks are FOR NO KEY UPDATE: a foreign key check takes FOR KEY SHARE on the row it points to, which must not wait.
 */
import type { AgentCandidate, TeamRules } from '../routing/matching.ts';
import { ConcurrentChange, type Queryable } from './database.ts';

export interface ContactLock {
  readonly openConversationId: string | null;
  readonly lastSequence: number;
}

export async function lockContact(tx: Queryable, workspaceId: string, contactId: string): Promise<ContactLock | null> {
  const { rows } = await tx.query<ContactLock>({
    name: 'lock-contact',
    text: `SELECT open_conversation_id AS "openConversationId", last_sequence AS "lastSequence"
           FROM contacts WHERE workspace_id = $1 AND id = $2 FOR NO KEY UPDATE`,
    values: [workspaceId, contactId],
  });
  return rows[0] ?? null;
}

/** Teams and agents held for matching: nothing about who is free or who waits can change until the transaction ends. */
export interface MatchingLock {
  readonly workspaceId: string;
  readonly teams: ReadonlyMap<string, TeamRules>;
  readonly agents: ReadonlyMap<string, AgentCandidate>;
}

/** Locks teams, then all their members and `agentIds` besides. Ids that do not exist are left out of the result. */
export async function lockMatching(
  tx: Queryable,
  workspaceId: string,
  { teamIds, agentIds = [] }: { teamIds: readonly string[]; agentIds?: readonly string[] },
): Promise<MatchingLock> {
  const teams = await tx.query<TeamRules>({
    name: 'lock-teams',
    text: `SELECT id AS "teamId", strategy, last_agent_id AS "lastAgentId"
           FROM teams WHERE workspace_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE`,
    values: [workspaceId, teamIds],
  });
  const held = await tx.query<{ id: string }>({
    name: 'lock-agents',
    // One array, not "in the array OR in the teams": that read all agents of the workspace for every decision.
    text: `SELECT id FROM agents
           WHERE workspace_id = $1
             AND id = ANY($3::uuid[] || ARRAY(SELECT agent_id FROM team_members
                                              WHERE workspace_id = $1 AND team_id = ANY($2::uuid[])))
           ORDER BY id FOR NO KEY UPDATE`,
    values: [workspaceId, teamIds, agentIds],
  });
  // A statement of its own: its snapshot is taken after the locks, so loads and memberships are those that now hold still.
  // Subqueries, not joins: with thousands of agents elsewhere, joins were planned as scans of all of them.
  const agents = await tx.query<AgentCandidate>({
    name: 'read-candidates',
    text: `SELECT a.id AS "agentId", a.capacity, a.load,
                  (SELECT p.status FROM agent_presence p
                   WHERE p.workspace_id = a.workspace_id AND p.agent_id = a.id) AS presence,
                  ARRAY(SELECT m.team_id FROM team_members m
                        WHERE m.workspace_id = a.workspace_id AND m.agent_id = a.id ORDER BY m.team_id) AS "teamIds"
           FROM agents a
           WHERE a.workspace_id = $1 AND a.id = ANY($2::uuid[])`,
    values: [workspaceId, held.rows.map((agent) => agent.id)],
  });
  return {
    workspaceId,
    teams: new Map(teams.rows.map((team) => [team.teamId, team])),
    agents: new Map(agents.rows.map((agent) => [agent.agentId, agent])),
  };
}

/** The same lock after this transaction changed an agent's load, so that nothing has to be read again. */
export function withLoad(lock: MatchingLock, agentId: string, changeUnits: number): MatchingLock {
  const agent = lock.agents.get(agentId);
  if (agent === undefined) return lock;
  return { ...lock, agents: new Map(lock.agents).set(agentId, { ...agent, load: agent.load + changeUnits }) };
}

/** Which queues an agent's room concerns. Unlocked: `assertTeamsHeld` checks again under the locks. */
export async function readTeamsOfAgents(
  db: Queryable,
  workspaceId: string,
  agentIds: readonly string[],
): Promise<string[]> {
  if (agentIds.length === 0) return [];
  const { rows } = await db.query<{ team_id: string }>({
    name: 'read-teams-of-agents',
    text: `SELECT DISTINCT team_id FROM team_members WHERE workspace_id = $1 AND agent_id = ANY($2::uuid[])`,
    values: [workspaceId, agentIds],
  });
  return rows.map((row) => row.team_id);
}

/**
 * Teams were read before they were locked. An agent that joined another one in between has queues that are not held: start
 * over with those too.
 */
export function assertTeamsHeld(lock: MatchingLock, agentId: string): void {
  const agent = lock.agents.get(agentId);
  if (agent?.teamIds.some((teamId) => !lock.teams.has(teamId))) throw new ConcurrentChange('memberships changed');
}

export interface ConversationLock {
  readonly contactId: string;
  readonly state: 'enriching' | 'routing' | 'waiting' | 'assigned' | 'closed';
  readonly source: 'contact' | 'user' | 'api';
  readonly priority: number;
  readonly units: number;
  readonly teamId: string | null;
  readonly agentId: string | null;
  readonly routedAt: Date | null;
  readonly waitingSince: Date | null;
  readonly openedAt: Date;
  readonly closeRequestedAt: Date | null;
}

const conversationColumns = `
  contact_id AS "contactId", state, source, priority, units, team_id AS "teamId", agent_id AS "agentId",
  routed_at AS "routedAt", waiting_since AS "waitingSince", opened_at AS "openedAt",
  close_requested_at AS "closeRequestedAt"`;

export async function readConversation(
  db: Queryable,
  workspaceId: string,
  conversationId: string,
): Promise<ConversationLock | null> {
  const { rows } = await db.query<ConversationLock>({
    name: 'read-conversation-to-lock',
    text: `SELECT ${conversationColumns} FROM conversations WHERE workspace_id = $1 AND id = $2`,
    values: [workspaceId, conversationId],
  });
  return rows[0] ?? null;
}

export async function lockConversation(
  tx: Queryable,
  workspaceId: string,
  conversationId: string,
): Promise<ConversationLock | null> {
  const { rows } = await tx.query<ConversationLock>({
    name: 'lock-conversation',
    text: `SELECT ${conversationColumns} FROM conversations WHERE workspace_id = $1 AND id = $2 FOR NO KEY UPDATE`,
    values: [workspaceId, conversationId],
  });
  return rows[0] ?? null;
}
