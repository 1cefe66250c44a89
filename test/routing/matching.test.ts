import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { matchWaiting, type Match, type MatchInput } from '../../routing/matching.ts';
import { strategies, type TeamRules } from '../../routing/team-rules.ts';
import { agentOf, agentsOf, conversationOf, inputArb, nowMs, rulesOf, waitingOf } from './matching-inputs.ts';
import { inServingOrder, matchByPlainSearch, mayTake, Room } from './plain-search.ts';

/** What is in a match, explanations made. */
function tell({ conversationId, teamId, agentId, explanation }: Match) {
  return { conversationId, teamId, agentId, explanation };
}

function roomAfter(input: MatchInput, matches: readonly Match[]): Room {
  const room = new Room(input);
  for (const { conversationId, agentId } of matches) {
    const agent = input.agents.find((candidate) => candidate.agentId === agentId);
    if (agent !== undefined)
      room.take(
        agent,
        input.waiting.find((one) => one.conversationId === conversationId)!,
      );
  }
  return room;
}

describe('whatever waits and whoever works', () => {
  it('decides as plain search does', () => {
    fc.assert(
      fc.property(inputArb, (input) => {
        const decided = new Map(matchWaiting(input).map((match) => [match.conversationId, match.agentId]));
        expect(decided).toEqual(matchByPlainSearch(input));
      }),
      { numRuns: 1_000 },
    );
  });

  it('serves each team by effective priority, time to breach, wait and id', () => {
    fc.assert(
      fc.property(inputArb, fc.constantFrom('t1', 't2', 't3'), (input, teamId) => {
        const served = matchWaiting(input).filter((match) => match.teamId === teamId);
        const expected = inServingOrder(input).filter((conversation) => conversation.teamId === teamId);
        expect(served.map((match) => match.conversationId)).toEqual(expected.map((one) => one.conversationId));
      }),
    );
  });

  it('gives nobody more than the capacity or the limit of a channel', () => {
    fc.assert(
      fc.property(inputArb, (input) => {
        const room = new Room(input);
        for (const { conversationId, agentId } of matchWaiting(input)) {
          const conversation = input.waiting.find((one) => one.conversationId === conversationId)!;
          const agent = input.agents.find((candidate) => candidate.agentId === agentId);
          if (agent === undefined) continue;
          expect(room.fits(agent, conversation)).toBe(true);
          room.take(agent, conversation);
        }
      }),
    );
  });

  it('gives nothing to who is not online, not in the team, lacks a required skill, or is not the one awaited', () => {
    fc.assert(
      fc.property(inputArb, (input) => {
        for (const { conversationId, agentId, teamId } of matchWaiting(input)) {
          const { skills, awaitedAgentId } = input.waiting.find((one) => one.conversationId === conversationId)!;
          const agent = input.agents.find((candidate) => candidate.agentId === agentId);
          if (agent === undefined) continue;
          expect(agent.presence).toBe('online');
          expect(agent.teamIds).toContain(teamId);
          for (const { skill, level } of skills.filter(({ preferred }) => !preferred)) {
            expect(agent.skills[skill]).toBeGreaterThanOrEqual(level);
          }
          expect([null, agentId]).toContain(awaitedAgentId);
        }
      }),
    );
  });

  it('leaves none waiting while an agent who may take it has room (I7)', () => {
    fc.assert(
      fc.property(inputArb, (input) => {
        const matches = matchWaiting(input);
        const room = roomAfter(input, matches);
        for (const { conversationId } of matches.filter(({ agentId }) => agentId === null)) {
          const conversation = input.waiting.find((one) => one.conversationId === conversationId)!;
          const free = input.agents.filter(
            (agent) => mayTake(agent, conversation, input) && room.fits(agent, conversation),
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
          nowMs: fc.constant(input.nowMs),
          waiting: fc.shuffledSubarray([...input.waiting], { minLength: input.waiting.length }),
          teams: fc.shuffledSubarray([...input.teams], { minLength: input.teams.length }),
          agents: fc.shuffledSubarray([...input.agents], { minLength: input.agents.length }),
        }),
      }),
    );
    fc.assert(
      fc.property(shuffledArb, ({ input, shuffled }) => {
        const before = JSON.stringify(shuffled);
        expect(matchWaiting(shuffled).map(tell)).toEqual(matchWaiting(input).map(tell));
        expect(JSON.stringify(shuffled)).toBe(before);
      }),
    );
  });

  it('explains each decision as everything was when it was made, whenever that is asked', () => {
    fc.assert(
      fc.property(inputArb, (input) => {
        const matches = matchWaiting(input);
        matches.forEach((match, index) => {
          const { agentId, teamId, explanation } = match;
          const room = roomAfter(input, matches.slice(0, index));
          const members = input.agents.filter((agent) => agent.teamIds.includes(teamId));
          expect(explanation.chosen).toBe(agentId);
          expect(explanation.candidates.map((candidate) => candidate.agentId).toSorted()).toEqual(
            members.map((agent) => agent.agentId).toSorted(),
          );
          for (const { agentId: id, load } of explanation.candidates) {
            if (load !== undefined) expect(load).toBe(room.loadOf({ agentId: id }));
          }
          if (agentId !== null) expect(explanation.candidates[0]?.agentId).toBe(agentId);
        });
      }),
    );
  });
});

