import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createNameSearch } from '../../routing/nearest-name.ts';

it.each([
  ['spansih', 'spanish'],
  ['Spanish', 'spanish'],
  ['spanisch', 'spanish'],
  ['panish', 'spanish'],
  ['jerman', 'german'],
  ['francais', 'français'],
  ['x', null],
  ['klingon', null],
  ['', null],
])('means for %j the name %j', (asked, meant) => {
  expect(createNameSearch(new Set(['german', 'spanish', 'français']))(asked)).toBe(meant);
});

it('finds the nearest of several, and the same name equal but for case first', () => {
  const search = createNameSearch(new Set(['spanish-b2', 'spanish-b1', 'SPANISH-B3']));
  expect(search('spanish-b3')).toBe('SPANISH-B3');
  expect(search('spanish-b11')).toBe('spanish-b1');
});

it('finds nothing where nothing is known', () => {
  expect(createNameSearch(new Set())('spanish')).toBeNull();
});

it('agrees with the plain count of edits', () => {
  const name = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 14 });
  fc.assert(
    fc.property(name, fc.uniqueArray(name, { maxLength: 6 }), (asked, known) => {
      const limit = Math.min(3, Math.max(1, Math.floor(asked.length / 3)));
      const edits = known.map((one) => countEdits(asked, one));
      const found = createNameSearch(new Set(known))(asked);
      const least = Math.min(...edits);
      expect(found).toBe(least > limit ? null : known[edits.indexOf(least)]);
    }),
    { numRuns: 2000 },
  );
});

function countEdits(from: string, to: string): number {
  const table = Array.from({ length: from.length + 1 }, (_, row) =>
    Array.from({ length: to.length + 1 }, (_, column) => (row === 0 ? column : column === 0 ? row : 0)),
  );
  for (let row = 1; row <= from.length; row++) {
    for (let column = 1; column <= to.length; column++) {
      const replaced = table[row - 1]![column - 1]! + (from[row - 1] === to[column - 1] ? 0 : 1);
      table[row]![column] = Math.min(replaced, table[row - 1]![column]! + 1, table[row]![column - 1]! + 1);
    }
  }
  return table[from.length]![to.length]!;
}
