import type { parse } from '@bufbuild/cel';
import { cutText } from './facts.ts';

/**
 * Walks a parsed condition once and finds every unknown name, member and function and every bound that it breaks. The library's own checker
 * knows constants and plain names only, so the names are held here as a tree of shapes.
 */
export function checkExpression(expr: Expr, offsets: Offsets, functions: FunctionKnowledge): ConditionFault[] {
  const walk: Walk = { faults: [], offsets, functions, nodes: 0 };
  const shape = visit(expr, walk, { bound: new Set(), depth: 0, loops: 0 });
  if (isNeverBoolean(expr, shape)) report(walk, expr, 'a condition must give true or false');
  if (walk.nodes > MAX_NODES) {
    walk.faults.push({ message: `the condition has ${walk.nodes} parts; at most ${MAX_NODES} are allowed` });
  }
  return walk.faults;
}

export interface ConditionFault {
  readonly message: string;
  /** Offset into the source, in UTF-16 units from 0. */
  readonly position?: number;
}

export interface FunctionKnowledge {
  knowsFunction(name: string): boolean;
  /** What is wrong with a pattern of `matches`, or null. */
  faultOfPattern(pattern: string): string | null;
}

export const MAX_NESTING = 32;
const MAX_NODES = 200;
/** Above `MAX_NESTING`, because a chain such as `a + b + c` is a deep tree too. */
const MAX_TREE_DEPTH = 64;

/** How deep brackets stand in each other, those inside string literals and comments not counted. */
export function bracketDepth(source: string): number {
  let depth = 0;
  let deepest = 0;
  for (const char of source.replace(LITERALS_AND_COMMENTS, ' ')) {
    if (char === '(' || char === '[' || char === '{') deepest = Math.max(deepest, ++depth);
    else if (char === ')' || char === ']' || char === '}') depth--;
  }
  return deepest;
}

const LITERALS_AND_COMMENTS = new RegExp(
  [
    String.raw`\/\/[^\n]*`,
    String.raw`(?:[rR][bB]?|[bB][rR])(?:"""[^]*?"""|'''[^]*?'''|"[^"\n]*"|'[^'\n]*')`,
    String.raw`"""(?:\\[^]|[^\\])*?"""|'''(?:\\[^]|[^\\])*?'''`,
    String.raw`"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'`,
  ].join('|'),
  'g',
);

type Expr = ReturnType<typeof parse>['expr'];
type ExprCase<Case extends string> = Extract<Expr['exprKind'], { case: Case }>['value'];
type Offsets = Readonly<Record<string, number>>;

interface Walk {
  readonly faults: ConditionFault[];
  readonly offsets: Offsets;
  readonly functions: FunctionKnowledge;
  nodes: number;
}

interface Place {
  /** Names that a surrounding `exists`, `all`, `map` or `filter` binds. */
  readonly bound: ReadonlySet<string>;
  readonly depth: number;
  readonly loops: number;
}

/** What is known about a value: an object whose members are listed, a single value without members, or anything. */
type Shape =
  | { readonly kind: 'object'; readonly name: string; readonly members: Readonly<Record<string, Shape>> }
  | { readonly kind: 'single' }
  | { readonly kind: 'any' };

const SINGLE: Shape = { kind: 'single' };
const ANY: Shape = { kind: 'any' };

const ROOT: Readonly<Record<string, Shape>> = {
  conversation: { kind: 'object', name: 'conversation', members: { source: SINGLE, priority: SINGLE } },
  contact: { kind: 'object', name: 'contact', members: { id: SINGLE, name: SINGLE, attributes: ANY } },
  channel: { kind: 'object', name: 'channel', members: { key: SINGLE, name: SINGLE } },
  message: { kind: 'object', name: 'message', members: { text: SINGLE } },
  fields: ANY,
};

/** Types as values, as in `type(fields.tier) == string`. */
const TYPE_NAMES = new Set(['bool', 'bytes', 'double', 'int', 'list', 'map', 'null_type', 'string', 'type', 'uint']);

/** What the planner carries out itself, without a function behind it. */
const OPERATORS = new Set(['_[_]', '_?_:_', '_&&_', '_||_', '@not_strictly_false']);

function visit(expr: Expr, walk: Walk, place: Place): Shape {
  walk.nodes++;
  if (place.depth === MAX_TREE_DEPTH)
    report(walk, expr, `the condition is nested deeper than ${MAX_TREE_DEPTH} levels`);
  if (place.depth >= MAX_TREE_DEPTH) return ANY;
  const inner = { ...place, depth: place.depth + 1 };
  const { exprKind } = expr;
  switch (exprKind.case) {
    case 'constExpr':
      return SINGLE;
    case 'identExpr':
      return visitName(expr, exprKind.value.name, walk, place);
    case 'selectExpr': {
      const operand = exprKind.value.operand;
      return operand === undefined ? ANY : shapeOfMember(expr, visit(operand, walk, inner), exprKind.value.field, walk);
    }
    case 'callExpr':
      return visitCall(expr, exprKind.value, walk, inner);
    case 'listExpr':
      for (const element of exprKind.value.elements) visit(element, walk, inner);
      return ANY;
    case 'structExpr':
      visitStruct(expr, exprKind.value, walk, inner);
      return ANY;
    case 'comprehensionExpr':
      visitLoop(expr, exprKind.value, walk, inner);
      return ANY;
    case undefined:
      return ANY;
    default:
      return exprKind satisfies never;
  }
}

