import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_TRIGGER, stepsLeaveTheHouse, validateFlow } from '../../routing/flow-document.ts';

const TEAM = '0198a5b0-0000-7000-8000-000000000001';
const OTHER_TEAM = '0198a5b0-0000-7000-8000-000000000002';
const known = { teamIds: new Set([TEAM]) };

function example(): any {
  return {
    trigger: { on: 'conversation.opened', condition: "conversation.source == 'contact'" },
    enrichment: [
      { kind: 'set', field: 'tier', value: 'gold' },
      {
        kind: 'keywords',
        field: 'purpose',
        rules: [{ value: 'billing', keywords: ['invoice', 'rechnung'] }],
        otherwise: 'general',
      },
      { kind: 'http', url: 'https://crm.example/lookup', timeoutMs: 2000, fields: { tier: '/customer/tier' } },
    ],
    routing: {
      branches: [{ name: 'Billing', when: "fields.purpose == 'billing'", teamId: TEAM, priority: 10 }],
      otherwise: { teamId: TEAM, priority: 0 },
    },
  };
}

function pathsOf(document: unknown): string[] {
  const result = validateFlow(document, known);
  return result.ok ? [] : result.faults.map((fault) => fault.path);
}

function changed(change: (document: any) => void): unknown {
  const document = example();
  change(document);
  return document;
}

it('accepts the example as it is', () => {
  expect(validateFlow(example(), known)).toEqual({ ok: true, flow: example() });
});

it('fills in trigger and enrichment left out', () => {
  const { routing } = example();
  expect(validateFlow({ routing }, known)).toEqual({
    ok: true,
    flow: { trigger: DEFAULT_TRIGGER, enrichment: [], routing },
  });
  expect(validateFlow({ trigger: { condition: 'true' }, routing }, known)).toMatchObject({
    ok: true,
    flow: { trigger: { on: 'conversation.opened', condition: 'true' } },
  });
});

it('tells whether a step leaves the house', () => {
  const all = validateFlow(example(), known);
  const none = validateFlow(
    changed((flow) => flow.enrichment.pop()),
    known,
  );
  expect(all.ok && stepsLeaveTheHouse(all.flow)).toBe(true);
  expect(none.ok && stepsLeaveTheHouse(none.flow)).toBe(false);
});

it('finds every fault at once', () => {
  const document = {
    trigger: { on: 'never', condition: 'foo' },
    enrichment: [
      { kind: 'set', field: 'Tier', value: null },
      { kind: 'dance' },
      { kind: 'keywords', field: 'purpose', rules: [{ value: 1, keywords: ['', 'ok', '\u0301'] }] },
      { kind: 'http', url: 'ftp://x', timeoutMs: 5, fields: { Bad: '/a', good: 'a' } },
    ],
    routing: {
      branches: [
        { name: 'A', when: 'true', teamId: TEAM, priority: 101 },
        { name: ' a ', when: 'fields.', teamId: OTHER_TEAM, priority: 1.5 },
        { name: 'C', when: 'bar == 1', teamId: 'x', priority: 0, extra: 1 },
      ],
    },
    surprise: true,
  };
  const result = validateFlow(document, known);
  if (result.ok) throw new Error('must be refused');
  expect([...new Set(result.faults.map((fault) => fault.path))].toSorted()).toEqual(
    [
      '/surprise',
      '/trigger/on',
      '/trigger/condition',
      '/enrichment/0/field',
      '/enrichment/0/value',
      '/enrichment/1/kind',
      '/enrichment/2/rules/0/keywords/0',
      '/enrichment/2/rules/0/keywords/2',
      '/enrichment/3/url',
      '/enrichment/3/timeoutMs',
      '/enrichment/3/fields/Bad',
      '/enrichment/3/fields/good',
      '/routing/branches/0/priority',
      '/routing/branches/1/name',
      '/routing/branches/1/when',
      '/routing/branches/1/teamId',
      '/routing/branches/1/priority',
      '/routing/branches/2/when',
      '/routing/branches/2/teamId',
      '/routing/branches/2/extra',
      '/routing/otherwise',
    ].toSorted(),
  );
  for (const fault of result.faults) {
    expect(fault.message).not.toBe('');
    expect(fault.mend).toMatch(/\.$/);
  }
});

describe('limits', () => {
  it.each<[string, (flow: any) => void]>([
    ['/enrichment', (flow) => (flow.enrichment = Array(21).fill(flow.enrichment[0]))],
    ['/enrichment/1/rules', (flow) => (flow.enrichment[1].rules = Array(51).fill(flow.enrichment[1].rules[0]))],
    ['/enrichment/1/rules', (flow) => (flow.enrichment[1].rules = [])],
    ['/enrichment/1/rules/0/keywords', (flow) => (flow.enrichment[1].rules[0].keywords = Array(51).fill('a'))],
    ['/enrichment/1/rules/0/keywords/0', (flow) => (flow.enrichment[1].rules[0].keywords = ['x'.repeat(101)])],
    ['/enrichment/1/otherwise', (flow) => (flow.enrichment[1].otherwise = [])],
    ['/enrichment/2/fields', (flow) => (flow.enrichment[2].fields = {})],
    ['/enrichment/2/timeoutMs', (flow) => (flow.enrichment[2].timeoutMs = 10_001)],
    ['/enrichment/2/url', (flow) => (flow.enrichment[2].url = 'https://user:secret@crm.example')],
    ['/enrichment/0/value', (flow) => (flow.enrichment[0].value = 'a\0b')],
    ['/enrichment/0/field', (flow) => (flow.enrichment[0].field = 'x'.repeat(65))],
    [
      '/routing/branches',
      (flow) =>
        (flow.routing.branches = Array.from({ length: 51 }, (_, index) => ({
          ...flow.routing.branches[0],
          name: `${index}`,
        }))),
    ],
    ['/routing/branches/0/name', (flow) => (flow.routing.branches[0].name = '  ')],
    ['/routing/branches/0/when', (flow) => (flow.routing.branches[0].when = `fields.a == '${'x'.repeat(2048)}'`)],
    ['/routing/otherwise/teamId', (flow) => (flow.routing.otherwise.teamId = OTHER_TEAM)],
    ['/routing/otherwise/priority', (flow) => (flow.routing.otherwise.priority = -1)],
    ['/routing/otherwise/priority', (flow) => delete flow.routing.otherwise.priority],
  ])('%s', (path, change) => {
    expect(pathsOf(changed(change))).toEqual([path]);
  });

  it.each(['http://localhost:8080', 'https://crm.example/a/b?c=d', 'http://[::1]:80/x'])('takes %s', (url) => {
    expect(pathsOf(changed((flow) => (flow.enrichment[2].url = url)))).toEqual([]);
  });

  it('names each of very many faults', () => {
    const keywords = Array(50).fill('');
    expect(pathsOf(changed((flow) => (flow.enrichment[1].rules[0].keywords = keywords)))).toHaveLength(50);
  });
});

it.each([
  null,
  undefined,
  1,
  'x',
  [],
  {},
  { routing: null },
  { trigger: [], enrichment: {}, routing: { branches: {} } },
])('refuses %j without throwing', (document) => {
  expect(pathsOf(document).length).toBeGreaterThan(0);
});

it('refuses whatever is no flow, and never throws', () => {
  fc.assert(fc.property(fc.jsonValue(), (document) => !validateFlow(document, known).ok));
  let deep: unknown = 1;
  for (let depth = 0; depth < 20_000; depth++) deep = [deep];
  expect(
    validateFlow(
      changed((flow) => (flow.deep = deep)),
      known,
    ).ok,
  ).toBe(false);
});
