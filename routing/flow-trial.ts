/**
 * A flow run through for somebody who asks what it would do: by the functions that run it in earnest, with the contact's answers and other systems'
 * responses given beforehand. It runs step by step, each as the last step of a shorter flow, so that what every condition saw can be told.
 */
import { readClassification } from './classification.ts';
import { compileFlow, evaluateCompiled, type CompiledCondition } from './compiled-flow.ts';
import { bindFacts, readValues } from './condition.ts';
import { joinMessageText, MAX_FIRST_MESSAGES, type Fields, type RoutingFacts, type TeamLoad } from './facts.ts';
import { fieldsFromResponse } from './enrichment.ts';
import {
  settleRequest,
  takeTurn,
  type FlowTurn,
  type Heard,
  type OutgoingText,
  type RequestAnswer,
} from './flow-interpreter.ts';
import { noProgress, type FieldSources, type FlowProgress, type StepTrace } from './flow-progress.ts';
import type { FlowDocument } from './flow-schema.ts';
import { decideRoute, type RouteDecision } from './route.ts';
import type { NetworkStep } from './step-schemas.ts';

/** @param begun what is known at the opening; its `message.text` may be longer than conditions see */
export function tryFlow(flow: FlowDocument, begun: RoutingFacts, given: GivenTurns): FlowTrial {
  const compiled = compileFlow(flow);
  const trigger = explain(compiled.trigger, flow.trigger.condition, { flow, facts: factsAfter(begun, []) });
  if (!trigger.value) return { trigger, steps: [], messages: [], ...noOutcome };
  const walk = walkSteps(flow, begun, given);
  const { progress, steps, messages } = walk;
  const known = { steps, messages, fields: progress.fields, fieldSources: progress.sources };
  if (walk.failure !== null) return { ...noOutcome, trigger, ...known, failure: walk.failure };
  const found = { ...factsAfter(begun, walk.heard), fields: progress.fields };
  const route = decideRoute(flow, found, { ...given, gaveUpStep: progress.gaveUpStep });
  const evaluated = route.evaluated.map(({ name }, place) => {
    const { when, teamId } = flow.routing.branches[place]!;
    const load = teamId === undefined ? undefined : given.loads.get(teamId);
    return { name, ...explain(compiled.branches[place]!.when, when, { flow, facts: found, team: load }) };
  });
  return {
    trigger,
    ...known,
    messages: [...messages, ...(route.text === null ? [] : [{ text: route.text }])],
    route,
    evaluated,
    failure: null,
  };
}

/** What the world would say while the flow runs. */
export interface GivenTurns {
  /** Of the contact, one for each question in turn; several texts are one answer in several messages. Without one, the question times out. */
  readonly answers: readonly (string | readonly string[])[];
  /** Of other systems, by the step's position. Without one, the request counts as failed: nothing is called. */
  readonly responses: Readonly<Record<string, unknown>>;
  /** By team, for conditions of branches. */
  readonly loads: ReadonlyMap<string, TeamLoad>;
  /** As `decideRoute` takes it. */
  readonly share?: number | undefined;
}

export interface FlowTrial {
  readonly trigger: ExplainedCondition;
  /** One entry for each thing that happened, in order: a question and its answer are two of the same position. */
  readonly steps: readonly TriedStep[];
  readonly fields: Fields;
  readonly fieldSources: FieldSources;
  /** What the contact would be sent, in order. */
  readonly messages: readonly OutgoingText[];
  /** Null where the trigger is not true, or a step that must not fail did. */
  readonly route: RouteDecision | null;
  /** The branches looked at, with what their conditions saw. */
  readonly evaluated: readonly (ExplainedCondition & { readonly name: string })[];
  /** Why the default team would get it. */
  readonly failure: string | null;
}

/** A condition with what it saw. */
export interface ExplainedCondition {
  readonly condition: string;
  readonly value: boolean;
  /** By name: `{"fields.purpose": "sales"}`. */
  readonly values: Readonly<Record<string, unknown>>;
  /** Why it could not be decided, and counts as false. */
  readonly error?: string;
}

export interface TriedStep extends StepTrace {
  /** The step's own condition, told with its first entry. */
  readonly when?: ExplainedCondition;
  readonly fieldsSet: Fields;
  readonly asked?: OutgoingText;
  /** What the contact is told where a question gives up. */
  readonly sent?: string;
  readonly answer?: readonly string[];
}

function explain(
  compiled: CompiledCondition,
  condition: string,
  { flow, facts, team }: { flow: FlowDocument; facts: RoutingFacts; team?: TeamLoad | undefined },
): ExplainedCondition {
  const bound = bindFacts(facts, { hours: flow.hours, team });
  const values = compiled.ok ? readValues(compiled.condition, bound) : {};
  return { condition, values, ...evaluateCompiled(compiled, bound) };
}

