import { eld } from 'eld/extrasmall';
import type { Found } from './enrichment.ts';
import { cutText } from './facts.ts';
import type { LanguageStep } from './step-schemas.ts';

/**
 * The language of the text, and in `confidenceField` how sure that is: always set, 0 where nothing was found, so that conditions can name it.
 */
export function findLanguageFields(step: LanguageStep, text: string): Found {
  const detected = detectLanguage(text);
  const confidence = detected?.confidence ?? 0;
  const isSure = detected !== null && confidence >= (step.minConfidence ?? 0);
  const fields = step.confidenceField === undefined ? {} : { [step.confidenceField]: confidence };
  if (isSure) return { fields: { ...fields, [step.field]: detected.language }, confidence };
  if (step.otherwise !== undefined) return { fields: { ...fields, [step.field]: step.otherwise } };
  const remark =
    detected === null ? 'no language found' : `${detected.language} found with confidence ${confidence} only`;
  return { fields, remark };
}

export interface DetectedLanguage {
  /** ISO 639-1; Indonesian counts as Malay (`ms`). */
  readonly language: string;
  /** How probable, from 0 to 1: against the other languages known, with two places. */
  readonly confidence: number;
}

/** Null where the text has no words to tell it by. */
export function detectLanguage(text: string): DetectedLanguage | null {
  const words = cutText(text, MAX_CHARS).split(/\s+/u);
  // Addresses, prices and order numbers have no language.
  const result = eld.detect(words.filter((word) => !/[\d@/]|\.\w/u.test(word)).join(' '));
  const scores = result.getScores();
  const best = oddsOf(scores[result.language] ?? 0);
  if (best === 0) return null;
  let sum = 0;
  for (const score of Object.values(scores)) sum += (oddsOf(score) / best) ** SHARPNESS;
  const confidence = Math.min(1 / sum, result.isReliable() ? 1 : MAX_UNRELIABLE);
  return { language: result.language, confidence: Math.round(confidence * 100) / 100 };
}

/** More tells no better. */
const MAX_CHARS = 1000;

/**
 * The library's score rates each language by itself, and a wrong one of two near relatives as high as the right one. What tells is the distance to
 * the next, sharpened: of 60 short messages in 28 languages 55 are right, of those with at least 0.8 51 of 53. (tinyld: 56, in five times the
 * time, and 100 ms for the longest text; franc-min: 33. The larger data sets of eld: 57, for twice the memory.)
 */
const SHARPNESS = 10;
/** Where hardly anything of the text was known, or the next is as good. */
const MAX_UNRELIABLE = 0.5;

/** The library gives x / (x + 25). */
const oddsOf = (score: number): number => score / (1 - score);
