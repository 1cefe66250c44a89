import fc from 'fast-check';
import { expect, it } from 'vitest';
import { foldText, searchWords } from '../../routing/words.ts';

const isLatin = (character: string | undefined): boolean => /^[\p{Script=Latin}\p{Nd}]$/u.test(character ?? '');

/** By characters, at each place. */
function hasWords(text: string, words: string): boolean {
  const [characters, sought] = [Array.from(text), Array.from(words)];
  return characters.some(
    (_, at) =>
      sought.every((character, place) => characters[at + place] === character) &&
      !(isLatin(sought[0]) && isLatin(characters[at - 1])) &&
      !(isLatin(sought.at(-1)) && isLatin(characters[at + sought.length])),
  );
}

it('finds what a search at each place finds', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', 'A', '1', ' ', '!', 'я', '請', '𝒜', '👍', 'é', '\ud800') });
  fc.assert(
    fc.property(fc.array(text, { maxLength: 8 }), text, (parts, sought) => {
      const [folded, words] = [foldText(parts.join(' ')), foldText(sought)];
      fc.pre(words !== '');
      expect(searchWords(folded)(words)).toBe(hasWords(folded, words));
    }),
    { numRuns: 5_000 },
  );
});

it.each<[what: string, text: string, words: (place: number) => string]>([
  ['a letter that is repeated', 'a'.repeat(4096), (place) => 'a'.repeat((place % 100) + 1)],
  ['a word that is repeated', 'abcdefghij '.repeat(372), (place) => 'abcdefghij '.repeat(9).slice(0, (place % 98) + 2)],
  ['what ends as no word does', 'a'.repeat(4096), (place) => `b${'a'.repeat(place % 100)}`],
])('takes little time for 2,500 keywords, where the text is %s', (_what, text, words) => {
  const keywords = Array.from({ length: 2_500 }, (_, place) => words(place));
  const before = process.cpuUsage();
  const has = searchWords(text);
  for (const keyword of keywords) has(keyword);
  const { user, system } = process.cpuUsage(before);
  expect((user + system) / 1_000).toBeLessThan(6_000);
});