describe('priority and age', () => {
  it('lets an old one of low priority overtake newcomers as the slope says', () => {
    const waiting = [
      conversationOf('old', { priority: 0, waitingSinceMs: nowMs - 30 * 60_000 }),
      conversationOf('new', { priority: 20, waitingSinceMs: nowMs }),
    ];
    const served = (agingPointsPerMinute: number) =>
      matchWaiting({ nowMs, waiting, teams: [rulesOf('round_robin', { agingPointsPerMinute })], agents: [] })[0];
    expect(served(0.5)?.conversationId).toBe('new');
    expect(served(1)?.conversationId).toBe('old');
    expect(served(1)?.explanation).toMatchObject({
      effectivePriority: 30,
      waitedSeconds: 1_800,
      breachInSeconds: null,
    });
  });

  it('puts the earlier breach first among teams that share agents, where no target counts as one of a day', () => {
    const teams = [
      rulesOf('round_robin', { teamId: 't1', slaSeconds: 600 }),
      rulesOf('round_robin', { teamId: 't2', slaSeconds: 60 }),
      rulesOf('round_robin', { teamId: 't3' }),
      rulesOf('round_robin', { teamId: 't4', slaSeconds: 48 * 3_600 }),
    ];
    const waiting = [
      conversationOf('c1', { teamId: 't1', waitingSinceMs: nowMs - 300_000 }),
      conversationOf('c2', { teamId: 't2', waitingSinceMs: nowMs - 90_000 }),
      conversationOf('c3', { teamId: 't3', waitingSinceMs: nowMs - 900_000 }),
      conversationOf('c4', { teamId: 't4', waitingSinceMs: nowMs - 23 * 3_600_000 }),
      conversationOf('c5', { teamId: 't3', waitingSinceMs: nowMs - 25 * 3_600_000 }),
    ];
    const agents = [agentOf('a1', { teamIds: ['t1', 't2', 't3', 't4'] })];
    const matches = matchWaiting({ nowMs, waiting, teams, agents });
    expect(matches.map((match) => match.conversationId)).toEqual(['c5', 'c2', 'c1', 'c3', 'c4']);
    expect(matches.map((match) => match.explanation.breachInSeconds)).toEqual([null, -30, 300, null, 90_000]);
    expect(matches.map((match) => match.explanation.turn)).toEqual([1, 2, 3, 4, 5]);
  });

  it('goes by the target of the conversation where it has one, also against teams', () => {
    const teams = [rulesOf('round_robin', { teamId: 't1', slaSeconds: 600 }), rulesOf('round_robin', { teamId: 't2' })];
    const waiting = [
      conversationOf('c1', { teamId: 't1', waitingSinceMs: nowMs - 300_000 }),
      conversationOf('c2', { teamId: 't1', waitingSinceMs: nowMs - 300_000, slaSeconds: 900 }),
      conversationOf('c3', { teamId: 't2', waitingSinceMs: nowMs, slaSeconds: 60 }),
      conversationOf('c4', { teamId: 't2', waitingSinceMs: nowMs - 400_000 }),
    ];
    const agents = [agentOf('a1', { teamIds: ['t1', 't2'] })];
    const matches = matchWaiting({ nowMs, waiting, teams, agents });
    expect(matches.map((match) => match.conversationId)).toEqual(['c3', 'c1', 'c2', 'c4']);
    expect(matches.map((match) => match.explanation.breachInSeconds)).toEqual([60, 300, 600, null]);
  });

  it('starves nobody under a positive slope, however many urgent ones keep coming', () => {
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 50 }), fc.integer({ min: 1, max: 4 }), (slope, newcomers) => {
        expect(minutesUntilServed(slope, newcomers)).toBeLessThanOrEqual(Math.ceil(100 / slope));
      }),
      // Found once: those who came in the same moment, with the smaller id, go first. So the old one came a moment earlier.
      { numRuns: 30, examples: [[34, 4]] },
    );
    expect(minutesUntilServed(0, 1)).toBe(Infinity);
  });

  it('starves nobody across teams either: at the highest priority and beyond the target, nobody new comes before', () => {
    const targetArb = fc.constantFrom(1, 6, 30, 48).map((hours) => hours * 3_600);
    const othersArb = fc.array(
      fc.record({ slaSeconds: fc.option(targetArb), agingPointsPerMinute: fc.constantFrom(0, 0.1, 1) }),
      { minLength: 1, maxLength: 3 },
    );
    const slopeArb = fc.integer({ min: 1, max: 20 }).map((twentieths) => twentieths / 20);
    fc.assert(
      fc.property(slopeArb, fc.option(targetArb), othersArb, (agingPointsPerMinute, slaSeconds, others) => {
        const teams = [{ agingPointsPerMinute, slaSeconds }, ...others].map((rules, index) =>
          rulesOf('round_robin', { teamId: `t${index + 1}`, ...rules }),
        );
        const settledHours = Math.max(Math.ceil(100 / (60 * agingPointsPerMinute)), (slaSeconds ?? 24 * 3_600) / 3_600);
        // At worst all who came until then go first, one an hour.
        expect(hoursUntilServed(teams)).toBeLessThanOrEqual(settledHours * teams.length);
      }),
      { numRuns: 50 },
    );
    const urgent = rulesOf('round_robin', { teamId: 't2', slaSeconds: 1 });
    expect(hoursUntilServed([rulesOf('round_robin', { agingPointsPerMinute: 1 }), urgent])).toBe(24);
    expect(hoursUntilServed([rulesOf('round_robin'), urgent])).toBe(Infinity);
  });
});

