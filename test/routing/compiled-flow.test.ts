import { describe, expect, it } from 'vitest';
import { compileFlow, evaluateCompiled, fillText } from '../../routing/compiled-flow.ts';
import { bindFacts } from '../../routing/condition.ts';
import type { FlowDocument } from '../../routing/flow-schema.ts';
import type { EnrichmentStep } from '../../routing/step-schemas.ts';
import { exampleFacts } from './example-facts.ts';

const teamId = '0199b1f0-0000-7000-8000-000000000000';

const flow: FlowDocument = {
  trigger: { on: 'conversation.opened', condition: "conversation.source == 'contact'" },
  enrichment: [
    { kind: 'set', field: 'tier', value: 'gold', when: "contact.attributes.plan == 'gold'" },
    {
      ...{ kind: 'ask', field: 'order', text: 'Which order, {{contact.id}}?', timeoutSeconds: 60 },
      ...{ pattern: '^[0-9]+$', test: 'size(answer) > 3' },
    },
    { kind: 'set', field: 'other', value: 1 },
  ],
  routing: {
    branches: [
      { name: 'vip', when: 'fields.vip', teamId },
      { name: 'old', when: 'fields.vip &&& true', teamId },
      { name: 'closed', when: '!hours.office.open', close: true, text: 'Bye {{fields.purpose}}' },
    ],
    otherwise: { teamId },
  },
};

describe('a compiled flow', () => {
  const bound = bindFacts(exampleFacts, { answer: '4711' });

  it('has every condition and pattern by its position', () => {
    const { trigger, steps, branches } = compileFlow(flow);
    expect(evaluateCompiled(trigger, bound)).toEqual({ value: true });
    expect(steps.map(({ when }) => when && evaluateCompiled(when, bound))).toEqual([{ value: true }, null, null]);
    expect(steps.map(({ test }) => test && evaluateCompiled(test, bound))).toEqual([null, { value: true }, null]);
    expect(steps.map(({ pattern }) => pattern?.ok === true && pattern.test('4711'))).toEqual([false, true, false]);
    expect(branches.map(({ when }) => evaluateCompiled(when, bound).value)).toEqual([true, false, false]);
  });

  it('tells why a condition does not compile, which counts as false', () => {
    expect(evaluateCompiled(compileFlow(flow).branches[1]!.when, bound)).toEqual({
      value: false,
      error: expect.stringMatching(/^the condition does not compile: syntax error/),
    });
    const broken: FlowDocument = {
      ...flow,
      enrichment: [{ kind: 'ask', field: 'a', text: 'A?', timeoutSeconds: 60, pattern: '(' }],
    };
    expect(compileFlow(broken).steps[0]?.pattern).toMatchObject({ ok: false });
  });

  it('is compiled once', () => {
    const compiled = compileFlow(flow);
    expect(compileFlow(flow)).toBe(compiled);
    expect(compiled.trigger).toBe(compiled.trigger);
    expect(compiled.steps[1]!.pattern).toBe(compiled.steps[1]!.pattern);
    expect(compiled.branches[2]!.when).toBe(compiled.branches[2]!.when);
    expect(compiled.templateOf('Bye {{fields.purpose}}')).toBe(compiled.templateOf('Bye {{fields.purpose}}'));
  });

  it('fills its texts, and leaves what is no template any more as it stands', () => {
    const compiled = compileFlow(flow);
    expect(fillText(compiled, 'Bye {{fields.purpose}}', { facts: exampleFacts })).toBe('Bye billing');
    expect(fillText(compiled, 'https://x.test/{{message.text}}', { facts: exampleFacts, escape: 'url' })).toBe(
      'https://x.test/My%20invoice%20is%20wrong%20%F0%9F%98%80',
    );
    expect(fillText(compiled, 'Bye {{name}}', { facts: exampleFacts })).toBe('Bye {{name}}');
  });
});

it('a whole flow costs little CPU once it is compiled', () => {
  const branches = Array.from({ length: 10 }, (_, index) => ({
    ...{ name: `b${index}`, teamId },
    when: `fields.purpose == 'p${index}' && message.text.matches('(?i)(invoice|order) ${index}') && hours.office.open`,
  }));
  const set = (index: number): EnrichmentStep => ({ kind: 'set', field: `f${index}`, value: 1, when: 'fields.vip' });
  const large: FlowDocument = {
    ...{ trigger: flow.trigger, enrichment: [0, 1, 2, 3, 4].map(set), routing: { branches, otherwise: { teamId } } },
    hours: { office: { timeZone: 'Europe/Berlin', weekly: { monday: [{ from: '09:00', to: '17:00' }] } } },
  };
  const run = () => {
    const { trigger, steps, branches: compiled } = compileFlow(large);
    evaluateCompiled(trigger, bindFacts(exampleFacts, { hours: large.hours }));
    // Each step sets a field, so that the facts are bound anew after it.
    for (const { when } of steps) evaluateCompiled(when!, bindFacts(exampleFacts, { hours: large.hours }));
    const bound = bindFacts(exampleFacts, { hours: large.hours });
    for (const { when } of compiled) evaluateCompiled(when, bound);
  };
  for (let warm = 0; warm < 50; warm++) run();
  const before = process.cpuUsage();
  for (let times = 0; times < 200; times++) run();
  const { user, system } = process.cpuUsage(before);
  // A conversation costs about 40 CPU-milliseconds in all.
  expect((user + system) / 1000 / 200).toBeLessThan(2);
});
