import fc from 'fast-check';
import { expect, test } from 'vitest';
import { joinMessageText, type RoutingFacts, type TeamLoad } from '../../routing/facts.ts';
import { takeTurn } from '../../routing/flow-interpreter.ts';
import { noProgress } from '../../routing/flow-progress.ts';
import { decideRoute } from '../../routing/route.ts';
import { tryFlow, type GivenTurns } from '../../routing/flow-trial.ts';
import type { FlowBranch, FlowDocument } from '../../routing/flow-schema.ts';
import type { ClassifyStep, EnrichmentStep } from '../../routing/step-schemas.ts';

const sales = '01980a5e-7c1b-7d52-9a43-0f6f0f2f6b11';
const support = '01980a5e-7c1b-7d52-9a43-0f6f0f2f6b12';

function flowOf(enrichment: EnrichmentStep[], branches: FlowBranch[] = [], trigger = 'true'): FlowDocument {
  return {
    trigger: { on: 'conversation.opened', condition: trigger },
    enrichment,
    routing: { branches, otherwise: { teamId: support } },
  };
}

const facts: RoutingFacts = {
  nowMs: Date.parse('2026-11-23T10:00:00Z'),
  conversation: { source: 'contact', priority: 0 },
  contact: { id: '01980a5e-7c1b-7d52-9a43-0f6f0f2f6c01', name: 'Ada', attributes: { tier: 'gold' } },
  channel: { key: 'web', name: 'Web' },
  message: { text: 'My invoice is wrong' },
  fields: {},
};

const attempt = (flow: FlowDocument, given: Partial<GivenTurns> = {}) =>
  tryFlow(flow, facts, { answers: [], responses: {}, loads: new Map<string, TeamLoad>(), ...given });

const ask: EnrichmentStep = {
  kind: 'ask',
  field: 'purpose',
  text: 'What is it about, {{contact.name}}?',
  choices: [
    { value: 'sales', label: 'Buying' },
    { value: 'support', label: 'Help' },
  ],
  timeoutSeconds: 60,
  giveUp: { teamId: sales, text: 'Somebody will look.' },
};

test('a trigger that is not true is told with what it saw, and nothing follows', () => {
  const trial = attempt(flowOf([ask], [], "channel.key == 'mail'"));
  expect(trial).toMatchObject({
    trigger: { condition: "channel.key == 'mail'", value: false, values: { 'channel.key': 'web' } },
    steps: [],
    messages: [],
    route: null,
  });
});

test('every condition tells what it saw at its turn, also where a later step changes that', () => {
  const flow = flowOf(
    [
      { kind: 'set', field: 'stage', value: 'one' },
      { kind: 'set', when: "fields.stage == 'one'", field: 'stage', value: 'two' },
      { kind: 'set', when: "fields.stage == 'one'", field: 'other', value: true },
      { kind: 'set', when: 'fields.nowhere', field: 'other', value: true },
    ],
    [
      { name: 'A', when: "fields.stage == 'one'", teamId: sales },
      { name: 'B', when: "contact.attributes.tier == 'gold'", teamId: sales, priority: 7 },
      { name: 'C', when: 'true', teamId: support },
    ],
  );
  const trial = attempt(flow);
  expect(trial.steps).toMatchObject([
    { position: 0, outcome: 'done', fieldsSet: { stage: 'one' } },
    {
      position: 1,
      outcome: 'done',
      when: { value: true, values: { 'fields.stage': 'one' } },
      fieldsSet: { stage: 'two' },
    },
    { position: 2, outcome: 'skipped', when: { value: false, values: { 'fields.stage': 'two' } }, fieldsSet: {} },
    { position: 3, outcome: 'skipped', when: { value: false, error: expect.any(String) } },
  ]);
  expect(trial.evaluated).toMatchObject([
    { name: 'A', value: false, values: { 'fields.stage': 'two' } },
    { name: 'B', value: true, values: { 'contact.attributes.tier': 'gold' } },
  ]);
  expect(trial).toMatchObject({
    fields: { stage: 'two' },
    fieldSources: { stage: { step: 1, kind: 'set' } },
    route: { kind: 'team', branch: 'B', teamId: sales, priority: 7 },
    failure: null,
  });
});

test('questions are told with their choices, and take the given answers in turn', () => {
  const trial = attempt(flowOf([ask]), { answers: ['well', ['the', 'Help']] });
  expect(trial.steps).toMatchObject([
    { outcome: 'asked', asked: { text: 'What is it about, Ada?', choices: [{ value: 'sales', label: 'Buying' }, {}] } },
    { outcome: 'asked', answer: ['well'] },
    { outcome: 'answered', answer: ['the', 'Help'], fieldsSet: { purpose: 'support' } },
  ]);
  expect(trial.messages.map(({ text }) => text)).toEqual(['What is it about, Ada?', 'What is it about, Ada?']);
  expect(trial.route).toMatchObject({ branch: null, teamId: support });
});

