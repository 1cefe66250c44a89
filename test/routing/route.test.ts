import { expect, it } from 'vitest';
import type { RoutingFacts } from '../../routing/facts.ts';
import { DEFAULT_TRIGGER, type FlowDocument } from '../../routing/flow-document.ts';
import { decideRoute, decideTrigger } from '../../routing/route.ts';

const flow: FlowDocument = {
  trigger: DEFAULT_TRIGGER,
  enrichment: [],
  routing: {
    branches: [
      { name: 'Missing', when: "fields.nowhere == 'x'", teamId: 't1', priority: 1 },
      { name: 'Billing', when: "fields.purpose == 'billing'", teamId: 't2', priority: 10 },
      { name: 'Also billing', when: "fields.purpose == 'billing'", teamId: 't3', priority: 20 },
    ],
    otherwise: { teamId: 't0', priority: 0 },
  },
};

function factsWith(fields: RoutingFacts['fields'], source: 'contact' | 'user' = 'contact'): RoutingFacts {
  return {
    conversation: { source, priority: 0 },
    contact: { id: 'c1', name: 'Ada', attributes: {} },
    channel: { key: 'chat', name: 'Chat' },
    message: { text: 'hi' },
    fields,
  };
}

it('takes the first true branch and tells what it looked at', () => {
  expect(decideRoute(flow, factsWith({ purpose: 'billing' }))).toEqual({
    teamId: 't2',
    priority: 10,
    branch: 'Billing',
    evaluated: [
      { name: 'Missing', when: "fields.nowhere == 'x'", value: false, error: 'field not found: nowhere' },
      { name: 'Billing', when: "fields.purpose == 'billing'", value: true },
    ],
  });
});

it('falls back to otherwise', () => {
  const decision = decideRoute(flow, factsWith({ purpose: 'other' }));
  expect(decision).toMatchObject({ teamId: 't0', priority: 0, branch: null });
  expect(decision.evaluated).toHaveLength(3);
});

it('treats a condition that no longer compiles as false', () => {
  const branches = [{ name: 'Old', when: 'gone == 1', teamId: 't1', priority: 1 }];
  const decision = decideRoute({ ...flow, routing: { ...flow.routing, branches } }, factsWith({}));
  expect(decision.branch).toBeNull();
  expect(decision.evaluated[0]?.error).toContain('does not compile');
});

it('keeps the explanation small', () => {
  const branches = [{ name: 'Long', when: `fields.a == '${'x'.repeat(1900)}'`, teamId: 't1', priority: 1 }];
  const decision = decideRoute({ ...flow, routing: { ...flow.routing, branches } }, factsWith({ a: 1 }));
  expect(JSON.stringify(decision).length).toBeLessThan(600);
});

it('runs only for conversations that the contact opened, unless the flow says otherwise', () => {
  expect(decideTrigger(flow, factsWith({}))).toEqual({ value: true });
  expect(decideTrigger(flow, factsWith({}, 'user'))).toEqual({ value: false });
  expect(decideTrigger({ ...flow, trigger: { ...DEFAULT_TRIGGER, condition: '(' } }, factsWith({})).value).toBe(false);
});
