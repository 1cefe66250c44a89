import {
  bindFacts,
  compileConditionCached,
  evaluateBound,
  evaluateCondition,
  type BoundFacts,
  type Evaluation,
} from './condition.ts';
import { cutText, type RoutingFacts } from './facts.ts';
import type { FlowDocument } from './flow-document.ts';
import { fillRequirements, type FilledRequirements } from './flow-requirements.ts';

/**
 * The first branch whose condition is true decides; else the flow's `otherwise`. A condition that fails counts as false and is told. What the
 * branch asks of an agent is filled with the fields as they are now, and stays so.
 */
export function decideRoute(flow: FlowDocument, facts: RoutingFacts): RouteDecision {
  const bound = bindFacts(facts);
  const evaluated: EvaluatedBranch[] = [];
  for (const branch of flow.routing.branches) {
    const evaluation = evaluateSource(branch.when, bound);
    evaluated.push({ name: branch.name, when: cutText(branch.when, MAX_TOLD_CHARS), ...evaluation });
    if (evaluation.value) return { ...destinationOf(branch, facts), branch: branch.name, evaluated };
  }
  return { ...destinationOf(flow.routing.otherwise, facts), branch: null, evaluated };
}

const destinationOf = (branch: FlowDocument['routing']['otherwise'], { fields }: RoutingFacts) => ({
  teamId: branch.teamId,
  priority: branch.priority,
  ...fillRequirements(branch, fields),
});

export interface RouteDecision extends FilledRequirements {
  readonly teamId: string;
  readonly priority: number;
  /** Name of the branch that decided, or null for `otherwise`. */
  readonly branch: string | null;
  /** The branches looked at, in order; those after the deciding one are not. */
  readonly evaluated: readonly EvaluatedBranch[];
}

export interface EvaluatedBranch extends Evaluation {
  readonly name: string;
  /** Cut to `MAX_TOLD_CHARS`, so that a decision's explanation stays small; the flow's version has the whole. */
  readonly when: string;
}

/** Whether the flow runs for this conversation. */
export function decideTrigger(flow: FlowDocument, facts: RoutingFacts): Evaluation {
  const compiled = compileConditionCached(flow.trigger.condition);
  return compiled.ok
    ? evaluateCondition(compiled.condition, facts)
    : { value: false, error: messageOf(compiled.faults) };
}

const MAX_TOLD_CHARS = 200;

function evaluateSource(source: string, bound: BoundFacts): Evaluation {
  const compiled = compileConditionCached(source);
  return compiled.ok ? evaluateBound(compiled.condition, bound) : { value: false, error: messageOf(compiled.faults) };
}

/** A published flow compiled once; that it no longer does can only come from a newer, stricter version of this code. */
function messageOf(faults: readonly { readonly message: string }[]): string {
  return cutText(`the condition does not compile: ${faults[0]?.message ?? ''}`, MAX_TOLD_CHARS);
}
