/**
 * Runs a flow's enrichment, turn by turn. A turn goes on from where the last one stopped, as far as it can without the contact and without other
 * systems, and says what it stopped for. It is a function of its arguments: what is kept between turns is the progress, in PostgreSQL, and a turn
 * that is repeated says the same again.
 *
 * Nothing can hold a conversation here. A turn looks at each step at most once and never goes back; a question is asked at most `maxQuestions`
 * times. A step that cannot do its work, of whatever kind, is recorded as failed and left behind: the flow goes on without its fields.
 * A step whose members are not of their types, as another version of this code may have written it, fails before anything of it is stored
 * or sent.
 */
import { matchAnswer } from './answer.ts';
import { compileFlow, evaluateCompiled, fillMessage, type CompiledFlow } from './compiled-flow.ts';
import { bindFacts, type BoundFacts } from './condition.ts';
import { fieldValueOf, findKnownFields, type Found } from './enrichment.ts';
import { cutText, type Fields, type FieldValue, type RoutingFacts } from './facts.ts';
import { typeOfField, type FieldSource, type FlowProgress, type StepTrace } from './flow-progress.ts';
import type { FlowDocument } from './flow-schema.ts';
import { findLanguageFields } from './language.ts';
import {
  DEFAULT_MAX_QUESTIONS,
  DEFAULT_SETTLE_SECONDS,
  MAX_ANSWER_SECONDS,
  MAX_SETTLE_SECONDS,
  isNetworkStep,
  type AskStep,
  type EnrichmentStep,
  type NetworkStep,
} from './step-schemas.ts';
import { foldText, searchWords, type WordSearch } from './words.ts';

/**
 * Of the facts all count but `fields`, for which those of the progress stand. What was heard is looked at only where a question is open; where one
 * is open and nothing was heard, it goes on waiting: an `ask` without messages, and nothing is recorded. (Asking again would ask twice,
 * giving up would take the contact's time.)
 */
export function takeTurn(flow: FlowDocument, facts: RoutingFacts, progress: FlowProgress, heard: Heard): FlowTurn {
  const turn = createTurn(flow, facts, progress);
  const open = flow.enrichment[progress.step];
  let stop: Stop | null = null;
  if (progress.gaveUpStep !== null) stop = { kind: 'done' };
  else if (open?.kind === 'ask' && progress.questions > 0) stop = settleQuestion(turn, open, heard);
  while (stop === null) stop = takeStep(turn);
  const { trace, messages, conditionErrors } = turn;
  return { ...stop, progress: turn.progress, trace, messages, conditionErrors };
}

/** Of the question that is open: the texts of the messages that came since, or that its time is over. */
export type Heard =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'answer'; readonly texts: readonly string[] }
  | { readonly kind: 'timeout' };

export type FlowTurn = TurnBase & Stop;

interface TurnBase {
  readonly progress: FlowProgress;
  readonly trace: readonly StepTrace[];
  /** To the contact, in this order. */
  readonly messages: readonly OutgoingText[];
  /** Conditions that could not be decided and counted as false. */
  readonly conditionErrors: number;
}

type Stop =
  /** The enrichment is over: route. */
  | { readonly kind: 'done' }
  /** The question is the last of the messages; `progress.step` stays at it until it is settled. */
  | { readonly kind: 'ask'; readonly timeoutSeconds: number; readonly settleSeconds: number }
  /** The step at `progress.step` wants to know something of another system: ask it, then `settleRequest`. */
  | { readonly kind: 'request'; readonly step: NetworkStep; readonly facts: RoutingFacts };

export interface OutgoingText {
  readonly text: string;
  readonly choices?: readonly { readonly value: FieldValue; readonly label: string }[];
  /** Of which step, and how often it has been asked with this one. */
  readonly question?: { readonly step: number; readonly number: number };
}

/**
 * What becomes of the request that the flow has stopped for, by what came of it. A `classify` step without an answer gets its `otherwise`; one that
 * failed is left behind, unless its flow may not go on without it.
 */
export function settleRequest(flow: FlowDocument, progress: FlowProgress, answer: RequestAnswer): SettledRequest {
  const { step: position } = progress;
  const step = flow.enrichment[position];
  // Not where a request could have come from: there is nothing to settle, and the next turn goes on from here.
  if (step === undefined || !isNetworkStep(step)) return { kind: 'settled', progress, trace: [] };
  const { kind } = step;
  const failure = answer.failures.join('; ');
  const trace: StepTrace[] =
    answer.failures.length === 0
      ? [
          {
            position,
            kind,
            outcome: 'done',
            ...(answer.remark !== undefined && { reason: cutText(answer.remark, MAX_REASON_CHARS) }),
          },
        ]
      : [{ position, kind, outcome: 'failed', reason: cutText(failure, MAX_REASON_CHARS) }];
  if (answer.failures.length > 0 && step.onFailure === 'fallBack') {
    return { kind: 'failed', progress, trace, reason: `step ${position + 1} failed: ${failure}` };
  }
  return { kind: 'settled', progress: nextStep(withFields(progress, step, foundBy(step, answer))), trace };
}

