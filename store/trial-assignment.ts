import { explainAssignment, type AssignmentExplanation } from '../routing/explanation.ts';
import { matchWaiting } from '../routing/matching.ts';
import { skillsAfter, type Requirements } from '../routing/requirements.ts';
import { newId } from '../platform/id.ts';
import { awaitedOf, findPreferences } from './affinity.ts';
import type { Queryable } from './database.ts';
import { readCandidates, rulesOf, type StoredRules } from './locks.ts';
import type { HeldTeams } from './match-writes.ts';
import { withNames } from './names.ts';
import { queueKeyOf } from './queue-key.ts';
import { withDefaultSettings, type WorkspaceSettings } from './settings.ts';

/** Who would get a conversation now, and why. */
export interface AssignmentPreview {
  /** `offered`: the agent would have to accept first. */
  readonly outcome: 'assigned' | 'offered' | 'waiting';
  readonly agentId: string | null;
  readonly agentName: string | null;
  readonly explanation: AssignmentExplanation;
  /** The same as a sentence. */
  readonly summary: string;
}

export interface AssignmentPreviewRequest {
  readonly workspaceId: string;
  /** Null for one who is only described: nobody had its last conversation. */
  readonly contactId: string | null;
  readonly teamId: string;
  readonly channel: string;
  readonly units: number;
  readonly priority: number;
  readonly slaSeconds: number | null;
  readonly requirements: Requirements;
}

/** As `assignRouted` decides, without holding anything: by the time a conversation comes, it may be another. */
export async function previewAssignment(tx: Queryable, request: AssignmentPreviewRequest): Promise<AssignmentPreview> {
  const { workspaceId, contactId, teamId, channel, units, priority, slaSeconds, requirements } = request;
  const teams = await readTeams(tx, workspaceId, teamId);
  const conversationId = newId();
  const preferences =
    contactId === null ? null : await findPreferences(tx, teams, [{ conversationId, contactId, teamId }]);
  const preference = preferences?.get(conversationId) ?? null;
  const agents = await readCandidates(tx, workspaceId, [teamId]);
  const skills = skillsAfter(requirements, 0);
  const conversation = {
    conversationId,
    teamId,
    priority,
    slaSeconds,
    waitingSinceMs: teams.nowMs,
    units,
    channel,
    skills,
    preferredAgentId: preference?.agentId ?? null,
    awaitedAgentId: awaitedOf(preference, agents, { teamId, skills }),
    passedOver: [],
    queueKey: queueKeyOf({ skills, units, channel, passedOver: [], slaSeconds }),
  };
  const [match] = matchWaiting({
    nowMs: teams.nowMs,
    waiting: [conversation],
    teams: [...teams.teams.values()],
    agents,
    order: 'given',
  });
  const { agentId, explanation } = match!;
  const isOffered = teams.teams.get(teamId)!.offer !== null;
  const [summary] = await withNames(tx, workspaceId, [explainAssignment({ ...explanation, offered: isOffered })]);
  return {
    outcome: agentId === null ? 'waiting' : isOffered ? 'offered' : 'assigned',
    agentId,
    agentName: agentId === null ? null : await readAgentName(tx, workspaceId, agentId),
    explanation,
    summary: summary!,
  };
}

async function readTeams(tx: Queryable, workspaceId: string, teamId: string): Promise<HeldTeams> {
  const { rows } = await tx.query<StoredRules & { workspaceSettings: Partial<WorkspaceSettings>; nowMs: number }>({
    name: 'read-team-rules',
    text: `SELECT t.id AS "teamId", t.strategy, t.last_agent_id AS "lastAgentId", t.settings,
                  w.settings AS "workspaceSettings", extract(epoch FROM now())::float8 * 1000 AS "nowMs"
           FROM teams t JOIN workspaces w ON w.id = t.workspace_id
           WHERE t.workspace_id = $1 AND t.id = $2`,
    values: [workspaceId, teamId],
  });
  const { workspaceSettings, nowMs, ...rules } = rows[0]!;
  return {
    workspaceId,
    nowMs,
    settings: withDefaultSettings(workspaceSettings),
    teams: new Map([[teamId, rulesOf(rules)]]),
  };
}

async function readAgentName(tx: Queryable, workspaceId: string, agentId: string): Promise<string> {
  const { rows } = await tx.query<{ name: string }>({
    name: 'read-agent-name',
    text: 'SELECT name FROM agents WHERE workspace_id = $1 AND id = $2',
    values: [workspaceId, agentId],
  });
  return rows[0]!.name;
}
