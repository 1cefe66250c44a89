/** The agents of each team during one call of `matchWaiting`: what each decision changes, and what is found out only once. */
import type { AgentCandidate, MatchInput, WaitingConversation } from './matching.ts';
import {
  compareCandidacies,
  compareText,
  isOther,
  numberOf,
  numberOr,
  roomExclusion,
  standingExclusion,
  weighSkills,
  type AgentStanding,
  type Ask,
  type Candidacy,
  type Moment,
} from './ranking.ts';
import type { TeamRules } from './team-rules.ts';

export function prepareTeams({ teams, agents, nowMs }: Omit<MatchInput, 'waiting'>): Map<string, TeamState> {
  const teamById = new Map(teams.map((rules) => [rules.teamId, prepareTeam(rules)]));
  for (const candidate of agents.toSorted((left, right) => compareText(left.agentId, right.agentId))) {
    const agent = prepareAgent(candidate, nowMs);
    let first: TeamState | null = null;
    for (const teamId of candidate.teamIds) {
      const team = teamById.get(teamId);
      // A team that is named twice would be met twice in a row.
      if (team === undefined || team.members.at(-1) === agent) continue;
      team.members.push(agent);
      if (first === null) first = team;
      else joinCircles(first, team);
    }
  }
  return teamById;
}

export interface TeamState {
  readonly rules: TeamRules;
  /** Whom the team's last assignment chose. */
  lastAgentId: string | null;
  /** In the order of ids. */
  readonly members: AgentState[];
  /** Places in the priority list. */
  readonly places: ReadonlyMap<string, number>;
  readonly groups: Map<string, Group>;
  /** By units and channel: who of those online had room for so much when it was last asked. */
  readonly withRoom: Map<string, readonly AgentState[]>;
  circle: Circle;
}

/** Teams that share agents, each with another of them: what one decides may concern the others, but no team outside. */
type Circle = TeamState[];

export interface AgentState extends AgentStanding {
  now: LinkedMoment;
  readonly skills: Readonly<Record<string, number>>;
  readonly channelLimits: Readonly<Record<string, number>>;
}

/** Kept as a chain, so that a record can tell of the moment of its decision when it is asked for later. */
interface LinkedMoment extends Moment {
  readonly before: LinkedMoment | null;
}

interface LiveCandidacy extends Candidacy {
  readonly agent: AgentState;
}

/** The waiting conversations of a team that the very same agents may take. */
export interface Group {
  /** Whom only a lack of room can keep away, without those who have had none for it from the first. */
  readonly open: readonly LiveCandidacy[];
  /** Once one of the group was refused, all are until the end of the call. */
  isRefused: boolean;
}

/** The group that the conversation belongs to, prepared when its first one is served. */
export function groupOf(team: TeamState, conversation: WaitingConversation): Group {
  const { awaitedAgentId, queueKey } = conversation;
  const key = awaitedAgentId === null ? queueKey : `${awaitedAgentId}/${queueKey}`;
  let group = team.groups.get(key);
  if (group === undefined) team.groups.set(key, (group = prepareGroup(team, conversation)));
  return group;
}

/** Written out: spreading the whole conversation cost more than the decision. */
export function askOf(team: TeamState, conversation: WaitingConversation): OpenAsk {
  const { units, channel, preferredAgentId, awaitedAgentId } = conversation;
  const { lastAgentId } = team;
  const { strategy } = team.rules;
  return { strategy, lastAgentId, units, channel, preferredAgentId, awaitedAgentId };
}

/** Who has to give way to others is in no group. */
type OpenAsk = Omit<Ask, 'othersExist'>;

export function bestOf({ open }: Group, ask: OpenAsk): AgentState | null {
  let best: LiveCandidacy | null = null;
  for (const candidacy of open) {
    if (roomExclusion(candidacy, ask) !== null) continue;
    if (best === null || compareCandidacies(candidacy, best, ask) < 0) best = candidacy;
  }
  return best?.agent ?? null;
}

export function giveTo(
  agent: AgentState,
  { units, channel, turn }: { readonly units: number; readonly channel: string | null; readonly turn: number },
): void {
  const before = agent.now;
  let { channelLoads } = before;
  if (channel !== null && channelLimitOf(agent, channel) !== Infinity) {
    channelLoads = { ...channelLoads, [channel]: numberOf(channelLoads, channel) + 1 };
  }
  agent.now = { load: before.load + units, channelLoads, idleMs: 0, turn, before };
}

