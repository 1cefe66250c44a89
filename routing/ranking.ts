/**
 * Who may take a conversation, and who comes before whom: the whole of an assignment's decision for one agent or two. `matchWaiting` and
 * `decideAgain` both decide by these functions, so that a record decides as the moment it tells of did.
 */
import type { Presence } from './conversation.ts';
import type { SkillRequirement } from './requirements.ts';
import type { Strategy } from './team-rules.ts';

/** The first thing that keeps the agent from taking the conversation, or null. */
export function exclusionOf(candidacy: Candidacy, ask: Ask): Exclusion | null {
  return standingExclusion(candidacy, ask) ?? roomExclusion(candidacy, ask);
}

/** What keeps an agent away whatever room there is. Decisions change none of it, only people and time do. */
export function standingExclusion(candidacy: Candidacy, ask: Standing): StandingExclusion | null {
  const { agentId, presence } = candidacy.agent;
  if (presence !== 'online') return presence;
  if (candidacy.lacks !== null) return 'lacks_skill';
  if (ask.awaitedAgentId !== null && ask.awaitedAgentId !== agentId) return 'awaits_other';
  return candidacy.isPassedOver && ask.othersExist ? 'passed_over' : null;
}

export function roomExclusion(
  { agent, channelLimit }: Pick<Candidacy, 'agent' | 'channelLimit'>,
  { units, channel }: Size,
): RoomExclusion | null {
  const { load, channelLoads } = agent.now;
  if (channelLimit !== Infinity && numberOf(channelLoads, channel ?? '') >= channelLimit) return 'channel_full';
  return load + units > agent.capacity ? 'full' : null;
}

/**
 * Whether the agent may take it, now or once there is room, without having been passed over. To somebody whose capacity or whose limit of the
 * channel could never hold it, nobody has to give way.
 */
export function isOther(
  { agent, lacks, isPassedOver, channelLimit }: Candidacy,
  { units }: Pick<Ask, 'units'>,
): boolean {
  return agent.presence === 'online' && lacks === null && !isPassedOver && channelLimit > 0 && units <= agent.capacity;
}

export type Exclusion = StandingExclusion | RoomExclusion;
type StandingExclusion = 'offline' | 'away' | 'lacks_skill' | 'awaits_other' | 'passed_over';
type RoomExclusion = 'channel_full' | 'full';

/** The conversation's and its team's part in a decision. */
export interface Ask {
  readonly strategy: Strategy;
  /** Whose turn was last. */
  readonly lastAgentId: string | null;
  readonly units: number;
  readonly channel: string | null;
  readonly preferredAgentId: string | null;
  readonly awaitedAgentId: string | null;
  /** Whether the team has anybody to whom those passed over have to give way (`isOther`); else they may take it. */
  readonly othersExist: boolean;
}

type Standing = Pick<Ask, 'awaitedAgentId' | 'othersExist'>;
type Size = Pick<Ask, 'units' | 'channel'>;
type Preference = Pick<Ask, 'strategy' | 'lastAgentId' | 'preferredAgentId'>;

/** What a decision uses of an agent, whoever asks. */
export interface AgentStanding {
  readonly agentId: string;
  readonly presence: Presence;
  readonly capacity: number;
  readonly now: Moment;
}

/** What decisions change of an agent. */
export interface Moment {
  readonly load: number;
  readonly channelLoads: Readonly<Record<string, number>>;
  /** Since the last conversation came or the agent came online, in whole milliseconds: what the record can hold exactly. */
  readonly idleMs: number;
  /** Counts the conversations given in this call; 0 for who got none yet. Who got one later has been idle for less. */
  readonly turn: number;
}

/** An agent as one who might take a certain conversation. */
export interface Candidacy {
  readonly agent: AgentStanding;
  /** The first required skill below the level that is asked, and the level there is. */
  readonly lacks: SkillLack | null;
  readonly isPassedOver: boolean;
  /** How many of the preferred skills the agent has. */
  readonly preferredMet: number;
  /** The agent's levels in all skills asked, required and preferred. */
  readonly skillSum: number;
  /** Place in the team's priority list, from 0; Infinity for who is not in it. */
  readonly place: number;
  /** Most conversations of the channel at once; Infinity without a limit. */
  readonly channelLimit: number;
}

export interface SkillLack {
  readonly skill: string;
  readonly level: number;
}

/** Negative when the left one is better. Never 0 for two different agents. */
export function compareCandidacies(left: Candidacy, right: Candidacy, ask: Preference): number {
  return (
    compareMerit(left, right, ask) ||
    compareIdle(left.agent.now, right.agent.now) ||
    compareText(left.agent.agentId, right.agent.agentId)
  );
}

/** Without the tie-break: affinity, preferred skills, then the strategy. */
export function compareMerit(left: Candidacy, right: Candidacy, ask: Preference): number {
  const { preferredAgentId } = ask;
  if (preferredAgentId !== null) {
    if (left.agent.agentId === preferredAgentId) return -1;
    if (right.agent.agentId === preferredAgentId) return 1;
  }
  return right.preferredMet - left.preferredMet || compareByStrategy(left, right, ask);
}

function compareByStrategy(left: Candidacy, right: Candidacy, { strategy, lastAgentId }: Preference): number {
  switch (strategy) {
    case 'round_robin':
      return compareTurn(left.agent.agentId, right.agent.agentId, lastAgentId);
    case 'least_loaded':
      return shareOf(left.agent) - shareOf(right.agent);
    case 'longest_idle':
      return compareIdle(left.agent.now, right.agent.now);
    case 'most_skilled':
      return right.skillSum - left.skillSum;
    case 'priority_list':
      return left.place === right.place ? 0 : left.place - right.place;
  }
}

/** In the order of ids, beginning after the last one. */
function compareTurn(left: string, right: string, lastAgentId: string | null): number {
  if (lastAgentId !== null && left > lastAgentId !== right > lastAgentId) return left > lastAgentId ? -1 : 1;
  return compareText(left, right);
}

/** Equal fractions give equal quotients, so that ties are exact. */
function shareOf({ now, capacity }: AgentStanding): number {
  return capacity > 0 ? now.load / capacity : 1;
}

/** Longer idle first. */
function compareIdle(left: Moment, right: Moment): number {
  return left.turn - right.turn || right.idleMs - left.idleMs;
}

/** What an agent's skills mean for what is asked. */
export function weighSkills(
  asked: readonly SkillRequirement[],
  has: Readonly<Record<string, number>>,
): Pick<Candidacy, 'lacks' | 'preferredMet' | 'skillSum'> {
  let lacks: SkillLack | null = null;
  let preferredMet = 0;
  let skillSum = 0;
  for (const { skill, level, preferred } of asked) {
    const hasLevel = numberOf(has, skill);
    skillSum += hasLevel;
    if (preferred) preferredMet += hasLevel >= level ? 1 : 0;
    else if (hasLevel < level) lacks ??= { skill, level: hasLevel };
  }
  return { lacks, preferredMet, skillSum };
}

/** 0 for what is missing. Keys are what people wrote, so one may be called like something that every object has. */
export function numberOf(record: Readonly<Record<string, number>>, key: string): number {
  return numberOr(record, key, 0);
}

export function numberOr(record: Readonly<Record<string, number>>, key: string, otherwise: number): number {
  const value: unknown = record[key];
  return typeof value === 'number' ? value : otherwise;
}

/** By code unit, which for UUIDs in small letters is PostgreSQL's order too. */
export function compareText(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