/**
 * What the flow sees after these messages to its questions. In earnest it reads the thread anew at each turn, where they stand behind the first
 * message: its text holds them from the turn on that they are the answer of.
 */
function factsAfter(begun: RoutingFacts, heard: readonly string[]): RoutingFacts {
  const texts = [begun.message.text, ...heard].slice(0, MAX_FIRST_MESSAGES);
  return { ...begun, message: { text: joinMessageText(texts) } };
}

const noOutcome = { fields: {}, fieldSources: {}, route: null, evaluated: [], failure: null };

interface Walk {
  progress: FlowProgress;
  readonly steps: TriedStep[];
  readonly messages: OutgoingText[];
  /** Those that are left. */
  readonly answers: (string | readonly string[])[];
  /** Every message that was an answer so far. */
  readonly heard: string[];
  failure: string | null;
}

function walkSteps(flow: FlowDocument, begun: RoutingFacts, given: GivenTurns): Walk {
  const answers = [...given.answers];
  const walk: Walk = { progress: noProgress, steps: [], messages: [], answers, heard: [], failure: null };
  for (let place = 0; place < flow.enrichment.length; place += 1) {
    if (walk.progress.gaveUpStep !== null || walk.failure !== null) break;
    walkStep(walk, { flow, begun, given, place });
  }
  return walk;
}

function walkStep(
  walk: Walk,
  { flow, begun, given, place }: { flow: FlowDocument; begun: RoutingFacts; given: GivenTurns; place: number },
): void {
  const step = flow.enrichment[place]!;
  const upToHere = { ...flow, enrichment: flow.enrichment.slice(0, place + 1) };
  const facts = { ...factsAfter(begun, walk.heard), fields: walk.progress.fields };
  const compiled = compileFlow(upToHere).steps[place]!.when;
  const when = compiled === null ? undefined : explain(compiled, step.when!, { flow, facts });
  let told = when === undefined ? {} : { when };
  let heard: Heard = { kind: 'nothing' };
  // A question is asked at most five times, and a request once.
  for (let turns = 0; turns < MAX_TURNS; turns += 1) {
    const turn: FlowTurn = takeTurn(upToHere, factsAfter(begun, walk.heard), walk.progress, heard);
    note(walk, turn, { ...told, ...(heard.kind === 'answer' && { answer: heard.texts }) });
    if (turn.trace.length > 0) told = {};
    walk.messages.push(...turn.messages);
    walk.progress = turn.progress;
    if (turn.kind === 'done') return;
    if (turn.kind === 'ask') {
      const answer = walk.answers.shift();
      heard = answer === undefined ? { kind: 'timeout' } : { kind: 'answer', texts: [answer].flat() };
      if (heard.kind === 'answer') walk.heard.push(...heard.texts);
      continue;
    }
    const answer = answerOf(turn.step, given.responses[String(place)]);
    const settled = settleRequest(flow, turn.progress, answer);
    if (settled.kind === 'failed') walk.failure = settled.reason;
    note(walk, { ...settled, messages: [] }, told);
    walk.progress = settled.progress;
    return;
  }
}

const MAX_TURNS = 20;

type NotedTurn = Pick<FlowTurn, 'progress' | 'trace' | 'messages'>;

function note(walk: Walk, { progress, trace, messages }: NotedTurn, told: Partial<TriedStep>): void {
  const before = walk.progress.fields;
  const changed = Object.entries(progress.fields).filter(([name, value]) => before[name] !== value);
  trace.forEach((entry, place) => {
    const isLast = place === trace.length - 1;
    const last = isLast ? messages.at(-1) : undefined;
    walk.steps.push({
      ...entry,
      ...(place === 0 ? told : {}),
      fieldsSet: isLast ? Object.fromEntries(changed) : {},
      ...(entry.outcome === 'asked' && last !== undefined && { asked: last }),
      ...(entry.outcome === 'gave_up' && last !== undefined && { sent: last.text }),
    });
  });
}

function answerOf(step: NetworkStep, response: unknown): RequestAnswer {
  if (response === undefined) return { fields: {}, failures: ['no response was given, and nothing is called'] };
  // A label alone is what a model says that does not tell how sure it is.
  if (step.kind === 'classify') {
    return readClassification(step, typeof response === 'string' ? { label: response } : response);
  }
  const { fields, missing } = fieldsFromResponse(step, response);
  return {
    fields,
    failures: [],
    ...(missing.length > 0 && { remark: `the response does not tell ${missing.join(', ')}` }),
  };
}
