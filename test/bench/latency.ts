/**
 * `npm run bench -- latency`: one conversation at a time. They come so far apart that each finds the system at rest; how long it takes
 * from the message to the agent is then what the steps take by themselves.
 */
import type { BenchContext } from './context.ts';
import type { ScenarioReport, Table, Verdict } from './figures.ts';
import { warmUp } from './lifecycle.ts';
import { startLoad, type Load } from './load.ts';
import {
  describeStep,
  formatPercentileCells,
  medianPercentiles,
  summarizeStep,
  tableCpu,
  type Percentiles,
  type StepFigures,
} from './load-figures.ts';
import { startStage } from './stage.ts';

export interface LatencyOptions {
  readonly contacts: number;
  readonly warmUpRate: number;
  /** Conversations a second: slow enough that hardly two meet. */
  readonly rate: number;
  readonly seconds: number;
  readonly env: Readonly<Record<string, string>>;
}

export const latencyDefaults: LatencyOptions = { contacts: 40, warmUpRate: 8, rate: 3, seconds: 35, env: {} };

export async function runLatency(
  bench: BenchContext,
  options: LatencyOptions = latencyDefaults,
): Promise<ScenarioReport> {
  const stage = await startStage({ bench, env: options.env });
  try {
    const load = await startLoad(stage, await stage.components());
    try {
      await warmUp(bench, load, options);
      const known: StepFigures[] = [];
      const strangers: StepFigures[] = [];
      for (let run = 1; run <= bench.runs; run += 1) {
        known.push(await measure(bench, load, options, 0));
        strangers.push(await measure(bench, load, options, 1));
      }
      bench.note('checking the invariants');
      return report(known, strangers, await stage.findFaults());
    } finally {
      await load.stop();
    }
  } finally {
    await stage.stop();
  }
}

async function measure(
  bench: BenchContext,
  load: Load,
  { rate, seconds }: LatencyOptions,
  newContacts: number,
): Promise<StepFigures> {
  const step = { rate, newContacts, seconds: newContacts === 0 ? seconds : seconds / 2 };
  // The agent closes soon, so that the conversation is over before the next one comes.
  const measured = await load.run({ ...step, leadInSeconds: 0.5, arrivals: 'even', thinkMs: 60 });
  const figures = summarizeStep(rate, measured);
  bench.note(describeStep(figures));
  return figures;
}

function report(
  known: readonly StepFigures[],
  strangers: readonly StepFigures[],
  faults: readonly string[],
): ScenarioReport {
  const pick = (runs: readonly StepFigures[], of: (run: StepFigures) => Percentiles) => medianPercentiles(runs.map(of));
  const rows = (who: string, runs: readonly StepFigures[]): string[][] => [
    [`${who}: open→assigned`, ...formatPercentileCells(pick(runs, (run) => run.openToAssignedMs))],
    [`${who}: post→202`, ...formatPercentileCells(pick(runs, (run) => run.postToAnswerMs))],
    [`${who}: close→closed`, ...formatPercentileCells(pick(runs, (run) => run.closeToClosedMs))],
    [`${who}: open→seen in the feed`, ...formatPercentileCells(pick(runs, (run) => run.openToSeenMs))],
  ];
  const table: Table = {
    title: 'One conversation at a time',
    columns: ['', 'p50', 'p95', 'p99'],
    rows: [...rows('known contact', known), ...rows('new contact', strangers)],
  };
  const cost = tableCpu('Cost', new Map([...entry('known contacts', known), ...entry('new contacts', strangers)]));
  const { p50, p99 } = pick(known, (run) => run.openToAssignedMs);
  const verdicts: Verdict[] = [
    { what: 'open→assigned p50, ms', value: p50 ?? Infinity, bar: 30 },
    { what: 'open→assigned p99, ms', value: p99 ?? Infinity, bar: 100 },
  ];
  return { tables: [table, ...(cost === null ? [] : [cost])], figures: { known, strangers }, verdicts, faults };
}

const entry = (name: string, runs: readonly StepFigures[]): [string, readonly StepFigures[]][] => [[name, runs]];
