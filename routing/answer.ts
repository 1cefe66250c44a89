import { evaluateCompiled, type CompiledStep } from './compiled-flow.ts';
import type { BoundFacts } from './condition.ts';
import { fieldValueOf } from './enrichment.ts';
import { cutText, joinMessageText, MAX_MESSAGE_TEXT_CHARS, type FieldValue } from './facts.ts';
import type { AskStep } from './step-schemas.ts';
import { foldText, searchWords } from './words.ts';

/**
 * What the contact's messages mean as the answer to a question; several messages that came together are one answer.
 *
 * With choices: a message that is a choice's label, value, synonym or number (from 1) decides, the last such one first. Where none is, exactly one
 * choice must have its label or a synonym as words in the text: two are no answer, as neither may be guessed.
 * Without: the text must match the pattern and pass the test, where there are such. As people part what they write ("hello", "it is 4711"), the whole
 * is tried first and then each message, the last first.
 */
export function matchAnswer(step: AskStep, texts: readonly string[], compiled: CompiledAnswer): AnswerMatch {
  const messages = texts.slice(0, MAX_ANSWER_MESSAGES).map((text) => cutText(text, MAX_MESSAGE_TEXT_CHARS).trim());
  const worded = messages.filter((message) => message !== '');
  if (step.choices !== undefined) return matchChoice(step.choices, worded);
  return matchFreeText(worded, compiled);
}

export type AnswerMatch =
  | { readonly fits: true; readonly value: FieldValue }
  /** With the reason why the test could not be decided, if it could not. */
  | { readonly fits: false; readonly error?: string };

export interface CompiledAnswer extends Pick<CompiledStep, 'pattern' | 'test'> {
  /** The facts with `answer`. */
  bind(answer: string): BoundFacts;
}

/** The first ones: with as many, nobody waits for more, and what comes then is no part of the answer. */
export const MAX_ANSWER_MESSAGES = 10;

type Choices = NonNullable<AskStep['choices']>;

/** Each is a pattern to match and a test to evaluate. */
const MAX_TRIED_ALONE = 5;

function matchChoice(choices: Choices, messages: readonly string[]): AnswerMatch {
  const folded = foldedChoices(choices);
  for (const message of messages.toReversed()) {
    const whole = foldText(message);
    const choice =
      choiceNamed(folded, whole) ?? choiceNamed(folded, bareOf(whole)) ?? choiceNumbered(folded, bareOf(whole));
    if (choice !== undefined) return { fits: true, value: choice.value };
  }
  const has = searchWords(foldText(joinMessageText(messages)));
  const [first, ...others] = folded.filter(({ words }) => words.some(has));
  return first === undefined || others.length > 0 ? { fits: false } : { fits: true, value: first.value };
}

interface FoldedChoice {
  readonly value: FieldValue;
  /** Label and synonyms. */
  readonly words: readonly string[];
  readonly names: ReadonlySet<string>;
}

const choiceNamed = (choices: readonly FoldedChoice[], name: string): FoldedChoice | undefined =>
  choices.find(({ names }) => names.has(name));

const choiceNumbered = (choices: readonly FoldedChoice[], number: string): FoldedChoice | undefined =>
  /^[1-9][0-9]?$/.test(number) ? choices[Number(number) - 1] : undefined;

/** Without what stands around it: "2." and "(2)" are 2, "Sales!" is sales. Linear in the text, as the one that repeats can end only once. */
const bareOf = (folded: string): string => /[^\s\p{P}](?:.*[^\s\p{P}])?/su.exec(folded)?.[0] ?? folded;

/** Steps of a published version never change: folded once for as long as the step is held. */
function foldedChoices(choices: Choices): FoldedChoice[] {
  let folded = foldedByStep.get(choices);
  if (folded === undefined) {
    folded = choices.map(({ value, label, synonyms = [] }) => {
      const words = [label, ...synonyms].map(foldText).filter((word) => word !== '');
      return { value, words, names: new Set([...words, foldText(String(value))].filter((name) => name !== '')) };
    });
    foldedByStep.set(choices, folded);
  }
  return folded;
}

const foldedByStep = new WeakMap<Choices, FoldedChoice[]>();

function matchFreeText(messages: readonly string[], compiled: CompiledAnswer): AnswerMatch {
  if (messages.length === 0) return { fits: false };
  const alone = messages.length > 1 ? messages.slice(-MAX_TRIED_ALONE).toReversed() : [];
  let error: string | undefined;
  for (const candidate of [joinMessageText(messages), ...alone]) {
    const text = candidate.replaceAll('\0', '\ufffd').replace(/\p{Surrogate}/gu, '\ufffd');
    if (!matchesPattern(compiled, text)) continue;
    const tested = compiled.test === null ? { value: true } : evaluateCompiled(compiled.test, compiled.bind(text));
    if (tested.value) return { fits: true, value: fieldValueOf(text) ?? text };
    error ??= tested.error;
  }
  return error === undefined ? { fits: false } : { fits: false, error };
}

/** A pattern that a newer version of the matcher refuses fits nothing: the question ends by its giveUp. */
const matchesPattern = ({ pattern }: CompiledAnswer, text: string): boolean =>
  pattern === null || (pattern.ok && pattern.test(text));
