import type { CelFunc, parse } from '@bufbuild/cel';
import {
  ANY,
  describeKinds,
  describeMisfit,
  KIND,
  kindOfConstant,
  kindsOfCall,
  mayBeEqual,
  type Kinds,
} from './condition-kinds.ts';
import { isStrict, namesIn, reasonOfAbsence, type ConditionScope, type Shape } from './condition-names.ts';
import { cutText } from './facts.ts';

/**
 * Walks a parsed condition once and finds every unknown name, member and function, every bound that it breaks and, where the scope tells enough,
 * every operator that could never take what it is given. The library's own checker knows constants and plain names only.
 */
export function checkExpression(expr: Expr, offsets: Offsets, known: CheckerKnowledge): CheckedExpression {
  const { scope } = known;
  const walk: Walk = {
    faults: [],
    offsets,
    known,
    names: namesIn(scope),
    strict: isStrict(scope),
    reads: new Map(),
    nodes: 0,
    loopNodes: 0,
    loops: 0,
  };
  const { kinds } = visit(expr, walk, { bound: new Set(), depth: 0, inLoop: false });
  if ((kinds & KIND.boolean) === 0) report(walk, expr, 'a condition must give true or false');
  if (walk.nodes > MAX_NODES) {
    walk.faults.push({ message: `the condition has ${walk.nodes} parts; at most ${MAX_NODES} are allowed` });
  }
  const reads = [...walk.reads.values()].filter(({ count }) => count > 0).map(({ path }) => path);
  return { faults: walk.faults, reads, loopNodes: walk.loopNodes };
}

export interface CheckedExpression {
  readonly faults: ConditionFault[];
  /** The names that it reads, each as far as its members are written out: `['fields', 'purpose']`. */
  readonly reads: readonly (readonly string[])[];
  /** How many parts of it are evaluated anew for each item of a loop. */
  readonly loopNodes: number;
}

export interface ConditionFault {
  readonly message: string;
  /** Where it can be said. */
  readonly mend?: string;
  /** Offset into the source, in UTF-16 units from 0. */
  readonly position?: number;
}

export interface CheckerKnowledge {
  readonly scope: ConditionScope | undefined;
  /** The forms of a function, or undefined where there is none of that name. */
  formsOf(name: string): Iterable<CelFunc> | undefined;
  /** What is wrong with a pattern of `matches`, or null. */
  faultOfPattern(pattern: string): string | null;
}

/** What is written there, where it is a text. */
export function literalText({ exprKind }: Expr): string | null {
  if (exprKind.case !== 'constExpr') return null;
  const { constantKind } = exprKind.value;
  return constantKind.case === 'stringValue' ? constantKind.value : null;
}

const MAX_NODES = 200;
/** More than brackets may stand in each other, because a chain such as `a + b + c` is a deep tree too. */
const MAX_TREE_DEPTH = 64;
/** One after the other; each could make the texts of the one before many times longer. */
const MAX_LOOPS = 8;

export type Expr = ReturnType<typeof parse>['expr'];
type ExprCase<Case extends string> = Extract<Expr['exprKind'], { case: Case }>['value'];
type Offsets = Readonly<Record<string, number>>;

interface Walk {
  readonly faults: ConditionFault[];
  readonly offsets: Offsets;
  readonly known: CheckerKnowledge;
  readonly names: ReadonlyMap<string, Shape>;
  readonly strict: boolean;
  readonly reads: Map<string, { readonly path: readonly string[]; count: number }>;
  nodes: number;
  loopNodes: number;
  loops: number;
}

interface Place {
  /** Names that a surrounding `exists`, `all`, `map` or `filter` binds. */
  readonly bound: ReadonlySet<string>;
  readonly depth: number;
  readonly inLoop: boolean;
}

const ANYTHING: Shape = { kinds: ANY };
const BOOLEAN: Shape = { kinds: KIND.boolean };

/** Types as values, as in `type(fields.tier) == string`. */
const TYPE_NAMES = new Set(['bool', 'bytes', 'double', 'int', 'list', 'map', 'null_type', 'string', 'type', 'uint']);

