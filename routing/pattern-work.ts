/**
 * What compiling a pattern (RE2) costs, from its source alone: the compiler unfolds counted repetitions and builds large classes before it could tell
 * how large they become. Never much below what it comes to; above it where the compiler finds something in common.
 */
export function workToCompile(source: string): PatternWork {
  const groups: Group[] = [{ size: 0, last: 0, folds: false, captures: false }];
  let classes = 0;
  for (const { 0: token, groups: named = {} } of source.matchAll(TOKEN)) {
    const group = groups.at(-1)!;
    const { least, most, flags, quoted } = named;
    if (least !== undefined) repeat(group, Number(least), most);
    else if (flags !== undefined) {
      const folds = foldsAfter(flags, group.folds);
      if (token.endsWith(':')) groups.push({ size: 0, last: 0, folds, captures: false });
      // A repetition that comes after `(?i)` repeats what stands before it.
      else group.folds = folds;
    } else if (token.startsWith('(')) groups.push({ size: 0, last: 0, folds: group.folds, captures: true });
    else if (token === ')') close(groups);
    else if (quoted !== undefined) add(group, quoted.length, quoted === '' ? group.last : 1);
    else if ('*+?|'.includes(token)) repeatOrChoose(group, token);
    else {
      add(group, 1, 1);
      classes += classWork(token, group.folds);
    }
  }
  // Brackets that are not closed are no pattern, but are counted until the compiler says so.
  return { size: groups.reduce((sum, { size }) => sum + size, 2), classes: Math.ceil(classes) };
}

export interface PatternWork {
  /** How many parts it unfolds to. Each takes about two microseconds and 200 bytes. */
  readonly size: number;
  /** What its character classes take besides, in the same unit. */
  readonly classes: number;
}

interface Group {
  /** Of all that stands in it so far, and of what a repetition would repeat. */
  size: number;
  last: number;
  /** Whether letters stand for both cases here. */
  folds: boolean;
  readonly captures: boolean;
}

/** Each alternative matches without going back: what is not closed reaches to the end. */
const TOKEN = new RegExp(
  [
    String.raw`\\Q(?<quoted>[^]*?)(?:\\E|$)`,
    String.raw`\\[pP](?:\{[^}]*\}?|[^])|\\x\{[^}]*\}?|\\[^]`,
    String.raw`\[\^?\]?(?:\[:\^?[a-z]+:\]|\\[^]|[^\]\\])*(?:\]|$)`,
    String.raw`\{(?<least>0|[1-9]\d*)(?<most>,(?:0|[1-9]\d*)?)?\}`,
    String.raw`\(\?P?<[^>]*>?|\(\?(?<flags>[a-zA-Z-]*)[:)]|[^]`,
  ].join('|'),
  'gu',
);

function add(group: Group, size: number, last: number): void {
  group.size += size;
  group.last = last;
}

/** `x{2,5}` becomes `xx(x(xx?)?)?`, and `x{2,}` becomes `xx+`. */
function repeat(group: Group, least: number, most: string | undefined): void {
  const times = Math.max(1, least, Number(most?.slice(1) ?? 0));
  const repeated = (group.last + (most === undefined ? 0 : 1)) * times;
  add(group, repeated - group.last, repeated);
}

/** A star takes two parts where what it repeats may be empty, as does an alternative that is empty itself. */
function repeatOrChoose(group: Group, sign: string): void {
  const parts = sign === '*' || sign === '|' ? 2 : 1;
  add(group, parts, group.last + parts);
}

function close(groups: Group[]): void {
  const { size, captures } = groups.length > 1 ? groups.pop()! : { size: 0, captures: false };
  // At least one part, also where there is nothing in it.
  const closed = Math.max(1, size) + (captures ? 2 : 0);
  add(groups.at(-1)!, closed, closed);
}

function foldsAfter(flags: string, before: boolean): boolean {
  const [on = '', off = ''] = flags.split('-');
  return off.includes('i') ? false : on.includes('i') || before;
}

/** Looking up `\pL` takes some 300 microseconds with `(?i)`, and `\w` 20. */
const UNICODE_CLASS_WORK = 200;
const FOLDED_CLASS_WORK = 12;
/** A quarter of a microsecond for each character of a range that is folded, one by one. */
const FOLDED_CHAR_WORK = 1 / 4;
/** The characters between which there are others of another case. */
const [MIN_FOLDED, MAX_FOLDED] = [0x41, 0x1e943];

function classWork(token: string, folds: boolean): number {
  if (!token.startsWith('[')) return namedClassWork(token, folds);
  let work = 0;
  for (const { 0: item, groups: { low, high } = {} } of token.matchAll(CLASS_ITEM)) {
    work += 2 + namedClassWork(item, folds);
    if (!folds || low === undefined || high === undefined) continue;
    const [from, to] = [Math.max(codeOf(low), MIN_FOLDED), Math.min(codeOf(high), MAX_FOLDED)];
    work += Math.max(0, to - from) * FOLDED_CHAR_WORK;
  }
  return work;
}

function namedClassWork(token: string, folds: boolean): number {
  if (/^\\[pP]/.test(token)) return UNICODE_CLASS_WORK;
  return folds && /^\\[dDsSwW]|^\[:/.test(token) ? FOLDED_CLASS_WORK : 0;
}

const CLASS_CHAR = String.raw`\\x\{[0-9a-fA-F]*\}|\\x[0-9a-fA-F]{2}|\\[0-7]{1,3}|\\?[^]`;
const CLASS_ITEM = new RegExp(
  [
    String.raw`^\[\^?|\]$|\[:\^?[a-z]+:\]|\\[pP](?:\{[^}]*\}?|[^])|\\[dDsSwW]`,
    String.raw`(?<low>${CLASS_CHAR})(?:-(?!\]$)(?<high>${CLASS_CHAR}))?`,
  ].join('|'),
  'gu',
);

function codeOf(char: string): number {
  const hex = /^\\x\{?([0-9a-fA-F]*)/.exec(char);
  if (hex !== null) return Number.parseInt(hex[1] || '0', 16);
  if (/^\\[0-7]/.test(char)) return Number.parseInt(char.slice(1), 8);
  return char.codePointAt(char.length > 1 && char.startsWith('\\') ? 1 : 0) ?? 0;
}
