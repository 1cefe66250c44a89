/**
 * The one lock order: contacts, teams, agents, conversations, each by id. Every transaction that takes more than one of these
 * locks takes them through this file or set-locks.ts, top to bottom, so two of them can never wait for each other.
 *
 * What the locks promise to whoever holds a team:
 * - Nobody else queues, takes or frees anything in its queue, or changes its rules.
 * - The room of its members can only shrink meanwhile (another team's decision takes it): whoever gives room back to an agent, sets it
 *   online or widens its skills holds all the agent's teams. So a decision that found nobody stays right, and one that found
 *   somebody takes the room by an update that looks again. That is why a decision need not lock every member.
 *
 * The locks are FOR NO KEY UPDATE: a foreign key check takes FOR KEY SHARE on the row it points to, which must not wait.
 */
import type { AgentCandidate } from '../routing/matching.ts';
import type { Requirements } from '../routing/requirements.ts';
import { defaultTeamSettings, type Strategy, type TeamRules, type TeamSettings } from '../routing/team-rules.ts';
import { ConcurrentChange, type Queryable } from './database.ts';
import { withDefaultSettings, type WorkspaceSettings } from './settings.ts';

export interface ContactKey {
  readonly workspaceId: string;
  readonly contactId: string;
}

export interface ConversationKey extends ContactKey {
  readonly conversationId: string;
}

export interface ContactLock {
  readonly openConversationId: string | null;
  readonly lastSequence: number;
}

/** @param skipHeld null also for one that somebody else holds: who acts for several does not wait for one of them */
export async function lockContact(
  tx: Queryable,
  { workspaceId, contactId }: ContactKey,
  { skipHeld = false }: { readonly skipHeld?: boolean } = {},
): Promise<ContactLock | null> {
  const { rows } = await tx.query<ContactLock>({
    name: skipHeld ? 'lock-contact-unless-held' : 'lock-contact',
    text: `SELECT open_conversation_id AS "openConversationId", last_sequence AS "lastSequence"
           FROM contacts WHERE workspace_id = $1 AND id = $2 FOR NO KEY UPDATE ${skipHeld ? 'SKIP LOCKED' : ''}`,
    values: [workspaceId, contactId],
  });
  return rows[0] ?? null;
}

/** Teams held for matching, and the agents whose room the transaction is about to change. */
export interface MatchingLock {
  readonly workspaceId: string;
  /** The database's clock when the locks were held: every decision under them counts from it. */
  readonly nowMs: number;
  readonly settings: WorkspaceSettings;
  readonly teams: ReadonlyMap<string, TeamRules>;
  /** As they were when they were locked. */
  readonly agents: ReadonlyMap<string, AgentCandidate>;
}

/** Locks teams, then agents. Ids that do not exist are left out of the result. */
export async function lockMatching(
  tx: Queryable,
  workspaceId: string,
  { teamIds, agentIds = [] }: { teamIds: readonly string[]; agentIds?: readonly string[] },
): Promise<MatchingLock> {
  const teams = await lockTeams(tx, workspaceId, teamIds);
  const held = await lockAgents(tx, workspaceId, agentIds);
  return {
    workspaceId,
    nowMs: teams.nowMs,
    settings: teams.settings,
    teams: teams.byId,
    agents: new Map(held.map((agent) => [agent.agentId, agent])),
  };
}

async function lockTeams(tx: Queryable, workspaceId: string, teamIds: readonly string[]) {
  // The workspace's row comes along unlocked, also where no team does. `clock_timestamp` is read for each row after it was locked.
  const { rows } = await tx.query<TeamRow>({
    name: 'lock-teams',
    text: `WITH held AS (
             SELECT id, strategy, last_agent_id, settings, clock_timestamp() AS at
             FROM (SELECT * FROM teams WHERE workspace_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE) locked
           )
           SELECT held.id AS "teamId", held.strategy, held.last_agent_id AS "lastAgentId", held.settings,
                  w.settings AS "workspaceSettings",
                  extract(epoch FROM coalesce(held.at, clock_timestamp()))::float8 * 1000 AS "nowMs"
           FROM workspaces w LEFT JOIN held ON true
           WHERE w.id = $1`,
    values: [workspaceId, teamIds],
  });
  const byId = new Map<string, TeamRules>();
  let nowMs = 0;
  for (const row of rows) {
    nowMs = Math.max(nowMs, row.nowMs);
    const { teamId, strategy, lastAgentId, settings } = row;
    if (teamId !== null) byId.set(teamId, rulesOf({ teamId, strategy, lastAgentId, settings }));
  }
  return { byId, nowMs, settings: withDefaultSettings(rows[0]?.workspaceSettings ?? {}) };
}

