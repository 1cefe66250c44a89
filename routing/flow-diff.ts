import { escapePointer } from './flow-faults.ts';
import type { FlowDocument } from './flow-schema.ts';
import { isObject } from './json-walk.ts';

/**
 * What differs between two documents, in the order in which a flow runs. Branches are told apart by their names. Of other lists, entries belong
 * together in the order in which most of them are alike, so that an entry put between two others is one change, and not one for each that follows.
 */
export function diffFlows(from: FlowDocument, to: FlowDocument): FlowChange[] {
  return diffValues('', from, to);
}

export interface FlowChange {
  readonly kind: 'added' | 'removed' | 'changed' | 'moved';
  /** JSON pointer into the later document; of what was removed, into the earlier one. */
  readonly path: string;
  /** What was and what is there; of what was moved, where: two JSON pointers. */
  readonly from?: unknown;
  readonly to?: unknown;
}

function diffValues(path: string, from: unknown, to: unknown): FlowChange[] {
  if (Array.isArray(from) && Array.isArray(to)) return diffLists(path, from, to);
  if (isObject(from) && isObject(to)) return diffMembers(path, from, to);
  return canonicalText(from) === canonicalText(to) ? [] : [{ kind: 'changed', path, from, to }];
}

/** What stands first in a flow; PostgreSQL keeps the members of an object in an order of its own. */
const FIRST_MEMBERS = ['trigger', 'hours', 'enrichment', 'routing', 'branches', 'otherwise', 'kind', 'name', 'when'];

function diffMembers(path: string, from: Record<string, unknown>, to: Record<string, unknown>): FlowChange[] {
  const names = [...new Set([...FIRST_MEMBERS, ...Object.keys(to), ...Object.keys(from)])];
  return names.flatMap((name): FlowChange[] => {
    const [before, after] = [ownMember(from, name), ownMember(to, name)];
    if (before === undefined && after === undefined) return [];
    const memberPath = `${path}/${escapePointer(name)}`;
    if (before === undefined) return [{ kind: 'added', path: memberPath, to: after }];
    if (after === undefined) return [{ kind: 'removed', path: memberPath, from: before }];
    return diffValues(memberPath, before, after);
  });
}

const ownMember = (owner: Record<string, unknown>, name: string): unknown =>
  Object.hasOwn(owner, name) ? owner[name] : undefined;

function diffLists(path: string, from: readonly unknown[], to: readonly unknown[]): FlowChange[] {
  const describe = path === '/routing/branches' ? describeBranches : describeItems;
  const [before, after] = [describe(from), describe(to)];
  const stayed = alignItems(before, after);
  const cameFrom = counterparts(before, after, stayed);
  const wentAway = new Set(cameFrom.values());
  const changes: FlowChange[] = [];
  let [left, right] = [0, 0];
  for (const [nextLeft, nextRight] of [...stayed, [from.length, to.length] as const]) {
    for (; left < nextLeft; left++) {
      if (!wentAway.has(left)) changes.push({ kind: 'removed', path: `${path}/${left}`, from: from[left] });
    }
    for (; right < nextRight; right++) {
      const place = `${path}/${right}`;
      const origin = cameFrom.get(right);
      if (origin === undefined) changes.push({ kind: 'added', path: place, to: to[right] });
      else {
        changes.push({ kind: 'moved', path: place, from: `${path}/${origin}`, to: place });
        changes.push(...diffValues(place, from[origin], to[right]));
      }
    }
    if (left < from.length && right < to.length) {
      changes.push(...diffValues(`${path}/${right}`, from[left++], to[right]));
      right++;
    }
  }
  return changes;
}

/** What an entry of a list is known by. */
interface ListItem {
  /** Equal for what is the same. */
  readonly text: string;
  /** Equal for what may be a changed form of the other; null where there is none. */
  readonly sort: string | null;
  /** Equal for what very probably is. */
  readonly key: string | null;
}

