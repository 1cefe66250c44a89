/** Who gets it: an example for each strategy with its tie-break, then what holds for all of them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { matchWaiting, type MatchInput } from '../../routing/matching.ts';
import { strategies } from '../../routing/team-rules.ts';
import { agentOf, agentsOf, conversationOf, nowMs, prefers, requires, rulesOf, waitingOf } from './matching-inputs.ts';

function chosenOf(input: Omit<MatchInput, 'nowMs'>): (string | null)[] {
  return matchWaiting({ nowMs, ...input }).map((match) => match.agentId);
}

describe('round robin', () => {
  it('goes strictly round: each agent with room once before any again', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10 }), fc.integer({ min: 1, max: 4 }), fc.nat(9), (size, rounds, start) => {
        const agents = agentsOf(size, { capacity: rounds });
        const lastAgentId = agents[start % size]!.agentId;
        const chosen = chosenOf({
          waiting: waitingOf(size * rounds),
          teams: [rulesOf('round_robin', { lastAgentId })],
          agents,
        });
        expect(chosen).toEqual(chosen.map((_, index) => agents[((start % size) + 1 + index) % size]?.agentId));
      }),
    );
  });

  it('goes on after an agent who has left the team, and begins with the smallest id', () => {
    const agents = [agentOf('a1'), agentOf('a2'), agentOf('a4')];
    const after = (lastAgentId: string | null) =>
      chosenOf({ waiting: waitingOf(1), teams: [rulesOf('round_robin', { lastAgentId })], agents });
    expect([after(null), after('a3'), after('a4'), after('a9')]).toEqual([['a1'], ['a4'], ['a1'], ['a1']]);
  });

  it('passes over who is full and comes back to them in their turn', () => {
    const agents = [agentOf('a1'), agentOf('a2', { load: 5 }), agentOf('a3')];
    const input = { waiting: waitingOf(3), teams: [rulesOf('round_robin', { lastAgentId: 'a1' })], agents };
    expect(chosenOf(input)).toEqual(['a3', 'a1', 'a3']);
  });
});

describe('least loaded', () => {
  it('compares parts of the capacity; among equals the longer idle, then the smaller id', () => {
    const agents = [
      agentOf('a1', { capacity: 4, load: 2 }),
      agentOf('a2', { capacity: 9, load: 3, idleSinceMs: nowMs - 2_000 }),
      agentOf('a3', { capacity: 3, load: 1, idleSinceMs: nowMs - 9_000 }),
      agentOf('a4', { capacity: 3, load: 1, idleSinceMs: nowMs - 9_000 }),
    ];
    const matches = matchWaiting({ nowMs, waiting: waitingOf(3), teams: [rulesOf('least_loaded')], agents });
    expect(matches.map((match) => match.agentId)).toEqual(['a3', 'a4', 'a2']);
    expect(matches[0]?.explanation).toMatchObject({ tiedWith: ['a4', 'a2'], tiedCount: 2, tieBreak: 'smaller id' });
    expect(matches[1]?.explanation).toMatchObject({ tiedWith: ['a2'], tiedCount: 1, tieBreak: 'longer idle' });
    expect(matches[2]?.explanation).toMatchObject({ tiedWith: [], tiedCount: 0, tieBreak: null });
  });
});

describe('longest idle', () => {
  it('takes whoever went without for longest; who got one waits until all others did; equals by id', () => {
    const agents = [
      agentOf('a1', { idleSinceMs: nowMs - 1_000 }),
      agentOf('a2', { idleSinceMs: nowMs - 3_000 }),
      agentOf('a3', { idleSinceMs: nowMs - 3_000 }),
    ];
    const matches = matchWaiting({ nowMs, waiting: waitingOf(6), teams: [rulesOf('longest_idle')], agents });
    expect(matches.map((match) => match.agentId)).toEqual(['a2', 'a3', 'a1', 'a2', 'a3', 'a1']);
    expect(matches[0]?.explanation).toMatchObject({ tiedWith: ['a3'], tieBreak: 'smaller id' });
  });
});

describe('most skilled', () => {
  it('sums the levels of what is asked and of nothing else; among equals the longer idle, then the smaller id', () => {
    const agents = [
      agentOf('a1', { skills: { german: 3, billing: 5, chess: 5 } }),
      agentOf('a2', { skills: { german: 5, billing: 3 }, idleSinceMs: nowMs - 90_000 }),
      agentOf('a3', { skills: { german: 5, billing: 1 } }),
      agentOf('a4', { skills: { german: 3, billing: 5 } }),
    ].map((agent) => ({ ...agent, capacity: 1 }));
    const skills = [requires('german', 2), requires('billing', 1)];
    const input = { waiting: waitingOf(4, { skills }), teams: [rulesOf('most_skilled')], agents };
    expect(chosenOf(input)).toEqual(['a2', 'a1', 'a4', 'a3']);
  });
});

describe('priority list', () => {
  it('goes by the list while there is room, then the others by idle time and id', () => {
    const agents = [agentOf('a1'), agentOf('a2'), agentOf('a3'), agentOf('a4', { idleSinceMs: nowMs - 90_000 })].map(
      (agent) => ({ ...agent, capacity: 1 }),
    );
    const priorityList = ['a3', 'gone', 'a2'];
    const input = { waiting: waitingOf(5), teams: [rulesOf('priority_list', { priorityList })], agents };
    expect(chosenOf(input)).toEqual(['a3', 'a2', 'a4', 'a1', null]);
  });
});

describe.each(strategies)('%s', (strategy) => {
  const teams = [rulesOf(strategy)];

  it('gives it to the preferred agent who has room, else to another', () => {
    const waiting = waitingOf(2, { preferredAgentId: 'a2' });
    const agents = [agentOf('a1'), agentOf('a2', { capacity: 1, idleSinceMs: nowMs }), agentOf('a3')];
    const chosen = chosenOf({ waiting, teams, agents });
    expect(chosen[0]).toBe('a2');
    expect(chosen[1]).toMatch(/^a[13]$/);
  });

  it('puts who meets more of the preferred skills before the others', () => {
    const agents = [
      agentOf('a1', { skills: { vip: 1 } }),
      agentOf('a2', { skills: { vip: 2, german: 1 }, capacity: 1, idleSinceMs: nowMs }),
      agentOf('a3', { skills: { german: 1 }, capacity: 1, idleSinceMs: nowMs }),
    ];
    const waiting = waitingOf(3, { skills: [prefers('vip', 2), prefers('german', 1)] });
    expect(chosenOf({ waiting, teams, agents })).toEqual(['a2', 'a3', 'a1']);
  });

  it('passes over who rejected or left it only while others exist, be they full', () => {
    const conversation = conversationOf('c1', { passedOver: ['a1'] });
    const pass = (other: Parameters<typeof agentOf>[1]) =>
      chosenOf({ waiting: [conversation], teams, agents: [agentOf('a1'), agentOf('a2', other)] });
    expect(pass({})).toEqual(['a2']);
    expect(pass({ load: 5 })).toEqual([null]);
    expect(pass({ presence: 'away' })).toEqual(['a1']);
    expect(pass({ teamIds: ['t2'] })).toEqual(['a1']);
  });

  it('passes over nobody for the sake of others whose capacity or limit of the channel could never hold it', () => {
    const call = conversationOf('c1', { units: 5, channel: 'phone', passedOver: ['a1'] });
    const pass = (other: Parameters<typeof agentOf>[1]) => {
      const agents = [agentOf('a1'), agentOf('a2', other)];
      const [match] = matchWaiting({ nowMs, waiting: [call], teams, agents });
      expect(match?.explanation.chosen).toBe(match?.agentId);
      return match?.agentId;
    };
    expect(pass({ capacity: 1 })).toBe('a1');
    expect(pass({ capacity: 4 })).toBe('a1');
    expect(pass({ channelLimits: { phone: 0 } })).toBe('a1');
    // What they have room for at this moment does not matter.
    expect(pass({ load: 1 })).toBeNull();
    expect(pass({ channelLimits: { phone: 1 }, channelLoads: { phone: 1 } })).toBeNull();
    expect(pass({ channelLimits: { chat: 0 } })).toBe('a2');
  });

  it('lets one that awaits an agent wait for that one alone', () => {
    const waiting = waitingOf(2, { awaitedAgentId: 'a2' });
    expect(chosenOf({ waiting, teams, agents: [agentOf('a1'), agentOf('a2', { capacity: 1 })] })).toEqual(['a2', null]);
  });

  it('counts units against the capacity and conversations against the limit of a channel', () => {
    const agents = [agentOf('a1', { capacity: 6, channelLimits: { phone: 1 }, channelLoads: { chat: 3 } })];
    const waiting = [
      conversationOf('c1', { units: 5, channel: 'phone', priority: 9 }),
      conversationOf('c2', { units: 1, channel: 'phone', priority: 8 }),
      conversationOf('c3', { units: 2, channel: 'chat', priority: 7 }),
      conversationOf('c4', { units: 1, channel: 'chat', priority: 6 }),
    ];
    const matches = matchWaiting({ nowMs, waiting, teams, agents });
    expect(matches.map((match) => match.agentId)).toEqual(['a1', null, null, 'a1']);
    expect(matches.map((match) => match.explanation.candidates[0]?.excluded)).toEqual([
      undefined,
      'channel_full',
      'full',
      undefined,
    ]);
  });

  it('lets one that waits for a rare skill block no other', () => {
    const rare = waitingOf(100, { skills: [requires('klingon', 5)], priority: 100 });
    const common = conversationOf('d1');
    const matches = matchWaiting({ nowMs, waiting: [...rare, common], teams, agents: agentsOf(3) });
    expect(matches.filter((match) => match.agentId !== null).map((match) => match.conversationId)).toEqual(['d1']);
  });
});
