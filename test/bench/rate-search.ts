/** The highest rate at which a system still keeps up, to about a tenth: upwards by steps until one is too much, then between the two. */
import type { StepFigures } from './load-figures.ts';

export interface RateSearch {
  readonly startRate: number;
  /** From step to step upwards. */
  readonly factor: number;
  /** How often to look in the middle between the highest that was kept up with and the lowest that was not. */
  readonly refinements: number;
  /** Below this nothing is looked for. */
  readonly lowestRate?: number;
  /** Above this, too. */
  readonly highestRate?: number;
}

export interface RateFound {
  /** Null: not even the lowest. */
  readonly highest: number | null;
  /** The most that were completed in a second, whether or not it kept up. */
  readonly mostCompleted: number;
  readonly steps: readonly StepFigures[];
}

export async function findHighestRate(
  measure: (rate: number) => Promise<StepFigures>,
  { startRate, factor, refinements, lowestRate = 1, highestRate = 2_000 }: RateSearch,
): Promise<RateFound> {
  const steps: StepFigures[] = [];
  const tryRate = async (rate: number): Promise<boolean> => {
    steps.push(await measure(rate));
    return keepsUp(steps.at(-1)!);
  };
  let [good, bad]: [number | null, number | null] = [null, null];
  for (let rate = startRate; good === null || bad === null;) {
    if (await tryRate(rate)) good = rate;
    else bad = rate;
    rate = bad === null ? rate * factor : rate / factor;
    if (rate < lowestRate || rate > highestRate) break;
  }
  for (let left = refinements; left > 0 && good !== null && bad !== null; left -= 1) {
    const middle: number = Math.sqrt(good * bad);
    if (await tryRate(middle)) good = middle;
    else bad = middle;
  }
  return { highest: good, mostCompleted: Math.max(...steps.map((step) => step.completedPerSecond)), steps };
}

/**
 * As many come out as go in, and not more are on the way at the end than at the beginning. Both, since a backlog that grows slowly
 * hides in the first, and the second alone is a matter of chance where few are on the way.
 */
export function keepsUp({ completedShare, underWay, refusals, unfinished }: StepFigures): boolean {
  const refused = Object.values(refusals).some((count) => count > 0);
  return completedShare >= 0.98 && underWay.last <= underWay.first * 1.25 + 5 && !refused && unfinished === 0;
}
