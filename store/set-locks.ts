/**
 * Locks for a set of conversations of one workspace, in one statement, in the one order of locks.ts. Each kind is locked by a part of the statement
 * that begins when the part before it is complete, as its condition needs that part's row count.
 *
 * A row that somebody changed while its lock was waited for comes back as it is now, not as it was when the statement began: PostgreSQL fetches the
 * newest version of what it locks. What is only read to find out whom to lock (a conversation's team, an agent's teams) may be older, and is
 * checked again by the caller against the locked rows, or by a statement that begins under the locks.
 *
 * One after the other they were three round trips of an assignment's eight, and seven of a close's thirteen.
 */
import type { TeamRules } from '../routing/team-rules.ts';
import { ConcurrentChange, type Queryable } from './database.ts';
import {
  conversationColumns,
  rulesOf,
  type ConversationKey,
  type ConversationLock,
  type MatchingLock,
  type StoredRules,
} from './locks.ts';
import { withDefaultSettings, type WorkspaceSettings } from './settings.ts';

/** SQL for a conversation that its flow has routed, and that nobody has assigned, moved or asked to close since. */
const awaitsAssignment = (row: string): string =>
  `${row}.state = 'routing' AND ${row}.routed_at IS NOT NULL AND ${row}.close_requested_at IS NULL`;

const holdRoutedSql = `
  WITH team AS MATERIALIZED (
    SELECT locked.*, clock_timestamp() AS at
    FROM (
      SELECT t.id, t.strategy, t.last_agent_id, t.settings FROM teams t
      WHERE t.workspace_id = $1 AND t.id = ANY (ARRAY(
        SELECT v.team_id FROM conversations v
        WHERE v.workspace_id = $1 AND v.id = ANY ((SELECT $2::uuid[])::uuid[]) AND ${awaitsAssignment('v')}
      ))
      ORDER BY t.id FOR NO KEY UPDATE
    ) locked
  ), conversation AS MATERIALIZED (
    SELECT v.id AS "conversationId", ${conversationColumns} FROM conversations v
    WHERE v.workspace_id = $1 AND v.id = ANY ((SELECT $2::uuid[])::uuid[]) AND ${awaitsAssignment('v')} AND (SELECT count(*) FROM team) >= 0
    ORDER BY v.id FOR NO KEY UPDATE
  )
  SELECT conversation.*, team.strategy, team.last_agent_id AS "lastAgentId", team.settings, w.settings AS "workspaceSettings",
         extract(epoch FROM team.at)::float8 * 1000 AS "nowMs"
  FROM conversation
  JOIN workspaces w ON w.id = $1
  LEFT JOIN team ON team.id = conversation."teamId"`;

export interface HeldRouted {
  readonly lock: MatchingLock;
  /** Those of the named that their flow has routed and nobody has assigned yet, by id; the others are not held. */
  readonly conversations: ReadonlyMap<string, ConversationLock>;
}

/** Teams, then conversations. */
export async function holdRouted(
  tx: Queryable,
  workspaceId: string,
  conversationIds: readonly string[],
): Promise<HeldRouted> {
  const { rows } = await tx.query<RoutedRow>({
    name: 'hold-routed',
    text: holdRoutedSql,
    values: [workspaceId, conversationIds],
  });
  const teams = new Map<string, TeamRules>();
  const conversations = new Map<string, ConversationLock>();
  let nowMs = 0;
  for (const { conversationId, strategy, lastAgentId, settings, workspaceSettings: _, nowMs: at, ...row } of rows) {
    const teamId = row.teamId!;
    if (strategy === null || settings === null)
      throw new ConcurrentChange('the conversation was routed anew meanwhile');
    if (!teams.has(teamId)) teams.set(teamId, rulesOf({ teamId, strategy, lastAgentId, settings }));
    nowMs = Math.max(nowMs, at!);
    conversations.set(conversationId, row);
  }
  const settings = withDefaultSettings(rows[0]?.workspaceSettings ?? {});
  return { lock: { workspaceId, nowMs, settings, teams, agents: new Map() }, conversations };
}

interface RoutedRow extends ConversationLock {
  readonly conversationId: string;
  readonly strategy: TeamRules['strategy'] | null;
  readonly lastAgentId: string | null;
  readonly settings: StoredRules['settings'] | null;
  readonly workspaceSettings: Partial<WorkspaceSettings>;
  readonly nowMs: number | null;
}

