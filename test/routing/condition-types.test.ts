import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bindFacts,
  compileCondition,
  evaluateBound,
  evaluateCondition,
  type ConditionScope,
  type FieldType,
} from '../../routing/condition.ts';
import { exampleFacts } from './example-facts.ts';

const fields = new Map<string, FieldType>([
  ['purpose', 'string'],
  ['score', 'number'],
  ['vip', 'boolean'],
  ['found', 'any'],
]);
const published: ConditionScope = { for: 'branch', fields, hours: new Set(['office']), team: true };

describe('with the fields and hours of a flow, types are checked', () => {
  it.each([
    ['compares text with a whole number, which are never equal', 'fields.purpose == 1', 15],
    ['compares a number with text', "fields.score != 'high'", 13],
    ['compares text with null, which are never equal; has(…) tells', 'fields.purpose == null', 15],
    ['compares text with a whole number', 'fields.purpose in [1, 2]', 15],
    ['> cannot take text and a whole number', 'fields.purpose > 1', 15],
    ['+ cannot take text and a whole number', "message.text + 1 == 'x'", 13],
    ['- cannot take true or false and a whole number', 'fields.vip - 1 == 0', 11],
    ['% takes whole numbers only', 'fields.score % 2 == 1', 13],
    ['&& takes true or false, not text', 'fields.vip && fields.purpose', 20],
    ['|| takes true or false, not a number', 'fields.score || fields.vip', 6],
    ['! cannot take text', '!fields.purpose', 0],
    ['? : takes true or false, not text', 'fields.purpose ? true : false', 6],
    ['contains() cannot take a number, text', "fields.score.contains('x')", 12],
    ['contains() cannot take text, a whole number', 'message.text.contains(1)', 12],
    ['startsWith() cannot take a whole number', "conversation.priority.startsWith('1')", 21],
    ['matches() cannot take true or false, text', "fields.vip.matches('x')", 10],
    ['size() cannot take a number', 'size(fields.score) == 1', 0],
    ['go through a list or an object, not text', 'fields.purpose.exists(x, true)', 14],
    ['|| takes true or false, not text', "['a'].exists(x, 'a')", 16],
    ['a condition must give true or false', 'fields.purpose', 6],
    ['a condition must give true or false', "fields.vip ? 'yes' : 'no'", 0],
    ['a single value has no member "length"', 'fields.purpose.length == 1', 14],
  ])('%s: %s', (message, source, position) => {
    const faults = faultsOf(source, published);
    expect(faults[0]?.message).toContain(message);
    expect(faults.map((fault) => fault.position)).toEqual([position]);
  });

  it.each([
    "fields.purpose == 'sales' && fields.score + 1 > 2 && !fields.vip",
    'fields.found == 1 || fields.found.contains("x") || fields.found',
    "contact.name == null || contact.name.contains('x')",
    "contact.attributes.plan == 'gold' && contact.attributes['orders'] > 3",
    'fields.score == 1 && conversation.priority >= 2.5 && conversation.priority in [1, 2.5]',
    "'purpose' in fields && has(fields.purpose) && fields['vip']",
    'int(fields.score) % 2 == 1',
    'hours.office.open && team.waiting > 5 * team.onlineAgents',
    "['a', 'b'].filter(x, x != 'a').all(x, x == 'b')",
    "fields.found.exists(x, x == 1) && ['a'].exists(x, message.text.contains(x))",
    'fields.exists(name, fields[name] == 1)',
    '(fields.vip ? fields.purpose : 3) == 3',
    "timestamp('2026-01-01T00:00:00Z').getHours('Europe/Berlin') > 8",
    'type(fields.found) == string',
    "size(message.text) > 3 && message.text.size() > 3 && string(fields.score) == '1'",
  ])('none is at fault in: %s', (source) => {
    expect(faultsOf(source, published)).toEqual([]);
  });

  it('unknown fields and hours are named with what is known', () => {
    const mend = 'Name one of these, or set it by a step before this.';
    expect(faultsOf("fields.purpos == 'a' && has(fields.x) && fields['y'] && hours.ofice.open", published)).toEqual([
      { message: 'fields has no member "purpos"; it has purpose, score, vip, found', position: 6, mend },
      { message: expect.stringContaining('fields has no member "x"'), position: 24, mend },
      { message: expect.stringContaining('fields has no member "y"'), position: 47, mend },
      {
        message: 'hours has no member "ofice"; it has office',
        position: 61,
        mend: 'Name one of these, or add it to hours.',
      },
    ]);
    expect(faultsOf('hours.office.opened', published)[0]?.message).toBe(
      'hours.office has no member "opened"; it has open',
    );
    expect(faultsOf('fields.a', { for: 'step', fields: new Map() })[0]?.message).toContain('it has none');
  });

  it('one fault in an operand brings no second one', () => {
    expect(
      faultsOf("(fields.purpose + 1).contains('x') && foo(1) > 2", published).map(({ message }) => message),
    ).toEqual(['+ cannot take text and a whole number', 'unknown function "foo"']);
  });
});

