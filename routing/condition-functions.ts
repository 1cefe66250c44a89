import {
  celEnv,
  celFunc,
  celListConcat,
  celMethod,
  CelScalar,
  isCelError,
  listType,
  type CelFunc,
  type CelInput,
  type CelResult,
  type CelValue,
} from '@bufbuild/cel';
import { MAX_PATTERN_WORK, type Pattern } from './pattern.ts';

/**
 * Runs a planned condition with an allowance of work. The shape of a condition bounds how often a function is called, but not what a call costs:
 * those whose cost grows with what they are given take it from the allowance, and fail once it is used up, as does what goes through the facts.
 */
export function runBounded(planned: PlannedCondition, bindings: Bindings): CelResult {
  workLeft = MAX_PATTERN_WORK;
  run = planned;
  const { stackTraceLimit } = EngineError;
  // A condition may come to thousands of errors, of which only the message is told: with the stack each would take five times as long.
  EngineError.stackTraceLimit = 0;
  try {
    return planned.program(bindings);
  } finally {
    EngineError.stackTraceLimit = stackTraceLimit;
    workLeft = Infinity;
    run = null;
  }
}

/** V8's, which the language does not know. */
const EngineError = Error as typeof Error & { stackTraceLimit: number };

export interface PlannedCondition {
  readonly program: Program;
  readonly patterns: ReadonlyMap<string, Pattern>;
  /** How many of its parts stand in loops. */
  readonly loopNodes: number;
}

/** Takes from the allowance what going through that many members of the facts costs at the most, which may be in a loop. */
export function spendOnMembers(count: number): void {
  if (count > FREE_MEMBERS) spend(count * (1 + (run?.loopNodes ?? 0)) * WORK_PER_NODE);
}

export type Program = (bindings: Bindings) => CelResult;
export type Bindings = Record<string, CelInput>;

// Evaluating is synchronous, and no condition is evaluated inside another: what belongs to a run can stand here, where the functions find it.
let workLeft = Infinity;
let run: PlannedCondition | null = null;

/** What one message may bring: with these, the shape of a condition alone is bound enough. */
const FREE_MEMBERS = 50;
/** Most take less, errors ten times as much. */
const WORK_PER_NODE = 4;

/** In the unit of `MAX_PATTERN_WORK`. */
function spend(work: number): void {
  workLeft -= work;
  if (workLeft < 0) throw new Error('the condition takes too much work for these texts');
}

const { BOOL, BYTES, DOUBLE, DYN, INT, STRING } = CelScalar;
const LIST = listType(DYN);

const MAX_TEXT_CHARS = 65_536;
const MAX_LIST_ITEMS = 1000;
/** Finding out the local time in a zone. */
const ZONE_WORK = 500;

/**
 * JSON has one kind of number, which CEL reads as a double, and CEL knows no arithmetic between doubles and whole numbers: without these,
 * `fields.orders + 1 > 3` would be an error.
 */
const MIXED_ARITHMETIC: CelFunc[] = (
  [
    ['_+_', (left, right) => left + right],
    ['_-_', (left, right) => left - right],
    ['_*_', (left, right) => left * right],
    ['_/_', (left, right) => left / right],
  ] satisfies [string, (left: number, right: number) => number][]
).flatMap(([name, compute]) => [
  celFunc(name, [DOUBLE, INT], DOUBLE, (left, right) => compute(left, Number(right))),
  celFunc(name, [INT, DOUBLE], DOUBLE, (left, right) => compute(Number(left), right)),
]);

/** They replace the library's own, which have no bound; `matches` there compiles its pattern anew each time. */
const BOUNDED_TEXT: CelFunc[] = [
  celMethod('matches', STRING, [STRING], BOOL, function (source) {
    const pattern = run?.patterns.get(source);
    if (pattern === undefined) throw new Error('the pattern of matches() must be a literal string');
    spend(pattern.workOf(this));
    return pattern.test(this);
  }),
  celMethod('contains', STRING, [STRING], BOOL, function (part) {
    spend(1 + (this.length * Math.min(part.length, this.length)) / 500);
    return this.includes(part);
  }),
  celFunc('size', [STRING], INT, countChars),
  celMethod('size', STRING, [], INT, function () {
    return countChars(this);
  }),
  celFunc('_+_', [STRING, STRING], STRING, (left, right) => {
    const chars = left.length + right.length;
    if (chars > MAX_TEXT_CHARS) throw new Error(`a text becomes longer than ${MAX_TEXT_CHARS} characters`);
    spend(1 + chars / 500);
    return left + right;
  }),
  celFunc('_+_', [LIST, LIST], LIST, (left, right) => {
    const items = left.size + right.size;
    if (items > MAX_LIST_ITEMS) throw new Error(`a list becomes longer than ${MAX_LIST_ITEMS}`);
    return celListConcat(left, right);
  }),
];

const LIBRARY = celEnv().funcs;

/** What a time is in some zone, and the bytes of a text: as in the library, but for the work. */
const BOUNDED_OTHERS: CelFunc[] = [...LIBRARY].flatMap((original) => {
  const { name, arguments: types } = original;
  if (/^get[A-Z]/.test(name)) return [withWork(original, () => ZONE_WORK)];
  const isLinear = (name === 'bytes' && types[0] === STRING) || (name === 'string' && types[0] === BYTES);
  return isLinear ? [withWork(original, (value) => 1 + (value as string | Uint8Array).length / 20)] : [];
});

function withWork(original: CelFunc, workOf: (value: unknown) => number): CelFunc {
  const { name, target, arguments: types, result } = original;
  const call = (owner: CelValue | undefined, values: CelValue[]): never => {
    spend(workOf(values[0]));
    const given = original.call(0, owner, values);
    if (isCelError(given)) throw new Error(given.message);
    // Of the type that the original declares, which the library's types cannot follow here.
    return given as never;
  };
  return target === undefined
    ? celFunc(name, types, result, (...values) => call(undefined, values as CelValue[]))
    : celMethod(name, target, types, result, function (...values) {
        return call(this, values as CelValue[]);
      });
}

function countChars(text: string): bigint {
  spend(1 + text.length / 50);
  let pairs = 0;
  for (let at = 0; at < text.length; at++) if ((text.codePointAt(at) ?? 0) > 0xffff) pairs++;
  return BigInt(text.length - pairs);
}

export const ENVIRONMENT = celEnv({ funcs: [...MIXED_ARITHMETIC, ...BOUNDED_TEXT, ...BOUNDED_OTHERS] });
