import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RoutingFacts } from '../../routing/facts.ts';
import { validateFlow } from '../../routing/flow-document.ts';
import { settleRequest, takeTurn, type FlowTurn, type Heard } from '../../routing/flow-interpreter.ts';
import { noProgress, type FieldSource, type FlowProgress } from '../../routing/flow-progress.ts';
import type { FlowDocument } from '../../routing/flow-schema.ts';
import type { AskStep, EnrichmentStep } from '../../routing/step-schemas.ts';
import { exampleFacts } from './example-facts.ts';

const teamId = '00000000-0000-0000-0000-000000000001';
const nothing: Heard = { kind: 'nothing' };
const timeout: Heard = { kind: 'timeout' };
const said = (...texts: string[]): Heard => ({ kind: 'answer', texts });

function flowOf(...enrichment: unknown[]): FlowDocument {
  return {
    trigger: { on: 'conversation.opened', condition: 'true' },
    enrichment: enrichment as EnrichmentStep[],
    routing: { branches: [], otherwise: { teamId } },
  };
}

const facts: RoutingFacts = { ...exampleFacts, fields: { ignored: true } };
const begin = (flow: FlowDocument) => takeTurn(flow, facts, noProgress, nothing);
const goOn = (flow: FlowDocument, turn: FlowTurn, heard: Heard) => takeTurn(flow, facts, turn.progress, heard);

describe('steps that ask nobody', () => {
  const flow = flowOf(
    { kind: 'set', field: 'tier', value: 1 },
    { kind: 'keywords', field: 'purpose', rules: [{ value: 'billing', keywords: ['invoice'] }] },
    { kind: 'set', when: "fields.purpose == 'sales'", field: 'tier', value: 2 },
    { kind: 'set', when: "fields.purpose == 'billing' && fields.tier == 1", field: 'tier', value: 3 },
    { kind: 'language', field: 'lang' },
    { kind: 'contact', fields: { plan: 'attributes/plan', phase: 'lifecycle' } },
  );

  it('are done in one turn, each seeing what those before it found', () => {
    const turn = begin(flow);
    expect(turn).toMatchObject({ kind: 'done', messages: [], conditionErrors: 0 });
    expect(turn.progress.step).toBe(6);
    expect(turn.progress.fields).toEqual({ tier: 3, purpose: 'billing', lang: 'en', plan: 'gold' });
    expect(turn.progress.sources).toEqual({
      tier: { type: 'number', step: 3, kind: 'set' },
      purpose: { type: 'string', step: 1, kind: 'keywords' },
      lang: { type: 'string', step: 4, kind: 'language', confidence: expect.any(Number) },
      plan: { type: 'string', step: 5, kind: 'contact' },
    });
    expect(turn.trace.map(({ outcome }) => outcome)).toEqual(['done', 'done', 'skipped', 'done', 'done', 'done']);
    expect(turn.trace[5]).toEqual({ position: 5, kind: 'contact', outcome: 'done', reason: 'not known: lifecycle' });
  });

  it('a condition that cannot be decided counts as false and is told', () => {
    const turn = begin(flowOf({ kind: 'set', when: 'fields.absent == 1', field: 'a', value: 1 }));
    expect(turn).toMatchObject({ kind: 'done', conditionErrors: 1, progress: { step: 1, fields: {} } });
    expect(turn.trace).toEqual([
      { position: 0, kind: 'set', outcome: 'skipped', reason: expect.stringContaining('absent') },
    ]);
  });

  it('what cannot be run is left behind, and the flow goes on', () => {
    const turn = begin(
      flowOf(
        { kind: 'newer', field: 'a' },
        { kind: 'keywords', field: 'a' },
        { kind: 'set', when: 'no condition (', field: 'a', value: 1 },
        { kind: 'ask', field: 'a' },
        { kind: 'set', field: 'b', value: 1 },
      ),
    );
    expect(turn).toMatchObject({ kind: 'done', conditionErrors: 1, progress: { step: 5, fields: { b: 1 } } });
    expect(turn.trace.map(({ outcome }) => outcome)).toEqual(['failed', 'failed', 'skipped', 'failed', 'done']);
  });

  it.each([
    ['a value that no field can have', { kind: 'set', field: 'a', value: { deep: 1 } }],
    ['no value', { kind: 'set', field: 'a' }],
    ['no name for its field', { kind: 'set', value: 1 }],
    ['no name for its confidence', { kind: 'language', field: 'a', confidenceField: null }],
    ['no name for its class', { kind: 'classify', labels: [{ label: 'b' }], otherwise: 'b', timeoutMs: 500 }],
    ['no time for an answer', { kind: 'ask', field: 'a', text: 'What?' }],
    ['more time than is kept', { kind: 'ask', field: 'a', text: 'What?', timeoutSeconds: 3e9 }],
    ['no time to settle', { kind: 'ask', field: 'a', text: 'What?', timeoutSeconds: 60, settleSeconds: null }],
    [
      'a choice without a value',
      { kind: 'ask', field: 'a', text: 'What?', choices: [{ label: 'A' }], timeoutSeconds: 9 },
    ],
    ['no kind', { kind: { toString: null }, field: 'a', value: 1 }],
  ])('so is a step with %s, and nothing of it is kept or sent', (_, step) => {
    const turn = begin(flowOf(step));
    expect(turn).toMatchObject({ kind: 'done', messages: [], progress: { ...noProgress, step: 1 } });
    expect(turn.trace).toEqual([
      { position: 0, kind: expect.any(String), outcome: 'failed', reason: expect.any(String) },
    ]);
  });

  it('beyond the last step there is nothing to do', () => {
    const progress = { ...noProgress, step: 99, fields: { a: 1 } };
    const turn = takeTurn(flow, facts, progress, said('hello'));
    expect(turn).toEqual({ kind: 'done', progress, trace: [], messages: [], conditionErrors: 0 });
  });
});