export interface RequestAnswer {
  readonly fields: Fields;
  /** 0 to 1, where it is told. */
  readonly confidence?: number;
  /** Why it is not to be relied on, fit for the workspace's admins to read; none where it is. */
  readonly failures: readonly string[];
  /** What it did not tell, which is no failure. */
  readonly remark?: string;
}

export type SettledRequest =
  | { readonly kind: 'settled'; readonly progress: FlowProgress; readonly trace: readonly StepTrace[] }
  /** The flow ends here: the default team gets the conversation. What was found before is kept, and nothing of the step that failed. */
  | {
      readonly kind: 'failed';
      readonly progress: FlowProgress;
      readonly trace: readonly StepTrace[];
      /** Names the step, counted from 1. */
      readonly reason: string;
    };

function foundBy(step: NetworkStep, { fields, confidence }: RequestAnswer): Found {
  const isUnanswered = step.kind === 'classify' && !Object.hasOwn(fields, step.field);
  if (isUnanswered) return { fields: { ...fields, ...fieldOf(step.field, step.otherwise) } };
  return { fields, ...(confidence === undefined ? {} : { confidence }) };
}

const MAX_REASON_CHARS = 500;

/** A turn as it goes. */
interface Turn {
  readonly flow: FlowDocument;
  readonly compiled: CompiledFlow;
  /** Without the fields found in this turn: see `factsOf`. */
  readonly given: RoutingFacts;
  progress: FlowProgress;
  readonly trace: StepTrace[];
  readonly messages: OutgoingText[];
  conditionErrors: number;
  // Made when a step needs them, and kept: the first two until a field changes.
  facts: RoutingFacts | null;
  bound: BoundFacts | null;
  words: WordSearch | null;
}

function createTurn(flow: FlowDocument, given: RoutingFacts, progress: FlowProgress): Turn {
  return {
    flow,
    compiled: compileFlow(flow),
    given,
    progress,
    trace: [],
    messages: [],
    conditionErrors: 0,
    facts: null,
    bound: null,
    words: null,
  };
}

/** With the fields found so far. */
function factsOf(turn: Turn): RoutingFacts {
  const { fields } = turn.progress;
  if (turn.facts?.fields === fields) return turn.facts;
  turn.bound = null;
  return (turn.facts = { ...turn.given, fields });
}

function wordsOf(turn: Turn): WordSearch {
  return (turn.words ??= searchWords(foldText(turn.given.message.text)));
}

function boundFactsOf(turn: Turn): BoundFacts {
  const facts = factsOf(turn);
  return (turn.bound ??= bindFacts(facts, { hours: turn.flow.hours }));
}

/** @returns null where the next step can be taken at once */
function takeStep(turn: Turn): Stop | null {
  const step = turn.flow.enrichment[turn.progress.step];
  if (step === undefined) return { kind: 'done' };
  try {
    return isWanted(turn, step) ? runStep(turn, step) : moveOn(turn);
  } catch (error) {
    return leaveBroken(turn, error);
  }
}

/** What a version of this code that is newer, or was less strict, let through must not hold its conversations. */
function leaveBroken(turn: Turn, error: unknown): null {
  note(turn, 'failed', describeBroken(error));
  return moveOn(turn);
}

/** What is told of a step that threw, fit for the workspace's admins to read. */
export const describeBroken = (error: unknown): string =>
  `the step cannot be run: ${cutText(error instanceof Error ? error.message : String(error), MAX_REASON_CHARS)}`;

function runStep(turn: Turn, step: EnrichmentStep): Stop | null {
  switch (step.kind) {
    case 'set':
    case 'keywords':
    case 'contact':
      return keep(turn, step, findKnownFields(step, { facts: turn.given, words: () => wordsOf(turn) }));
    case 'language':
      return keep(turn, step, findLanguageFields(step, turn.given.message.text));
    case 'ask':
      return ask(turn, step);
    case 'http':
    case 'classify':
      assertFieldNames(step);
      return { kind: 'request', step, facts: factsOf(turn) };
    default:
      step satisfies never;
      note(turn, 'failed', 'this kind of step is not known');
      return moveOn(turn);
  }
}

/** Whether its condition is true; what cannot be decided counts as false. */
function isWanted(turn: Turn, step: EnrichmentStep): boolean {
  if (step.when === undefined) return true;
  const when = turn.compiled.steps[turn.progress.step]?.when;
  if (when === null || when === undefined) return true;
  const { value, error } = evaluateCompiled(when, boundFactsOf(turn));
  if (error !== undefined) turn.conditionErrors += 1;
  if (!value) note(turn, 'skipped', error ?? 'its condition is false');
  return value;
}

function keep(turn: Turn, step: EnrichmentStep, found: Found): null {
  assertFieldNames(step);
  for (const [name, value] of Object.entries(found.fields)) {
    if (fieldValueOf(value) === undefined) throw new Error(`no field can have what it gives to ${name}`);
  }
  turn.progress = withFields(turn.progress, step, found);
  note(turn, 'done', found.remark);
  return moveOn(turn);
}

