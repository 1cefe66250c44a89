/** Finding words in what contacts write, whatever their script. */

/**
 * The form in which texts are compared with keywords and choices: without case and accents (also Arabic and Hebrew vowel signs), with one blank for
 * any white space, and compatibility forms such as full-width letters made equal. Marks that make another letter in their script, such as
 * Japanese voicing or Indic vowels, stay.
 */
export function foldText(text: string): string {
  // By way of upper case, which makes one of ß and SS and of dotted and dotless i, that lower case alone keeps apart.
  return text
    .normalize('NFKD')
    .replace(ACCENTS, '')
    .toLowerCase()
    .toUpperCase()
    .toLowerCase()
    .normalize('NFKD')
    .replace(ACCENTS, '')
    .replaceAll('ς', 'σ')
    .normalize('NFC')
    .replace(/\s+/gu, ' ')
    .trim();
}

const ACCENTS = /\u0640|[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670]/gu;

/** Whether a text has such words; both folded. */
export type WordSearch = (words: string) => boolean;

/**
 * Searches a folded text for words: where they begin or end with a Latin letter or a digit, no other may stand beside them ("bill" is not in
 * "billing"). Scripts that do not part words by blanks, or join them to others, are found anywhere.
 *
 * Where a word cannot begin, the search goes on at the next place where one can: a text of one letter, repeated, would else be tried at each.
 */
export function searchWords(text: string): WordSearch {
  const ends = latinBefore(text);
  const begins = nextBeginnings(ends);
  return (words) => {
    const boundBefore = LATIN_START.test(words);
    const boundAfter = LATIN_END.test(words);
    for (let at = text.indexOf(words); at !== -1;) {
      const isBegun = !boundBefore || ends[at] === 0;
      if (isBegun && (!boundAfter || !LATIN_START.test(text.slice(at + words.length, at + words.length + 2))))
        return true;
      at = text.indexOf(words, isBegun ? at + 1 : begins[at]!);
    }
    return false;
  };
}

const LATIN_START = /^[\p{Script=Latin}\p{Nd}]/u;
const LATIN_END = /[\p{Script=Latin}\p{Nd}]$/u;

/** By place, its end among them: 1 where what stands before is a Latin letter or a digit. */
function latinBefore(text: string): Uint8Array {
  const ends = new Uint8Array(text.length + 1);
  let at = 0;
  for (const character of text) {
    at += character.length;
    if (LATIN_START.test(character)) ends[at] = 1;
  }
  return ends;
}

/** By place: the next one behind it with nothing of the kind before. */
function nextBeginnings(ends: Uint8Array): Uint32Array {
  const begins = new Uint32Array(ends.length);
  let next = ends.length;
  for (let at = ends.length - 1; at >= 0; at -= 1) {
    begins[at] = next;
    if (ends[at] === 0) next = at;
  }
  return begins;
}
