/** The agent whom a contact had last: preferred for a while, and awaited for a shorter one. */
import type { AgentCandidate } from '../routing/matching.ts';
import { weighSkills } from '../routing/ranking.ts';
import type { SkillRequirement } from '../routing/requirements.ts';
import type { TeamRules } from '../routing/team-rules.ts';
import type { Queryable } from './database.ts';
import type { ConversationKey, MatchingLock } from './locks.ts';

export interface Preference {
  readonly agentId: string;
  /** How long the conversation may wait for this agent alone; 0: not at all. */
  readonly waitMs: number;
}

/**
 * The agent who had the contact's last conversation, if it closed recently enough for the team's affinity, or for the workspace's
 * rule about contacts who write again soon after the close, for which nobody waits.
 */
export async function findPreference(
  tx: Queryable,
  { settings }: MatchingLock,
  { workspaceId, contactId }: ConversationKey,
  { affinity }: TeamRules,
): Promise<Preference | null> {
  const affinityMinutes = (affinity?.withinHours ?? 0) * 60;
  const withinMinutes = Math.max(affinityMinutes, settings.reopenMinutes ?? 0);
  if (withinMinutes === 0) return null;
  const { rows } = await tx.query<{ agentId: string; minutes: number }>({
    name: 'read-last-agent',
    text: `SELECT agent_id AS "agentId", extract(epoch FROM now() - closed_at)::float8 / 60 AS minutes
           FROM conversations
           WHERE workspace_id = $1 AND contact_id = $2 AND closed_at IS NOT NULL AND agent_id IS NOT NULL
           ORDER BY id DESC LIMIT 1`,
    values: [workspaceId, contactId],
  });
  const [last] = rows;
  if (last === undefined || last.minutes > withinMinutes) return null;
  return { agentId: last.agentId, waitMs: last.minutes <= affinityMinutes ? affinity!.waitSeconds * 1_000 : 0 };
}

/** Whom to wait for, if it is worth it: a preferred agent who left the team, is offline or lacks what is asked would only cost time. */
export function awaitedOf(
  preference: Preference | null,
  agents: readonly AgentCandidate[],
  skills: readonly SkillRequirement[],
): string | null {
  if (preference === null || preference.waitMs === 0) return null;
  const agent = agents.find(({ agentId }) => agentId === preference.agentId);
  if (agent === undefined || agent.presence === 'offline') return null;
  return weighSkills(skills, agent.skills).lacks === null ? agent.agentId : null;
}

/**
 * Those who await an agent whom waiting may no longer bring, or by a rule that has changed, are for everybody: their clocks are due now, and whoever
 * keeps the clocks (store/ring-clocks.ts) ends their wait for the agent and drains. The caller holds the teams.
 */
export async function endAwaits(
  tx: Queryable,
  { workspaceId, teams }: MatchingLock,
  agentId: string | null,
): Promise<void> {
  await tx.query({
    name: 'end-awaits',
    // A range along the index of the queue: one agent, or all there are.
    text: `UPDATE conversations
           SET awaited_until = now(), due_at = now(), due_kind = 'awaited'
           WHERE workspace_id = $1 AND team_id = ANY($2::uuid[]) AND state = 'waiting' AND close_requested_at IS NULL
             AND offered_agent_id IS NULL
             AND coalesce(awaited_agent_id, '00000000-0000-0000-0000-000000000000'::uuid) BETWEEN $3 AND $4`,
    values: [workspaceId, [...teams.keys()], agentId ?? firstId, agentId ?? lastId],
  });
}

const firstId = '00000000-0000-0000-0000-000000000001';
const lastId = 'ffffffff-ffff-ffff-ffff-ffffffffffff';