function ask(turn: Turn, step: AskStep, reason?: string): Stop | null {
  assertFieldNames(step);
  const stop = waitFor(step);
  const number = turn.progress.questions + 1;
  const text = textToSend(turn, number > 1 ? (step.retryText ?? step.text) : step.text);
  // A text of nothing but names, all of them unknown.
  if (text === null) return giveUp(turn, step, 'the question has no text');
  const { step: position } = turn.progress;
  const choices = step.choices?.map(readChoice);
  turn.messages.push({ text, ...(choices === undefined ? {} : { choices }), question: { step: position, number } });
  turn.progress = { ...turn.progress, questions: number };
  note(turn, 'asked', reason);
  return stop;
}

function readChoice({ value, label }: NonNullable<AskStep['choices']>[number]) {
  if (fieldValueOf(value) === undefined || typeof label !== 'string') throw new Error('a choice has no value or label');
  return { value, label };
}

function waitFor({ timeoutSeconds, settleSeconds = DEFAULT_SETTLE_SECONDS }: AskStep): Stop {
  if (!isSeconds(timeoutSeconds, MAX_ANSWER_SECONDS) || !isSeconds(settleSeconds, MAX_SETTLE_SECONDS)) {
    throw new Error('how long to wait is no number of seconds');
  }
  return { kind: 'ask', timeoutSeconds, settleSeconds };
}

const isSeconds = (value: unknown, max: number): boolean =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max;

/** Its condition was true when it was asked, and is not looked at again. */
function settleQuestion(turn: Turn, step: AskStep, heard: Heard): Stop | null {
  try {
    if (heard.kind === 'nothing') return waitFor(step);
    if (heard.kind === 'timeout') return giveUp(turn, step, 'no answer came in time');
    const { pattern = null, test = null } = turn.compiled.steps[turn.progress.step] ?? {};
    const bind = (answer: string) => bindFacts(factsOf(turn), { hours: turn.flow.hours, answer });
    const match = matchAnswer(step, heard.texts, { pattern, test, bind });
    if (match.fits) {
      turn.progress = withFields(turn.progress, step, { fields: { [step.field]: match.value } });
      note(turn, 'answered');
      return moveOn(turn);
    }
    if (match.error !== undefined) turn.conditionErrors += 1;
    const reason = `the answer does not fit${match.error === undefined ? '' : `, as its test could not be decided: ${match.error}`}`;
    const mayAskAgain = turn.progress.questions < (step.maxQuestions ?? DEFAULT_MAX_QUESTIONS);
    return mayAskAgain ? ask(turn, step, reason) : giveUp(turn, step, reason);
  } catch (error) {
    return leaveBroken(turn, error);
  }
}

function giveUp(turn: Turn, step: AskStep, reason: string): Stop | null {
  const { value, teamId, close, text } = step.giveUp ?? {};
  const farewell = text === undefined ? null : textToSend(turn, text);
  if (farewell !== null) turn.messages.push({ text: farewell });
  note(turn, 'gave_up', reason);
  if (teamId !== undefined || close === true) {
    turn.progress = { ...nextStep(turn.progress), gaveUpStep: turn.progress.step };
    return { kind: 'done' };
  }
  turn.progress = withFields(turn.progress, step, { fields: fieldOf(step.field, value) });
  return moveOn(turn);
}

const textToSend = (turn: Turn, source: string): string | null => fillMessage(turn.compiled, source, factsOf(turn));

function note(turn: Turn, outcome: StepTrace['outcome'], reason?: string): void {
  const { step: position } = turn.progress;
  const kind: unknown = turn.flow.enrichment[position]?.kind;
  const known = typeof kind === 'string' ? kind : 'unknown';
  turn.trace.push({ position, kind: known, outcome, ...(reason === undefined ? {} : { reason }) });
}

function moveOn(turn: Turn): null {
  turn.progress = nextStep(turn.progress);
  return null;
}

const nextStep = (progress: FlowProgress): FlowProgress => ({ ...progress, step: progress.step + 1, questions: 0 });

/** JavaScript makes a name of anything: a step without `field` would set one called "undefined". */
function assertFieldNames(step: EnrichmentStep): void {
  if (step.kind === 'contact' || step.kind === 'http') return;
  const names: unknown[] = [step.field];
  if (step.kind === 'language' && step.confidenceField !== undefined) names.push(step.confidenceField);
  if (!names.every((name) => typeof name === 'string')) throw new Error('a field of it has no name');
}

/** Nothing where no field can have the value. */
function fieldOf(name: string, value: unknown): Fields {
  const kept = fieldValueOf(value);
  return kept === undefined ? {} : { [name]: kept };
}

function withFields(progress: FlowProgress, step: EnrichmentStep, { fields, confidence }: Found): FlowProgress {
  const sources: Record<string, FieldSource> = { ...progress.sources };
  for (const [name, value] of Object.entries(fields)) {
    const source = { type: typeOfField(value), step: progress.step, kind: step.kind };
    sources[name] = confidence === undefined ? source : { ...source, confidence };
  }
  // What is bound for conditions goes by the identity of the fields.
  const isUnchanged = Object.keys(fields).length === 0;
  return isUnchanged ? progress : { ...progress, fields: { ...progress.fields, ...fields }, sources };
}
