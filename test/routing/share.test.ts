import fc from 'fast-check';
import { expect, it } from 'vitest';
import { shareOf } from '../../routing/share.ts';

const contacts = Array.from({ length: 20_000 }, (_, index) => {
  const hex = index.toString(16).padStart(12, '0');
  // As ids are made: by time, so that neighbours differ in a few digits only.
  return `0199b1f0-${hex.slice(4, 8)}-7000-8000-0000${hex.slice(4)}`;
});

it('is the same for the same contact and salt, and from 0 to 99', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (contactId, salt) => {
      const share = shareOf(contactId, salt);
      expect(shareOf(contactId, salt)).toBe(share);
      expect(Number.isInteger(share) && share >= 0 && share <= 99).toBe(true);
    }),
  );
});

it('stays what it was: a contact keeps its team over a new release', () => {
  expect(contacts.slice(0, 6).map((id) => shareOf(id, 'flow/branch'))).toEqual([9, 6, 70, 10, 0, 40]);
});

it.each(['', 'a', 'flow/branch', '0199b1f0-0000-7000-8000-000000000000/Sales'])(
  'is spread evenly with salt "%s"',
  (salt) => {
    const counts = countsOf(
      contacts.map((id) => shareOf(id, salt)),
      100,
    );
    expect(chiSquare(counts)).toBeLessThan(CHI_SQUARE_99_DEGREES);
  },
);

it('is spread anew by another salt', () => {
  const pairs = contacts.map((id) => Math.floor(shareOf(id, 'one') / 10) * 10 + Math.floor(shareOf(id, 'other') / 10));
  expect(chiSquare(countsOf(pairs, 100))).toBeLessThan(CHI_SQUARE_99_DEGREES);
  // Salt and id are not simply written one after the other.
  const same = contacts.filter((id) => shareOf(id, 'ab') === shareOf(`b${id}`, 'a'));
  expect(same.length).toBeLessThan(300);
});

/** Which a fair split exceeds once in a million. */
const CHI_SQUARE_99_DEGREES = 182;

function countsOf(values: readonly number[], kinds: number): number[] {
  const counts = new Array<number>(kinds).fill(0);
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

function chiSquare(counts: readonly number[]): number {
  const expected = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}
