import {
  celEnv,
  celFunc,
  CelScalar,
  isCelError,
  parse,
  plan,
  type CelFunc,
  type CelInput,
  type CelResult,
} from '@bufbuild/cel';
import { bracketDepth, checkExpression, MAX_NESTING, type ConditionFault } from './condition-check.ts';
import { cutText, MAX_MESSAGE_TEXT_CHARS, type RoutingFacts } from './facts.ts';

/**
 * Conditions are CEL expressions. What they may cost is bounded when they are compiled (length, nodes, nesting, no loop in a loop, literal
 * patterns of the linear-time matcher) and by the text they see, so that a condition of one workspace cannot hold up a worker.
 * What can be known beforehand (syntax, unknown names and functions, bad patterns) is a fault; what depends on the facts is an error of the
 * evaluation, and then the condition is false.
 */
export function compileCondition(source: string): CompileResult {
  if (source.trim() === '') return refuse('the condition is empty');
  if (source.length > MAX_SOURCE_CHARS) {
    return refuse(`the condition has ${source.length} characters; at most ${MAX_SOURCE_CHARS} are allowed`);
  }
  // Before the parser sees it: the parser recurses, and how deep it may go depends on the stack of whoever called.
  if (bracketDepth(source) > MAX_NESTING) return refuse(`the condition is nested deeper than ${MAX_NESTING} levels`);
  try {
    const parsed = parse(source);
    const offsets = parsed.sourceInfo?.positions ?? {};
    const faults = checkExpression(parsed.expr, offsets, { knowsFunction, faultOfPattern });
    if (faults.length > 0) return { ok: false, faults };
    return { ok: true, condition: { source, program: plan(ENVIRONMENT, parsed.expr) } };
  } catch (error) {
    return { ok: false, faults: [faultOfParseError(error)] };
  }
}

export type CompileResult =
  | { readonly ok: true; readonly condition: Condition }
  | { readonly ok: false; readonly faults: readonly ConditionFault[] };

export interface Condition {
  readonly source: string;
  /** Not for callers: use `evaluateCondition`. */
  readonly program: (bindings: Record<string, CelInput>) => CelResult;
}

export interface Evaluation {
  readonly value: boolean;
  /** Why the condition could not be decided and counts as false, such as a field that nobody set. */
  readonly error?: string;
}

export type { ConditionFault };

const MAX_SOURCE_CHARS = 2048;
const MAX_ERROR_CHARS = 300;

/** Never throws. An error at run time, such as a missing field, or a result that is no boolean counts as false and is reported. */
export function evaluateCondition(condition: Condition, facts: RoutingFacts): Evaluation {
  return evaluateBound(condition, bindFacts(facts));
}

export type BoundFacts = Record<string, CelInput>;

/** The facts in the form that CEL reads; worth keeping while several conditions are evaluated over the same facts. */
export function bindFacts(facts: RoutingFacts): BoundFacts {
  const { conversation, contact, channel, message, fields } = facts;
  return {
    conversation: new Map<string, CelInput>([
      ['source', conversation.source],
      ['priority', BigInt(Math.trunc(conversation.priority))],
    ]),
    contact: new Map<string, CelInput>([
      ['id', contact.id],
      ['name', contact.name],
      ['attributes', celOfJson(contact.attributes)],
    ]),
    channel: new Map([
      ['key', channel.key],
      ['name', channel.name],
    ]),
    message: new Map([['text', cutText(message.text, MAX_MESSAGE_TEXT_CHARS)]]),
    fields: celOfJson(fields),
  };
}

export function evaluateBound(condition: Condition, bound: BoundFacts): Evaluation {
  try {
    const result = condition.program(bound);
    if (typeof result === 'boolean') return { value: result };
    if (isCelError(result)) return { value: false, error: cutText(result.message, MAX_ERROR_CHARS) };
    return { value: false, error: 'the condition gives no boolean' };
  } catch (error) {
    return { value: false, error: cutText(messageOf(error), MAX_ERROR_CHARS) };
  }
}

/** As `compileCondition`, remembering the last conditions used: compiling costs a hundred times what evaluating costs. */
export function compileConditionCached(source: string): CompileResult {
  const known = cache.get(source);
  if (known !== undefined) {
    cache.delete(source);
    cache.set(source, known);
    return known;
  }
  const result = compileCondition(source);
  // A source that is too long is refused at once, and is not worth its memory.
  if (source.length > MAX_SOURCE_CHARS) return result;
  if (cache.size >= MAX_CACHED) {
    const oldest = cache.keys().next();
    if (!oldest.done) cache.delete(oldest.value);
  }
  cache.set(source, result);
  return result;
}

const MAX_CACHED = 1000;
const cache = new Map<string, CompileResult>();

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
  celFunc(name, [CelScalar.DOUBLE, CelScalar.INT], CelScalar.DOUBLE, (left, right) => compute(left, Number(right))),
  celFunc(name, [CelScalar.INT, CelScalar.DOUBLE], CelScalar.DOUBLE, (left, right) => compute(Number(left), right)),
]);

const ENVIRONMENT = celEnv({ funcs: MIXED_ARITHMETIC });

function knowsFunction(name: string): boolean {
  return ENVIRONMENT.funcs.find(name) !== undefined;
}

const MATCH_NOTHING = plan(ENVIRONMENT, parse(`''.matches(pattern)`));

/** What the matcher says about a pattern, found by trying it. */
function faultOfPattern(pattern: string): string | null {
  const result = MATCH_NOTHING({ pattern });
  return isCelError(result) ? result.message : null;
}

/** Maps instead of plain objects: the library reads a plain object's `constructor`, which here is the user's data. */
function celOfJson(value: unknown): CelInput {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  if (Array.isArray(value)) return value.map(celOfJson);
  if (typeof value === 'object' && value !== null) {
    return new Map(Object.entries(value).map(([key, member]) => [key, celOfJson(member)]));
  }
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
