import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_TRIGGER } from '../../routing/flow-document.ts';
import { diffFlows } from '../../routing/flow-diff.ts';
import type { FlowDocument } from '../../routing/flow-schema.ts';
import type { EnrichmentStep } from '../../routing/step-schemas.ts';

const set = (field: string, value: string): EnrichmentStep => ({ kind: 'set', field, value });
const branch = (name: string, teamId = 't1') => ({ name, when: 'true', teamId, priority: 1 });

function flowOf({
  steps = [set('a', '1'), set('b', '2')],
  branches = [branch('A'), branch('B'), branch('C')],
} = {}): FlowDocument {
  return { trigger: DEFAULT_TRIGGER, enrichment: steps, routing: { branches, otherwise: { teamId: 't0' } } };
}

describe('branches', () => {
  it('are told apart by their names, so that one put in front changes no other', () => {
    const to = flowOf({ branches: [branch('New'), branch('A'), branch('B', 't2'), branch('C')] });
    expect(diffFlows(flowOf(), to)).toEqual([
      { kind: 'added', path: '/routing/branches/0', to: branch('New') },
      { kind: 'changed', path: '/routing/branches/2/teamId', from: 't1', to: 't2' },
    ]);
  });

  it('that change places are moved, and what changed about them is told too', () => {
    const to = flowOf({ branches: [branch('C', 't3'), branch('A'), branch('B')] });
    expect(diffFlows(flowOf(), to)).toEqual([
      { kind: 'moved', path: '/routing/branches/0', from: '/routing/branches/2', to: '/routing/branches/0' },
      { kind: 'changed', path: '/routing/branches/0/teamId', from: 't1', to: 't3' },
    ]);
  });

  it('keep being the same where only the case of the name changes, and are others under another name', () => {
    const to = flowOf({ branches: [branch('a'), branch('Bee'), branch('C')] });
    expect(diffFlows(flowOf(), to)).toEqual([
      { kind: 'changed', path: '/routing/branches/0/name', from: 'A', to: 'a' },
      { kind: 'removed', path: '/routing/branches/1', from: branch('B') },
      { kind: 'added', path: '/routing/branches/1', to: branch('Bee') },
    ]);
  });
});

describe('steps', () => {
  it('put between others are one change each', () => {
    const to = flowOf({ steps: [set('n', '0'), set('a', '1'), set('m', '0'), set('b', '2')] });
    expect(diffFlows(flowOf(), to)).toEqual([
      { kind: 'added', path: '/enrichment/0', to: set('n', '0') },
      { kind: 'added', path: '/enrichment/2', to: set('m', '0') },
    ]);
    expect(diffFlows(to, flowOf())).toEqual([
      { kind: 'removed', path: '/enrichment/0', from: set('n', '0') },
      { kind: 'removed', path: '/enrichment/2', from: set('m', '0') },
    ]);
  });

  it('are told by their members where they stay what they are, also behind one that was put in', () => {
    const to = flowOf({ steps: [set('n', '0'), set('a', '9'), set('b', '2')] });
    expect(diffFlows(flowOf(), to)).toEqual([
      { kind: 'added', path: '/enrichment/0', to: set('n', '0') },
      { kind: 'changed', path: '/enrichment/1/value', from: '1', to: '9' },
    ]);
  });

  it('of another kind are others', () => {
    const ask: EnrichmentStep = { kind: 'ask', field: 'a', text: 'Why?', timeoutSeconds: 5 };
    expect(diffFlows(flowOf(), flowOf({ steps: [ask, set('b', '2')] }))).toEqual([
      { kind: 'removed', path: '/enrichment/0', from: set('a', '1') },
      { kind: 'added', path: '/enrichment/0', to: ask },
    ]);
  });

  it('that change places are moved', () => {
    expect(diffFlows(flowOf(), flowOf({ steps: [set('b', '2'), set('a', '1')] }))).toHaveLength(1);
    expect(diffFlows(flowOf(), flowOf({ steps: [set('b', '2'), set('a', '1')] }))[0]).toMatchObject({ kind: 'moved' });
  });
});