function visit(expr: Expr, walk: Walk, place: Place): Shape {
  walk.nodes++;
  if (place.inLoop) walk.loopNodes++;
  if (place.depth === MAX_TREE_DEPTH)
    report(walk, expr, `the condition is nested deeper than ${MAX_TREE_DEPTH} levels`);
  if (place.depth >= MAX_TREE_DEPTH) return ANYTHING;
  const inner = { ...place, depth: place.depth + 1 };
  const { exprKind } = expr;
  switch (exprKind.case) {
    case 'constExpr':
      return { kinds: kindOfConstant(exprKind.value.constantKind.case) };
    case 'identExpr':
      return visitName(expr, exprKind.value.name, walk, place);
    case 'selectExpr': {
      const { operand, field, testOnly } = exprKind.value;
      if (operand === undefined) return ANYTHING;
      const member = shapeOfMember(expr, visit(operand, walk, inner), field, walk);
      // As in `has(contact.name)`.
      return testOnly ? BOOLEAN : member;
    }
    case 'callExpr':
      return visitCall(expr, exprKind.value, walk, inner);
    case 'listExpr': {
      const items = exprKind.value.elements.map((element) => visit(element, walk, inner).kinds);
      return { kinds: KIND.list, items: items.reduce((all, kinds) => all | kinds, 0) };
    }
    case 'structExpr':
      visitStruct(expr, exprKind.value, walk, inner);
      return { kinds: KIND.object };
    case 'comprehensionExpr':
      return visitLoop(expr, exprKind.value, walk, inner);
    case undefined:
      return ANYTHING;
    default:
      return exprKind satisfies never;
  }
}

function visitName(expr: Expr, name: string, walk: Walk, place: Place): Shape {
  if (place.bound.has(name)) return ANYTHING;
  if (TYPE_NAMES.has(name)) return { kinds: KIND.other };
  const shape = walk.names.get(name);
  if (shape !== undefined) return recordRead({ ...shape, path: [name] }, walk);
  report(
    walk,
    expr,
    reasonOfAbsence(name, walk.known.scope) ??
      `unknown name ${quote(name)}; known are ${[...walk.names.keys()].join(', ')}`,
  );
  return ANYTHING;
}

function shapeOfMember(expr: Expr, owner: Shape, member: string, walk: Walk): Shape {
  const { members, kinds, path } = owner;
  if ((kinds & KIND.object) === 0) {
    report(walk, expr, `a single value has no member ${quote(member)}`);
    return ANYTHING;
  }
  const shape = members === undefined ? ANYTHING : members.shapes.get(member);
  if (members !== undefined && shape === undefined) {
    const listed = cutText([...members.shapes.keys()].join(', '), 300) || 'none';
    report(walk, expr, `${members.name} has no member ${quote(member)}; it has ${listed}`, members.mend);
  }
  if (path === undefined) return shape ?? ANYTHING;
  const before = walk.reads.get(path.join('\n'));
  if (before !== undefined) before.count--;
  return recordRead({ ...(shape ?? ANYTHING), path: [...path, member] }, walk);
}

/** Only the whole of `fields.purpose` is read, and not `fields`: what is a part of something longer is counted off again. */
function recordRead(shape: Shape & { readonly path: readonly string[] }, walk: Walk): Shape {
  const key = shape.path.join('\n');
  const known = walk.reads.get(key);
  if (known === undefined) walk.reads.set(key, { path: shape.path, count: 1 });
  else known.count++;
  return shape;
}

function visitCall(expr: Expr, call: ExprCase<'callExpr'>, walk: Walk, place: Place): Shape {
  const target = call.target && visit(call.target, walk, place);
  const shapes = call.args.map((argument) => visit(argument, walk, place));
  const [first = ANYTHING, second = ANYTHING, third = ANYTHING] = shapes;
  switch (call.function) {
    case '_[_]':
      return shapeOfIndex(expr, first, call.args[1], walk);
    case '_&&_':
    case '_||_':
      for (const [index, { kinds }] of shapes.entries())
        requireBoolean(call.args[index] ?? expr, kinds, call.function, walk);
      return BOOLEAN;
    case '_?_:_':
      requireBoolean(call.args[0] ?? expr, first.kinds, call.function, walk);
      return { kinds: second.kinds | third.kinds };
    case '@not_strictly_false':
      return BOOLEAN;
    case '_==_':
    case '_!=_':
      checkEquality(expr, first.kinds, second.kinds, walk);
      return BOOLEAN;
    case '@in':
      if (second.kinds === KIND.list && second.items !== undefined && second.items !== 0) {
        checkEquality(expr, first.kinds, second.items, walk);
      }
      break;
    case 'matches':
      checkPattern(expr, call.args.at(-1), walk);
      break;
    default:
  }
  return shapeOfCall(expr, call.function, walk, { target: target?.kinds, values: shapes.map(({ kinds }) => kinds) });
}