/** Names are compared as publishing does, where no two may be equal. */
function describeBranches(branches: readonly unknown[]): ListItem[] {
  const met = new Map<string, number>();
  return branches.map((branch) => {
    const name = isObject(branch) ? branch['name'] : undefined;
    const folded = typeof name === 'string' ? name.trim().toLowerCase() : '';
    const count = met.get(folded) ?? 0;
    met.set(folded, count + 1);
    return { text: `${count} ${folded}`, sort: null, key: null };
  });
}

/** By which a person would say that two entries are one and the same. */
const TELLING_MEMBERS = ['field', 'value', 'label', 'skill', 'skillFromField', 'date', 'afterSeconds', 'from', 'url'];

function describeItems(items: readonly unknown[]): ListItem[] {
  return items.map((item) => {
    const text = canonicalText(item);
    if (!isObject(item)) return { text, sort: null, key: null };
    const told = TELLING_MEMBERS.find((member) => Object.hasOwn(item, member));
    const key = told === undefined ? '' : canonicalText([told, item[told]]);
    return { text, sort: canonicalText(ownMember(item, 'kind')), key };
  });
}

function likeness(one: ListItem, other: ListItem): number {
  if (one.text === other.text) return 8;
  if (one.sort === null || one.sort !== other.sort) return 0;
  return one.key === other.key ? 4 : 1;
}

type Pair = readonly [left: number, right: number];

const MAX_CELLS = 200_000;

/** Pairs in rising order whose likeness is the greatest in sum. Of lists that are too long for that, entries at the same place belong together. */
function alignItems(before: readonly ListItem[], after: readonly ListItem[]): Pair[] {
  const shorter = Math.min(before.length, after.length);
  if (before.length * after.length > MAX_CELLS) return Array.from({ length: shorter }, (_, place) => [place, place]);
  const width = after.length + 1;
  const sums = new Uint32Array((before.length + 1) * width);
  for (let left = before.length - 1; left >= 0; left--) {
    for (let right = after.length - 1; right >= 0; right--) {
      const like = likeness(before[left]!, after[right]!);
      const paired = like === 0 ? 0 : like + sums[(left + 1) * width + right + 1]!;
      sums[left * width + right] = Math.max(paired, sums[(left + 1) * width + right]!, sums[left * width + right + 1]!);
    }
  }
  const pairs: Pair[] = [];
  let [left, right] = [0, 0];
  while (left < before.length && right < after.length) {
    const sum = sums[left * width + right]!;
    const like = likeness(before[left]!, after[right]!);
    if (like > 0 && sum === like + sums[(left + 1) * width + right + 1]!) pairs.push([left++, right++]);
    else if (sum === sums[(left + 1) * width + right]!) left++;
    else right++;
  }
  return pairs;
}

/** Where what stands at another place now stood before, by its place now. */
function counterparts(
  before: readonly ListItem[],
  after: readonly ListItem[],
  stayed: readonly Pair[],
): Map<number, number> {
  const stayedLeft = new Set(stayed.map(([left]) => left));
  const stayedRight = new Set(stayed.map(([, right]) => right));
  const free = new Map<string, number[]>();
  for (const [left, { text }] of before.entries()) {
    if (!stayedLeft.has(left)) free.set(text, [...(free.get(text) ?? []), left]);
  }
  const found = new Map<number, number>();
  for (const [right, { text }] of after.entries()) {
    const left = stayedRight.has(right) ? undefined : free.get(text)?.shift();
    if (left !== undefined) found.set(right, left);
  }
  return found;
}

/** Equal for equal JSON, in whatever order the members of objects stand. */
function canonicalText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalText).join()}]`;
  if (!isObject(value)) return value === undefined ? 'null' : JSON.stringify(value);
  const members = Object.keys(value).filter((name) => value[name] !== undefined);
  return `{${members
    .toSorted()
    .map((name) => `${JSON.stringify(name)}:${canonicalText(value[name])}`)
    .join()}}`;
}