describe('names are known where they stand for something', () => {
  const hours = new Set<string>();
  it.each<[string, string, ConditionScope]>([
    ['a trigger cannot name fields', 'fields.purpose == 1', { for: 'trigger', hours }],
    ['only in the test of an ask step', "answer == 'x'", { for: 'step', fields }],
    ['only in the test of an ask step', "answer == 'x'", published],
    ['only in the conditions of branches', 'team.waiting > 1', { for: 'step', fields }],
    ['only in the conditions of branches', 'team.waiting > 1', { for: 'answer', fields, team: true }],
    ['this branch does not have', 'team.waiting > 1', { for: 'branch', fields }],
    ['this branch does not have', 'team.waiting > 1', { for: 'branch', fields, team: false }],
    ['team has no member "size"', 'team.size > 1', published],
    ['known are conversation, contact, channel, message, hours', 'foo', { for: 'trigger', hours }],
  ])('%s: %s', (message, source, scope) => {
    expect(faultsOf(source, scope).map((fault) => fault.message)).toEqual([expect.stringContaining(message)]);
  });

  it('answer in the test of an ask step', () => {
    expect(faultsOf("answer.matches('^[0-9]+$') && fields.vip", { for: 'answer', fields })).toEqual([]);
  });

  it('everything in what was published before: what it lacks is an error of the evaluation', () => {
    for (const scope of [undefined, { for: 'trigger' }, { for: 'step' }, { for: 'branch' }] as const) {
      expect(faultsOf('!has(fields.a) || fields.b > 1 || hours.x.open || team.waiting > 1', scope)).toEqual([]);
      expect(faultsOf("message.text > 1 || fields.purpose && answer == 'x'", scope)).toEqual([]);
    }
    expect(evaluate('hours.office.open').error).toBe('field not found: office');
    expect(evaluate('team.waiting > 1').error).toBe('field not found: waiting');
    expect(evaluate("answer == 'x'").error).toBe('unresolved attribute');
    expect(evaluate('team.waiting > 1 || fields.vip').value).toBe(true);
  });
});

describe('the checks hold', () => {
  /** Mostly of the kind that the place asks for, so that many pass, and now and then of another. */
  const { truth: expression } = fc.letrec<Record<'truth' | 'number' | 'text' | 'value' | 'list', string>>((tie) => {
    const of = (kind: 'truth' | 'number' | 'text' | 'list') =>
      fc.oneof({ weight: 12, arbitrary: tie(kind) }, { weight: 1, arbitrary: tie('value') });
    const joined = (left: fc.Arbitrary<string>, signs: readonly string[], right: fc.Arbitrary<string>) =>
      fc.tuple(left, fc.constantFrom(...signs), right).map(([one, sign, other]) => `(${one} ${sign} ${other})`);
    const called = (names: readonly string[], value: fc.Arbitrary<string>) =>
      fc.tuple(fc.constantFrom(...names), value).map(([name, inner]) => `${name}(${inner})`);
    const bounded = { maxDepth: 4 };
    return {
      truth: fc.oneof(
        bounded,
        fc.constantFrom('fields.vip', 'hours.office.open', 'true', 'has(fields.purpose)'),
        joined(of('number'), ['==', '!=', '<', '>='], of('number')),
        joined(of('text'), ['==', '<'], of('text')),
        joined(of('truth'), ['&&', '||', '=='], of('truth')),
        joined(of('text'), ['in'], of('list')),
        called(['!'], of('truth')),
        fc.tuple(of('text'), of('text')).map(([text, part]) => `${text}.contains(${part})`),
        fc.tuple(of('list'), of('truth')).map(([list, test]) => `${list}.exists(x, ${test})`),
      ),
      number: fc.oneof(
        bounded,
        fc.constantFrom('fields.score', 'conversation.priority', 'team.waiting', '1', '2.5'),
        joined(of('number'), ['+', '-', '*', '/', '%'], of('number')),
        called(['size', 'double'], of('text')),
        called(['int', '-'], of('number')),
      ),
      text: fc.oneof(
        bounded,
        fc.constantFrom('fields.purpose', 'message.text', 'channel.key', "'a'"),
        joined(of('text'), ['+'], of('text')),
        called(['string'], of('number')),
        // Both of the same kind: of what may be one or the other, nothing is known.
        of('truth').map((test) => `(${test} ? fields.purpose : 'b')`),
      ),
      list: fc.oneof(
        bounded,
        fc.constant("['a']"),
        fc.tuple(of('text'), of('text')).map(([one, other]) => `[${one}, ${other}]`),
      ),
      value: fc.oneof(bounded, tie('truth'), tie('number'), tie('text'), tie('list'), fc.constant('null')),
    };
  });

  const isTypeError = (error = '') => /overload|mismatch|no boolean|unresolved/.test(error);

  it('what passes them meets no value of a wrong type, where the types of all values are known', () => {
    fc.assert(
      fc.property(expression, (source) => {
        const strict = compileCondition(source, published);
        fc.pre(strict.ok);
        const { error } = evaluateWithAll(source);
        if (isTypeError(error)) expect.fail(`${source}: ${error}`);
      }),
      { numRuns: 3000 },
    );
  });

  it('compiling and evaluating never throw, with and without them', () => {
    fc.assert(
      fc.property(expression, fc.constantFrom(undefined, published), (source, scope) => {
        const result = compileCondition(source, scope);
        if (result.ok) expect(typeof evaluateCondition(result.condition, exampleFacts).value).toBe('boolean');
        else expect(result.faults.every(({ message }) => message !== '')).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  function evaluateWithAll(source: string) {
    const result = compileCondition(source);
    if (!result.ok) throw new Error(JSON.stringify(result.faults));
    const office = { timeZone: 'Europe/London', weekly: {} };
    const team = { waiting: 3, onlineAgents: 1, longestWaitSeconds: 9 };
    return evaluateBound(result.condition, bindFacts(exampleFacts, { hours: { office }, team }));
  }
});

function evaluate(source: string) {
  const result = compileCondition(source);
  if (!result.ok) throw new Error(JSON.stringify(result.faults));
  return evaluateCondition(result.condition, exampleFacts);
}

function faultsOf(source: string, scope: ConditionScope | undefined) {
  const result = compileCondition(source, scope);
  return result.ok ? [] : result.faults;
}
