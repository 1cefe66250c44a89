/** Teams, agents and conversations for tests of matching: made by hand, and made at random. */
import fc from 'fast-check';
import type { AgentCandidate, MatchInput, WaitingConversation } from '../../routing/matching.ts';
import { queueKeyText, type SkillRequirement } from '../../routing/requirements.ts';
import { defaultTeamSettings, strategies, type TeamRules } from '../../routing/team-rules.ts';

export const nowMs = 1_800_000_000_000;

export function rulesOf(strategy: TeamRules['strategy'], over: Partial<TeamRules> = {}): TeamRules {
  return { ...defaultTeamSettings, teamId: 't1', strategy, lastAgentId: null, ...over };
}

export function agentOf(agentId: string, over: Partial<AgentCandidate> = {}): AgentCandidate {
  return {
    agentId,
    presence: 'online',
    capacity: 5,
    load: 0,
    teamIds: ['t1'],
    skills: {},
    channelLimits: {},
    channelLoads: {},
    idleSinceMs: nowMs - 60_000,
    ...over,
  };
}

export function agentsOf(count: number, over: Partial<AgentCandidate> = {}): AgentCandidate[] {
  return Array.from({ length: count }, (_, index) => agentOf(`a${String(index).padStart(3, '0')}`, over));
}

export function conversationOf(
  conversationId: string,
  over: Partial<Omit<WaitingConversation, 'queueKey'>> = {},
): WaitingConversation {
  const conversation = {
    conversationId,
    teamId: 't1',
    priority: 0,
    slaSeconds: null,
    waitingSinceMs: nowMs - 60_000,
    units: 1,
    channel: null,
    skills: [],
    preferredAgentId: null,
    awaitedAgentId: null,
    passedOver: [],
    ...over,
  };
  return { ...conversation, queueKey: queueKeyText(conversation) };
}

/** The earlier in the list, the longer it has waited. */
export function waitingOf(
  count: number,
  over: Partial<Omit<WaitingConversation, 'queueKey'>> = {},
): WaitingConversation[] {
  return Array.from({ length: count }, (_, index) =>
    conversationOf(`c${String(index).padStart(6, '0')}`, { waitingSinceMs: nowMs - 60_000_000 + index, ...over }),
  );
}

export function requires(skill: string, level: number): SkillRequirement {
  return { skill, level, preferred: false };
}

export function prefers(skill: string, level: number): SkillRequirement {
  return { skill, level, preferred: true };
}

const teamIds = ['t1', 't2', 't3'] as const;
// Names that every object knows, because people may choose them.
const skillNames = ['german', 'vip', 'constructor'] as const;
const channels = ['web', 'toString'] as const;

const agentIdArb = fc.integer({ min: 0, max: 99 }).map((id) => `a${String(id).padStart(2, '0')}`);
const teamIdArb = fc.constantFrom(...teamIds);
const levelArb = fc.integer({ min: 1, max: 5 });
const numbersArb = (keys: readonly string[], min: number, max: number) =>
  fc.dictionary(fc.constantFrom(...keys), fc.integer({ min, max }), { maxKeys: keys.length, noNullPrototype: true });

const agentsArb = (maxLength: number): fc.Arbitrary<AgentCandidate[]> =>
  fc.uniqueArray(
    fc.record({
      agentId: agentIdArb,
      presence: fc.constantFrom(
        'online' as const,
        'online' as const,
        'online' as const,
        'away' as const,
        'offline' as const,
      ),
      capacity: fc.integer({ min: 0, max: 6 }),
      load: fc.integer({ min: 0, max: 6 }),
      teamIds: fc.uniqueArray(teamIdArb, { maxLength: 3 }),
      skills: numbersArb(skillNames, 1, 5),
      channelLimits: numbersArb(channels, 0, 3),
      channelLoads: numbersArb(channels, 0, 3),
      idleSinceMs: fc.integer({ min: 0, max: 3 }).map((minutes) => nowMs - minutes * 60_000),
    }),
    { selector: (agent) => agent.agentId, maxLength },
  );

const waitingArb: fc.Arbitrary<WaitingConversation[]> = agentIdArb.chain((popular) => {
  const someAgentArb = fc.oneof(agentIdArb, fc.constant(popular));
  const rarely = <T>(arb: fc.Arbitrary<T>) => fc.option(arb, { freq: 2 });
  const skillArb = fc.record({ skill: fc.constantFrom(...skillNames), level: levelArb, preferred: fc.boolean() });
  return fc.uniqueArray(
    fc
      .record({
        conversationId: fc.integer({ min: 0, max: 99 }).map((id) => `c${String(id).padStart(2, '0')}`),
        teamId: teamIdArb,
        priority: fc.constantFrom(0, 1, 50, 100),
        slaSeconds: fc.constantFrom(null, null, 60, 1_800),
        waitingSinceMs: fc.integer({ min: 0, max: 90 }).map((minutes) => nowMs - minutes * 60_000),
        units: fc.integer({ min: 1, max: 3 }),
        channel: rarely(fc.constantFrom(...channels)),
        skills: fc.uniqueArray(skillArb, { selector: ({ skill }) => skill, maxLength: 2 }),
        preferredAgentId: rarely(someAgentArb),
        awaitedAgentId: fc.option(someAgentArb, { freq: 1 }),
        passedOver: fc.uniqueArray(someAgentArb, { maxLength: 4 }),
      })
      .map((conversation) => ({ ...conversation, queueKey: queueKeyText(conversation) })),
    { selector: (conversation) => conversation.conversationId, maxLength: 30 },
  );
});

const teamsArb: fc.Arbitrary<TeamRules[]> = fc.tuple(
  ...teamIds.map((teamId) =>
    fc
      .record({
        strategy: fc.constantFrom(...strategies),
        lastAgentId: fc.option(agentIdArb),
        priorityList: fc.uniqueArray(agentIdArb, { maxLength: 8 }),
        agingPointsPerMinute: fc.constantFrom(0, 0.5, 2),
        slaSeconds: fc.constantFrom(null, 600, 3_600, 24 * 3_600 + 1_800),
      })
      .map((rules) => ({ ...defaultTeamSettings, ...rules, teamId })),
  ),
);

export const inputArb: fc.Arbitrary<MatchInput> = fc.record({
  nowMs: fc.constant(nowMs),
  waiting: waitingArb,
  teams: teamsArb,
  agents: agentsArb(12),
});

/** Everybody in one large team, so that not all of them find a place in the record. */
export const largeTeamArb: fc.Arbitrary<MatchInput> = fc.record({
  nowMs: fc.constant(nowMs),
  waiting: waitingArb.map((waiting) => waiting.map((conversation) => ({ ...conversation, teamId: 't1' }))),
  teams: teamsArb,
  agents: fc
    .uniqueArray(
      agentsArb(1)
        .filter((agents) => agents.length === 1)
        .map((agents) => agents[0]!),
      {
        selector: (agent) => agent.agentId,
        minLength: 55,
        maxLength: 80,
      },
    )
    .map((agents) => agents.map((agent) => ({ ...agent, teamIds: ['t1'] }))),
});