/** Everybody in the team as one who might take the conversation, as they were before the decision of that turn. */
export function candidaciesAt(team: TeamState, conversation: WaitingConversation, turn: number): Candidacy[] {
  return team.members.map((agent) => {
    let moment = agent.now;
    while (moment.turn >= turn && moment.before !== null) moment = moment.before;
    const { agentId, presence, capacity } = agent;
    const then: AgentStanding = { agentId, presence, capacity, now: moment };
    return candidacyOf(then, agent, { team, conversation });
  });
}

function prepareTeam(rules: TeamRules): TeamState {
  const places = new Map<string, number>();
  if (rules.strategy === 'priority_list') {
    for (const agentId of rules.priorityList) if (!places.has(agentId)) places.set(agentId, places.size);
  }
  const { lastAgentId } = rules;
  const team: TeamState = {
    rules,
    lastAgentId,
    members: [],
    places,
    groups: new Map(),
    withRoom: new Map(),
    circle: [],
  };
  team.circle.push(team);
  return team;
}

function joinCircles(left: TeamState, right: TeamState): void {
  if (left.circle === right.circle) return;
  const isLeftSmaller = left.circle.length < right.circle.length;
  const large = isLeftSmaller ? right.circle : left.circle;
  for (const team of isLeftSmaller ? left.circle : right.circle) {
    team.circle = large;
    large.push(team);
  }
}

function prepareAgent(candidate: AgentCandidate, nowMs: number): AgentState {
  const { agentId, presence, capacity, load, skills, channelLimits, channelLoads, idleSinceMs } = candidate;
  // Adding 0 makes 0 of -0, which JSON does not know.
  const idleMs = Math.round(nowMs - idleSinceMs) + 0;
  const now = { load, channelLoads, idleMs, turn: 0, before: null };
  return { agentId, presence, capacity, now, skills, channelLimits };
}

/**
 * There may be as many groups as conversations wait, since each list of those passed over makes one. So only those who have room are looked
 * at, mostly just the one who was freed; and the others only when nobody but the passed over has room.
 */
function prepareGroup(team: TeamState, conversation: WaitingConversation): Group {
  const candidacyIn = (agent: AgentState) => candidacyOf(agent, agent, { team, conversation });
  const ask = { awaitedAgentId: conversation.awaitedAgentId, othersExist: false };
  const first: LiveCandidacy[] = [];
  const passedOver: LiveCandidacy[] = [];
  for (const agent of membersWithRoom(team, conversation)) {
    const candidacy = candidacyIn(agent);
    if (standingExclusion(candidacy, ask) !== null) continue;
    (candidacy.isPassedOver ? passedOver : first).push(candidacy);
  }
  const isUpToPassedOver =
    first.length === 0 &&
    passedOver.length > 0 &&
    !team.members.some((agent) => agent.presence === 'online' && isOther(candidacyIn(agent), conversation));
  return { open: isUpToPassedOver ? passedOver : first, isRefused: false };
}

/** Loads only grow in here: who has no room for so much has none until the end of the call, and is not asked again. */
function membersWithRoom(team: TeamState, conversation: WaitingConversation): readonly AgentState[] {
  const { units, channel } = conversation;
  const size = channel === null ? `${units}` : `${units}/${channel}`;
  const before = team.withRoom.get(size) ?? team.members;
  if (before.length === 0) return before;
  const free: AgentState[] = [];
  for (const agent of before) {
    if (agent.presence !== 'online') continue;
    const channelLimit = channelLimitOf(agent, channel);
    if (roomExclusion({ agent, channelLimit }, conversation) === null) free.push(agent);
  }
  team.withRoom.set(size, free);
  return free;
}

function candidacyOf<Agent extends AgentStanding>(
  agent: Agent,
  profile: Pick<AgentState, 'skills' | 'channelLimits'>,
  { team, conversation }: { readonly team: TeamState; readonly conversation: WaitingConversation },
): Candidacy & { readonly agent: Agent } {
  const { channel, passedOver } = conversation;
  const { lacks, preferredMet, skillSum } = weighSkills(conversation.skills, profile.skills);
  return {
    agent,
    lacks,
    isPassedOver: passedOver.includes(agent.agentId),
    preferredMet,
    skillSum: team.rules.strategy === 'most_skilled' ? skillSum : 0,
    place: team.places.get(agent.agentId) ?? Infinity,
    channelLimit: channelLimitOf(profile, channel),
  };
}

function channelLimitOf({ channelLimits }: Pick<AgentState, 'channelLimits'>, channel: string | null): number {
  return channel === null ? Infinity : numberOr(channelLimits, channel, Infinity);
}
