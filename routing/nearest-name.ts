import { foldText } from './words.ts';

/**
 * Finds the known name that a person probably meant: equal but for case and accents, or a few letters off. What it costs is bounded whatever is
 * asked: so many names are looked for, among so many known ones; after that it finds none.
 */
export function createNameSearch(known: ReadonlySet<string>): (name: string) => string | null {
  const found = new Map<string, string | null>();
  let folded: [name: string, folded: string][] | undefined;
  return (name) => {
    const before = found.get(name);
    if (before !== undefined) return before;
    if (found.size >= MAX_SEARCHES) return null;
    folded ??= [...known].slice(0, MAX_KNOWN).map((one) => [one, foldText(one)]);
    const nearest = nearestOf(foldText(name), folded);
    found.set(name, nearest);
    return nearest;
  };
}

const MAX_SEARCHES = 10;
const MAX_KNOWN = 5_000;
/** As the distance of a longer name may be larger, but never so large that the names have little in common. */
const MAX_EDITS = 3;

function nearestOf(name: string, known: readonly [name: string, folded: string][]): string | null {
  let limit = Math.min(MAX_EDITS, Math.max(1, Math.floor(name.length / 3)));
  let nearest: string | null = null;
  for (const [candidate, folded] of known) {
    const edits = editsWithin(name, folded, limit);
    if (edits === null) continue;
    nearest = candidate;
    if (edits === 0) break;
    limit = edits - 1;
  }
  return nearest;
}

/** Letters to insert, delete or replace (Levenshtein), or null if more than `limit`; looks only at the diagonal band where it can be less. */
function editsWithin(from: string, to: string, limit: number): number | null {
  if (Math.abs(from.length - to.length) > limit) return null;
  const start = commonStart(from, to);
  const rows = from.length - start;
  const columns = to.length - start;
  const tooMany = limit + 1;
  let above = Array.from({ length: columns + 1 }, (_, column) => Math.min(column, tooMany));
  let edits = new Array<number>(columns + 1).fill(tooMany);
  for (let row = 1; row <= rows; row++) {
    const first = Math.max(1, row - limit);
    const last = Math.min(columns, row + limit);
    edits[first - 1] = first === 1 ? Math.min(row, tooMany) : tooMany;
    let least = edits[first - 1]!;
    for (let column = first; column <= last; column++) {
      const isSame = from[start + row - 1] === to[start + column - 1];
      const fewest = Math.min(
        above[column - 1]! + (isSame ? 0 : 1),
        above[column]! + 1,
        edits[column - 1]! + 1,
        tooMany,
      );
      edits[column] = fewest;
      least = Math.min(least, fewest);
    }
    if (least > limit) return null;
    // The next row's band goes one column further, where this row has not been.
    if (last < columns) edits[last + 1] = tooMany;
    [above, edits] = [edits, above];
  }
  return above[columns]! > limit ? null : above[columns]!;
}

function commonStart(one: string, other: string): number {
  let length = 0;
  while (length < one.length && length < other.length && one[length] === other[length]) length++;
  return length;
}