test('a question without an answer times out and gives up, and what comes after it is left out', () => {
  const trial = attempt(flowOf([ask, { kind: 'set', field: 'late', value: true }]));
  expect(trial.steps.map(({ outcome, position }) => [position, outcome])).toEqual([
    [0, 'asked'],
    [0, 'gave_up'],
  ]);
  expect(trial.messages.at(-1)?.text).toBe('Somebody will look.');
  expect(trial.steps[1]).toMatchObject({ sent: 'Somebody will look.', reason: 'no answer came in time' });
  expect(trial).toMatchObject({ fields: {}, route: { kind: 'team', teamId: sales, gaveUpStep: 0 } });
});

test('other systems respond as given; without a response the step fails and the flow goes on, or falls back', () => {
  const http: EnrichmentStep = {
    kind: 'http',
    url: 'https://crm.example.com',
    timeoutMs: 1000,
    fields: { tier: '/customer/tier' },
  };
  const classify: EnrichmentStep = {
    kind: 'classify',
    field: 'purpose',
    labels: [{ label: 'billing' }, { label: 'general' }],
    minConfidence: 0.5,
    otherwise: 'general',
    timeoutMs: 1000,
  };
  const flow = flowOf([http, classify]);
  const responses = { '0': { customer: { tier: 'gold' } }, '1': { label: 'billing', confidence: 0.9 } };
  expect(attempt(flow, { responses })).toMatchObject({
    steps: [
      { outcome: 'done', fieldsSet: { tier: 'gold' } },
      { outcome: 'done', fieldsSet: { purpose: 'billing' } },
    ],
    fieldSources: { purpose: { confidence: 0.9 } },
  });
  expect(attempt(flow, { responses: { '1': { label: 'billing', confidence: 0.2 } } })).toMatchObject({
    steps: [{ position: 0, outcome: 'failed', reason: expect.stringContaining('no response') }, { position: 1 }],
    fields: { purpose: 'general' },
    route: { teamId: support },
    failure: null,
  });
  expect(attempt(flowOf([{ ...http, onFailure: 'fallBack' }, classify]))).toMatchObject({
    steps: [{ position: 0, outcome: 'failed' }],
    route: null,
    failure: expect.stringMatching(/^step 1 failed/),
  });
});

test('what is answered is part of the text for the steps, conditions and texts after it', () => {
  const flow = flowOf(
    [
      { kind: 'set', when: "message.text.contains('refund')", field: 'early', value: true },
      { kind: 'ask', field: 'detail', text: 'Tell more', timeoutSeconds: 60, maxQuestions: 2, pattern: 'please' },
      { kind: 'keywords', field: 'topic', rules: [{ value: 'refund', keywords: ['refund'] }] },
    ],
    [{ name: 'Refund', when: "message.text.endsWith('please')", teamId: sales, text: '{{message.text}}' }],
    "message.text == 'My invoice is wrong'",
  );
  const trial = attempt(flow, { answers: [['a', 'refund'], 'yes please'] });
  const text = 'My invoice is wrong\na\nrefund\nyes please';
  expect(trial).toMatchObject({
    trigger: { value: true },
    steps: [{ outcome: 'skipped', when: { values: { 'message.text': 'My invoice is wrong' } } }, {}, {}, {}, {}],
    fields: { detail: 'yes please', topic: 'refund' },
    evaluated: [{ value: true, values: { 'message.text': text } }],
    route: { branch: 'Refund', text },
  });
});

test('a model’s response means what it does in earnest', () => {
  const classify: ClassifyStep = {
    kind: 'classify',
    field: 'purpose',
    labels: [{ label: 'billing' }, { label: 'general' }],
    minConfidence: 0.5,
    otherwise: 'none',
    timeoutMs: 1000,
    onFailure: 'fallBack',
  };
  const respond = (response: unknown, step: ClassifyStep = classify) =>
    attempt(flowOf([step]), { responses: { '0': response } });
  const { minConfidence: _, ...unsure } = classify;
  for (const response of ['none', { label: 'none' }]) {
    expect(respond(response, unsure)).toMatchObject({ fields: { purpose: 'none' }, failure: null });
  }
  expect(respond({ label: ' billing ', confidence: 0.5 })).toMatchObject({
    fields: { purpose: 'billing' },
    fieldSources: { purpose: { confidence: 0.5 } },
    failure: null,
  });
  expect(respond({ label: 'billing', confidence: 0.2 })).toMatchObject({ fields: { purpose: 'none' }, failure: null });
  for (const response of ['billing', { label: 'billing' }, { label: 'billing', confidence: 7 }]) {
    expect(respond(response)).toMatchObject({
      steps: [{ outcome: 'failed', fieldsSet: {} }],
      failure: 'step 1 failed: the model did not tell how sure it is',
    });
    expect(respond(response).fields).toEqual({});
  }
  expect(respond('other').failure).toBe('step 1 failed: the model answered with none of the labels');
  expect(respond(7).failure).toBe('step 1 failed: the model answered with something else than JSON');
});

