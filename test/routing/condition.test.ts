import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileCondition, compileConditionCached, evaluateCondition } from '../../routing/condition.ts';
import type { RoutingFacts } from '../../routing/facts.ts';

const facts: RoutingFacts = {
  conversation: { source: 'contact', priority: 3 },
  contact: {
    id: 'c1',
    name: null,
    attributes: { plan: 'gold', orders: 4, nested: { city: 'Köln' }, constructor: 'x' },
  },
  channel: { key: 'mail', name: 'Mail' },
  message: { text: 'My invoice is wrong 😀' },
  fields: { purpose: 'billing', score: 0.5, vip: true },
};

function evaluate(source: string, over: Partial<RoutingFacts> = {}) {
  const result = compileCondition(source);
  if (!result.ok) throw new Error(JSON.stringify(result.faults));
  return evaluateCondition(result.condition, { ...facts, ...over });
}

function faultsOf(source: string) {
  const result = compileCondition(source);
  return result.ok ? [] : result.faults;
}

describe('a condition is true', () => {
  it.each([
    'true',
    "conversation.source == 'contact'",
    'conversation.priority + 1 == 4',
    'contact.name == null',
    "contact.attributes.plan == 'gold'",
    "contact.attributes['plan'] in ['gold', 'silver']",
    'contact.attributes.orders + 1 > 4',
    '10 / contact.attributes.orders == 2.5',
    "contact.attributes.nested.city == 'Köln'",
    "contact.attributes.constructor == 'x'",
    "channel.key == 'mail' && channel['name'] == 'Mail'",
    "message.text.contains('invoice')",
    "message.text.matches('(?i)INVOICE')",
    "['invoice', 'bill'].exists(word, message.text.contains(word))",
    "['a', 'b'].filter(x, x != 'a').all(x, x == 'b')",
    "has(fields.purpose) && fields.purpose == 'billing'",
    '!has(fields.missing)',
    'fields.missing == 1 || fields.vip',
    'fields.score < 1',
    'type(fields.purpose) == string',
    "'purpose' in fields",
    "fields.purpose == 'billing' ? true : false",
    '// a comment with (((\nfields.vip',
  ])('%s', (source) => {
    expect(evaluate(source)).toEqual({ value: true });
  });
});

describe('a condition that cannot be decided is false and says why', () => {
  it('when a field is missing', () => {
    expect(evaluate("fields.purpose == 'billing'", { fields: {} })).toEqual({
      value: false,
      error: 'field not found: purpose',
    });
    expect(evaluate("fields.purpose != 'billing'", { fields: {} }).value).toBe(false);
  });

  it('when a field is called as something that objects inherit', () => {
    expect(evaluate('fields.toString == 1').error).toBe('field not found: toString');
    expect(evaluate('fields.__proto__ == 1').error).toBe('field not found: __proto__');
  });

  it('when types do not fit', () => {
    expect(evaluate('fields.purpose > 3')).toMatchObject({ value: false, error: expect.stringContaining('overload') });
  });

  it('when the result is no boolean', () => {
    expect(evaluate('fields.purpose')).toEqual({ value: false, error: 'the condition gives no boolean' });
  });
});

describe('faults are found before publishing', () => {
  it('names unknown names with their positions, all of them', () => {
    expect(faultsOf("'😀' == foo && bar.baz == 1")).toEqual([
      { message: expect.stringContaining('unknown name "foo"'), position: 8 },
      { message: expect.stringContaining('unknown name "bar"'), position: 15 },
    ]);
  });

  it.each([
    ['empty', ''],
    ['the condition is empty', '   '],
    ['syntax error', 'fields.a =='],
    ['conversation has no member "sorce"; it has source, priority', "conversation.sorce == 'contact'"],
    ['message has no member "txt"', "has(message.txt) || message['foo'] == 1"],
    ['literal name', 'conversation[fields.a] == 1'],
    ['single value', "conversation.source.foo == 'x'"],
    ['contact has no member', "contact.email == 'x'"],
    ['unknown function "foo"', 'foo(1)'],
    ['unknown function "upper"', "message.text.upper() == 'x'"],
    ['missing closing', "message.text.matches('(')"],
    ['literal string', 'message.text.matches(message.text)'],
    ['unknown type', 'google.protobuf.Value{} == 1'],
    ['true or false', "'yes'"],
    ['true or false', '1 + 2'],
    ['true or false', 'size(message.text)'],
    ['true or false', 'message.text'],
    ['true or false', 'contact'],
    ['true or false', '[true]'],
    ['inside each other', '[1].exists(x, [2].exists(y, x == y))'],
    ['unknown name "x"', '[1].exists(x, x == 1) && x == 1'],
    ['at most 200', Array.from({ length: 80 }, () => 'fields.a == 1').join(' || ')],
    ['deeper', `${'fields.a + '.repeat(70)}1 == 1`],
    ['deeper than 32', `${'('.repeat(33)}true${')'.repeat(33)}`],
    ['deeper than 32', '('.repeat(1000) + ')'.repeat(1000)],
    ['at most 2048', `fields.a == '${'x'.repeat(2048)}'`],
  ])('%s', (message, source) => {
    expect(
      faultsOf(source)
        .map((fault) => fault.message)
        .join('\n'),
    ).toContain(message);
  });

  it.each(['true', 'fields.vip', 'has(contact.name)', 'fields.a ? true : false', '!fields.a'])(
    'is none for what gives true or false, or may: %s',
    (source) => {
      expect(compileCondition(source).ok).toBe(true);
    },
  );

  it('gives the position of a syntax error', () => {
    expect(faultsOf('fields.a $ 1')).toEqual([{ message: expect.stringMatching(/^syntax error: found/), position: 9 }]);
  });

  it('does not count brackets in literals', () => {
    expect(
      faultsOf(`fields.a == '${'('.repeat(40)}' || fields.a == r"\\" || fields.a == "\\"${'['.repeat(40)}"`),
    ).toEqual([]);
  });
});

it('compiling never throws, whatever the source', () => {
  const token = fc.constantFrom(
    'fields',
    '.',
    'a',
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
    "'",
    '"',
    '==',
    '&&',
    '?',
    ':',
    '1',
    '!',
    '-',
    ' ',
    '\\',
    'r',
    ',',
  );
  const source = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(token, { maxLength: 60 }).map((tokens) => tokens.join('')),
  );
  fc.assert(
    fc.property(source, (text) => {
      const result = compileCondition(text);
      if (result.ok) expect(typeof evaluateCondition(result.condition, facts).value).toBe('boolean');
      else expect(result.faults.length).toBeGreaterThan(0);
    }),
    { numRuns: 500 },
  );
});

it('remembers compiled conditions, and not without bound', () => {
  const first = compileConditionCached('fields.cached == 0');
  expect(compileConditionCached('fields.cached == 0')).toBe(first);
  for (let index = 1; index <= 1000; index++) compileConditionCached(`fields.cached == ${index}`);
  expect(compileConditionCached('fields.cached == 0')).not.toBe(first);
});