/** Whether the whole can be seen to give something else. What comes from open maps, or from `? :`, shows only at run time. */
function isNeverBoolean({ exprKind }: Expr, shape: Shape): boolean {
  switch (exprKind.case) {
    case 'constExpr':
      return exprKind.value.constantKind.case !== 'boolValue';
    case 'listExpr':
    case 'structExpr':
      return true;
    case 'callExpr':
      return NEVER_BOOLEAN.has(exprKind.value.function);
    case 'selectExpr':
      // As in `has(contact.name)`.
      return !exprKind.value.testOnly && shape.kind !== 'any';
    default:
      return shape.kind !== 'any';
  }
}

const NEVER_BOOLEAN = new Set([
  ...['_+_', '_-_', '_*_', '_/_', '_%_', '-_'],
  ...['size', 'int', 'uint', 'double', 'string', 'bytes', 'type', 'duration', 'timestamp'],
]);

function visitName(expr: Expr, name: string, walk: Walk, place: Place): Shape {
  if (place.bound.has(name) || TYPE_NAMES.has(name)) return ANY;
  if (Object.hasOwn(ROOT, name)) return ROOT[name] ?? ANY;
  report(walk, expr, `unknown name ${quote(name)}; known are ${Object.keys(ROOT).join(', ')}`);
  return ANY;
}

function shapeOfMember(expr: Expr, owner: Shape, member: string, walk: Walk): Shape {
  switch (owner.kind) {
    case 'any':
      return ANY;
    case 'single':
      report(walk, expr, `a single value has no member ${quote(member)}`);
      return ANY;
    case 'object': {
      if (Object.hasOwn(owner.members, member)) return owner.members[member] ?? ANY;
      report(
        walk,
        expr,
        `${owner.name} has no member ${quote(member)}; it has ${Object.keys(owner.members).join(', ')}`,
      );
      return ANY;
    }
  }
}

function visitCall(expr: Expr, call: ExprCase<'callExpr'>, walk: Walk, place: Place): Shape {
  if (call.target !== undefined) visit(call.target, walk, place);
  const shapes = call.args.map((argument) => visit(argument, walk, place));
  if (call.function === '_[_]') return shapeOfIndex(expr, shapes[0] ?? ANY, call.args[1], walk);
  if (!OPERATORS.has(call.function) && !walk.functions.knowsFunction(call.function)) {
    report(walk, expr, `unknown function ${quote(call.function)}`);
  }
  if (call.function === 'matches') checkPattern(expr, call.args.at(-1), walk);
  return ANY;
}

function shapeOfIndex(expr: Expr, owner: Shape, index: Expr | undefined, walk: Walk): Shape {
  if (owner.kind === 'any') return ANY;
  const key = index && stringOf(index);
  if (key !== undefined) return shapeOfMember(expr, owner, key, walk);
  report(
    walk,
    expr,
    owner.kind === 'object' ? `${owner.name} takes a literal name in [ ]` : 'a single value has no members',
  );
  return ANY;
}

/** A pattern from the facts could be the contact's own text; a literal one can be checked now. */
function checkPattern(expr: Expr, argument: Expr | undefined, walk: Walk): void {
  const pattern = argument && stringOf(argument);
  if (pattern === undefined) return report(walk, expr, 'the pattern of matches() must be a literal string');
  const fault = walk.functions.faultOfPattern(pattern);
  if (fault !== null) report(walk, argument ?? expr, cutText(fault, 200));
}

function visitStruct(expr: Expr, struct: ExprCase<'structExpr'>, walk: Walk, place: Place): void {
  if (struct.messageName !== '') report(walk, expr, `unknown type ${quote(struct.messageName)}`);
  for (const entry of struct.entries) {
    if (entry.keyKind.case === 'mapKey') visit(entry.keyKind.value, walk, place);
    if (entry.value !== undefined) visit(entry.value, walk, place);
  }
}

/** One loop may follow another (`filter` then `exists`), but not stand in another: the work would multiply. */
function visitLoop(expr: Expr, loop: ExprCase<'comprehensionExpr'>, walk: Walk, place: Place): void {
  if (place.loops > 0) report(walk, expr, 'exists, all, map and filter must not stand inside each other');
  if (loop.iterRange !== undefined) visit(loop.iterRange, walk, place);
  const inner = { ...place, bound: new Set([...place.bound, loop.iterVar, loop.accuVar]), loops: place.loops + 1 };
  for (const part of [loop.accuInit, loop.loopCondition, loop.loopStep, loop.result]) {
    if (part !== undefined) visit(part, walk, inner);
  }
}

function stringOf(expr: Expr): string | undefined {
  if (expr.exprKind.case !== 'constExpr') return undefined;
  const { constantKind } = expr.exprKind.value;
  return constantKind.case === 'stringValue' ? constantKind.value : undefined;
}

function report(walk: Walk, expr: Expr, message: string): void {
  const position = walk.offsets[expr.id.toString()];
  walk.faults.push(position === undefined ? { message } : { message, position });
}

function quote(name: string): string {
  return `"${cutText(name, 64)}"`;
}
