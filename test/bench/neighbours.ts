/**
 * `npm run bench -- neighbours`: what ten quiet workspaces feel of a noisy one, which lets hundreds of conversations come at once, again
 * and again, far more than the system can carry. First the quiet ones alone, then beside the noise.
 */
import type { BenchContext } from './context.ts';
import { formatRatio, median, type ScenarioReport } from './figures.ts';
import { startLoad, type Load } from './load.ts';
import type { LoadStep } from './load-generator.ts';
import {
  describeStep,
  formatPercentileCells,
  medianPercentiles,
  summarizeStep,
  type StepFigures,
} from './load-figures.ts';
import { warmUp } from './lifecycle.ts';
import { startStage } from './stage.ts';

export interface NeighboursOptions {
  readonly quietWorkspaces: number;
  /** Of all quiet ones together, a second. */
  readonly quietRate: number;
  readonly seconds: number;
  /** How many come at once, and how often. */
  readonly burst: number;
  readonly everySeconds: number;
  readonly env: Readonly<Record<string, string>>;
}

export const neighboursDefaults: NeighboursOptions = {
  quietWorkspaces: 10,
  quietRate: 5,
  seconds: 20,
  burst: 500,
  everySeconds: 10,
  env: {},
};

export async function runNeighbours(
  bench: BenchContext,
  options: NeighboursOptions = neighboursDefaults,
): Promise<ScenarioReport> {
  const stage = await startStage({ bench, workspaces: options.quietWorkspaces + 1, agents: 4, env: options.env });
  const [noisy, ...quiet] = stage.workspaces;
  const loads: Load[] = [];
  try {
    loads.push(await startLoad({ ...stage, workspaces: quiet }, await stage.components()));
    loads.push(await startLoad({ ...stage, workspaces: [noisy!] }));
    const [quietLoad, noisyLoad] = loads as [Load, Load];
    await warmUp(bench, quietLoad, { contacts: options.quietWorkspaces * 6, warmUpRate: 10 });
    const alone: StepFigures[] = [];
    const beside: StepFigures[] = [];
    const noise: StepFigures[] = [];
    for (let run = 1; run <= bench.runs; run += 1) {
      const { quietRate: rate, seconds, burst, everySeconds } = options;
      const step: LoadStep = { rate, seconds, leadInSeconds: 2, drainSeconds: 60 };
      alone.push(summarizeStep(rate, await quietLoad.run(step)));
      bench.note(`quiet ones alone: ${describeStep(alone.at(-1)!)}`);
      const noisyRate = burst / everySeconds;
      const [quietStep, noisyStep] = await Promise.all([
        quietLoad.run(step),
        noisyLoad.run({ ...step, rate: noisyRate, arrivals: { burst }, leadInSeconds: 0, drainSeconds: 120 }),
      ]);
      beside.push(summarizeStep(rate, quietStep));
      noise.push(summarizeStep(noisyRate, noisyStep));
      bench.note(`quiet ones beside the noise: ${describeStep(beside.at(-1)!)}`);
      bench.note(`the noisy one: ${describeStep(noise.at(-1)!)}`);
    }
    bench.note('checking the invariants');
    return report({ alone, beside, noise }, await stage.findFaults());
  } finally {
    for (const load of loads) await load.stop();
    await stage.stop();
  }
}

function report(
  found: Readonly<Record<'alone' | 'beside' | 'noise', readonly StepFigures[]>>,
  faults: readonly string[],
): ScenarioReport {
  const latency = (runs: readonly StepFigures[]) => medianPercentiles(runs.map((run) => run.openToAssignedMs));
  const row = (name: string, runs: readonly StepFigures[]) => [
    name,
    median(runs.map((run) => run.completedPerSecond)).toFixed(1),
    ...formatPercentileCells(latency(runs)),
  ];
  const [before, after] = [latency(found.alone).p99, latency(found.beside).p99];
  const ratio = (after ?? Infinity) / Math.max(1, before ?? Infinity);
  return {
    tables: [
      {
        title: `Neighbours: the quiet ones' p99 beside the noise is ${formatRatio(ratio)} what it is without`,
        columns: ['open→assigned', 'completed/s', 'p50', 'p95', 'p99'],
        rows: [
          row('quiet ones alone', found.alone),
          row('quiet ones beside the noise', found.beside),
          row('the noisy one', found.noise),
        ],
      },
    ],
    figures: found,
    // A second is what a person who opens a conversation does not yet notice.
    verdicts: [{ what: 'quiet ones, open→assigned p99 beside the noise, ms', value: after ?? Infinity, bar: 1_000 }],
    faults,
  };
}