const holdClosingSql = `
  WITH contact AS MATERIALIZED (
    SELECT c.id, c.open_conversation_id FROM contacts c
    WHERE c.workspace_id = $1 AND c.id = ANY($2::uuid[]) ORDER BY c.id FOR NO KEY UPDATE
  ), before AS MATERIALIZED (
    SELECT v.id, v.team_id, v.agent_id, v.offered_agent_id
    FROM contact JOIN conversations v ON v.workspace_id = $1 AND v.id = contact.open_conversation_id
    WHERE contact.open_conversation_id = ANY($3::uuid[])
  ), concerned AS MATERIALIZED (
    SELECT agent_id AS id FROM before WHERE agent_id IS NOT NULL
    UNION SELECT offered_agent_id FROM before WHERE offered_agent_id IS NOT NULL
  ), team AS MATERIALIZED (
    SELECT locked.*, clock_timestamp() AS at
    FROM (
      SELECT t.id, t.strategy, t.last_agent_id, t.settings FROM teams t
      WHERE t.workspace_id = $1 AND t.id = ANY (ARRAY(
        SELECT team_id FROM before
        UNION
        SELECT m.team_id FROM team_members m
        WHERE m.workspace_id = $1 AND m.agent_id = ANY (ARRAY(SELECT id FROM concerned))
      ))
      ORDER BY t.id FOR NO KEY UPDATE
    ) locked
  ), agent AS MATERIALIZED (
    SELECT a.id, a.capacity, a.load FROM agents a
    WHERE a.workspace_id = $1 AND a.id = ANY (ARRAY(SELECT id FROM concerned)) AND (SELECT count(*) FROM team) >= 0
    ORDER BY a.id FOR NO KEY UPDATE
  ), conversation AS MATERIALIZED (
    SELECT v.id, v.contact_id, v.state, v.units, v.channel, v.team_id, v.agent_id, v.offered_agent_id, v.quiet_since
    FROM conversations v
    WHERE v.workspace_id = $1 AND v.id = ANY (ARRAY(SELECT id FROM before))
      AND (SELECT count(*) FROM team) >= 0 AND (SELECT count(*) FROM agent) >= 0
    ORDER BY v.id FOR NO KEY UPDATE
  )
  SELECT extract(epoch FROM coalesce((SELECT max(at) FROM team), clock_timestamp()))::float8 * 1000 AS "nowMs",
         w.settings AS "workspaceSettings",
         (SELECT json_agg(json_build_object('teamId', id, 'strategy', strategy, 'lastAgentId', last_agent_id,
                                            'settings', settings)) FROM team) AS teams,
         (SELECT json_agg(json_build_object('agentId', id, 'capacity', capacity, 'load', load)) FROM agent) AS agents,
         (SELECT json_agg(json_build_object(
            'conversationId', id, 'contactId', contact_id, 'state', state, 'units', units, 'channel', channel,
            'teamId', team_id, 'agentId', agent_id, 'offeredAgentId', offered_agent_id, 'quietSince', quiet_since))
          FROM conversation) AS conversations
  FROM workspaces w WHERE w.id = $1`;

export interface HeldClosing {
  readonly lock: Omit<MatchingLock, 'agents'>;
  /** As they were when they were locked. */
  readonly agents: ReadonlyMap<string, { readonly capacity: number; readonly load: number }>;
  /** Those of the named that are still their contacts' open ones, by id; of the others only the contacts are held. */
  readonly conversations: Map<string, HeldToClose>;
}

export interface HeldToClose extends Pick<
  ConversationLock,
  'contactId' | 'state' | 'units' | 'channel' | 'teamId' | 'agentId' | 'offeredAgentId'
> {
  readonly conversationId: string;
  readonly quietSince: string | null;
}

/**
 * Contacts, teams, agents, conversations: each conversation with its team, and its agent or the one to whom it is offered with all of that
 * agent's teams. Whether these are all that the agents have now, the caller has to look with its next statement.
 */
export async function holdClosing(
  tx: Queryable,
  workspaceId: string,
  keys: readonly ConversationKey[],
): Promise<HeldClosing> {
  const { rows } = await tx.query<ClosingRow>({
    name: 'hold-closing',
    text: holdClosingSql,
    values: [workspaceId, keys.map(({ contactId }) => contactId), keys.map(({ conversationId }) => conversationId)],
  });
  const { nowMs, workspaceSettings, ...held } = rows[0]!;
  const teams = new Map((held.teams ?? []).map((team) => [team.teamId, rulesOf(team)]));
  const agents = new Map((held.agents ?? []).map(({ agentId, ...agent }) => [agentId, agent]));
  const conversations = new Map((held.conversations ?? []).map((row) => [row.conversationId, row]));
  for (const { teamId, agentId, offeredAgentId } of conversations.values()) {
    const isHeld =
      (teamId === null || teams.has(teamId)) &&
      (agentId === null || agents.has(agentId)) &&
      (offeredAgentId === null || agents.has(offeredAgentId));
    if (!isHeld) throw new ConcurrentChange('the conversation was moved meanwhile');
  }
  return {
    lock: { workspaceId, nowMs, settings: withDefaultSettings(workspaceSettings), teams },
    agents,
    conversations,
  };
}

interface ClosingRow {
  readonly nowMs: number;
  readonly workspaceSettings: Partial<WorkspaceSettings>;
  readonly teams: readonly StoredRules[] | null;
  readonly agents: readonly { readonly agentId: string; readonly capacity: number; readonly load: number }[] | null;
  readonly conversations: readonly HeldToClose[] | null;
}
