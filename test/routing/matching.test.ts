import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  explainAssignment,
  matchWaiting,
  type AgentCandidate,
  type Match,
  type MatchInput,
  type TeamRules,
  type WaitingConversation,
} from '../../routing/matching.ts';

const teamIds = ['t1', 't2', 't3'];
const team = (index: number) => fc.constantFrom(...teamIds.slice(0, index));

const waitingArb: fc.Arbitrary<WaitingConversation[]> = fc.uniqueArray(
  fc.record({
    conversationId: fc.integer({ min: 0, max: 99 }).map((id) => `c${String(id).padStart(2, '0')}`),
    teamId: team(3),
    priority: fc.integer({ min: 0, max: 2 }),
    waitingSinceMs: fc.integer({ min: 0, max: 5 }),
    units: fc.integer({ min: 1, max: 3 }),
  }),
  { selector: (conversation) => conversation.conversationId, maxLength: 40 },
);

const agentsArb: fc.Arbitrary<AgentCandidate[]> = fc.uniqueArray(
  fc.record({
    agentId: fc.integer({ min: 0, max: 99 }).map((id) => `a${String(id).padStart(2, '0')}`),
    presence: fc.constantFrom('online' as const, 'online' as const, 'away' as const, 'offline' as const),
    capacity: fc.integer({ min: 0, max: 5 }),
    load: fc.integer({ min: 0, max: 6 }),
    teamIds: fc.uniqueArray(team(3), { maxLength: 3 }),
  }),
  { selector: (agent) => agent.agentId, maxLength: 12 },
);

const teamsArb: fc.Arbitrary<TeamRules[]> = fc.tuple(
  ...teamIds.map((teamId) =>
    fc.record({
      teamId: fc.constant(teamId),
      strategy: fc.constantFrom('round_robin' as const, 'least_loaded' as const),
      lastAgentId: fc.option(fc.integer({ min: 0, max: 99 }).map((id) => `a${String(id).padStart(2, '0')}`)),
    }),
  ),
);

const inputArb: fc.Arbitrary<MatchInput> = fc.record({ waiting: waitingArb, teams: teamsArb, agents: agentsArb });

/** The same decisions by plain search, without sparing any scan. */
function matchByPlainSearch({
  waiting,
  teams,
  agents,
}: MatchInput): [conversationId: string, agentId: string | null][] {
  const loads = new Map(agents.map((agent) => [agent.agentId, agent.load]));
  const cursors = new Map(teams.map((rules) => [rules.teamId, rules.lastAgentId]));
  const order = [...waiting].sort(
    (a, b) =>
      b.priority - a.priority || a.waitingSinceMs - b.waitingSinceMs || (a.conversationId < b.conversationId ? -1 : 1),
  );
  return order.map(({ conversationId, teamId, units }) => {
    const rules = teams.find((candidate) => candidate.teamId === teamId);
    const cursor = cursors.get(teamId) ?? '';
    const fits = agents
      .filter((agent) => agent.presence === 'online' && agent.teamIds.includes(teamId))
      .filter((agent) => (loads.get(agent.agentId) ?? 0) + units <= agent.capacity)
      .map((agent) => ({
        agentId: agent.agentId,
        share: rules?.strategy === 'least_loaded' ? (loads.get(agent.agentId) ?? 0) / agent.capacity : 0,
        round: agent.agentId > cursor ? 0 : 1,
      }))
      .sort((a, b) => a.share - b.share || a.round - b.round || (a.agentId < b.agentId ? -1 : 1));
    const chosen = fits[0]?.agentId ?? null;
    if (chosen !== null) {
      loads.set(chosen, (loads.get(chosen) ?? 0) + units);
      cursors.set(teamId, chosen);
    }
    return [conversationId, chosen];
  });
}

function loadsAfter({ agents, waiting }: MatchInput, matches: readonly Match[]): Map<string, number> {
  const loads = new Map(agents.map((agent) => [agent.agentId, agent.load]));
  for (const { conversationId, agentId } of matches) {
    const units = waiting.find((conversation) => conversation.conversationId === conversationId)?.units ?? 0;
    if (agentId !== null) loads.set(agentId, (loads.get(agentId) ?? 0) + units);
  }
  return loads;
}

