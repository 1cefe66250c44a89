import { describe, expect, it } from 'vitest';
import { explainAssignment, type AssignmentExplanation } from '../../routing/explanation.ts';
import { decideAgain, matchWaiting, type AgentCandidate, type WaitingConversation } from '../../routing/matching.ts';
import type { TeamRules } from '../../routing/team-rules.ts';
import { agentOf, agentsOf, conversationOf, nowMs, prefers, requires, rulesOf } from './matching-inputs.ts';

function explain(
  agents: readonly AgentCandidate[],
  {
    conversation = conversationOf('c1'),
    rules = rulesOf('round_robin'),
  }: { conversation?: WaitingConversation; rules?: TeamRules } = {},
): AssignmentExplanation {
  return matchWaiting({ nowMs, waiting: [conversation], teams: [rules], agents })[0]!.explanation;
}

function sentence(...facts: Parameters<typeof explain>): string {
  return explainAssignment(explain(...facts));
}

describe('the sentence', () => {
  it('tells the strategy, the tie and its break, whom something kept away, and the numbers of the rest', () => {
    const agents = [
      agentOf('12', { capacity: 4, load: 1, skills: { german: 3 }, idleSinceMs: nowMs - 90_000 }),
      agentOf('31', { capacity: 4, load: 1, skills: { german: 4 } }),
      agentOf('40', { capacity: 4, load: 3, skills: { german: 4 } }),
      agentOf('7', { capacity: 3, load: 3, skills: { german: 5 } }),
      agentOf('9', { skills: { german: 2 } }),
      ...['50', '51', '52', '53'].map((id) => agentOf(id, { presence: 'offline' })),
    ];
    const conversation = conversationOf('c1', { skills: [requires('german', 3)] });
    expect(sentence(agents, { conversation, rules: rulesOf('least_loaded') })).toBe(
      'Agent 12 chosen: least loaded 1/4, tied with agent 31, longer idle; agent 7 full 3/3; agent 9 lacks german ≥ 3; 1 more with room, 4 more offline.',
    );
  });

  it('tells an offer as an offer', () => {
    const offer = { ...explain([agentOf('a1'), agentOf('a2', { load: 5 })]), offered: true };
    expect(explainAssignment(offer)).toBe('Offered to agent a1: next in turn; agent a2 full 5/5.');
    expect(explainAssignment({ ...offer, offered: false })).toBe('Agent a1 chosen: next in turn; agent a2 full 5/5.');
  });

  it.each([
    ['round_robin', 'next in turn after agent a0'],
    ['least_loaded', 'least loaded 2/8'],
    ['longest_idle', 'longest idle, 2 h'],
    ['most_skilled', 'most skilled, 7 levels in the skills asked'],
    ['priority_list', 'place 1 of the priority list'],
  ] as const)('says by what %s chose', (strategy, reason) => {
    const agents = [
      agentOf('a1', { capacity: 8, load: 2, skills: { german: 4, vip: 3 }, idleSinceMs: nowMs - 7_300_000 }),
      agentOf('a2', { load: 4, skills: { german: 3 } }),
    ];
    const rules = rulesOf(strategy, { lastAgentId: 'a0', priorityList: ['a1'] });
    const conversation = conversationOf('c1', { skills: [requires('german', 3), requires('vip', 1)] });
    expect(sentence(agents, { conversation, rules })).toBe(`Agent a1 chosen: ${reason}; agent a2 lacks vip ≥ 1.`);
  });

  it('says that the preferred agent got it, and how many preferred skills were met', () => {
    const agents = [agentOf('a1', { skills: { vip: 1 } }), agentOf('a2')];
    expect(sentence(agents, { conversation: conversationOf('c1', { preferredAgentId: 'a2' }) })).toBe(
      'Agent a2 chosen: preferred for this contact; 1 other with room.',
    );
    const skills = [prefers('vip', 1), prefers('german', 1)];
    expect(sentence(agents, { conversation: conversationOf('c1', { skills }) })).toBe(
      'Agent a1 chosen: has 1 of 2 preferred skills, next in turn; 1 other with room.',
    );
  });

  it('says why nobody was chosen', () => {
    const agents = [
      agentOf('a1', { load: 5 }),
      agentOf('a2', { presence: 'away' }),
      agentOf('a3', { channelLimits: { phone: 1 }, channelLoads: { phone: 1 } }),
      agentOf('a4', { presence: 'offline' }),
    ];
    const conversation = conversationOf('c1', { channel: 'phone', passedOver: ['a1'] });
    expect(sentence(agents, { conversation })).toBe(
      'The conversation waits: agent a3 full on this channel 1/1; agent a1 passed over; 1 more away, 1 more offline.',
    );
    expect(
      sentence([agentOf('a1', { load: 5 }), agentOf('a2')], {
        conversation: conversationOf('c1', { awaitedAgentId: 'a1' }),
      }),
    ).toBe('The conversation waits for agent a1: agent a1 full 5/5; 1 more left out in favour of agent a1.');
    expect(sentence(['a1', 'a2'].map((id) => agentOf(id, { presence: 'away' })))).toBe(
      'The conversation waits: 2 away.',
    );
    expect(sentence([])).toBe('The conversation waits: the team has no agents.');
  });

  it('names three and counts the rest', () => {
    expect(sentence(agentsOf(60, { load: 5 }))).toBe(
      'The conversation waits: agent a000 full 5/5; agent a001 full 5/5; agent a002 full 5/5; 57 more full.',
    );
  });

  it('reads records of the first version, which knew less', () => {
    const first = {
      strategy: 'least_loaded',
      units: 1,
      chosen: 'a3',
      tiedWith: ['a2'],
      candidates: [
        { agentId: 'a3', load: 1, capacity: 3 },
        { agentId: 'a2', load: 3, capacity: 9 },
        { agentId: 'a1', load: 4, capacity: 4, excluded: 'full' },
      ],
      otherCounts: { free: 0, full: 0, away: 2, offline: 0 },
      position: 1,
    } as const;
    expect(explainAssignment(first)).toBe(
      'Agent a3 chosen: least loaded 1/3, tied with agent a2, next in turn; agent a1 full 4/4; 2 more away.',
    );
    expect(explainAssignment({ ...first, strategy: 'round_robin', tiedWith: [] })).toBe(
      'Agent a3 chosen: next in turn; agent a1 full 4/4; 1 more with room, 2 more away.',
    );
    expect(explainAssignment({ ...first, chosen: null, candidates: [], tiedWith: [] })).toBe(
      'The conversation waits: 2 away.',
    );
  });
});