describe('a question', () => {
  const step: AskStep = {
    kind: 'ask',
    field: 'purpose',
    text: 'Hello {{contact.name}}, sales or support?',
    retryText: 'Please: 1 or 2',
    choices: [
      { value: 'sales', label: 'Sales', synonyms: ['buy'] },
      { value: 'support', label: 'Support' },
    ],
    timeoutSeconds: 600,
    settleSeconds: 5,
  };
  const last = { kind: 'set', field: 'end', value: true };
  const flow = flowOf(step, last);
  const choices = [
    { value: 'sales', label: 'Sales' },
    { value: 'support', label: 'Support' },
  ];

  it('is sent, and the flow waits at it', () => {
    const turn = begin(flow);
    expect(turn).toMatchObject({ kind: 'ask', timeoutSeconds: 600, settleSeconds: 5 });
    expect(turn.progress).toEqual({ ...noProgress, questions: 1 });
    expect(turn.messages).toEqual([{ text: 'Hello , sales or support?', choices, question: { step: 0, number: 1 } }]);
    expect(turn.trace).toEqual([{ position: 0, kind: 'ask', outcome: 'asked' }]);
  });

  it('with an answer that fits is over', () => {
    const turn = goOn(flow, begin(flow), said('hm', 'I want to buy'));
    expect(turn).toMatchObject({ kind: 'done', messages: [], progress: { step: 2, questions: 0 } });
    expect(turn.progress.fields).toEqual({ purpose: 'sales', end: true });
    expect(turn.progress.sources['purpose']).toEqual({ type: 'string', step: 0, kind: 'ask' });
    expect(turn.trace.map(({ outcome }) => outcome)).toEqual(['answered', 'done']);
  });

  it('is asked again where none fits, as often as the step says, and then given up', () => {
    const again = goOn(flow, begin(flow), said('what?'));
    expect(again).toMatchObject({ kind: 'ask', progress: { step: 0, questions: 2 } });
    expect(again.messages).toEqual([{ text: 'Please: 1 or 2', choices, question: { step: 0, number: 2 } }]);
    const over = goOn(flow, again, said('what?'));
    expect(over).toMatchObject({ kind: 'done', messages: [], progress: { step: 2, fields: { end: true } } });
    expect(over.trace[0]).toEqual({
      position: 0,
      kind: 'ask',
      outcome: 'gave_up',
      reason: 'the answer does not fit',
    });
  });

  it('is given up at once where no answer comes', () => {
    const turn = goOn(flow, begin(flow), timeout);
    expect(turn.trace[0]).toMatchObject({ outcome: 'gave_up', reason: 'no answer came in time' });
    expect(turn.progress).toMatchObject({ step: 2, gaveUpStep: null, fields: { end: true } });
  });

  it('given up for a value sets the field, and says what there is to say', () => {
    const giveUp = { value: 'unknown', text: 'Somebody will look at it.' };
    const withValue = flowOf({ ...step, giveUp }, { ...step, field: 'second' });
    const turn = goOn(withValue, begin(withValue), timeout);
    expect(turn).toMatchObject({ kind: 'ask', progress: { step: 1, questions: 1, fields: { purpose: 'unknown' } } });
    expect(turn.messages.map(({ text }) => text)).toEqual([giveUp.text, 'Hello , sales or support?']);
  });

  it.each([{ teamId }, { close: true as const }])('given up towards %j ends the enrichment', (giveUp) => {
    const withEnd = flowOf({ ...step, giveUp: { ...giveUp, text: 'Bye' } }, last);
    const turn = goOn(withEnd, begin(withEnd), timeout);
    expect(turn).toMatchObject({ kind: 'done', progress: { gaveUpStep: 0, fields: {} }, messages: [{ text: 'Bye' }] });
    expect(goOn(withEnd, turn, nothing)).toMatchObject({
      kind: 'done',
      progress: turn.progress,
      trace: [],
      messages: [],
    });
  });

  it('that is given up with what no field can have sets nothing', () => {
    const strange = flowOf({ ...step, giveUp: { value: null, text: 'Bye' } }, last);
    const turn = goOn(strange, begin(strange), timeout);
    expect(turn).toMatchObject({ kind: 'done', messages: [{ text: 'Bye' }], progress: { step: 2 } });
    expect(turn.progress.fields).toEqual({ end: true });
    expect(turn.trace.map(({ outcome }) => outcome)).toEqual(['gave_up', 'done']);
  });

  it('that is open and has no time any more is left behind', () => {
    const { timeoutSeconds: _, ...timeless } = step;
    const turn = goOn(flowOf(timeless, last), begin(flow), nothing);
    expect(turn).toMatchObject({ kind: 'done', messages: [], progress: { step: 2, fields: { end: true } } });
  });

  it('that is open and hears nothing goes on waiting, and is not sent twice', () => {
    const open = begin(flow);
    expect(goOn(flow, open, nothing)).toEqual({ ...open, trace: [], messages: [] });
  });

  it('without a text cannot be asked, and is given up', () => {
    const silent = flowOf({ ...step, text: '{{contact.name}}', giveUp: { value: 'sales' } });
    const turn = begin(silent);
    expect(turn).toMatchObject({ kind: 'done', messages: [], progress: { fields: { purpose: 'sales' } } });
    expect(turn.trace).toMatchObject([{ outcome: 'gave_up', reason: 'the question has no text' }]);
  });

  it('counts a test that could not be decided', () => {
    const { choices: _, ...free } = step;
    const tested = flowOf({ ...free, test: 'fields.absent == answer' });
    expect(goOn(tested, begin(tested), said('x'))).toMatchObject({ kind: 'ask', conditionErrors: 1 });
  });
});

