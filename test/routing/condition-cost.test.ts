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
  const MAX_CPU_MS = 800;

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
    const result = compileCondition(source);
    if (!result.ok) throw new Error(JSON.stringify(result.faults));
    const bound = bindFacts({ ...worst, message: { text } });
    const before = process.cpuUsage();
    evaluateBound(result.condition, bound);
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000).toBeLessThan(MAX_CPU_MS);
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
  const result = compileCondition(source);
  if (!result.ok) throw new Error(JSON.stringify(result.faults));
  return evaluateCondition(result.condition, { ...exampleFacts, ...over });
}