describe('the record', () => {
  it('holds the best 50 and counts the rest by reason', () => {
    const agents = [
      ...agentsOf(60),
      ...Array.from({ length: 30 }, (_, index) => agentOf(`b${index}`, { presence: 'away' })),
      agentOf('c1', { load: 5 }),
    ];
    const explanation = explain(agents);
    expect(explanation.candidates).toHaveLength(50);
    expect(explanation.candidates.every(({ excluded }) => excluded === undefined)).toBe(true);
    expect(explanation.otherCounts).toEqual({ free: 10, full: 1, away: 30 });
    expect(explainAssignment(explanation)).toBe(
      'Agent a000 chosen: next in turn; 59 others with room, 1 full, 30 away.',
    );
  });

  it('tells of each candidate only what was used', () => {
    const agents = [
      agentOf('a1', { channelLimits: { phone: 2 } }),
      agentOf('a2', { presence: 'away', load: 3 }),
      agentOf('a3', { load: 5 }),
    ];
    const conversation = conversationOf('c1', { channel: 'phone' });
    expect(explain(agents, { conversation }).candidates).toEqual([
      { agentId: 'a1', load: 0, capacity: 5, channelLoad: 0, channelLimit: 2 },
      { agentId: 'a3', excluded: 'full', load: 5, capacity: 5 },
      { agentId: 'a2', excluded: 'away' },
    ]);
  });

  it('takes at most 10,500 bytes as JSON, whatever the team, and 4,100 for 50 agents and round robin', () => {
    const uuid = (index: number) => `01900000-0000-7000-8000-${String(index).padStart(12, '0')}`;
    const skills = Array.from({ length: 10 }, (_, index) => prefers(`${'s'.repeat(60)}${index}`, 5));
    const everything = {
      skills: Object.fromEntries(skills.map(({ skill }) => [skill, 5])),
      capacity: 1_000,
      load: 999,
      channelLimits: { phone: 1_000 },
      channelLoads: { phone: 999 },
      idleSinceMs: nowMs - 123_456_789,
    };
    const crowd = Array.from({ length: 1_000 }, (_, index) => agentOf(uuid(index), everything));
    const conversation = conversationOf(uuid(1), {
      skills,
      channel: 'phone',
      preferredAgentId: uuid(20),
      passedOver: Array.from({ length: 20 }, (_, index) => uuid(index)),
    });
    const largest = explain(crowd, {
      conversation,
      rules: rulesOf('most_skilled', { slaSeconds: 60, lastAgentId: uuid(3) }),
    });
    expect(JSON.stringify(largest).length).toBeLessThanOrEqual(10_500);
    expect(decideAgain(largest)).toBe(largest.chosen);
    const usual = explain(Array.from({ length: 50 }, (_, index) => agentOf(uuid(index))));
    expect(JSON.stringify(usual).length).toBeLessThanOrEqual(4_100);
  });
});
