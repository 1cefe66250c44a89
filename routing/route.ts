import {
  compileFlow,
  evaluateCompiled,
  fillMessage,
  type CompiledBranch,
  type CompiledCondition,
  type CompiledFlow,
} from './compiled-flow.ts';
import { bindFacts, withTeam, type BoundFacts, type Evaluation } from './condition.ts';
import { cutText, type RoutingFacts, type TeamLoad } from './facts.ts';
import { fillRequirements, type FilledRequirements } from './flow-requirements.ts';
import type { FlowDestination, FlowDocument } from './flow-schema.ts';
import { noRequirements } from './requirements.ts';
import { shareOf } from './share.ts';

/**
 * The first branch whose condition is true decides; else the flow's `otherwise`; before both, a question that gave up towards a team or a close. A
 * condition that fails counts as false and is told. What the branch asks of an agent, and the texts, are filled with the fields as they are now, and
 * stay so.
 */
export function decideRoute(
  flow: FlowDocument,
  facts: RoutingFacts,
  { loads, gaveUpStep, share }: RouteCircumstances,
): RouteDecision {
  const givenUp = gaveUpStep === null ? null : givenUpRoute(flow, gaveUpStep);
  if (givenUp !== null) return givenUp;
  const compiled = compileFlow(flow);
  const bound = bindFacts(facts, { hours: flow.hours });
  const evaluated: EvaluatedBranch[] = [];
  for (const [index, branch] of flow.routing.branches.entries()) {
    const load = branch.teamId === undefined ? undefined : loads.get(branch.teamId);
    const evaluation = evaluateBranch(compiled.branches[index], bound, load);
    evaluated.push({ name: branch.name, when: cutText(branch.when, MAX_TOLD_CHARS), ...evaluation });
    if (evaluation.value) {
      return { branch: branch.name, evaluated, ...goTo(branch, { compiled, facts, salt: branch.name, share }) };
    }
  }
  return { branch: null, evaluated, ...goTo(flow.routing.otherwise, { compiled, facts, salt: 'otherwise', share }) };
}

export interface RouteCircumstances {
  /** By team id: how busy those are that `loadsNeeded` names. */
  readonly loads: ReadonlyMap<string, TeamLoad>;
  /** Position of the question that gave up towards a team or a close, which then is the destination. */
  readonly gaveUpStep: number | null;
  /** The hundredth into which the contact is to fall in a split; left out: where its id leads. */
  readonly share?: number | undefined;
}

export type RouteDecision = {
  /** Name of the branch that decided, or null for `otherwise` and where a question gave up. */
  readonly branch: string | null;
  /** The branches looked at, in order; those after the deciding one are not. */
  readonly evaluated: readonly EvaluatedBranch[];
  readonly gaveUpStep?: number;
} & Destination;

type Destination = (TeamDestination | { readonly kind: 'close' }) & {
  /** What the contact is sent. */
  readonly text: string | null;
  /** Who is told. */
  readonly webhookUrl: string | null;
};

interface TeamDestination extends FilledRequirements {
  readonly kind: 'team';
  readonly teamId: string;
  readonly priority: number;
  /** The wait aimed at; null: the team's own. */
  readonly slaSeconds: number | null;
  /** The hundredth into which the contact falls, where a split decided. */
  readonly share?: number;
}

export interface EvaluatedBranch extends Evaluation {
  readonly name: string;
  /** Cut to `MAX_TOLD_CHARS`, so that a decision's explanation stays small; the flow's version has the whole. */
  readonly when: string;
}

/** Whether the flow runs for this conversation. */
export function decideTrigger(flow: FlowDocument, facts: RoutingFacts): Evaluation {
  return evaluateCompiled(compileFlow(flow).trigger, bindFacts(facts, { hours: flow.hours }));
}

/** The teams whose load conditions of branches speak of. */
export function loadsNeeded(flow: FlowDocument): readonly string[] {
  const known = teamsAsked.get(flow);
  if (known !== undefined) return known;
  const { branches } = compileFlow(flow);
  const teams = flow.routing.branches.flatMap(({ teamId }, index) =>
    teamId !== undefined && readsTeam(branches[index]?.when) ? [teamId] : [],
  );
  const asked = [...new Set(teams)];
  teamsAsked.set(flow, asked);
  return asked;
}

const teamsAsked = new WeakMap<FlowDocument, readonly string[]>();

const MAX_TOLD_CHARS = 200;

const readsTeam = (when: CompiledCondition | undefined): boolean =>
  when?.ok === true && when.condition.reads.some(([name]) => name === 'team');

/** Null where the step is no question that ends so: then the branches decide. */
function givenUpRoute(flow: FlowDocument, gaveUpStep: number): RouteDecision | null {
  const step = flow.enrichment[gaveUpStep];
  const giveUp = step?.kind === 'ask' ? step.giveUp : undefined;
  // Its text was sent when it gave up.
  const told = { branch: null, evaluated: [], gaveUpStep, text: null, webhookUrl: null };
  if (giveUp?.close === true) return { kind: 'close', ...told };
  if (giveUp?.teamId === undefined) return null;
  const { teamId, priority = 0 } = giveUp;
  return { kind: 'team', teamId, priority, slaSeconds: null, requirements: noRequirements, missingFields: [], ...told };
}

function evaluateBranch(branch: CompiledBranch | undefined, bound: BoundFacts, load: TeamLoad | undefined): Evaluation {
  if (branch === undefined) return { value: false, error: 'the branch is not known' };
  return evaluateCompiled(branch.when, readsTeam(branch.when) ? withTeam(bound, load) : bound);
}

interface Going {
  readonly compiled: CompiledFlow;
  readonly facts: RoutingFacts;
  /** Makes the shares of one branch independent of those of another. */
  readonly salt: string;
  readonly share: number | undefined;
}

function goTo(destination: FlowDestination, { compiled, facts, salt, share }: Going): Destination {
  const fill = (source: string) => fillMessage(compiled, source, facts);
  const { text, webhookUrl = null, priority = 0, slaSeconds = null } = destination;
  const told = { text: text === undefined ? null : fill(text), webhookUrl };
  if (destination.close === true) return { kind: 'close', ...told };
  const team = teamOf(destination, () => share ?? shareOf(facts.contact.id, salt));
  const filled = fillRequirements(destination, facts.fields, fill);
  return { kind: 'team', ...team, priority, slaSeconds, ...filled, ...told };
}

function teamOf(
  { teamId, split = [] }: FlowDestination,
  shareOfContact: () => number,
): Pick<TeamDestination, 'teamId' | 'share'> {
  if (teamId !== undefined) return { teamId };
  const share = shareOfContact();
  let upTo = 0;
  const part = split.find(({ percent }) => share < (upTo += percent)) ?? split.at(-1);
  // No flow like this is published; whoever asked sends the conversation to the default team.
  if (part === undefined) throw new Error('The branch leads nowhere');
  return { teamId: part.teamId, share };
}
