import { RE2JS } from '@bufbuild/re2';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bindFacts,
  compileCondition,
  evaluateBound,
  compilePattern,
  evaluateCondition,
  faultOfPattern,
} from '../../routing/condition.ts';
import type { RoutingFacts } from '../../routing/facts.ts';
import { validateFlow } from '../../routing/flow-document.ts';
import { workToCompile } from '../../routing/pattern-work.ts';
import { exampleFacts } from './example-facts.ts';

describe('what a condition may cost is bounded', () => {
  // Every character another one, as those are what the matcher has not seen yet.
  const strange = String.fromCharCode(
    ...Array.from({ length: 4096 }, (_, index) => 0x3000 + ((index * 7919) % 20_000)),
  );
  // What a search by skipping is slowest with.
  const slowToFind = `${'a'.repeat(512)}b${'a'.repeat(511)}`;
  const attributes = Object.fromEntries(
    Array.from({ length: 50 }, (_, index) => [`a${index}`, index % 2 === 0 ? strange.slice(0, 1024) : slowToFind]),
  );
  const worst: RoutingFacts = {
    ...exampleFacts,
    contact: { ...exampleFacts.contact, attributes },
    message: { text: strange },
    fields: attributes,
  };
  /** As many parts as the bounds allow. */
  const filled = (start: string, part: string, end: string) => {
    let count = Math.floor((2048 - start.length - end.length) / part.length);
    while (!compileCondition(start + part.repeat(count) + end).ok) count--;
    return start + part.repeat(count) + end;
  };

  // On a busy machine the worst take some 200; without the allowance of work, minutes.
  const MAX_CPU_MS = 4_000;

  it.each<[name: string, source: string, text?: string]>([
    ['patterns', filled("message.text.matches('x')", " || message.text.matches('([ab]?){30}[xy]')", '')],
    ['one large pattern', "message.text.matches('([ab]?){35}[xy]')"],
    [
      'patterns in a loop',
      filled('contact.attributes.exists(k, false', " || fields[k].matches('([ab]?){9}[xy]')", ')'),
    ],
    [
      'contains',
      filled(
        'contact.attributes.exists(k, false',
        ' || fields.a0.contains(fields[k] + k) || contact.id.contains(fields[k])',
        ')',
      ),
    ],
    [
      'contains on one letter',
      filled('contact.attributes.exists(k, false', ' || message.text.contains(fields[k])', ')'),
      'a'.repeat(4096),
    ],
    ['size', filled('contact.attributes.exists(k, false', ' || size(message.text) < 1', ')')],
    ['texts that double', `[message.text]${'.map(x, x + x + x + x)'.repeat(6)}.exists(x, x.contains('y'))`],
    ['lists that double', `[[1]]${'.map(x, x + x + x + x)'.repeat(6)}[0].exists(x, x == 2)`],
    ['lists of lists', `[1]${'.map(x, [x, x, x])'.repeat(4)} == [1]${'.map(x, [x, x, x])'.repeat(4)}`],
    [
      'times in a zone',
      filled(
        'contact.attributes.exists(k, false',
        " || timestamp('2026-01-01T00:00:00Z').getHours('Asia/Kolkata') < 0",
        ')',
      ),
    ],
    ['bytes', filled('contact.attributes.exists(k, false', ' || size(bytes(message.text)) < 1', ')')],
  ])('by %s', (_name, source, text = strange) => {
    const condition = compile(source);
    const facts = { ...worst, message: { text } };
    expect(cpuMsOf(() => evaluateBound(condition, bindFacts(facts)))).toBeLessThan(MAX_CPU_MS);
  });

  // A contact gathers attributes over its messages without end.
  it.each<[name: string, source: string]>([
    ['a long loop', filled("contact.attributes.all(x, x != '1'", " && x != '2'", ')')],
    ['several loops', filled('false', " || contact.attributes.exists(x, x == '1')", '')],
    ['errors', filled('contact.attributes.exists(x, fields.none', ' || fields.none', ')')],
    [
      'comparing all',
      filled('contact.attributes.exists(x, false', ' || contact.attributes != contact.attributes', ')'),
    ],
    ['names that are numbers', filled('contact.attributes.exists(x, false', ' || 7 in contact.attributes', ')')],
    ['times', filled('contact.attributes.exists(x, false', ' || timestamp(x) == timestamp(x)', ')')],
    ['a list in an attribute', filled('contact.attributes.list.all(x, x == 1', ' && x == 1', ')')],
  ])('by %s over any number of attributes', (_name, source) => {
    const condition = compile(source);
    for (const count of [600, 3000, 45_000]) {
      const numbered = Object.fromEntries(Array.from({ length: count }, (_, index) => [`a${index}`, index]));
      const list = Array.from({ length: count }, () => 1);
      const facts = { ...exampleFacts, contact: { ...exampleFacts.contact, attributes: { ...numbered, list } } };
      expect(cpuMsOf(() => evaluateBound(condition, bindFacts(facts)))).toBeLessThan(MAX_CPU_MS);
    }
  });

  it('finding attributes by name costs the same however many there are', () => {
    const attributes = { ...Object.fromEntries(Array.from({ length: 45_000 }, (_, index) => [`a${index}`, index])) };
    const facts = { ...exampleFacts, contact: { ...exampleFacts.contact, attributes } };
    const condition = compile(
      "contact.attributes.a44999 == 44999 && !has(contact.attributes.b) && 'a7' in contact.attributes",
    );
    expect(evaluateCondition(condition, facts)).toEqual({ value: true });
    // Copied, they took 10 ms each time.
    const many = cpuMsOf(() => {
      for (let times = 0; times < 100; times++) evaluateCondition(condition, facts);
    });
    expect(many).toBeLessThan(600);
  });

  it('those that one message may bring are free, and a short loop may go through thousands', () => {
    const attributesOf = (count: number) => ({
      contact: {
        ...exampleFacts.contact,
        attributes: Object.fromEntries(Array.from({ length: count }, (_, index) => [`a${index}`, index])),
      },
    });
    const loops = filled('false', " || contact.attributes.exists(x, x == '1')", '');
    expect(evaluate(loops, attributesOf(50))).toEqual({ value: false });
    expect(evaluate("contact.attributes.exists(x, x == 'a2999')", attributesOf(3000))).toEqual({ value: true });
  });

  it('what takes too much is false and says so', () => {
    expect(evaluate("message.text.matches('([ab]?){240}[xy]')", { message: { text: strange } })).toEqual({
      value: false,
      error: 'the condition takes too much work for these texts',
    });
  });

  it('a long text and a list of words are not too much', () => {
    const words = '(?i)(invoice|bill|payment|refund|credit note|rechnung|mahnung|gutschrift|facture|avoir)';
    expect(
      evaluate(`message.text.matches('${words}') || message.text.matches('[A-Z]{2}-[0-9]{6}')`, {
        message: { text: `${'word '.repeat(800)} XY-123456` },
      }),
    ).toEqual({ value: true });
  });
});