function shapeOfCall(
  expr: Expr,
  name: string,
  walk: Walk,
  { target, values }: { target: Kinds | undefined; values: readonly Kinds[] },
): Shape {
  const forms = walk.known.formsOf(name);
  if (forms === undefined) {
    report(walk, expr, `unknown function ${quote(name)}`);
    return ANYTHING;
  }
  const kinds = kindsOfCall(forms, target, values);
  if (kinds !== null) return { kinds };
  if (walk.strict) report(walk, expr, describeMisfit(name, target === undefined ? values : [target, ...values]));
  // What it would give if it were given the right things, so that one fault does not bring others.
  const results = [...forms].map(
    (form) =>
      kindsOfCall(
        [form],
        form.target && ANY,
        form.arguments.map(() => ANY),
      ) ?? ANY,
  );
  return { kinds: walk.strict ? ANY : results.reduce((all, result) => all | result, 0) };
}

function requireBoolean(expr: Expr, kinds: Kinds, operator: string, walk: Walk): void {
  if (!walk.strict || (kinds & KIND.boolean) !== 0) return;
  report(
    walk,
    expr,
    `${operator.replaceAll('_', '').replace('?:', '? :')} takes true or false, not ${describeKinds(kinds)}`,
  );
}

function checkEquality(expr: Expr, left: Kinds, right: Kinds, walk: Walk): void {
  if (!walk.strict || mayBeEqual(left, right)) return;
  const hint = left === KIND.nothing || right === KIND.nothing ? '; has(…) tells whether something is there' : '';
  report(walk, expr, `compares ${describeKinds(left)} with ${describeKinds(right)}, which are never equal${hint}`);
}

function shapeOfIndex(expr: Expr, owner: Shape, index: Expr | undefined, walk: Walk): Shape {
  const key = index === undefined ? null : literalText(index);
  if (key !== null) return shapeOfMember(expr, owner, key, walk);
  if ((owner.kinds & (KIND.object | KIND.list)) === 0) report(walk, expr, 'a single value has no members');
  else if (owner.members !== undefined && owner.members.takesAnyIndex !== true) {
    report(walk, expr, `${owner.members.name} takes a literal name in [ ]`);
  }
  return ANYTHING;
}

/** A pattern from the facts could be the contact's own text; a literal one can be checked now. */
function checkPattern(expr: Expr, argument: Expr | undefined, walk: Walk): void {
  const pattern = argument === undefined ? null : literalText(argument);
  if (pattern === null) return report(walk, expr, 'the pattern of matches() must be a literal string');
  const fault = walk.known.faultOfPattern(pattern);
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
function visitLoop(expr: Expr, loop: ExprCase<'comprehensionExpr'>, walk: Walk, place: Place): Shape {
  if (place.inLoop) report(walk, expr, 'exists, all, map and filter must not stand inside each other');
  if (++walk.loops === MAX_LOOPS + 1) {
    report(walk, expr, `exists, all, map and filter stand in the condition more than ${MAX_LOOPS} times`);
  }
  const range = loop.iterRange === undefined ? ANYTHING : visit(loop.iterRange, walk, place);
  if (walk.strict && (range.kinds & (KIND.list | KIND.object)) === 0) {
    report(walk, expr, `exists, all, map and filter go through a list or an object, not ${describeKinds(range.kinds)}`);
  }
  const inner = { ...place, bound: new Set([...place.bound, loop.iterVar, loop.accuVar]), inLoop: true };
  const start = loop.accuInit === undefined ? ANYTHING : visit(loop.accuInit, walk, inner);
  for (const part of [loop.loopCondition, loop.loopStep, loop.result]) {
    if (part !== undefined) visit(part, walk, inner);
  }
  // `map` and `filter` begin with a list; the others count, or begin with true or false, and give true or false.
  return { kinds: start.kinds === KIND.list ? KIND.list : KIND.boolean };
}

function report(walk: Walk, expr: Expr, message: string, mend?: string): void {
  const position = walk.offsets[expr.id.toString()];
  walk.faults.push({ message, ...(position !== undefined && { position }), ...(mend !== undefined && { mend }) });
}

function quote(name: string): string {
  return `"${cutText(name, 64)}"`;
}