test('a branch sees the load and the hours, closes with a text, and a later one is not looked at', () => {
  const flow: FlowDocument = {
    ...flowOf(
      [],
      [
        { name: 'Busy', when: 'team.waiting > 5', teamId: sales },
        { name: 'Closed', when: '!hours.office.open', close: true, text: 'Closed, {{contact.name}}.' },
        { name: 'Rest', when: 'true', teamId: sales },
      ],
    ),
    hours: { office: { timeZone: 'Europe/Berlin', weekly: {} } },
  };
  const loads = new Map([[sales, { waiting: 3, onlineAgents: 1, longestWaitSeconds: 10 }]]);
  expect(attempt(flow, { loads })).toMatchObject({
    evaluated: [
      { name: 'Busy', value: false, values: { 'team.waiting': 3 } },
      { name: 'Closed', value: true, values: { 'hours.office.open': false } },
    ],
    route: { kind: 'close', branch: 'Closed' },
    messages: [{ text: 'Closed, Ada.' }],
  });
});

const field = fc.constantFrom('a', 'b', 'c');
const when = fc.option(
  fc.constantFrom(
    "fields.a == 'x'",
    '!has(fields.b)',
    'fields.c',
    "contact.name == 'Ada'",
    'has(fields.a) && has(fields.b)',
  ),
  { nil: undefined },
);
const value = fc.constantFrom<string | boolean>('x', 'y', true);
const giveUp = fc.constantFrom<Extract<EnrichmentStep, { kind: 'ask' }>['giveUp']>(
  undefined,
  { value: 'y' },
  { teamId: sales },
  { close: true, text: 'Bye' },
);
const conditional = <Step extends object>(step: fc.Arbitrary<Step>) =>
  fc.tuple(step, when).map(([one, condition]) => ({ ...one, ...(condition !== undefined && { when: condition }) }));
const anyStep: fc.Arbitrary<EnrichmentStep> = fc.oneof(
  conditional(fc.record({ kind: fc.constant('set' as const), field, value })),
  conditional(
    fc.record({
      kind: fc.constant('keywords' as const),
      field,
      rules: fc.constantFrom([{ value: 'x', keywords: ['idea'] }], [{ value: 'y', keywords: ['ex', 'invoice'] }]),
    }),
  ),
  conditional(
    fc.record({
      kind: fc.constant('ask' as const),
      field,
      text: fc.constant('What?'),
      choices: fc.constant([{ value: 'x', label: 'Ex' }]),
      timeoutSeconds: fc.constant(60),
      maxQuestions: fc.integer({ min: 1, max: 3 }),
      giveUp,
    }),
  ),
) as fc.Arbitrary<EnrichmentStep>;

test('a trial finds, sends and decides what the flow would in earnest, whatever its steps and whatever is answered', () => {
  fc.assert(
    fc.property(
      fc.array(anyStep, { maxLength: 8 }),
      fc.array(fc.constantFrom('ex', 'no idea'), { maxLength: 8 }),
      (steps, answers) => {
        const flow = flowOf(steps, [{ name: 'A', when: "fields.a == 'x'", teamId: sales, text: '{{message.text}}' }]);
        const left = [...answers];
        const texts: string[] = [];
        const thread = [facts.message.text];
        const seen = () => ({ ...facts, message: { text: joinMessageText(thread.slice(0, 10)) } });
        let turn = takeTurn(flow, seen(), noProgress, { kind: 'nothing' });
        texts.push(...turn.messages.map(({ text }) => text));
        while (turn.kind === 'ask') {
          const answer = left.shift();
          const heard =
            answer === undefined ? ({ kind: 'timeout' } as const) : ({ kind: 'answer', texts: [answer] } as const);
          if (answer !== undefined) thread.push(answer);
          turn = takeTurn(flow, seen(), turn.progress, heard);
          texts.push(...turn.messages.map(({ text }) => text));
        }
        const { fields, sources, gaveUpStep } = turn.progress;
        const route = decideRoute(flow, { ...seen(), fields }, { loads: new Map(), gaveUpStep });
        const trial = attempt(flow, { answers });
        expect(trial).toMatchObject({ fields, fieldSources: sources, route, failure: null });
        expect(trial.messages.map(({ text }) => text)).toEqual([
          ...texts,
          ...(route.text === null ? [] : [route.text]),
        ]);
      },
    ),
  );
});
