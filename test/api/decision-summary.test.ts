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

test('a route by otherwise tells how many branches were tried', () => {
  const evaluated = [
    { name: 'A', value: false },
    { name: 'B', value: false },
  ];
  expect(summarizeDecision({ kind: 'routing', detail: { teamId: 't1', priority: 0, branch: null, evaluated } })).toBe(
    'None of 2 branches applied, so “otherwise” chose team t1 with priority 0.',
  );
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

test('an assignment by hand tells who did it and that it went over the capacity', () => {
  const detail = { manual: true, chosen: 'a1', forced: true, note: 'Knows the case', byAgentId: 'a2' };
  expect(summarizeDecision({ kind: 'assignment', detail })).toBe(
    'Agent a2 assigned the conversation to agent a1, over the capacity. Note: Knows the case',
  );
});

test('whatever an older version stored gives a sentence', () => {
  for (const kind of ['enrichment', 'routing', 'assignment'] as const) {
    expect(summarizeDecision({ kind, detail: {} })).toMatch(/^[A-Z].*\.$/);
  }
});