describe('a request', () => {
  const http = { kind: 'http', url: 'https://crm.example', timeoutMs: 1000, fields: { tier: '/tier' } };
  const classify = {
    kind: 'classify',
    field: 'topic',
    labels: [{ label: 'a' }, { label: 'b' }],
    otherwise: 'b',
    timeoutMs: 1000,
  };
  const flow = flowOf({ kind: 'set', field: 'first', value: 1 }, http, classify);

  it('stops the turn with what is known so far, and is the same when repeated', () => {
    const turn = begin(flow);
    expect(turn).toMatchObject({ kind: 'request', step: http, progress: { step: 1 }, facts: { fields: { first: 1 } } });
    expect(goOn(flow, turn, nothing)).toEqual({ ...turn, trace: [] });
  });

  it('settled moves on, with what was found and how sure it is', () => {
    const answered = settleRequest(flow, begin(flow).progress, { fields: { tier: 'gold' }, failures: [] });
    expect(answered.trace).toEqual([{ position: 1, kind: 'http', outcome: 'done' }]);
    const labelled = settleRequest(flow, answered.progress, { fields: { topic: 'a' }, confidence: 0.8, failures: [] });
    expect(labelled.progress).toMatchObject({ step: 3, fields: { first: 1, tier: 'gold', topic: 'a' } });
    expect(labelled.progress.sources['topic']).toEqual({ type: 'string', step: 2, kind: 'classify', confidence: 0.8 });
  });

  it('that failed moves on too; a classification gets its otherwise', () => {
    const { progress, trace } = settleRequest(flow, begin(flow).progress, {
      fields: {},
      failures: ['no answer', 'late'],
    });
    expect(trace).toEqual([{ position: 1, kind: 'http', outcome: 'failed', reason: 'no answer; late' }]);
    expect(progress.fields).toEqual({ first: 1 });
    expect(settleRequest(flow, progress, { fields: {}, failures: ['down'] }).progress).toMatchObject({
      step: 3,
      fields: { first: 1, topic: 'b' },
    });
  });

  it('that the flow may not go on without ends it, with what was found before', () => {
    const fields = { a: '/a', tier: '/tier' };
    const strict = flowOf({ kind: 'set', field: 'first', value: 1 }, { ...http, fields, onFailure: 'fallBack' });
    const { progress } = begin(strict);
    const failures = ['crm.example did not tell a', 'x'.repeat(600)];
    const settled = settleRequest(strict, progress, { fields: { tier: 'gold' }, failures });
    const whole = failures.join('; ');
    expect(settled).toEqual({
      kind: 'failed',
      progress,
      trace: [{ position: 1, kind: 'http', outcome: 'failed', reason: whole.slice(0, 500) }],
      reason: `step 2 failed: ${whole}`,
    });
    expect(progress.fields).toEqual({ first: 1 });
    expect(settleRequest(strict, progress, { fields: { a: 1, tier: 'gold' }, failures: [] })).toMatchObject({
      kind: 'settled',
      progress: { step: 2, fields: { first: 1, a: 1, tier: 'gold' } },
    });
  });

  it('whose otherwise is none that a field can have sets nothing', () => {
    const { otherwise: _, ...unsure } = classify;
    expect(settleRequest(flowOf(unsure), noProgress, { fields: {}, failures: [] })).toMatchObject({
      kind: 'settled',
      progress: { ...noProgress, step: 1 },
    });
  });

  it('that is none changes nothing', () => {
    for (const step of [0, 3]) {
      const progress = { ...noProgress, step };
      expect(settleRequest(flow, progress, { fields: { a: 1 }, failures: [] })).toEqual({
        kind: 'settled',
        progress,
        trace: [],
      });
    }
  });
});

