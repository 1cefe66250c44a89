import { RE2JS } from '@bufbuild/re2';
import { workToCompile } from './pattern-work.ts';

/**
 * Compiles a pattern (RE2) for the matcher that the CEL library uses too: its time grows linearly with the text, but also with the pattern, whose
 * counted repetitions unfold. So the size of what it unfolds to is bounded, roughly before it is compiled and exactly after, and the work of one match
 * by size times text. All that is compiled for one purpose draws on one allowance.
 */
export function compilePattern(source: string, allowance: PatternAllowance = createPatternAllowance()): PatternResult {
  if (source.length > MAX_PATTERN_CHARS) {
    return {
      ok: false,
      fault: `the pattern has ${source.length} characters; at most ${MAX_PATTERN_CHARS} are allowed`,
    };
  }
  if (allowance.left < 0) return { ok: false, fault: ALLOWANCE_FAULT };
  const work = workToCompile(source);
  if (work.size > SURELY_TOO_LARGE) return { ok: false, fault: sizeFault(`about ${work.size}`) };
  if (work.classes > MAX_CLASS_WORK) return { ok: false, fault: CLASS_FAULT };
  allowance.left -= work.size + work.classes;
  if (allowance.left < 0) return { ok: false, fault: ALLOWANCE_FAULT };
  let compiled: RE2JS;
  let size: number;
  try {
    compiled = RE2JS.compile(source);
    size = compiled.re2().prog.numInst();
  } catch (error) {
    return { ok: false, fault: error instanceof Error ? error.message : String(error) };
  }
  if (size > MAX_PATTERN_SIZE) return { ok: false, fault: sizeFault(String(size)) };
  return { ok: true, ...boundedMatcher(compiled, size) };
}

export type PatternResult = ({ readonly ok: true } & Pattern) | { readonly ok: false; readonly fault: string };

export interface Pattern {
  /** Whether it is found anywhere in the text. A text that is too long for the pattern, by `workOf`, never matches. */
  test(text: string): boolean;
  /** What a match may cost at most, in units of about a third of a microsecond. */
  workOf(text: string): number;
}

/**
 * What may still be spent on compiling, as `workToCompile` counts: enough for 40,000 characters of plain patterns. Checking the slowest document of
 * 256 KB that was found takes 0.6 s of CPU, and 0.4 s where no pattern is in it.
 */
export interface PatternAllowance {
  left: number;
}

export const createPatternAllowance = (): PatternAllowance => ({ left: 40_000 });

/** What is wrong with a pattern, or null. */
export function faultOfPattern(source: string): string | null {
  const result = compilePattern(source);
  return result.ok ? null : result.fault;
}

/** A list of some sixty words stays below it for a text of 1,000 characters, one of a dozen for the longest. */
export const MAX_PATTERN_WORK = 500_000;

const MAX_PATTERN_CHARS = 2048;
const MAX_PATTERN_SIZE = 1000;
/** Counted from the source, which knows nothing of what alternatives have in common. */
const SURELY_TOO_LARGE = 4 * MAX_PATTERN_SIZE;
/** Twenty Unicode classes, or ranges of 16,000 characters with (?i). */
const MAX_CLASS_WORK = 4000;
/** The matcher keeps a state of about a kilobyte for up to every character that it saw. */
const MAX_CHARS_REMEMBERED = 2048;

const sizeFault = (size: string): string =>
  `the pattern unfolds to ${size} parts; at most ${MAX_PATTERN_SIZE} are allowed`;
const CLASS_FAULT =
  'the pattern has too many Unicode classes, or too wide ranges with (?i); (?i:…) may stand around the letters alone';
const ALLOWANCE_FAULT = 'the patterns are too large all together';

function boundedMatcher(compiled: RE2JS, size: number): Pattern {
  let charsSeen = 0;
  const workOf = (text: string) => size * text.length;
  return {
    workOf,
    test(text) {
      if (workOf(text) > MAX_PATTERN_WORK) return false;
      const found = compiled.test(text);
      charsSeen += text.length;
      if (charsSeen > MAX_CHARS_REMEMBERED) {
        compiled.reset();
        charsSeen = 0;
      }
      return found;
    },
  };
}
