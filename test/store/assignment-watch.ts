/** Looks at a world after each command: what must hold at every moment, and what a single transaction must never do. */
import type pg from 'pg';
import {
  decideAgain,
  matchWaiting,
  type AgentCandidate,
  type AssignmentExplanation,
  type WaitingConversation,
} from '../../routing/matching.ts';
import { skillsAfter, type Requirements } from '../../routing/requirements.ts';
import { defaultTeamSettings, type TeamRules } from '../../routing/team-rules.ts';
import { breachAtMs, compareWaiting, effectivePriority, targetSecondsOf } from '../../routing/waiting-order.ts';
import { findMisfiled, findNeedlessWaits, findWrongLoads } from '../support/balance.ts';
import type { Command } from './assignment-commands.ts';
import type { World } from './assignment-world.ts';

export interface Watch {
  /** Everything that is wrong after the command, given how it was before. */
  look(command: Command): Promise<string[]>;
}

export async function createWatch({ stage, workspaceId, contactIds }: World): Promise<Watch> {
  const { pool } = stage;
  let before = await takeSnapshot(pool, workspaceId);
  const judged = new Set<string>();
  return {
    async look(command) {
      const [after, loads, waits, misfiled, cycles] = await Promise.all([
        takeSnapshot(pool, workspaceId),
        findWrongLoads(pool, workspaceId),
        findNeedlessWaits(pool, workspaceId),
        findMisfiled(pool, workspaceId),
        findDoubleCycles(pool, workspaceId),
      ]);
      const found = [
        ...loads.map((what) => `I3 ${what}`),
        ...waits.map((what) => `I7 ${what}`),
        ...misfiled,
        ...cycles,
        ...findOverloads(before, after, command),
        ...(command.kind === 'aged' ? [] : findChangedWaits(before, after)),
        ...(await findOtherChoices(pool, workspaceId, judged)),
        ...(inOneTransaction.has(command.kind) ? findOvertaken(before, after, byHandIn(command, contactIds)) : []),
      ];
      before = after;
      return found;
    },
  };
}

/** Between several transactions room may appear that the first of them had not. */
const inOneTransaction: ReadonlySet<Command['kind']> = new Set([
  'write',
  'open',
  'close',
  'closes',
  'answer',
  'assign',
  'presence',
  'agent',
  'team',
] as const);

/** The contact whose conversation a person moves, out of turn. */
const byHandIn = (command: Command, contactIds: readonly string[]): string | null =>
  command.kind === 'assign' && command.to.kind === 'agent' ? contactIds[command.contact]! : null;

interface Open extends WaitingConversation {
  readonly contactId: string;
  readonly isQueued: boolean;
  /** Who has it, or is offered it. */
  readonly holder: string | null;
  readonly hasWaited: boolean;
}

interface Snapshot {
  readonly nowMs: number;
  readonly open: ReadonlyMap<string, Open>;
  readonly agents: ReadonlyMap<string, AgentCandidate>;
  readonly teams: ReadonlyMap<string, TeamRules>;
}

async function takeSnapshot(pool: pg.Pool, workspaceId: string): Promise<Snapshot> {
  const [open, agents, teams] = await Promise.all([
    readOpen(pool, workspaceId),
    readAgents(pool, workspaceId),
    readTeams(pool, workspaceId),
  ]);
  return {
    nowMs: Date.now(),
    open: new Map(open.map((row) => [row.conversationId, row])),
    agents: new Map(agents.map((agent) => [agent.agentId, agent])),
    teams: new Map(teams.map((team) => [team.teamId, team])),
  };
}

async function readOpen(pool: pg.Pool, workspaceId: string): Promise<Open[]> {
  const { rows } = await pool.query<Omit<Open, 'skills'> & { requirements: Requirements; ring: number }>(
    `SELECT id AS "conversationId", contact_id AS "contactId", team_id AS "teamId", priority, sla_seconds AS "slaSeconds", units, channel, requirements, ring,
            preferred_agent_id AS "preferredAgentId", awaited_agent_id AS "awaitedAgentId", passed_over AS "passedOver",
            queue_key AS "queueKey", coalesce(agent_id, offered_agent_id) AS holder, waiting_since IS NOT NULL AS "hasWaited",
            coalesce(extract(epoch FROM waiting_since)::float8 * 1000, 0) AS "waitingSinceMs",
            state = 'waiting' AND close_requested_at IS NULL AND offered_agent_id IS NULL AS "isQueued"
     FROM conversations WHERE workspace_id = $1 AND closed_at IS NULL`,
    [workspaceId],
  );
  return rows.map(({ requirements, ring, ...row }) => ({ ...row, skills: skillsAfter(requirements, ring) }));
}

async function readAgents(pool: pg.Pool, workspaceId: string): Promise<AgentCandidate[]> {
  const { rows } = await pool.query<AgentCandidate>(
    `SELECT a.id AS "agentId", a.capacity, a.load, a.skills, a.channel_limits AS "channelLimits",
            a.channel_loads AS "channelLoads", p.status AS presence, 0 AS "idleSinceMs",
            ARRAY(SELECT m.team_id FROM team_members m WHERE m.workspace_id = a.workspace_id AND m.agent_id = a.id) AS "teamIds"
     FROM agents a JOIN agent_presence p ON p.workspace_id = a.workspace_id AND p.agent_id = a.id WHERE a.workspace_id = $1`,
    [workspaceId],
  );
  return rows;
}