it('tells other members in the order in which the flow runs, whatever order they are stored in', () => {
  const from = flowOf();
  const to = {
    routing: { otherwise: { slaSeconds: 5, close: true as const }, branches: from.routing.branches },
    hours: { office: { timeZone: 'UTC', weekly: {} } },
    enrichment: from.enrichment,
    trigger: { ...from.trigger, condition: 'true' },
  };
  expect(diffFlows(from, to)).toEqual([
    { kind: 'changed', path: '/trigger/condition', from: from.trigger.condition, to: 'true' },
    { kind: 'added', path: '/hours', to: to.hours },
    { kind: 'added', path: '/routing/otherwise/slaSeconds', to: 5 },
    { kind: 'added', path: '/routing/otherwise/close', to: true },
    { kind: 'removed', path: '/routing/otherwise/teamId', from: 't0' },
  ]);
});

it('finds something exactly where two documents differ', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('set'), field: fc.constantFrom('a', 'b'), value: fc.constantFrom('1', '2') }),
    fc.record({ kind: fc.constant('http'), url: fc.constantFrom('x', 'y'), body: fc.jsonValue({ maxDepth: 2 }) }),
  );
  const destination = { teamId: fc.constantFrom('t1', 't2'), priority: fc.nat(1) };
  const rings = fc.array(fc.record({ afterSeconds: fc.nat(2) }), { maxLength: 2 });
  const someBranch = fc.record(
    { name: fc.constantFrom('A', 'a', 'B', 'C'), when: fc.constantFrom('x', 'y'), rings, ...destination },
    { requiredKeys: ['name'] },
  );
  const document = fc.record(
    {
      trigger: fc.record({ condition: fc.constantFrom('x', 'y') }),
      hours: fc.dictionary(fc.constantFrom('office', 'shop'), fc.jsonValue({ maxDepth: 2 })),
      enrichment: fc.array(step, { maxLength: 4 }),
      routing: fc.record({
        branches: fc.array(someBranch, { maxLength: 4 }),
        otherwise: fc.record(destination, { requiredKeys: [] }),
      }),
    },
    { requiredKeys: ['trigger', 'enrichment', 'routing'] },
  ) as unknown as fc.Arbitrary<FlowDocument>;
  const shuffled = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(shuffled);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value)
        .toReversed()
        .map(([name, member]) => [name, shuffled(member)]),
    );
  };
  const plain = (flow: unknown) => JSON.stringify(sorted(JSON.parse(JSON.stringify(flow))));
  const sorted = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(sorted);
    if (typeof value !== 'object' || value === null) return value;
    return Object.entries(value)
      .toSorted(([one], [other]) => (one < other ? -1 : 1))
      .map(([name, member]) => [name, sorted(member), 'member']);
  };
  fc.assert(
    fc.property(document, document, (one, other) => {
      expect(diffFlows(one, shuffled(one) as FlowDocument)).toEqual([]);
      expect(diffFlows(one, other).length > 0).toBe(plain(one) !== plain(other));
      for (const { kind, path, from, to } of diffFlows(one, other)) {
        expect(path).toMatch(/^\/(trigger|hours|enrichment|routing)/);
        expect([from !== undefined, to !== undefined]).toEqual([kind !== 'added', kind !== 'removed']);
      }
    }),
    { numRuns: 2_000 },
  );
});

it('stays quick with the longest lists', () => {
  const bodyOf = (step: number): EnrichmentStep => ({
    ...{ kind: 'http', url: 'https://x.example', timeoutMs: 100, fields: { a: '/a' } },
    body: Array.from({ length: 8_000 }, (_, index) => (index * step) % 10),
  });
  const startedAt = performance.now();
  expect(diffFlows(flowOf({ steps: [bodyOf(3)] }), flowOf({ steps: [bodyOf(7)] })).length).toBeGreaterThan(100);
  expect(performance.now() - startedAt).toBeLessThan(5_000);
});
