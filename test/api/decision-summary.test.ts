import { expect, test } from 'vitest';
import { summarizeDecision } from '../../api/decision-summary.ts';

test('a route tells the branch, the team, and what could not be evaluated', () => {
  const detail = {
    teamId: 't1',
    priority: 10,
    branch: 'Billing',
    evaluated: [
      { name: 'VIP', when: 'fields.tier == 1', value: false, error: 'no such key: tier' },
      { name: 'Billing', when: "fields.purpose == 'billing'", value: true },
    ],
  };
  expect(summarizeDecision({ kind: 'routing', detail })).toBe(
    'The branch “Billing” applied and chose team t1 with priority 10. 1 condition could not be evaluated and counted as false.',
  );
});

test('a route tells the flow by its name, with the version', () => {
  const detail = { flowName: 'Support', flowVersionNumber: 3, teamId: 't1', priority: 0, branch: 'A', evaluated: [] };
  const sentenceOf = (changes: object) => summarizeDecision({ kind: 'routing', detail: { ...detail, ...changes } });
  expect(sentenceOf({})).toBe(
    'The branch “A” of version 3 of the flow “Support” applied and chose team t1 with priority 0.',
  );
  expect(sentenceOf({ branch: null })).toBe(
    'The flow has no branch, so “otherwise” of version 3 of the flow “Support” chose team t1 with priority 0.',
  );
  expect(sentenceOf({ branch: null, reason: 'its steps took too long' })).toBe(
    'The default team got it, because its steps took too long (version 3 of the flow “Support”).',
  );
  expect(sentenceOf({ branch: null, gaveUpStep: 1 })).toBe(
    'Step 2 of version 3 of the flow “Support” got no answer and chose team t1 with priority 0.',
  );
});

test('a route tells a close, a text, a webhook, a share and an aim', () => {
  const sentenceOf = (detail: object) =>
    summarizeDecision({ kind: 'routing', detail: { branch: 'Closed', ...detail } });
  expect(sentenceOf({ kind: 'close', text: 'We are back on Monday.', webhookUrl: null })).toBe(
    'The branch “Closed” applied and closed the conversation. The contact is sent a text.',
  );
  expect(sentenceOf({ kind: 'close', text: null, webhookUrl: 'https://example.com' })).toBe(
    'The branch “Closed” applied and closed the conversation. A webhook is told.',
  );
  expect(sentenceOf({ teamId: 't1', priority: 5, slaSeconds: 60, share: 12 })).toBe(
    'The branch “Closed” applied and chose team t1 by the contact’s share with priority 5 and a wait of at most 60 s as its aim.',
  );
});

test('a route by otherwise tells how many branches were tried', () => {
  const evaluated = [
    { name: 'A', value: false },
    { name: 'B', value: false },
  ];
  expect(summarizeDecision({ kind: 'routing', detail: { teamId: 't1', priority: 0, branch: null, evaluated } })).toBe(
    'None of 2 branches applied, so “otherwise” chose team t1 with priority 0.',
  );
});

test('a route tells the version of the flow, what it asks of agents, and what changes while nobody is found', () => {
  const requirements = {
    skills: [
      { skill: 'spanish', level: 4, preferred: false },
      { skill: 'billing', level: 2, preferred: true },
    ],
    rings: [
      { afterSeconds: 30, kind: 'relax', levels: [{ skill: 'spanish', level: 2 }] },
      {
        afterSeconds: 90,
        kind: 'relax',
        levels: [
          { skill: 'spanish', level: 0 },
          { skill: 'billing', level: 1 },
        ],
      },
      { afterSeconds: 180, kind: 'overflow', teamId: 't2' },
      { afterSeconds: 600, kind: 'fallback', then: 'close' },
    ],
  };
  const detail = {
    flowVersionNumber: 3,
    teamId: 't1',
    priority: 10,
    branch: 'Billing',
    requirements,
    missingFields: [],
  };
  expect(summarizeDecision({ kind: 'routing', detail })).toBe(
    'The branch “Billing” of flow version 3 applied and chose team t1 with priority 10. It asks for spanish ≥ 4, billing ≥ 2 preferred; ' +
      'after 30 s relaxed to spanish ≥ 2; after 90 s spanish dropped, relaxed to billing ≥ 1; after 180 s overflow to team t2; after 600 s closed.',
  );
});