/** Of questions too, where it stands for how often one is asked: more than any flow that can be published may say. */
const MAX_JUNK_NUMBER = 7;

const field = fc.constantFrom('a', 'b', 'c');
const text = fc.oneof(
  fc.constantFrom('yes', 'no', '1', '4711', '', ' ', 'where is my parcel?'),
  fc.string({ unit: 'binary', maxLength: 30 }),
);
const value = fc.oneof(fc.constantFrom('yes', 'no', 'maybe'), fc.integer(), fc.boolean());
const confidence = fc.double({ min: 0, max: 1, noNaN: true });
const optional = <Value>(one: fc.Arbitrary<Value>) => fc.option(one, { nil: undefined });
const message = fc.constantFrom('Yes or no?', 'Hello {{contact.name}}', '{{fields.a}}', '{{contact.attributes.x}}!');
// Some true, some false, some that cannot be decided.
const when = optional(
  fc.constantFrom(
    'true',
    'false',
    "fields.a == 'yes'",
    'contact.attributes.vip == true',
    'message.text.size() > 5',
    'fields.a > 3',
    'hours.office.open',
    "!hours.office.open && fields.a != 'no'",
  ),
);

const choiceList = fc
  .uniqueArray(fc.constantFrom('yes', 'no', 'maybe'), { minLength: 1 })
  .map((labels) => labels.map((label) => ({ value: label, label })));
