import type { FieldFault } from './problems.ts';

const MAX_DEPTH = 32;
const MAX_FAULTS = 50;
const MAX_VALUES = 50_000;
// With the u flag, a surrogate matches only where it stands alone.
const UNSTORABLE = /[\u0000\ud800-\udfff]/u;
const ALL_UNSTORABLE = new RegExp(UNSTORABLE, 'gu');

/**
 * Names every text in a body that PostgreSQL would refuse: U+0000 in text, lone surrogates in JSON, in values and in the names
 * of members. Refused at the door, because one such row would fail the whole batch it travels in. Nesting is bounded, so that
 * a hostile body cannot exhaust the stack here or further in; and so is the number of values, because the validation that follows
 * makes an object for each that is wrong, however short the schema's lists are.
 */
export function checkTexts(body: unknown, maxValues = MAX_VALUES): TextCheck {
  if (isStorable(body, 0, { left: maxValues })) return { faults: [], isBounded: true };
  if (countValues(body, maxValues) > maxValues) {
    const message = `holds more than ${maxValues} values`;
    return { faults: [{ field: '', message, mend: 'Send fewer values.' }], isBounded: false };
  }
  const check: TextCheck = { faults: [], isBounded: true };
  collectFaults(body, '', 0, check);
  return check;
}

export interface TextCheck {
  readonly faults: FieldFault[];
  /** False where it is too large or too deep to be looked at any further. */
  isBounded: boolean;
}

/** Whether there is nothing to be named: without building the name of every member this takes a quarter of the time. */
function isStorable(value: unknown, depth: number, values: { left: number }): boolean {
  if ((values.left -= 1) < 0) return false;
  if (typeof value === 'string') return !UNSTORABLE.test(value);
  if (typeof value !== 'object' || value === null) return true;
  if (depth >= MAX_DEPTH) return false;
  if (Array.isArray(value)) return value.every((item) => isStorable(item, depth + 1, values));
  for (const name in value) {
    if (UNSTORABLE.test(name)) return false;
    if (!isStorable((value as Record<string, unknown>)[name], depth + 1, values)) return false;
  }
  return true;
}

/** Stops soon after `limit`. Without recursion, since depth is not bounded yet. */
function countValues(body: unknown, limit: number): number {
  let count = 1;
  const open = [body];
  for (let value = open.pop(); value !== undefined && count <= limit; value = open.pop()) {
    if (typeof value !== 'object' || value === null) continue;
    const members: unknown[] = Array.isArray(value) ? value : Object.values(value);
    count += members.length;
    if (count <= limit) for (const member of members) open.push(member);
  }
  return count;
}

function collectFaults(value: unknown, field: string, depth: number, check: TextCheck): void {
  const { faults } = check;
  if (faults.length >= MAX_FAULTS) return;
  if (typeof value === 'string') {
    if (UNSTORABLE.test(value)) addFault(faults, field);
    return;
  }
  if (typeof value !== 'object' || value === null) return;
  if (depth >= MAX_DEPTH) {
    check.isBounded = false;
    faults.push({ field, message: `is nested deeper than ${MAX_DEPTH} levels`, mend: 'Send a flatter value.' });
    return;
  }
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) collectFaults(item, `${field}/${index}`, depth + 1, check);
    return;
  }
  for (const [name, member] of Object.entries(value)) {
    const memberField = `${field}/${escapePointer(name)}`;
    if (UNSTORABLE.test(name)) collectFaults(name, maskUnstorable(memberField), depth, check);
    else collectFaults(member, memberField, depth + 1, check);
  }
}

function addFault(faults: FieldFault[], field: string): void {
  faults.push({ field, message: 'contains U+0000 or a lone surrogate, which cannot be stored', mend: 'Remove it.' });
}

/** An answer must not hold what it refuses, so a name is told with the culprits replaced. */
export function maskUnstorable(name: string): string {
  return name.replaceAll(ALL_UNSTORABLE, '\ufffd');
}

/** One segment of a JSON pointer (RFC 6901). */
export function escapePointer(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}