describe('compiling patterns', () => {
  // What it unfolds to was found out by unfolding it, in seconds.
  it.each<[name: string, source: string, fault: string]>([
    ['repeats a long text', `(?:${'a'.repeat(1990)}){1000}`, 'at most 1000 are allowed'],
    ['repeats a long text after a flag', `(?:${'a'.repeat(1990)})(?i){1000}`, 'at most 1000 are allowed'],
    ['repeats a long text after an empty quote', `(?:${'a'.repeat(1990)})\\Q\\E{1000}`, 'at most 1000 are allowed'],
    ['repeats what follows a quoted bracket', `\\Q[\\E(?:${'a'.repeat(1970)}){1000}]`, 'at most 1000 are allowed'],
    ['has many Unicode classes', `(?i)(?:${'\\pL'.repeat(600)})`, 'too many Unicode classes'],
    ['has many Unicode classes in one', `[${'\\pL'.repeat(600)}]`, 'too many Unicode classes'],
    ['folds wide ranges', `(?i)[${'B-\u{1e942}'.repeat(500)}]`, 'too wide ranges'],
    ['folds wide ranges in a group', `a(?i:[${'\\x{42}-\\x{1e942}'.repeat(100)}])`, 'too wide ranges'],
  ])('is refused before it is begun where one %s', (_name, source, fault) => {
    expect(cpuMsOf(() => expect(faultOfPattern(source)).toContain(fault))).toBeLessThan(50);
  });

  it.each([
    '(?i)(invoice|bill|payment|refund|credit note|rechnung|mahnung|gutschrift|facture|avoir){1,3}',
    '[\\p{L} .-]{2,50}',
    '(?i:order)|[\\x{4e00}-\\x{9fff}]+',
    '(?:[A-Z]{2}-[0-9]{6}[, ]*){1,40}',
    '(?i)[a-zà-ÿ]{0,300}',
  ])('takes %s', (source) => {
    expect(faultOfPattern(source)).toBeNull();
  });

  it('is foreseen from the source, and never much too low', () => {
    const atoms = [
      'a',
      '😀',
      '.',
      '$',
      '\\b',
      '\\pL',
      '\\x{1f600}',
      '\\101',
      '\\{',
      '{',
      '\\Qa(b\\E',
      '\\Q\\E',
      '\\Q[{3}',
      '[]a]',
    ];
    const classes = [
      '[^]-a]',
      '[[:alpha:]x]',
      '[\\]a]',
      '[\\pL\\d]',
      '[a-]',
      '[[:]',
      '[(]',
      '(?i)',
      '(?-i)',
      '()',
      '(?:)',
      '|',
      ']',
    ];
    const signs = ['', '', '*', '+', '?', '*?', '{3}', '{0,4}', '{2,}', '{30}', '{0}', '{10}?', '{x', '{,3}', '{03}'];
    const { pattern } = fc.letrec<{ pattern: string }>((tie) => ({
      pattern: fc
        .array(
          fc.oneof(
            { depthSize: 'small' },
            fc.tuple(fc.constantFrom(...atoms, ...classes), fc.constantFrom(...signs)).map((parts) => parts.join('')),
            fc
              .tuple(fc.constantFrom('(', '(?:', '(?i:', '(?P<n>', '(?<m>'), tie('pattern'), fc.constantFrom(...signs))
              .map(([open, inner, sign]) => `${open}${inner})${sign}`),
          ),
          { maxLength: 5 },
        )
        .map((parts) => parts.join('')),
    }));
    let compiled = 0;
    fc.assert(
      fc.property(pattern, (source) => {
        const { size } = workToCompile(source);
        // What is estimated to be large takes long to compile, and may be smaller.
        if (size > 20_000) return;
        const parts = partsOf(source);
        if (parts === null) return;
        compiled++;
        expect(parts, source).toBeLessThanOrEqual(1.5 * size);
      }),
      { numRuns: 3000 },
    );
    expect(compiled).toBeGreaterThan(500);
  });

  it('is bounded for a whole document', () => {
    const teamId = '0199b1f0-0000-7000-8000-000000000000';
    // The patterns are all different, each as large as one may be.
    const condition = (index: number) =>
      `message.text.matches('${'()'.repeat(329)}${index}') || message.text.matches('a{995}${index}')`;
    const branches = Array.from({ length: 50 }, (_, index) => ({ name: `b${index}`, when: condition(index), teamId }));
    const enrichment = Array.from({ length: 20 }, (_, index) => ({
      ...{ kind: 'ask', field: `f${index}`, text: '?', timeoutSeconds: 60, pattern: `a{995}${index}` },
      ...{ when: condition(100 + index), test: condition(200 + index) },
    }));
    const document = { enrichment, routing: { branches, otherwise: { teamId } } };
    const known = { teamIds: new Set([teamId]), skills: new Set<string>() };
    const result = validateFlow(document, known);
    const faults = result.ok ? [] : result.faults;
    expect(new Set(faults.map(({ message }) => message.replace(/ \(at .*/, '')))).toEqual(
      new Set(['the patterns are too large all together']),
    );
    const smaller = { ...document, routing: { branches: branches.slice(0, 5), otherwise: { teamId } }, enrichment: [] };
    expect(validateFlow(smaller, known).ok).toBe(true);
    // Counted anew for each document.
    expect(validateFlow(smaller, known).ok).toBe(true);
  });
});

describe('patterns', () => {
  it('are found anywhere in the text', () => {
    const pattern = compilePattern('(?i)order [0-9]+');
    expect(pattern.ok && pattern.test('my ORDER 66, please')).toBe(true);
    expect(pattern.ok && pattern.test('my order')).toBe(false);
  });

  it('stay usable after long texts, of which nothing is remembered', () => {
    const pattern = compilePattern('[ab]*a[ab]{5}[cd]');
    if (!pattern.ok) throw new Error(pattern.fault);
    for (let index = 0; index < 5; index++) {
      expect(pattern.test('ab'.repeat(2000))).toBe(false);
      expect(pattern.test(`${'ab'.repeat(1000)}c`)).toBe(true);
    }
  });

  it.each([
    ['missing closing', '('],
    ['unsupported perl syntax', '(?=x)'],
    ['at most 1000', '(\\pL?){900}'],
    ['at most 1000', '((a?){30}){30}'],
    ['at most 2048', 'x'.repeat(2049)],
  ])('%s: %s', (message, source) => {
    expect(faultOfPattern(source)?.toLowerCase()).toContain(message);
  });
});

function evaluate(source: string, over: Partial<RoutingFacts> = {}) {
  return evaluateCondition(compile(source), { ...exampleFacts, ...over });
}

function compile(source: string) {
  const result = compileCondition(source);
  if (!result.ok) throw new Error(JSON.stringify(result.faults));
  return result.condition;
}

function cpuMsOf(run: () => unknown): number {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

function partsOf(source: string): number | null {
  try {
    return RE2JS.compile(source).re2().prog.numInst();
  } catch {
    return null;
  }
}