async function readTeams(pool: pg.Pool, workspaceId: string): Promise<TeamRules[]> {
  const { rows } = await pool.query<TeamRules & { settings: Partial<TeamRules> }>(
    'SELECT id AS "teamId", strategy, last_agent_id AS "lastAgentId", settings FROM teams WHERE workspace_id = $1',
    [workspaceId],
  );
  return rows.map(({ settings, ...team }) => ({ ...defaultTeamSettings, ...team, ...settings }));
}

/** I2. */
async function findDoubleCycles(pool: pg.Pool, workspaceId: string): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(
    `SELECT c.id FROM contacts c
     LEFT JOIN conversations v ON v.workspace_id = c.workspace_id AND v.contact_id = c.id AND v.closed_at IS NULL
     WHERE c.workspace_id = $1
     GROUP BY c.id HAVING count(v.id) > 1 OR max(v.id::text) IS DISTINCT FROM max(c.open_conversation_id::text)`,
    [workspaceId],
  );
  return rows.map(({ id }) => `I2 contact ${id}`);
}

/** I3: load grows above the capacity by force alone, and whoever has too much since it was lowered gets no more. */
function findOverloads(before: Snapshot, after: Snapshot, command: Command): string[] {
  const isForced = 'to' in command && command.to.kind === 'agent' && command.to.force;
  if (isForced) return [];
  return [...after.agents.values()]
    .filter(({ agentId, load, capacity }) => load > capacity && load > before.agents.get(agentId)!.load)
    .map(({ agentId, load, capacity }) => `I3 agent ${agentId} got more than the capacity: ${load} of ${capacity}`);
}

function findChangedWaits(before: Snapshot, after: Snapshot): string[] {
  return [...before.open.values()]
    .filter(({ conversationId, hasWaited, waitingSinceMs }) => {
      const now = after.open.get(conversationId);
      return hasWaited && now !== undefined && now.waitingSinceMs !== waitingSinceMs;
    })
    .map(({ conversationId }) => `the wait of ${conversationId} was not kept`);
}

/** Every record that was not judged before decides again as it did. */
async function findOtherChoices(pool: pg.Pool, workspaceId: string, judged: Set<string>): Promise<string[]> {
  const { rows } = await pool.query<{ id: string; detail: AssignmentExplanation }>(
    `SELECT id, detail FROM decisions
     WHERE workspace_id = $1 AND kind = 'assignment' AND detail ? 'candidates' AND id <> ALL($2::uuid[])`,
    [workspaceId, [...judged]],
  );
  for (const { id } of rows) judged.add(id);
  return rows
    .filter(({ detail }) => decideAgain(detail) !== detail.chosen)
    .map(({ id, detail }) => `decision ${id} chose ${detail.chosen}, its record ${decideAgain(detail)}`);
}

/** Those before whom somebody was served, though they stood before them in the queue and the very same agent could have taken them. */
function findOvertaken(before: Snapshot, after: Snapshot, byHand: string | null): string[] {
  const queued = [...before.open.values()].filter(({ isQueued }) => isQueued);
  const now = (conversation: Open): Open | undefined => after.open.get(conversation.conversationId);
  const served = queued.filter(
    (row) => row.contactId !== byHand && now(row)?.isQueued === false && now(row)!.holder !== null,
  );
  const left = queued.filter((row) => now(row)?.isQueued === true && now(row)!.queueKey === row.queueKey);
  return served.flatMap((row) => {
    const got = now(row)!;
    return left
      .filter((other) => other.teamId === got.teamId && now(other)!.teamId === other.teamId)
      .filter((other) => [before, after].every(({ nowMs }) => stoodBefore(other, got, nowMs, after)))
      .filter((other) => couldHaveTaken(after, got, now(other)!))
      .map((other) => `${other.conversationId} stood before ${row.conversationId}, which ${got.holder} got`);
  });
}

function stoodBefore(left: Open, right: Open, nowMs: number, { teams }: Snapshot): boolean {
  const rules = teams.get(right.teamId)!;
  const place = (row: Open) => ({
    ...row,
    effectivePriority: effectivePriority(row, rules, nowMs),
    breachAtMs: breachAtMs(row.waitingSinceMs, { slaSeconds: targetSecondsOf(row, rules) }),
  });
  return compareWaiting(place(left), place(right)) < 0;
}

/** Asks the core about `other` alone, with nobody having room but who got `got`, without it. */
function couldHaveTaken({ agents, teams, nowMs }: Snapshot, got: Open, other: Open): boolean {
  const withRoom = [...agents.values()].map((agent): AgentCandidate => {
    // Full, not without capacity: for somebody who could never take it, nobody is passed over.
    if (agent.agentId !== got.holder) return { ...agent, load: Math.max(agent.load, agent.capacity) };
    const { channel } = got;
    const channelLoads = { ...agent.channelLoads };
    if (channel !== null) channelLoads[channel] = channelLoads[channel]! - 1;
    return { ...agent, load: agent.load - got.units, channelLoads };
  });
  const [match] = matchWaiting({ nowMs, waiting: [other], teams: [...teams.values()], agents: withRoom });
  return match!.agentId !== null;
}