const giveUp = fc
  .tuple(fc.constantFrom('value', 'team', 'close', 'nothing'), value, optional(message))
  .map(([kind, given, said]) => ({
    ...(kind === 'value' ? { value: given } : {}),
    ...(kind === 'team' ? { teamId } : {}),
    ...(kind === 'close' ? { close: true } : {}),
    ...(said === undefined ? {} : { text: said }),
  }));
const askStep = fc
  .record({
    kind: fc.constant('ask'),
    when,
    field,
    text: message,
    retryText: optional(message),
    maxQuestions: optional(fc.integer({ min: 1, max: 5 })),
    timeoutSeconds: fc.constant(60),
    giveUp: optional(giveUp),
  })
  .chain((step) =>
    fc
      .oneof(
        choiceList.map((choices) => ({ choices })),
        fc.record({
          pattern: optional(fc.constantFrom('^[0-9]+$', 'x')),
          test: optional(fc.constantFrom('answer.size() < 4', 'answer == fields.a')),
        }),
      )
      .map((form) => ({ ...step, ...form })),
  );
const step = fc.oneof(
  fc.record({ kind: fc.constant('set'), when, field, value }),
  fc.record({
    kind: fc.constant('keywords'),
    when,
    field,
    rules: fc.array(fc.record({ value, keywords: fc.constant(['parcel']) }), { minLength: 1, maxLength: 2 }),
    otherwise: optional(value),
  }),
  fc.record({
    kind: fc.constant('language'),
    when,
    field,
    confidenceField: optional(fc.constant('d')),
    minConfidence: optional(confidence),
    otherwise: optional(fc.constant('en')),
  }),
  fc.record({
    kind: fc.constant('contact'),
    when,
    fields: fc.dictionary(
      field,
      fc.constantFrom('name', 'lifecycle', 'conversationCount', 'lastCategory', 'attributes/x'),
      { minKeys: 1 },
    ),
  }),
  askStep,
  askStep,
  fc.record({
    kind: fc.constant('http'),
    when,
    url: fc.constant('https://crm.example/x'),
    timeoutMs: fc.constant(500),
    fields: fc.constant({ b: '/b' }),
  }),
  fc.record({
    kind: fc.constant('classify'),
    when,
    field,
    labels: fc.constant([{ label: 'yes' }, { label: 'no' }]),
    otherwise: fc.constant('no'),
    timeoutMs: fc.constant(500),
  }),
);
const spans = optional(
  fc.subarray([
    { from: '00:00', to: '09:30' },
    { from: '11:00', to: '12:00' },
    { from: '12:00', to: '24:00' },
  ]),
);
/** All that conditions name. */
const hours = fc.record({
  office: fc.record({
    timeZone: fc.constantFrom('UTC', 'Europe/Berlin', 'Pacific/Kiritimati', 'America/St_Johns'),
    weekly: fc.record({ monday: spans, tuesday: spans, sunday: spans }),
    holidays: optional(fc.record({ date: fc.constant('2026-01-05'), open: spans }).map((day) => [day])),
  }),
});
const branches = fc.uniqueArray(
  fc.record({ name: fc.constantFrom('One', 'Two', 'Three'), when: when.map((given) => given ?? 'true') }),
  { selector: ({ name }) => name },
);
/** Its first step sets the field that conditions of all others may name, to what one cannot know beforehand. */
const flowDocument = fc
  .record({ steps: fc.array(step, { maxLength: 19 }), hours, branches })
  .map(({ steps, hours: given, branches: some }): FlowDocument => {
    const first = { kind: 'http', url: 'https://crm.example', timeoutMs: 500, fields: { a: '/a' } };
    const { routing, ...flow } = flowOf(first, ...steps);
    const routed = { ...routing, branches: some.map((branch) => ({ ...branch, teamId })) };
    // As it comes from the database: without members that are undefined.
    return JSON.parse(JSON.stringify({ ...flow, hours: given, routing: routed })) as FlowDocument;
  });
