import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checkTexts } from '../../api/text-check.ts';

test('text with pairs of surrogates, line ends and every script passes', () => {
  expect(checkTexts({ text: 'Grüße 👩‍👩‍👧 \u0001\n\t 你好', list: ['\u{10ffff}'], n: 1, b: null }).faults).toEqual([]);
});

test.each([
  [{ text: 'a\u0000b' }, '/text'],
  [{ contact: { attributes: { note: '\ud800' } } }, '/contact/attributes/note'],
  [{ list: ['fine', '\udc00\ud800'] }, '/list/1'],
  [{ 'a\u0000': 1 }, '/a\ufffd'],
  [{ 'a/b~c': '\u0000' }, '/a~1b~0c'],
  ['\u0000', ''],
])('%j is refused and the field is named', (body, field) => {
  expect(checkTexts(body).faults.map((fault) => fault.field)).toEqual([field]);
});

test('every fault is named, up to a bound', () => {
  const body = { faults: Array.from({ length: 10_000 }, () => '\u0000') };
  const faults = checkTexts(body).faults;
  expect(faults.length).toBe(50);
});

test('nesting that would exhaust the stack is refused', () => {
  const body: unknown = JSON.parse('['.repeat(40_000) + ']'.repeat(40_000));
  expect(checkTexts(body).faults).toEqual([expect.objectContaining({ message: 'is nested deeper than 32 levels' })]);
});

test('no body passes that PostgreSQL would refuse', () => {
  const anyString = fc.string({ unit: 'binary' });
  const halves = fc.array(fc.integer({ min: 0xd7fe, max: 0xe001 })).map((codes) => String.fromCharCode(...codes));
  fc.assert(
    fc.property(fc.oneof(anyString, halves), (text) => {
      const isStorable = text === Buffer.from(text, 'utf8').toString('utf8') && !text.includes('\u0000');
      expect(checkTexts({ deep: [{ text }] }).faults.length).toBe(isStorable ? 0 : 1);
    }),
  );
});

test('a body of more values than the limit is refused as a whole', () => {
  const message = 'holds more than 3 values';
  expect(checkTexts({ a: 1, b: 2 }, 3)).toEqual({ faults: [], isBounded: true });
  expect(checkTexts({ a: [1, 2] }, 3)).toMatchObject({ faults: [{ field: '', message }], isBounded: false });
});