/** The agent of all these teams takes one conversation an hour; one of priority 0 waits in the first, and each hour one of the highest comes to each. */
function hoursUntilServed(teams: readonly TeamRules[]): number {
  const agents = [agentOf('a1', { capacity: 1, teamIds: teams.map(({ teamId }) => teamId) })];
  let waiting = [conversationOf('old', { priority: 0, waitingSinceMs: nowMs - 1 })];
  for (let hour = 0; hour <= 200; hour++) {
    const waitingSinceMs = nowMs + hour * 3_600_000;
    for (const { teamId } of teams) {
      waiting.push(conversationOf(`new ${hour} ${teamId}`, { teamId, priority: 100, waitingSinceMs }));
    }
    const matches = matchWaiting({ nowMs: waitingSinceMs, waiting, teams, agents });
    const served = matches.find((match) => match.agentId !== null)?.conversationId;
    if (served === 'old') return hour;
    waiting = waiting.filter((conversation) => conversation.conversationId !== served);
  }
  return Infinity;
}

/** One agent takes one conversation a minute; one of priority 0 waits, and as many of the highest priority come each minute. */
function minutesUntilServed(agingPointsPerMinute: number, newcomers: number): number {
  const teams = [rulesOf('round_robin', { agingPointsPerMinute })];
  let waiting = [conversationOf('old', { priority: 0, waitingSinceMs: nowMs - 1 })];
  for (let minute = 0; minute <= 100; minute++) {
    const waitingSinceMs = nowMs + minute * 60_000;
    for (let count = 0; count < newcomers; count++) {
      waiting.push(conversationOf(`new ${minute} ${count}`, { priority: 100, waitingSinceMs }));
    }
    const matches = matchWaiting({ nowMs: waitingSinceMs, waiting, teams, agents: [agentOf('a1', { capacity: 1 })] });
    const served = matches.find((match) => match.agentId !== null)?.conversationId;
    if (served === 'old') return minute;
    waiting = waiting.filter((conversation) => conversation.conversationId !== served);
  }
  return Infinity;
}

it('refuses to guess the rules of a team it was not given', () => {
  expect(() => matchWaiting({ nowMs, waiting: waitingOf(1), teams: [], agents: [] })).toThrow('team t1');
});

it('counts an agent once who is said to be in the team twice', () => {
  const agents = [agentOf('a1', { teamIds: ['t1', 't1'] })];
  const [match] = matchWaiting({ nowMs, waiting: waitingOf(1), teams: [rulesOf('round_robin')], agents });
  expect(match?.explanation.candidates).toHaveLength(1);
});

it('decides for 20,000 waiting and a team of 50 within seconds, whatever the strategy', () => {
  const agents = agentsOf(50, { capacity: 300 });
  for (const strategy of strategies) {
    const startedMs = performance.now();
    const matches = matchWaiting({ nowMs, waiting: waitingOf(20_000), teams: [rulesOf(strategy)], agents });
    expect(performance.now() - startedMs).toBeLessThan(10_000);
    expect(matches.filter((match) => match.agentId !== null)).toHaveLength(15_000);
  }
});