/** A team's row: only what was set ever. */
export interface StoredRules {
  readonly teamId: string;
  readonly strategy: Strategy;
  readonly lastAgentId: string | null;
  readonly settings: Partial<TeamSettings>;
}

/** What was never set has its default. */
export const rulesOf = ({ settings, ...row }: StoredRules): TeamRules => ({
  ...defaultTeamSettings,
  ...settings,
  ...row,
});

interface TeamRow extends Omit<StoredRules, 'teamId'> {
  teamId: string | null;
  workspaceSettings: Partial<WorkspaceSettings>;
  nowMs: number;
}

const candidateColumns = `
  a.id AS "agentId", a.capacity, a.load, a.skills, a.channel_limits AS "channelLimits", a.channel_loads AS "channelLoads",
  p.status AS presence,
  -- Counted at most from coming online: a long absence is no waiting.
  extract(epoch FROM greatest(a.last_assigned_at, p.changed_at))::float8 * 1000 AS "idleSinceMs"`;

async function lockAgents(tx: Queryable, workspaceId: string, agentIds: readonly string[]): Promise<AgentCandidate[]> {
  if (agentIds.length === 0) return [];
  await tx.query({
    name: 'lock-agents',
    text: `SELECT FROM agents WHERE workspace_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE`,
    values: [workspaceId, agentIds],
  });
  // A statement of its own: its snapshot is taken after the locks, so loads and memberships are those that now hold still.
  const { rows } = await tx.query<AgentCandidate>({
    name: 'read-held-agents',
    text: `SELECT ${candidateColumns},
                  ARRAY(SELECT m.team_id FROM team_members m
                        WHERE m.workspace_id = a.workspace_id AND m.agent_id = a.id ORDER BY m.team_id) AS "teamIds"
           FROM agents a JOIN agent_presence p ON p.workspace_id = a.workspace_id AND p.agent_id = a.id
           WHERE a.workspace_id = $1 AND a.id = ANY($2::uuid[])`,
    values: [workspaceId, agentIds],
  });
  return rows;
}

