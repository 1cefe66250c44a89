/**
 * Who works and who waits in the scenario `assign`, as plain data: the store is filled with it, and the pure core gets the same. The same
 * size and seed give the same people, but for their ids. Large and small differ in numbers only: a team of either has the same kinds of agents, skills,
 * channels, rings and priorities.
 */
import { newId } from '../../platform/id.ts';
import type { AgentCandidate, WaitingConversation } from '../../routing/matching.ts';
import { noRequirements, skillsAfter, type Requirements } from '../../routing/requirements.ts';
import { defaultTeamSettings, type TeamRules } from '../../routing/team-rules.ts';
import { queueKeyOf } from '../../store/queue-key.ts';

/** The third is small but for its queue. */
export const houseNames = ['small', 'large', 'long'] as const;
export type HouseName = (typeof houseNames)[number];

export const ofHouses = <T>(make: (name: HouseName) => T): Record<HouseName, T> => ({
  small: make('small'),
  large: make('large'),
  long: make('long'),
});

export interface PopulationSize {
  readonly agents: number;
  readonly teams: number;
  readonly waiting: number;
}

export interface Population {
  readonly teams: readonly TeamRules[];
  /** All are online and full. */
  readonly agents: readonly AgentCandidate[];
  /** What fills them. */
  readonly assigned: readonly BenchConversation[];
  readonly waiting: readonly BenchConversation[];
}

export interface BenchConversation {
  readonly conversationId: string;
  readonly contactId: string;
  readonly teamId: string;
  /** Set: assigned. */
  readonly agentId: string | null;
  readonly priority: number;
  readonly channel: ChannelKey;
  readonly units: number;
  readonly requirements: Requirements;
  /** How many of the rings it has passed. */
  readonly ring: number;
  readonly passedOver: readonly string[];
  readonly waitedSeconds: number;
}

export const channelUnits = { chat: 1, email: 1, call: 5 } as const;
export type ChannelKey = keyof typeof channelUnits;

export function createPopulation(size: PopulationSize, seed = 1): Population {
  const { agents: agentCount, teams: teamCount, waiting: waitingCount } = size;
  const random = createRandom(seed);
  const teams = Array.from({ length: teamCount }, (_, index): TeamRules => ({
    ...defaultTeamSettings,
    teamId: newId(),
    strategy: index % 2 === 0 ? 'least_loaded' : 'most_skilled',
    lastAgentId: null,
    agingPointsPerMinute: 0.5,
    slaSeconds: 900,
  }));
  const agents = Array.from({ length: agentCount }, (_, index): AgentCandidate => {
    const home = index % teamCount;
    // One in ten works for two teams, which are neighbours as the small house's two are.
    const neighbour = home % 2 === 0 ? home + 1 : home - 1;
    const members = random() < 0.1 && neighbour < teamCount ? [home, neighbour] : [home];
    return createAgent(
      members.map((member) => teams[member]!.teamId),
      random,
    );
  });
  const assigned = agents.flatMap((agent) => fillAgent(agent));
  const membersOf = new Map(teams.map(({ teamId }): [string, AgentCandidate[]] => [teamId, []]));
  for (const agent of agents) membersOf.get(agent.teamIds[0]!)!.push(agent);
  const kinds = createKinds(createRandom(0));
  const waiting = Array.from({ length: waitingCount }, (_, index): BenchConversation => {
    const { teamId } = teams[index % teamCount]!;
    const number = Math.floor(index / teamCount);
    const kind = kinds[number % kinds.length]!;
    const members = membersOf.get(teamId)!;
    return {
      ...plainConversation(teamId, kind.channel),
      ...kind,
      // A few came back from an agent, and are in groups of their own therefore.
      passedOver: number % kinds.length === number && number % 20 === 0 ? [pickFrom(members, random).agentId] : [],
      waitedSeconds: Math.floor(random() * 3_600),
    };
  });
  return { teams, agents, assigned, waiting };
}

/** One in five takes calls, two at a time and nothing else; the others write with up to four people, three of them by e-mail. */
function createAgent(teamIds: readonly string[], random: () => number): AgentCandidate {
  const takesCalls = random() < 0.2;
  const skills: Record<string, number> = {};
  for (const [skill, share] of Object.entries(skillShares)) {
    // Nobody speaks Turkish well enough for those who ask for it.
    const best = skill === 'turkish' ? 2 : 5;
    if (random() < share) skills[skill] = 1 + Math.floor(random() * best);
  }
  return {
    agentId: newId(),
    presence: 'online',
    capacity: takesCalls ? 10 : 4,
    load: takesCalls ? 10 : 4,
    teamIds,
    skills,
    channelLimits: takesCalls ? { chat: 0, email: 0 } : { call: 0, email: 3 },
    channelLoads: takesCalls ? { call: 2 } : { chat: 3, email: 1 },
    idleSinceMs: 0,
  };
}