describe('whatever waits and whoever works', () => {
  it('decides as plain search does, in the order of priority, wait and id', () => {
    fc.assert(
      fc.property(inputArb, (input) => {
        expect(matchWaiting(input).map((match) => [match.conversationId, match.agentId])).toEqual(
          matchByPlainSearch(input),
        );
      }),
      { numRuns: 500 },
    );
  });

  it('gives no agent more than the capacity, and nothing to who is not online or not in the team', () => {
    fc.assert(
      fc.property(inputArb, (input) => {
        const matches = matchWaiting(input);
        const loads = loadsAfter(input, matches);
        for (const { agentId, teamId } of matches) {
          const agent = input.agents.find((candidate) => candidate.agentId === agentId);
          if (agent === undefined) continue;
          expect(agent.presence).toBe('online');
          expect(agent.teamIds).toContain(teamId);
          expect(loads.get(agent.agentId)).toBeLessThanOrEqual(agent.capacity);
        }
      }),
    );
  });

  it('leaves no conversation while an agent who may take it has room', () => {
    fc.assert(
      fc.property(inputArb, (input) => {
        const matches = matchWaiting(input);
        const loads = loadsAfter(input, matches);
        for (const match of matches.filter(({ agentId }) => agentId === null)) {
          const units = match.explanation.units;
          const free = input.agents.filter(
            (agent) =>
              agent.presence === 'online' &&
              agent.teamIds.includes(match.teamId) &&
              (loads.get(agent.agentId) ?? 0) + units <= agent.capacity,
          );
          expect(free).toEqual([]);
        }
      }),
    );
  });

  it('does not depend on the order of its input, and changes none of it', () => {
    const shuffledArb = inputArb.chain((input) =>
      fc.record({
        input: fc.constant(input),
        shuffled: fc.record({
          waiting: fc.shuffledSubarray([...input.waiting], { minLength: input.waiting.length }),
          teams: fc.shuffledSubarray([...input.teams], { minLength: input.teams.length }),
          agents: fc.shuffledSubarray([...input.agents], { minLength: input.agents.length }),
        }),
      }),
    );
    fc.assert(
      fc.property(shuffledArb, ({ input, shuffled }) => {
        const before = JSON.stringify(shuffled);
        expect(matchWaiting(shuffled)).toEqual(matchWaiting(input));
        expect(JSON.stringify(shuffled)).toBe(before);
      }),
    );
  });

  it('explains each decision as the loads were when it was made', () => {
    fc.assert(
      fc.property(inputArb, (input) => {
        const matches = matchWaiting(input);
        matches.forEach(({ agentId, teamId, explanation }, index) => {
          const loads = loadsAfter(input, matches.slice(0, index));
          const members = input.agents.filter((agent) => agent.teamIds.includes(teamId));
          expect(explanation.chosen).toBe(agentId);
          expect(explanation.position).toBe(index + 1);
          expect(explanation.candidates.map((candidate) => candidate.agentId).toSorted()).toEqual(
            members.map((agent) => agent.agentId).toSorted(),
          );
          for (const candidate of explanation.candidates) expect(candidate.load).toBe(loads.get(candidate.agentId));
          if (agentId !== null) expect(explanation.candidates[0]?.agentId).toBe(agentId);
          expect(explainAssignment(explanation)).toMatch(/^[^.]*\.$/);
        });
      }),
    );
  });

  it('goes strictly round: each agent with room once before any again', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 4 }), fc.nat(9), (size, rounds, start) => {
        const agents = agentsOf(size, { capacity: rounds });
        const lastAgentId = agents[start % size]?.agentId ?? null;
        const input = { waiting: waitingOf(size * rounds), teams: [rulesOf('round_robin', lastAgentId)], agents };
        const chosen = matchWaiting(input).map((match) => match.agentId);
        const expected = chosen.map((_, index) => agents[((start % size) + 1 + index) % size]?.agentId);
        expect(chosen).toEqual(expected);
      }),
    );
  });
});

