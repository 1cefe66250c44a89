import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bindFacts,
  compileCondition,
  evaluateBound,
  evaluateCondition,
  readValues,
  withTeam,
} from '../../routing/condition.ts';
import type { RoutingFacts } from '../../routing/facts.ts';
import { exampleFacts } from './example-facts.ts';

function evaluate(source: string, over: Partial<RoutingFacts> = {}) {
  const result = compileCondition(source);
  if (!result.ok) throw new Error(JSON.stringify(result.faults));
  return evaluateCondition(result.condition, { ...exampleFacts, ...over });
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
    ['more than 8 times', `[1]${'.map(x, x + x)'.repeat(9)} == [1]`],
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
      if (result.ok) expect(typeof evaluateCondition(result.condition, exampleFacts).value).toBe('boolean');
      else expect(result.faults.length).toBeGreaterThan(0);
    }),
    { numRuns: 500 },
  );
});

describe('bound facts', () => {
  const office = {
    timeZone: 'Europe/London',
    weekly: { monday: [{ from: '09:00', to: '17:00' }] },
  };
  const evaluateOver = (source: string, bound: ReturnType<typeof bindFacts>) => {
    const result = compileCondition(source);
    if (!result.ok) throw new Error(JSON.stringify(result.faults));
    return evaluateBound(result.condition, bound);
  };

  it('tell whether the business is open', () => {
    const bound = bindFacts(exampleFacts, { hours: { office, never: { timeZone: 'Europe/London', weekly: {} } } });
    expect(evaluateOver('hours.office.open && !hours.never.open', bound)).toEqual({ value: true });
    const late = bindFacts({ ...exampleFacts, nowMs: Date.UTC(2026, 0, 5, 17) }, { hours: { office } });
    expect(evaluateOver('hours.office.open', late)).toEqual({ value: false });
  });

  it('compute business hours only where a condition names them', () => {
    const hours = new Proxy({ office }, { ownKeys: () => expect.fail('hours were read') });
    const bound = withTeam(bindFacts(exampleFacts, { hours }), { waiting: 2, onlineAgents: 1, longestWaitSeconds: 5 });
    expect(evaluateOver('fields.vip && team.waiting == 2', bound)).toEqual({ value: true });
    expect(() => bound['hours']).toThrow('hours were read');
  });

  it('differ between branches by the load of the team only', () => {
    const bound = bindFacts(exampleFacts, { hours: { office } });
    const busy = withTeam(bound, { waiting: 7, onlineAgents: 2, longestWaitSeconds: 61.5 });
    const source = 'team.waiting > 3 * team.onlineAgents && team.longestWaitSeconds > 60 && hours.office.open';
    expect(evaluateOver(source, busy)).toEqual({ value: true });
    expect(evaluateOver(source, withTeam(busy, { waiting: 6, onlineAgents: 2, longestWaitSeconds: 61 })).value).toBe(
      false,
    );
    expect(evaluateOver(source, withTeam(busy, undefined)).error).toBe('field not found: waiting');
    expect(evaluateOver(source, bound).error).toBe('field not found: waiting');
  });

  it('hold the answer of the contact', () => {
    expect(evaluateOver("answer.matches('^[0-9]+$')", bindFacts(exampleFacts, { answer: '4711' })).value).toBe(true);
  });
});

describe('the values that a condition reads', () => {
  const read = (source: string, facts = exampleFacts) => {
    const result = compileCondition(source);
    if (!result.ok) throw new Error(JSON.stringify(result.faults));
    return readValues(result.condition, bindFacts(facts));
  };

  it('are told by the names as they are written, each once', () => {
    expect(
      read(
        "fields.purpose == 'sales' && has(fields.nobody) && contact.attributes.orders > 3 && fields.purpose != '' " +
          "&& contact.attributes['the plan'] == 'x' && conversation.priority > 1 && contact.name == null",
      ),
    ).toEqual({
      'fields.purpose': 'billing',
      'fields.nobody': null,
      'contact.attributes.orders': 4,
      'contact.attributes["the plan"]': null,
      'conversation.priority': 3,
      'contact.name': null,
    });
  });

  it('are told with the whole object where a part of it is not named', () => {
    expect(read("fields[contact.attributes.plan] == 1 && 'purpose' in fields && fields.vip")).toEqual({
      'contact.attributes.plan': 'gold',
      fields: '{"purpose":"billing","score":0.5,"vip":true}',
      'fields.vip': true,
    });
  });

  it('leave out what a loop binds', () => {
    expect(read("['a'].exists(word, message.text.contains(word))")).toEqual({
      'message.text': 'My invoice is wrong 😀',
    });
  });

  it('are bounded', () => {
    const many = Array.from({ length: 30 }, (_, index) => `fields.f${index}`).join(' || ');
    expect(Object.keys(read(many))).toHaveLength(20);
    const long = { ...exampleFacts, message: { text: 'x'.repeat(4000) }, fields: { a: 'y'.repeat(1000), b: 'z' } };
    const values = read("message.text == '' || 'a' in fields", long);
    expect(Object.values(values).map((value) => String(value).length)).toEqual([200, 200]);
  });
});