/** Everybody who might take a conversation of these teams, as committed now and as this transaction has changed it. */
export async function readCandidates(
  tx: Queryable,
  workspaceId: string,
  teamIds: readonly string[],
): Promise<AgentCandidate[]> {
  const { rows } = await tx.query<AgentCandidate>({
    name: 'read-candidates',
    // Step by step along the indexes. As plain joins it was planned, once there were statistics, with a scan of all agents' presence.
    // The list is hidden in a sub-select: PostgreSQL sees how short it is otherwise, finds the plan for just that list cheaper than the one for
    // any, and plans the statement anew each time (custom plans in `pg_prepared_statements`).
    text: `SELECT agent.*, member."teamIds"
           FROM (SELECT agent_id, array_agg(team_id) AS "teamIds" FROM team_members
                 WHERE workspace_id = $1 AND team_id = ANY ((SELECT $2::uuid[])::uuid[]) GROUP BY agent_id) member
           CROSS JOIN LATERAL (
             SELECT ${candidateColumns} FROM agents a
             CROSS JOIN LATERAL (SELECT q.status, q.changed_at FROM agent_presence q
                                 WHERE q.workspace_id = $1 AND q.agent_id = member.agent_id LIMIT 1) p
             WHERE a.workspace_id = $1 AND a.id = member.agent_id LIMIT 1
           ) agent`,
    values: [workspaceId, teamIds],
  });
  return rows;
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
export function assertTeamsHeld(lock: MatchingLock): void {
  for (const agent of lock.agents.values()) {
    if (agent.teamIds.some((teamId) => !lock.teams.has(teamId))) throw new ConcurrentChange('memberships changed');
  }
}

export interface ConversationLock {
  readonly contactId: string;
  readonly state: 'enriching' | 'routing' | 'waiting' | 'assigned' | 'closed';
  readonly source: 'contact' | 'user' | 'api';
  readonly priority: number;
  /** The target that its flow's branch set; null: that of its team counts. A person who moves it leaves it as it is. */
  readonly slaSeconds: number | null;
  readonly units: number;
  readonly channel: string | null;
  readonly teamId: string | null;
  readonly agentId: string | null;
  readonly flowVersionId: string | null;
  readonly requirements: Requirements;
  readonly ring: number;
  readonly preferredAgentId: string | null;
  readonly awaitedAgentId: string | null;
  readonly awaitedUntil: Date | null;
  readonly passedOver: readonly string[];
  readonly offeredAgentId: string | null;
  readonly offerExpiresAt: Date | null;
  readonly quietSince: Date | null;
  readonly returnAt: Date | null;
  readonly openedAt: Date;
  readonly routedAt: Date | null;
  readonly waitingSince: Date | null;
  readonly queuedAt: Date | null;
  readonly assignedAt: Date | null;
  readonly closeRequestedAt: Date | null;
}

/** Whose load counts the conversation: its agent's, unless it is quiet, or that of the agent to whom it is offered. */
export const holderOf = ({
  state,
  agentId,
  offeredAgentId,
  quietSince,
}: Pick<ConversationLock, 'state' | 'agentId' | 'offeredAgentId'> & { readonly quietSince: unknown }): string | null =>
  state === 'assigned' && quietSince === null ? agentId : offeredAgentId;

export const conversationColumns = `
  contact_id AS "contactId", state, source, priority, sla_seconds AS "slaSeconds", units, channel, team_id AS "teamId", agent_id AS "agentId",
  flow_version_id AS "flowVersionId", requirements, ring, preferred_agent_id AS "preferredAgentId",
  awaited_agent_id AS "awaitedAgentId", awaited_until AS "awaitedUntil", passed_over AS "passedOver",
  offered_agent_id AS "offeredAgentId", offer_expires_at AS "offerExpiresAt", quiet_since AS "quietSince",
  return_at AS "returnAt", opened_at AS "openedAt", routed_at AS "routedAt", waiting_since AS "waitingSince",
  queued_at AS "queuedAt", assigned_at AS "assignedAt", close_requested_at AS "closeRequestedAt"`;

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

async function lockConversation(
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

export interface HeldConversation {
  readonly lock: MatchingLock;
  readonly conversation: ConversationLock;
}

/**
 * Holds a conversation together with everything that moving it touches: its team, its agent (also a quiet one's, or the one to whom it is
 * offered) with all of that agent's teams, and the teams and agents named besides.
 * @returns null when there is no such conversation
 */
export async function holdConversation(
  tx: Queryable,
  workspaceId: string,
  conversationId: string,
  also: { readonly teamIds?: readonly string[]; readonly agentIds?: readonly string[] } = {},
): Promise<HeldConversation | null> {
  const before = await readConversation(tx, workspaceId, conversationId);
  if (before === null) return null;
  const agentIds = [before.agentId, before.offeredAgentId, ...(also.agentIds ?? [])].filter((id) => id !== null);
  const teamIds = await readTeamsOfAgents(tx, workspaceId, agentIds);
  if (before.teamId !== null) teamIds.push(before.teamId);
  const lock = await lockMatching(tx, workspaceId, { teamIds: [...teamIds, ...(also.teamIds ?? [])], agentIds });
  assertTeamsHeld(lock);
  const conversation = (await lockConversation(tx, workspaceId, conversationId))!;
  const moved =
    conversation.agentId !== before.agentId ||
    conversation.teamId !== before.teamId ||
    conversation.offeredAgentId !== before.offeredAgentId;
  if (moved) throw new ConcurrentChange('the conversation was moved meanwhile');
  return { lock, conversation };
}