describe('least loaded', () => {
  it('compares parts of the capacity, and breaks ties by turn', () => {
    const agents = [
      agentOf('a1', { capacity: 4, load: 2 }),
      agentOf('a2', { capacity: 9, load: 3 }),
      agentOf('a3', { capacity: 3, load: 1 }),
    ];
    const matches = matchWaiting({ waiting: waitingOf(3), teams: [rulesOf('least_loaded', 'a2')], agents });
    expect(matches.map((match) => match.agentId)).toEqual(['a3', 'a2', 'a2']);
    expect(matches[0]?.explanation.tiedWith).toEqual(['a2']);
    expect(explainAssignment(matches[0]!.explanation)).toBe(
      'Least loaded chose agent a3, with 1 of 3 taken, next in turn among 2 equals, out of 3 with room.',
    );
  });
});

describe('explanations', () => {
  it('say why nobody was chosen', () => {
    const agents = [
      agentOf('a1', { load: 5 }),
      agentOf('a2', { presence: 'away' }),
      agentOf('a3', { presence: 'offline' }),
    ];
    const [match] = matchWaiting({ waiting: waitingOf(1), teams: [rulesOf('round_robin', null)], agents });
    expect(match?.explanation.candidates.map(({ excluded }) => excluded)).toEqual(['full', 'away', 'offline']);
    expect(explainAssignment(match!.explanation)).toBe(
      "The conversation waits, because none of the team's agents has room (1 full, 1 away, 1 offline).",
    );
  });

  it('say that a team has no agents', () => {
    const [match] = matchWaiting({ waiting: waitingOf(1), teams: [rulesOf('round_robin', null)], agents: [] });
    expect(explainAssignment(match!.explanation)).toBe('The conversation waits, because its team has no agents.');
  });

  it('stay small for large teams and count the rest', () => {
    const agents = [
      ...agentsOf(60, { capacity: 5 }),
      ...Array.from({ length: 30 }, (_, index) => agentOf(`b${index}`, { presence: 'away' })),
    ];
    const [match] = matchWaiting({ waiting: waitingOf(1), teams: [rulesOf('round_robin', null)], agents });
    expect(match?.explanation.candidates).toHaveLength(50);
    expect(match?.explanation.otherCounts).toEqual({ free: 10, full: 0, away: 30, offline: 0 });
    expect(explainAssignment(match!.explanation)).toContain('out of 60 with room (not considered: 30 away)');
  });
});

it('refuses to guess the rules of a team it was not given', () => {
  expect(() => matchWaiting({ waiting: waitingOf(1), teams: [], agents: [] })).toThrow('team t1');
});

it('decides for 20,000 waiting and a team of 50 within two seconds', () => {
  const agents = agentsOf(50, { capacity: 300 });
  for (const strategy of ['round_robin', 'least_loaded'] as const) {
    const startedMs = performance.now();
    const matches = matchWaiting({ waiting: waitingOf(20_000), teams: [rulesOf(strategy, null)], agents });
    expect(performance.now() - startedMs).toBeLessThan(2000);
    expect(matches.filter((match) => match.agentId !== null)).toHaveLength(15_000);
  }
});

function rulesOf(strategy: TeamRules['strategy'], lastAgentId: string | null): TeamRules {
  return { teamId: 't1', strategy, lastAgentId };
}

function agentOf(agentId: string, over: Partial<AgentCandidate> = {}): AgentCandidate {
  return { agentId, presence: 'online', capacity: 5, load: 0, teamIds: ['t1'], ...over };
}

function agentsOf(count: number, over: Partial<AgentCandidate>): AgentCandidate[] {
  return Array.from({ length: count }, (_, index) => agentOf(`a${String(index).padStart(3, '0')}`, over));
}

function waitingOf(count: number): WaitingConversation[] {
  return Array.from({ length: count }, (_, index) => ({
    conversationId: `c${String(index).padStart(6, '0')}`,
    teamId: 't1',
    priority: 0,
    waitingSinceMs: index,
    units: 1,
  }));
}
