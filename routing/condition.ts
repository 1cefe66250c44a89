import { isCelError, parse, plan } from '@bufbuild/cel';
import { checkExpression, type ConditionFault } from './condition-check.ts';
import { ENVIRONMENT, runBounded, type Program } from './condition-functions.ts';
import type { FieldType } from './condition-kinds.ts';
import { bindFacts, withTeam, type BoundFacts, type ConditionScope } from './condition-names.ts';
import { bracketDepth, MAX_NESTING } from './condition-nesting.ts';
import { cutText, type RoutingFacts } from './facts.ts';
import {
  compilePattern,
  createPatternAllowance,
  faultOfPattern,
  type Pattern,
  type PatternAllowance,
  type PatternResult,
} from './pattern.ts';
import { MAX_CONDITION_CHARS } from './text-forms.ts';

/**
 * Conditions are CEL expressions. What they may cost is bounded when they are compiled (length, nodes, nesting, no loop in a loop, literal
 * patterns of the linear-time matcher), by the text they see, and by an allowance of work while they are evaluated, so that a condition of one
 * workspace cannot hold up a worker.
 * What can be known beforehand (syntax, unknown names and functions, bad patterns; with a scope also types) is a fault; what depends on the facts
 * is an error of the evaluation, and then the condition is false.
 */
export function compileCondition(source: string, scope?: ConditionScope): CompileResult {
  if (source.trim() === '') return refuse('the condition is empty');
  if (source.length > MAX_CONDITION_CHARS) {
    return refuse(`the condition has ${source.length} characters; at most ${MAX_CONDITION_CHARS} are allowed`);
  }
  // Before the parser sees it: the parser recurses, and how deep it may go depends on the stack of whoever called.
  if (bracketDepth(source) > MAX_NESTING) return refuse(`the condition is nested deeper than ${MAX_NESTING} levels`);
  const patterns = new Map<string, Pattern>();
  const allowance = allowanceOf(scope);
  try {
    const parsed = parse(source);
    const { faults, reads, loopNodes } = checkExpression(parsed.expr, parsed.sourceInfo?.positions ?? {}, {
      scope,
      formsOf: (name) => ENVIRONMENT.funcs.find(name),
      faultOfPattern: (pattern) => compileInto(patterns, pattern, allowance),
    });
    if (faults.length > 0) return { ok: false, faults };
    return { ok: true, condition: { source, reads, patterns, loopNodes, program: plan(ENVIRONMENT, parsed.expr) } };
  } catch (error) {
    return { ok: false, faults: [faultOfParseError(error)] };
  }
}

export type CompileResult =
  | { readonly ok: true; readonly condition: Condition }
  | { readonly ok: false; readonly faults: readonly ConditionFault[] };

export interface Condition {
  readonly source: string;
  /** The names that it reads, each as far as its members are written out: `['fields', 'purpose']`. */
  readonly reads: readonly (readonly string[])[];
  // The rest is not for callers: use `evaluateCondition` and `readValues`.
  readonly patterns: ReadonlyMap<string, Pattern>;
  readonly loopNodes: number;
  readonly program: Program;
}

export interface Evaluation {
  readonly value: boolean;
  /** Why the condition could not be decided and counts as false, such as a field that nobody set. */
  readonly error?: string;
}

export { bindFacts, compilePattern, faultOfPattern, withTeam };
export type { BoundFacts, ConditionFault, ConditionScope, FieldType, Pattern, PatternResult };

const MAX_ERROR_CHARS = 300;

/** Never throws. An error at run time, such as a missing field, or a result that is no boolean counts as false and is reported. */
export function evaluateCondition(condition: Condition, facts: RoutingFacts): Evaluation {
  return evaluateBound(condition, bindFacts(facts));
}

export function evaluateBound(condition: Condition, bound: BoundFacts): Evaluation {
  try {
    const result = runBounded(condition, bound);
    if (typeof result === 'boolean') return { value: result };
    if (isCelError(result)) return { value: false, error: cutText(result.message, MAX_ERROR_CHARS) };
    return { value: false, error: 'the condition gives no boolean' };
  } catch (error) {
    return { value: false, error: cutText(messageOf(error), MAX_ERROR_CHARS) };
  }
}

/** What each name in a condition stands for now, for people who try a flow: `{"fields.purpose": "sales"}`. What is missing is null. */
export function readValues(condition: Condition, bound: BoundFacts): Record<string, unknown> {
  return Object.fromEntries(
    condition.reads.slice(0, MAX_VALUES_TOLD).map((path) => {
      let value: unknown = bound[path[0] ?? ''];
      for (const member of path.slice(1)) value = value instanceof Map ? value.get(member) : undefined;
      return [nameOfPath(path), tellableOf(value)];
    }),
  );
}

const MAX_VALUES_TOLD = 20;
const MAX_TOLD_CHARS = 200;
const MAX_MEMBERS_TOLD = 50;

function nameOfPath(path: readonly string[]): string {
  const name = path
    .map((part, index) => (index === 0 ? part : /^[A-Za-z_]\w*$/.test(part) ? `.${part}` : `[${JSON.stringify(part)}]`))
    .join('');
  return cutText(name, MAX_TOLD_CHARS);
}

function tellableOf(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'string') return cutText(value, MAX_TOLD_CHARS);
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  if (typeof value !== 'object' || value === null) return null;
  const json = JSON.stringify(value, (_, member: unknown) => {
    if (member instanceof Map) return Object.fromEntries(firstMembers(member as Map<string, unknown>));
    return typeof member === 'bigint' ? Number(member) : member;
  });
  return cutText(json, MAX_TOLD_CHARS);
}

/** One for all conditions of a document, which are given the same set of hours when it is checked; else one for the condition. */
function allowanceOf(scope: ConditionScope | undefined): PatternAllowance {
  const document = scope?.hours;
  const known = document && allowances.get(document);
  if (known !== undefined) return known;
  const allowance = createPatternAllowance();
  if (document !== undefined) allowances.set(document, allowance);
  return allowance;
}

const allowances = new WeakMap<ReadonlySet<string>, PatternAllowance>();

/** More would be cut off again. */
function firstMembers(members: ReadonlyMap<string, unknown>): [string, unknown][] {
  const first: [string, unknown][] = [];
  for (const member of members) {
    if (first.push(member) === MAX_MEMBERS_TOLD) break;
  }
  return first;
}

function compileInto(patterns: Map<string, Pattern>, source: string, allowance: PatternAllowance): string | null {
  if (patterns.has(source)) return null;
  const result = compilePattern(source, allowance);
  if (!result.ok) return result.fault;
  patterns.set(source, result);
  return null;
}

function faultOfParseError(error: unknown): ConditionFault {
  const message = messageOf(error).replace(/^(syntax error )?<input>:\d+:\d+: /, 'syntax error: ');
  const position = positionOf(error);
  return position === undefined ? { message } : { message, position };
}

function positionOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('location' in error)) return undefined;
  const location = error.location as { start?: { offset?: unknown } } | undefined;
  return typeof location?.start?.offset === 'number' ? location.start.offset : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function refuse(message: string): CompileResult {
  return { ok: false, faults: [{ message }] };
}