const skillShares = { spanish: 0.4, german: 0.4, french: 0.3, billing: 0.5, turkish: 0.2 };

function fillAgent({ agentId, teamIds, channelLoads }: AgentCandidate): BenchConversation[] {
  return Object.entries(channelLoads).flatMap(([channel, count]) =>
    Array.from({ length: count }, (): BenchConversation => ({
      ...plainConversation(teamIds[0]!, channel as ChannelKey),
      agentId,
    })),
  );
}

/** A conversation that asks for nothing. */
export const plainConversation = (teamId: string, channel: ChannelKey): BenchConversation => ({
  conversationId: newId(),
  contactId: newId(),
  teamId,
  agentId: null,
  priority: 0,
  channel,
  units: channelUnits[channel],
  requirements: noRequirements,
  ring: 0,
  passedOver: [],
  waitedSeconds: 0,
});

/** What may wait: sixty kinds, the frequent ones several times. Every team has all of them, however long its queue is. */
function createKinds(random: () => number): Kind[] {
  return Array.from({ length: 60 }, () => {
    const { skills } = pickByShare(profiles, random);
    const rings = skills.length === 0 ? [] : relaxingRings(skills[0]![0]);
    return {
      channel: pickByShare(channelShares, random).channel,
      priority: pickByShare(priorityShares, random).priority,
      requirements: { skills: skills.map(([skill, level, preferred = false]) => ({ skill, level, preferred })), rings },
      ring: rings.length > 0 && random() < 0.2 ? 1 : 0,
    };
  });
}

type Kind = Pick<BenchConversation, 'channel' | 'priority' | 'requirements' | 'ring'>;

/** The first ring halves what is asked, the second drops it. Hours away, so that none falls into a run. */
const relaxingRings = (skill: string): Requirements['rings'] => [
  { afterSeconds: 7_200, kind: 'relax', levels: [{ skill, level: 2 }] },
  { afterSeconds: 10_800, kind: 'relax', levels: [{ skill, level: 0 }] },
  { afterSeconds: 14_400, kind: 'fallback', then: 'wait' },
];

type SkillProfile = readonly (readonly [skill: string, level: number, preferred?: boolean])[];
const profiles: readonly { readonly share: number; readonly skills: SkillProfile }[] = [
  { share: 0.3, skills: [] },
  { share: 0.15, skills: [['spanish', 3]] },
  { share: 0.1, skills: [['spanish', 4]] },
  { share: 0.1, skills: [['german', 3]] },
  { share: 0.1, skills: [['french', 3, true]] },
  { share: 0.1, skills: [['billing', 3]] },
  {
    share: 0.1,
    skills: [
      ['billing', 3],
      ['german', 2],
    ],
  },
  { share: 0.05, skills: [['turkish', 4]] },
];
const channelShares = [
  { share: 0.6, channel: 'chat' },
  { share: 0.3, channel: 'email' },
  { share: 0.1, channel: 'call' },
] as const;
const priorityShares = [
  { share: 0.5, priority: 20 },
  { share: 0.2, priority: 0 },
  { share: 0.15, priority: 50 },
  { share: 0.1, priority: 80 },
  { share: 0.05, priority: 100 },
] as const;

const pickFrom = <T>(choices: readonly T[], random: () => number): T => choices[Math.floor(random() * choices.length)]!;

function pickByShare<T extends { readonly share: number }>(choices: readonly T[], random: () => number): T {
  let rest = random();
  return choices.find(({ share }) => (rest -= share) < 0) ?? choices[0]!;
}

/** As the pure core sees it. */
export function asWaiting(conversation: BenchConversation, nowMs: number): WaitingConversation {
  const { conversationId, teamId, priority, units, channel, requirements, ring, passedOver, waitedSeconds } =
    conversation;
  const skills = skillsAfter(requirements, ring);
  return {
    conversationId,
    teamId,
    priority,
    slaSeconds: null,
    waitingSinceMs: nowMs - waitedSeconds * 1_000,
    units,
    channel,
    skills,
    preferredAgentId: null,
    awaitedAgentId: null,
    passedOver,
    queueKey: queueKeyOf({ skills, units, channel, passedOver, slaSeconds: null }),
  };
}

/** mulberry32: good enough to spread people, and the same on every machine. */
export function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