const someFacts = fc
  .record({
    name: fc.option(text),
    attributes: fc.dictionary(fc.constantFrom('vip', 'x', 'lifecycle'), fc.jsonValue()),
    text,
    count: optional(fc.nat()),
    // A Monday that is a holiday, the days beside it, and a time that there is on no calendar.
    nowMs: fc.oneof(
      fc.integer({ min: Date.UTC(2026, 0, 4), max: Date.UTC(2026, 0, 7) }),
      fc.constant(Number.MAX_SAFE_INTEGER),
    ),
  })
  .map(({ name, attributes, text: written, count, nowMs }): RoutingFacts => ({
    ...exampleFacts,
    nowMs,
    contact: { id: 'c1', name, attributes },
    message: { text: written },
    ...(count === undefined ? {} : { history: { conversationCount: count, lastAgentId: null, lastCategory: null } }),
  }));
/** What the world says, turn by turn. */
const world = fc.infiniteStream(
  fc.record({
    heard: fc.oneof(
      { weight: 4, arbitrary: fc.array(text, { maxLength: 3 }).map((texts) => said(...texts)) },
      fc.constant(timeout),
    ),
    found: fc.dictionary(field, value, { maxKeys: 2 }),
    confidence: optional(confidence),
    failures: fc.array(fc.constant('down'), { maxLength: 1 }),
  }),
);

/** What may stand in the place of a member that this build knows otherwise; undefined: it is gone. */
const otherwiseWritten = fc.oneof(
  fc.constant(undefined),
  fc.constantFrom(null, true, -1, 0.5, MAX_JUNK_NUMBER, 3e9, '', ' ', '{{', '(', 'x'),
  fc.constantFrom('set', 'keywords', 'language', 'contact', 'ask', 'http', 'classify', 'newer'),
  fc.constantFrom<unknown>([], {}, [null], [{}], ['x'], { a: null }, { a: 1 }, { toString: null }),
);
/** As an older or a newer build might have written it: up to six members of its steps, branches and hours are gone or something else. */
const strangeDocument = fc
  .tuple(flowDocument, fc.array(fc.tuple(fc.nat(), otherwiseWritten), { minLength: 1, maxLength: 6 }))
  .map(([flow, changes]) => {
    const written = structuredClone(flow);
    for (const [place, value] of changes) {
      const members = [...written.enrichment, ...written.routing.branches, written.hours].flatMap(membersOf);
      const [owner, name] = members[place % members.length] ?? [{}, ''];
      if (value === undefined && !Array.isArray(owner)) delete owner[name];
      else owner[name] = structuredClone(value ?? null);
    }
    return written;
  });

type Owner = Record<string, unknown>;

/** Of a JSON value at any depth: each member with what it is a member of. */
function membersOf(json: unknown): [Owner, string][] {
  if (typeof json !== 'object' || json === null) return [];
  return Object.entries(json).flatMap(([name, member]) => [[json as Owner, name], ...membersOf(member)]);
}

/** Every progress between two turns, and the turns, until the flow is done. */
function converse(flow: FlowDocument, given: RoutingFacts, answers: IterableIterator<WorldTurn>) {
  const turns: FlowTurn[] = [];
  let progress: FlowProgress = noProgress;
  let heard: Heard = nothing;
  // More than any flow may need: the test looks at how many it was.
  for (let count = 0; count < 500; count += 1) {
    const turn = takeTurn(flow, given, progress, heard);
    turns.push(turn);
    if (turn.kind === 'done') break;
    const next = answers.next().value as WorldTurn;
    if (turn.kind === 'ask') ({ progress } = turn);
    else {
      const { found: fields, confidence: sure, failures } = next;
      ({ progress } = settleRequest(flow, turn.progress, {
        fields,
        failures,
        ...(sure === undefined ? {} : { confidence: sure }),
      }));
    }
    heard = turn.kind === 'ask' ? next.heard : nothing;
  }
  return turns;
}

