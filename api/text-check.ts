import type { FieldFault } from './problems.ts';

const MAX_DEPTH = 32;
const MAX_FAULTS = 50;
// With the u flag, a surrogate matches only where it stands alone.
const UNSTORABLE = /[\u0000\ud800-\udfff]/u;
const ALL_UNSTORABLE = new RegExp(UNSTORABLE, 'gu');

/**
 * Names every text in a body that PostgreSQL would refuse: U+0000 in text, lone surrogates in JSON, in values and in the names
 * of members. Refused at the door, because one such row would fail the whole batch it travels in. Nesting is bounded, so that
 * a hostile body cannot exhaust the stack here or further in.
 */
export function findTextFaults(body: unknown): FieldFault[] {
  const faults: FieldFault[] = [];
  collectFaults(body, '', 0, faults);
  return faults;
}

function collectFaults(value: unknown, field: string, depth: number, faults: FieldFault[]): void {
  if (faults.length >= MAX_FAULTS) return;
  if (typeof value === 'string') {
    if (UNSTORABLE.test(value)) addFault(faults, field);
    return;
  }
  if (typeof value !== 'object' || value === null) return;
  if (depth >= MAX_DEPTH) {
    faults.push({ field, message: `is nested deeper than ${MAX_DEPTH} levels` });
    return;
  }
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) collectFaults(item, `${field}/${index}`, depth + 1, faults);
    return;
  }
  for (const [name, member] of Object.entries(value)) {
    const memberField = `${field}/${escapePointer(name)}`;
    // An answer must not hold what it refuses, so the name is told with the culprits replaced.
    if (UNSTORABLE.test(name)) collectFaults(name, memberField.replaceAll(ALL_UNSTORABLE, '\ufffd'), depth, faults);
    else collectFaults(member, memberField, depth + 1, faults);
  }
}

function addFault(faults: FieldFault[], field: string): void {
  faults.push({ field, message: 'contains U+0000 or a lone surrogate, which cannot be stored', mend: 'Remove it.' });
}

/** One segment of a JSON pointer (RFC 6901). */
export function escapePointer(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}