test('a route tells which field named no skill, and rings without skills', () => {
  const requirements = { skills: [], rings: [{ afterSeconds: 60, kind: 'fallback', then: 'wait' }] };
  const detail = { teamId: 't1', priority: 0, branch: null, evaluated: [], requirements, missingFields: ['topic'] };
  expect(summarizeDecision({ kind: 'routing', detail })).toBe(
    'The flow has no branch, so “otherwise” chose team t1 with priority 0. It asks for no skill; after 60 s left waiting. ' +
      'The field topic names no skill, so it asks for none.',
  );
  const several = { teamId: 't1', branch: 'A', missingFields: ['topic', 'region'] };
  expect(summarizeDecision({ kind: 'routing', detail: several })).toBe(
    'The branch “A” applied and chose team t1. The fields topic, region name no skill, so they ask for none.',
  );
});

test('a route stays a sentence however much it asks for', () => {
  const skill = 'x'.repeat(100);
  const requirements = {
    skills: Array.from({ length: 10 }, () => ({ skill, level: 5, preferred: false })),
    rings: Array.from({ length: 20 }, () => ({ afterSeconds: 1, kind: 'relax', levels: [{ skill, level: 1 }] })),
  };
  const summary = summarizeDecision({ kind: 'routing', detail: { teamId: 't1', branch: 'A', requirements } });
  expect(summary).toContain('; then 10 rings more.');
  expect(summary.length).toBeLessThan(3_000);
});

test('a return to the queue tells why', () => {
  const detailOf = (reason: string) => ({ manual: false, reason, chosen: null, from: 'a1', teamId: 't1', note: null });
  const sentenceOf = (reason: string) => summarizeDecision({ kind: 'assignment', detail: detailOf(reason) });
  expect(sentenceOf('agent_offline')).toBe(
    'The conversation went back to the queue of team t1, because agent a1 is offline.',
  );
  expect(sentenceOf('silence')).toBe(
    'The conversation went back to the queue of team t1, because agent a1 did not reply in time.',
  );
  expect(sentenceOf('woken_without_room')).toBe(
    'The contact wrote again and agent a1 had no room, so the conversation went back to the queue of team t1.',
  );
  const byHand = { byAgentId: 'a2', note: 'Speaks Spanish' };
  expect(summarizeDecision({ kind: 'assignment', detail: { ...detailOf('transferred'), ...byHand } })).toBe(
    'Agent a2 transferred the conversation to the queue of team t1. Note: Speaks Spanish',
  );
  expect(sentenceOf('put_back')).toBe('A person put the conversation into the queue of team t1.');
});

test('a fallback tells its reason', () => {
  const detail = { teamId: 't1', branch: null, reason: 'no published flow matches' };
  expect(summarizeDecision({ kind: 'routing', detail })).toBe(
    'The default team got it, because no published flow matches.',
  );
});

test('enrichment tells the fields and the steps that failed', () => {
  const detail = { fields: { purpose: 'billing', vip: true }, failures: ['step 2: no answer in 2000 ms'] };
  expect(summarizeDecision({ kind: 'enrichment', detail })).toBe(
    'Enrichment set purpose = "billing", vip = true. 1 step failed: step 2: no answer in 2000 ms.',
  );
});

test('enrichment tells what the contact was asked and whether it answered', () => {
  const steps = [
    { position: 0, kind: 'set', outcome: 'done' },
    { position: 1, kind: 'ask', outcome: 'asked' },
    { position: 1, kind: 'ask', outcome: 'answered' },
    { position: 2, kind: 'ask', outcome: 'asked' },
    { position: 2, kind: 'ask', outcome: 'gave_up', reason: 'no answer came in time' },
  ];
  expect(summarizeDecision({ kind: 'enrichment', detail: { fields: { a: 1 }, failures: [], steps } })).toBe(
    'Enrichment set a = 1. The contact answered the question. Step 3 gave up: no answer came in time.',
  );
});

