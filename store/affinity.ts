/** The agent whom a contact had last: preferred for a while, and awaited for a shorter one. */
import type { AgentCandidate, WaitingConversation } from '../routing/matching.ts';
import { weighSkills } from '../routing/ranking.ts';
import type { Queryable } from './database.ts';
import type { MatchingLock } from './locks.ts';
import type { HeldTeams } from './match-writes.ts';

export interface Preference {
  readonly agentId: string;
  /** How long the conversation may wait for this agent alone; 0: not at all. */
  readonly waitMs: number;
}

/**
 * By conversation: the agent who had its contact's last one, if that closed recently enough for the team's affinity, or for the workspace's
 * rule about contacts who write again soon after the close, for which nobody waits. Where neither is set, nothing is read.
 */
export async function findPreferences(
  tx: Queryable,
  { workspaceId, settings, teams }: HeldTeams,
  conversations: readonly {
    readonly conversationId: string;
    readonly contactId: string;
    readonly teamId: string | null;
  }[],
): Promise<ReadonlyMap<string, Preference>> {
  const found = new Map<string, Preference>();
  const reopenMinutes = settings.reopenMinutes ?? 0;
  const minutesOf = (teamId: string | null) => (teams.get(teamId!)!.affinity?.withinHours ?? 0) * 60;
  const asked = conversations.filter(({ teamId }) => Math.max(minutesOf(teamId), reopenMinutes) > 0);
  if (asked.length === 0) return found;
  const { rows } = await tx.query<{ contactId: string; agentId: string; minutes: number }>({
    name: 'read-last-agents',
    text: `SELECT asked.id AS "contactId", last.agent_id AS "agentId", extract(epoch FROM now() - last.closed_at)::float8 / 60 AS minutes
           FROM unnest($2::uuid[]) AS asked (id)
           CROSS JOIN LATERAL (
             SELECT v.agent_id, v.closed_at FROM conversations v
             WHERE v.workspace_id = $1 AND v.contact_id = asked.id AND v.closed_at IS NOT NULL AND v.agent_id IS NOT NULL
             ORDER BY v.id DESC LIMIT 1
           ) last`,
    values: [workspaceId, asked.map(({ contactId }) => contactId)],
  });
  const lastOf = new Map(rows.map((row) => [row.contactId, row]));
  for (const { conversationId, contactId, teamId } of asked) {
    const last = lastOf.get(contactId);
    const affinityMinutes = minutesOf(teamId);
    if (last === undefined || last.minutes > Math.max(affinityMinutes, reopenMinutes)) continue;
    const waitMs = last.minutes <= affinityMinutes ? teams.get(teamId!)!.affinity!.waitSeconds * 1_000 : 0;
    found.set(conversationId, { agentId: last.agentId, waitMs });
  }
  return found;
}

/** Whom to wait for, if it is worth it: a preferred agent who left the team, is offline or lacks what is asked would only cost time. */
export function awaitedOf(
  preference: Preference | null,
  agents: readonly AgentCandidate[],
  { teamId, skills }: Pick<WaitingConversation, 'teamId' | 'skills'>,
): string | null {
  if (preference === null || preference.waitMs === 0) return null;
  const agent = agents.find(({ agentId }) => agentId === preference.agentId);
  if (agent === undefined || agent.presence === 'offline' || !agent.teamIds.includes(teamId)) return null;
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
