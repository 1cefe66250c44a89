/** The decisions of matching by plain search, written to be seen to be right and not to be fast. */
import type { AgentCandidate, MatchInput, WaitingConversation } from '../../routing/matching.ts';
import type { TeamRules } from '../../routing/team-rules.ts';

export function matchByPlainSearch(input: MatchInput): Map<string, string | null> {
  const room = new Room(input);
  const decisions = new Map<string, string | null>();
  const cursors = new Map(input.teams.map((rules) => [rules.teamId, rules.lastAgentId]));
  for (const conversation of inServingOrder(input)) {
    const rules = { ...rulesFor(input, conversation), lastAgentId: cursors.get(conversation.teamId) ?? null };
    const [best] = input.agents
      .filter((agent) => mayTake(agent, conversation, input) && room.fits(agent, conversation))
      .toSorted((left, right) =>
        compareKeys(keysOf(left, conversation, rules, room), keysOf(right, conversation, rules, room)),
      );
    decisions.set(conversation.conversationId, best?.agentId ?? null);
    if (best === undefined) continue;
    room.take(best, conversation);
    cursors.set(conversation.teamId, best.agentId);
  }
  return decisions;
}

export function inServingOrder(input: MatchInput): WaitingConversation[] {
  const keys = (conversation: WaitingConversation): Keys => {
    const { agingPointsPerMinute, slaSeconds } = rulesFor(input, conversation);
    const { priority, waitingSinceMs, conversationId } = conversation;
    const grown = Math.floor(priority + (agingPointsPerMinute * (input.nowMs - waitingSinceMs)) / 60_000);
    const targetSeconds = conversation.slaSeconds ?? slaSeconds ?? 24 * 3_600;
    const breachAtMs = waitingSinceMs + targetSeconds * 1_000;
    return [-Math.min(100, grown), breachAtMs, waitingSinceMs, conversationId];
  };
  return input.waiting.toSorted((left, right) => compareKeys(keys(left), keys(right)));
}

/** Whether nothing but a lack of room can keep the agent from it. */
export function mayTake(agent: AgentCandidate, conversation: WaitingConversation, { agents }: MatchInput): boolean {
  const { teamId, units, channel, skills, awaitedAgentId, passedOver } = conversation;
  const isAble = (one: AgentCandidate) =>
    one.teamIds.includes(teamId) &&
    one.presence === 'online' &&
    skills.every(({ skill, level, preferred }) => preferred || levelOf(one, skill) >= level);
  const couldHold = (one: AgentCandidate) => one.capacity >= units && limitOf(one, channel) > 0;
  const others = agents.filter((one) => isAble(one) && couldHold(one) && !passedOver.includes(one.agentId));
  return (
    isAble(agent) &&
    (awaitedAgentId === null || awaitedAgentId === agent.agentId) &&
    (!passedOver.includes(agent.agentId) || others.length === 0)
  );
}

/** What agents have left, and how long they have been idle, as conversations are given away. */
export class Room {
  readonly #loads: Map<string, number>;
  readonly #channelLoads = new Map<string, number>();
  readonly #idleSince: Map<string, number>;
  #givenCount = 0;

  constructor({ agents }: MatchInput) {
    this.#loads = new Map(agents.map((agent) => [agent.agentId, agent.load]));
    this.#idleSince = new Map(agents.map((agent) => [agent.agentId, agent.idleSinceMs]));
    for (const { agentId, channelLoads } of agents) {
      for (const [channel, load] of Object.entries(channelLoads)) this.#channelLoads.set(`${agentId} ${channel}`, load);
    }
  }

  loadOf({ agentId }: { agentId: string }): number {
    return this.#loads.get(agentId)!;
  }

  idleSince({ agentId }: AgentCandidate): number {
    return this.#idleSince.get(agentId)!;
  }

  fits(agent: AgentCandidate, { units, channel }: WaitingConversation): boolean {
    return this.loadOf(agent) + units <= agent.capacity && this.channelLoadOf(agent, channel) < limitOf(agent, channel);
  }

  channelLoadOf({ agentId }: AgentCandidate, channel: string | null): number {
    return this.#channelLoads.get(`${agentId} ${channel}`) ?? 0;
  }

  take(agent: AgentCandidate, { units, channel }: WaitingConversation): void {
    this.#loads.set(agent.agentId, this.loadOf(agent) + units);
    this.#channelLoads.set(`${agent.agentId} ${channel}`, this.channelLoadOf(agent, channel) + 1);
    // Later than anybody's before the call.
    this.#idleSince.set(agent.agentId, 2_000_000_000_000 + this.#givenCount++);
  }
}

type Keys = readonly (number | string)[];

function keysOf(agent: AgentCandidate, conversation: WaitingConversation, rules: TeamRules, room: Room): Keys {
  const { skills, preferredAgentId } = conversation;
  const met = skills.filter(({ skill, level, preferred }) => preferred && levelOf(agent, skill) >= level).length;
  const isPreferred = agent.agentId === preferredAgentId;
  const idle = [room.idleSince(agent), agent.agentId];
  return [isPreferred ? 0 : 1, -met, ...scoreOf(agent, conversation, rules, room), ...idle];
}

function scoreOf(agent: AgentCandidate, { skills }: WaitingConversation, rules: TeamRules, room: Room): Keys {
  switch (rules.strategy) {
    case 'round_robin':
      return [rules.lastAgentId !== null && agent.agentId <= rules.lastAgentId ? 1 : 0, agent.agentId];
    case 'least_loaded':
      return [room.loadOf(agent) / agent.capacity];
    case 'longest_idle':
      return [];
    case 'most_skilled':
      return [-skills.reduce((sum, { skill }) => sum + levelOf(agent, skill), 0)];
    case 'priority_list':
      return [rules.priorityList.includes(agent.agentId) ? rules.priorityList.indexOf(agent.agentId) : Infinity];
  }
}

function levelOf({ skills }: AgentCandidate, skill: string): number {
  return Object.hasOwn(skills, skill) ? skills[skill]! : 0;
}

function limitOf({ channelLimits }: AgentCandidate, channel: string | null): number {
  return channel !== null && Object.hasOwn(channelLimits, channel) ? channelLimits[channel]! : Infinity;
}

function compareKeys(left: Keys, right: Keys): number {
  for (const [index, key] of left.entries()) {
    const other = right[index]!;
    if (key !== other) return key < other ? -1 : 1;
  }
  return 0;
}

function rulesFor({ teams }: MatchInput, { teamId }: WaitingConversation): TeamRules {
  return teams.find((rules) => rules.teamId === teamId)!;
}