test('a question that waits is told as one, and nothing is said of what is not known yet', () => {
  const summaryOf = (fields: object, ...steps: object[]) =>
    summarizeDecision({ kind: 'enrichment', detail: { fields, failures: [], steps } });
  const asked = { position: 1, kind: 'ask', outcome: 'asked' };
  const set = { position: 0, kind: 'set', outcome: 'done' };
  expect(summaryOf({}, asked)).toBe('Asked the contact (step 2).');
  expect(summaryOf({ a: 1 }, set, asked)).toBe('Enrichment set a = 1. Asked the contact (step 2).');
  expect(summaryOf({}, { ...asked, reason: 'the answer does not fit' })).toBe(
    'Asked the contact again (step 2): the answer does not fit.',
  );
  expect(summaryOf({}, { ...asked, outcome: 'answered' })).toMatch(
    /^Enrichment found nothing out\. The contact answered the question\.$/,
  );
});

test('an assignment by hand tells who did it and that it went over the capacity', () => {
  const detail = { manual: true, chosen: 'a1', forced: true, note: 'Knows the case', byAgentId: 'a2' };
  expect(summarizeDecision({ kind: 'assignment', detail })).toBe(
    'Agent a2 assigned the conversation to agent a1, over the capacity. Note: Knows the case',
  );
});

test('an assignment is told as an offer where the agent has to accept first', () => {
  const detail = {
    strategy: 'round_robin',
    units: 1,
    chosen: 'a1',
    tiedWith: [],
    candidates: [{ agentId: 'a1', load: 0, capacity: 3 }],
    otherCounts: {},
  };
  const sentenceOf = (offered: boolean) => summarizeDecision({ kind: 'assignment', detail: { ...detail, offered } });
  expect(sentenceOf(true)).toBe('Offered to agent a1: next in turn.');
  expect(sentenceOf(false)).toBe('Agent a1 chosen: next in turn.');
});

test('an opening tells the triggers that failed, whoever got it', () => {
  const triggerErrors = [{ flowVersionId: 'v1', error: 'no such key: age' }];
  const chosen = { flowVersionId: 'v2', flowVersionNumber: 3, flowName: 'Support', triggerErrors };
  expect(summarizeDecision({ kind: 'routing', detail: chosen })).toBe(
    'Version 3 of the flow “Support” was chosen. 1 trigger could not be evaluated and counted as false.',
  );
  const two = { triggerErrors: [...triggerErrors, ...triggerErrors] };
  expect(summarizeDecision({ kind: 'routing', detail: two })).toBe(
    'A flow was chosen. 2 triggers could not be evaluated and counted as false.',
  );
  const nobody = { teamId: 't1', branch: null, reason: 'no published flow matches' };
  expect(summarizeDecision({ kind: 'routing', detail: { ...nobody, triggerErrors: [] } })).toBe(
    'The default team got it, because no published flow matches.',
  );
  expect(summarizeDecision({ kind: 'routing', detail: { ...nobody, triggerErrors } })).toBe(
    'The default team got it, because no published flow matches. 1 trigger could not be evaluated and counted as false.',
  );
});

test('a rejected offer tells the reason, and ends once whatever the reason ends with', () => {
  const sentenceOf = (reason: string | null) =>
    summarizeDecision({ kind: 'assignment', detail: { offer: 'rejected', agentId: 'a1', reason } });
  for (const reason of ['busy', ' busy. ', 'busy..']) {
    expect(sentenceOf(reason)).toBe('Agent a1 rejected the offer: busy.');
  }
  expect(sentenceOf('why me?')).toBe('Agent a1 rejected the offer: why me?');
  for (const none of [null, '', ' ', '.']) expect(sentenceOf(none)).toBe('Agent a1 rejected the offer.');
});

test('whatever an older version stored gives a sentence', () => {
  for (const kind of ['enrichment', 'routing', 'assignment'] as const) {
    expect(summarizeDecision({ kind, detail: {} })).toMatch(/^[A-Z].*\.$/);
    for (const requirements of [null, 1, [], { skills: 1, rings: [null, {}, { levels: 3, kind: 'relax' }] }]) {
      const detail = { requirements, missingFields: requirements };
      expect(summarizeDecision({ kind, detail })).toMatch(/^[A-Z].*\.$/);
    }
  }
});