type WorldTurn = typeof world extends fc.Arbitrary<fc.Stream<infer Turn>> ? Turn : never;

/** What of a turn nobody could store or send, as the compiler cannot promise it where a document is not what its type says. */
function unusableIn(turn: FlowTurn): unknown[] {
  const { progress, messages, trace } = turn;
  const { step: _, questions: __, gaveUpStep: ___, fields, sources } = progress;
  const times = turn.kind === 'ask' ? [turn.timeoutSeconds, turn.settleSeconds] : [];
  return [
    ...Object.entries(fields).filter(([name, one]) => !isFieldValue(one) || sources[name]?.type !== typeof one),
    ...Object.keys(sources).filter((name) => !Object.hasOwn(fields, name)),
    ...messages.filter(({ text: written }) => typeof written !== 'string' || written.trim() === ''),
    ...messages.flatMap(({ choices = [] }) =>
      choices.filter(({ value: given, label }) => !isFieldValue(given) || typeof label !== 'string'),
    ),
    ...trace.filter(({ kind, reason = '' }) => typeof kind !== 'string' || typeof reason !== 'string'),
    ...times.filter((seconds) => !Number.isInteger(seconds) || seconds < 0 || seconds > 604_800),
  ];
}

const isFieldValue = (one: unknown): boolean => ['string', 'number', 'boolean'].includes(typeof one);

