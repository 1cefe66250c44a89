import type { Presence } from './conversation.ts';
import { explainDecision, utilization, type AssignmentExplanation, type RankedTeam } from './explanation.ts';

/**
 * Gives waiting conversations to agents, one after the other: higher priority first, then the longer wait, then the smaller id. Each decision
 * sees the loads and the round-robin cursors that the decisions before it left. The input's order does not matter.
 *
 * Loads only grow in here. So once a team had no room for a conversation of some size, it has none for that size or more, and the
 * explanation stays true until one of its agents takes something for another team: the scan of the agents is spared.
 */
export function matchWaiting({ waiting, teams, agents }: MatchInput): Match[] {
  const teamById = prepareTeams(teams, agents);
  return waiting.toSorted(compareWaiting).map((conversation, index) => {
    const { conversationId, teamId, units } = conversation;
    const team = teamById.get(teamId);
    if (team === undefined) throw new Error(`matchWaiting was given no rules for team ${teamId}`);
    return { conversationId, teamId, ...decide(team, units, index + 1) };
  });
}

export interface MatchInput {
  readonly waiting: readonly WaitingConversation[];
  /** The rules of every team that a waiting conversation names. */
  readonly teams: readonly TeamRules[];
  /** Every agent of these teams; agents of other teams do no harm. */
  readonly agents: readonly AgentCandidate[];
}

export interface WaitingConversation {
  readonly conversationId: string;
  readonly teamId: string;
  readonly priority: number;
  readonly waitingSinceMs: number;
  /** How much of an agent's capacity it takes. */
  readonly units: number;
}

export interface TeamRules {
  readonly teamId: string;
  readonly strategy: Strategy;
  /** The agent whom the team's last assignment chose: the round-robin cursor. */
  readonly lastAgentId: string | null;
}

/**
 * - `round_robin`: the first agent with room after the last one, in the order of ids, beginning again at the end.
 * - `least_loaded`: the agent with room whose load is the smallest part of the capacity; among equals the next in round-robin order.
 */
export type Strategy = 'round_robin' | 'least_loaded';

export interface AgentCandidate {
  readonly agentId: string;
  readonly presence: Presence;
  readonly capacity: number;
  readonly load: number;
  readonly teamIds: readonly string[];
}

export interface Match {
  readonly conversationId: string;
  readonly teamId: string;
  /** Null when no agent of the team has room: the conversation goes on waiting. */
  readonly agentId: string | null;
  readonly explanation: AssignmentExplanation;
}

export { explainAssignment, type AssignmentExplanation } from './explanation.ts';

interface AgentState {
  readonly agentId: string;
  readonly capacity: number;
  load: number;
  readonly teams: TeamState[];
}

interface TeamState {
  readonly strategy: Strategy;
  lastAgentId: string | null;
  /** Each in the order of ids. */
  readonly online: AgentState[];
  readonly away: AgentState[];
  readonly offline: AgentState[];
  /** Why there was no room for the last one that found none; void once one of the team's agents takes something. */
  noRoomExplanation: AssignmentExplanation | null;
}

function prepareTeams(teams: readonly TeamRules[], agents: readonly AgentCandidate[]): Map<string, TeamState> {
  const teamById = new Map<string, TeamState>();
  for (const { teamId, strategy, lastAgentId } of teams) {
    teamById.set(teamId, { strategy, lastAgentId, online: [], away: [], offline: [], noRoomExplanation: null });
  }
  for (const agent of agents.toSorted((left, right) => compareText(left.agentId, right.agentId))) {
    const { agentId, capacity, load, presence } = agent;
    const state: AgentState = { agentId, capacity, load, teams: [] };
    for (const teamId of new Set(agent.teamIds)) {
      const team = teamById.get(teamId);
      if (team === undefined) continue;
      team[presence].push(state);
      state.teams.push(team);
    }
  }
  return teamById;
}

function decide(team: TeamState, units: number, position: number): Pick<Match, 'agentId' | 'explanation'> {
  const known = team.noRoomExplanation;
  if (known !== null && units >= known.units) return { agentId: null, explanation: { ...known, units, position } };
  const ranked = rankAgents(team, units);
  const chosen = ranked.free[0];
  const explanation = explainDecision(ranked, units, position);
  if (chosen === undefined) {
    team.noRoomExplanation = explanation;
    return { agentId: null, explanation };
  }
  chosen.load += units;
  team.lastAgentId = chosen.agentId;
  for (const concerned of chosen.teams) concerned.noRoomExplanation = null;
  return { agentId: chosen.agentId, explanation };
}

/** The team's agents, best first. */
function rankAgents(team: TeamState, units: number): RankedTeam & { readonly free: readonly AgentState[] } {
  const { strategy, online, away, offline } = team;
  const start = team.lastAgentId === null ? 0 : firstAfter(online, team.lastAgentId);
  const free: AgentState[] = [];
  const full: AgentState[] = [];
  for (let step = 0; step < online.length; step++) {
    const agent = online[(start + step) % online.length];
    if (agent !== undefined) (agent.load + units <= agent.capacity ? free : full).push(agent);
  }
  // The sort is stable: among equals the round-robin order stays.
  if (strategy === 'least_loaded') free.sort((left, right) => utilization(left) - utilization(right));
  return { strategy, free, full, away, offline };
}

/** Where the first agent behind the cursor stands; the cursor's own agent may have left the team. */
function firstAfter(agents: readonly AgentState[], agentId: string): number {
  let low = 0;
  let high = agents.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const agent = agents[middle];
    if (agent !== undefined && agent.agentId <= agentId) low = middle + 1;
    else high = middle;
  }
  return low;
}

function compareWaiting(left: WaitingConversation, right: WaitingConversation): number {
  return (
    right.priority - left.priority ||
    left.waitingSinceMs - right.waitingSinceMs ||
    compareText(left.conversationId, right.conversationId)
  );
}

/** By code unit, which for UUIDs in small letters is PostgreSQL's order too. */
function compareText(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