describe('whatever the flow, the contact and the world are', () => {
  const holds = (check: (flow: FlowDocument, turns: readonly FlowTurn[]) => void) =>
    fc.assert(
      fc.property(flowDocument, someFacts, world, (flow, given, answers) =>
        check(flow, converse(flow, given, answers)),
      ),
      { numRuns: 300 },
    );
  const questionsOf = (one: EnrichmentStep | undefined) => (one?.kind === 'ask' ? (one.maxQuestions ?? 2) : 0);

  it('the flows tried are ones that can be published', () => {
    const known = { teamIds: new Set([teamId]), skills: new Set<string>() };
    fc.assert(
      fc.property(flowDocument, (flow) => {
        const result = validateFlow(flow, known);
        expect(result.ok ? [] : result.faults).toEqual([]);
      }),
    );
  });

  it('ends in as many turns as it may ask questions and others', () => {
    holds(({ enrichment }, turns) => {
      const questions = enrichment.reduce((sum, one) => sum + questionsOf(one), 0);
      expect(turns.at(-1)?.kind).toBe('done');
      expect(turns.length).toBeLessThanOrEqual(questions + enrichment.length + 1);
    });
  });

  it('never goes back, never asks too often, and looks at each step once a turn', () => {
    holds(({ enrichment }, turns) => {
      let before = noProgress;
      for (const { progress, trace } of turns) {
        expect(progress.step).toBeGreaterThanOrEqual(before.step);
        expect(progress.step).toBeLessThanOrEqual(enrichment.length);
        expect(progress.questions).toBeLessThanOrEqual(questionsOf(enrichment[progress.step]));
        expect(trace.length).toBeLessThanOrEqual(enrichment.length + 1);
        const positions = trace.map(({ position }) => position);
        expect(positions).toEqual(positions.toSorted((one, other) => one - other));
        before = progress;
      }
    });
  });

  it('every field is of the type and from the step that its source tells', () => {
    holds(({ enrichment }, turns) => {
      for (const { progress } of turns) {
        expect(Object.keys(progress.sources).toSorted()).toEqual(Object.keys(progress.fields).toSorted());
        for (const [name, source] of Object.entries(progress.sources)) {
          expect(typeof progress.fields[name]).toBe(source.type);
          expect(enrichment[source.step]?.kind).toBe(source.kind);
        }
      }
    });
  });

  it('no step breaks, and each message that asks is the last one and has a text', () => {
    holds((_, turns) => {
      for (const { kind, trace, messages, progress } of turns) {
        expect(trace.filter(({ reason }) => reason?.startsWith('the step cannot be run') === true)).toEqual([]);
        expect(messages.filter((one) => one.text.trim() === '')).toEqual([]);
        const { step: at, questions } = progress;
        expect(
          messages.flatMap(({ question }, place) => (question === undefined ? [] : [{ place, question }])),
        ).toEqual(kind === 'ask' ? [{ place: messages.length - 1, question: { step: at, number: questions } }] : []);
      }
    });
  });

  it('a flow that another build wrote ends too, and nothing comes of it that cannot be stored or sent', () => {
    fc.assert(
      fc.property(strangeDocument, someFacts, world, (flow, given, answers) => {
        const turns = converse(flow, given, answers);
        const { length } = flow.enrichment;
        expect(turns.at(-1)?.kind).toBe('done');
        expect(turns.length).toBeLessThanOrEqual(length * (MAX_JUNK_NUMBER + 1) + 1);
        let before = noProgress;
        for (const turn of turns) {
          expect(turn.progress.step).toBeGreaterThanOrEqual(before.step);
          expect(turn.trace.length).toBeLessThanOrEqual(length + 1);
          expect(unusableIn(turn)).toEqual([]);
          // None is called "undefined" or "null" for want of a name.
          const named = JSON.stringify([flow, 'a', 'b', 'c']);
          expect(Object.keys(turn.progress.fields).filter((name) => !named.includes(JSON.stringify(name)))).toEqual([]);
          before = turn.progress;
        }
      }),
      { numRuns: 400 },
    );
  });

  it('the same again gives the same, also from what the database kept', () => {
    fc.assert(
      fc.property(flowDocument, someFacts, world, (flow, given, answers) => {
        const heardTwice = [...answers.take(200)];
        const turns = converse(flow, given, heardTwice.values());
        const copy = JSON.parse(JSON.stringify(flow)) as FlowDocument;
        expect(JSON.parse(JSON.stringify(converse(copy, given, heardTwice.values())))).toEqual(
          JSON.parse(JSON.stringify(turns)),
        );
      }),
    );
  });

  it('no progress and no heard thing make it throw', () => {
    const anyProgress = fc.record({
      step: fc.integer({ min: -1, max: 25 }),
      fields: fc.dictionary(field, value),
      // Whatever they tell of the fields, and of fields that there are not.
      sources: fc.dictionary(
        field,
        fc.record(
          {
            type: fc.constantFrom<FieldSource['type'][]>('string', 'number', 'boolean'),
            step: fc.integer({ min: -1, max: 25 }),
            kind: fc.constantFrom('set', 'ask', 'newer'),
            confidence,
          },
          { requiredKeys: ['type', 'step', 'kind'] },
        ),
      ),
      questions: fc.integer({ min: 0, max: 9 }),
      gaveUpStep: fc.option(fc.nat({ max: 25 })),
    });
    const heardThing = fc.oneof(
      fc.constant(nothing),
      fc.constant(timeout),
      fc.array(text).map((texts) => said(...texts)),
    );
    const anyFlow = fc.oneof(flowDocument, strangeDocument);
    fc.assert(
      fc.property(fc.tuple(anyFlow, someFacts), anyProgress, heardThing, ([flow, given], progress, heard) => {
        const turn = takeTurn(flow, given, progress, heard);
        expect(turn.progress.step).toBeGreaterThanOrEqual(progress.step);
        expect(settleRequest(flow, progress, { fields: {}, failures: ['x'] }).progress.step).toBeGreaterThanOrEqual(
          progress.step,
        );
        // What this turn set is told as it is, whatever was told of it before; the rest is as it was.
        for (const [name, one] of Object.entries(turn.progress.fields)) {
          const source = turn.progress.sources[name];
          const isUntouched = source === progress.sources[name] && one === progress.fields[name];
          expect(isUntouched || source?.type === typeof one).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  });
});
