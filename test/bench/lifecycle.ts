/**
 * `npm run bench -- lifecycle`: messages in by HTTP until the conversation is closed, at rising rates until Switchyard no longer keeps
 * up; then how quick it is at half of that and at four fifths. The same for the plain variant, and what the engine alone can do, in the
 * same run. With `--rate N` only that rate is measured, to see what a change costs or spares.
 */
import { measureCeiling, type CeilingFigures } from './ceiling-measure.ts';
import { medianFigures } from './ceiling.ts';
import type { BenchContext } from './context.ts';
import { formatRate, type ScenarioReport } from './figures.ts';
import { reportFixedRate, reportLifecycle } from './lifecycle-report.ts';
import { startLoad, type Load } from './load.ts';
import type { LoadStep } from './load-generator.ts';
import { describeStep, summarizeStep, type StepFigures } from './load-figures.ts';
import { findHighestRate, type RateFound, type RateSearch } from './rate-search.ts';
import { startStage, type StageOptions } from './stage.ts';

export interface LifecycleOptions {
  /** Contacts who have written before, and so have an actor. */
  readonly contacts: number;
  readonly warmUpRate: number;
  readonly stepSeconds: number;
  readonly leadInSeconds: number;
  readonly search: RateSearch;
  /** Each ceiling's; 0: neither ceiling nor plain variant is measured. */
  readonly ceilingSeconds: number;
  /** For API and worker. */
  readonly env: Readonly<Record<string, string>>;
}

export const lifecycleDefaults: LifecycleOptions = {
  contacts: 150,
  warmUpRate: 12,
  stepSeconds: 10,
  leadInSeconds: 1.5,
  search: { startRate: 20, factor: 1.4, refinements: 2 },
  ceilingSeconds: 8,
  env: {},
};

/** What one system did, run by run. */
export interface LifecycleRuns {
  readonly found: readonly RateFound[];
  readonly half: readonly StepFigures[];
  readonly most: readonly StepFigures[];
  /** At half, but each from a contact who has never written: a row, an identity and an actor more. */
  readonly strangers: readonly StepFigures[];
}

export interface Ceilings {
  readonly threeLocal: CeilingFigures;
  readonly oneLocal: CeilingFigures;
}

export async function runLifecycle(
  bench: BenchContext,
  options: LifecycleOptions = lifecycleDefaults,
): Promise<ScenarioReport> {
  const { rate } = bench;
  if (rate !== null) {
    const { result, faults } = await withLoad({ bench, options }, async (site) => {
      const runs: StepFigures[] = [];
      for (let run = 1; run <= bench.runs; run += 1) runs.push(await measure(site, rate));
      return runs;
    });
    return reportFixedRate(rate, result, faults);
  }
  const ours = await withLoad({ bench, options }, measureRuns);
  if (options.ceilingSeconds === 0) return reportLifecycle({ runs: ours.result, faults: ours.faults });
  const plain = await withLoad({ bench, options: plainOptions(options), workerEntry: plainWorker }, measureRates);
  const ceilings = await measureCeilings(bench, options.ceilingSeconds);
  return reportLifecycle({
    runs: ours.result,
    plain: plain.result,
    ceilings,
    faults: [...ours.faults, ...plain.faults.map((fault) => `plain variant: ${fault}`)],
  });
}

const plainWorker = 'test/bench/plain-worker.ts';

/** It is slower by so much that our own rates would drown it at once. */
const plainOptions = (options: LifecycleOptions): LifecycleOptions => ({
  ...options,
  contacts: Math.ceil(options.contacts / 3),
  warmUpRate: options.warmUpRate / 2,
  search: { ...options.search, startRate: options.search.startRate / 4, refinements: 1 },
});

interface Site {
  readonly bench: BenchContext;
  readonly load: Load;
  readonly options: LifecycleOptions;
}

/** A system of its own with warm actors, and what is wrong with what it leaves. */
async function withLoad<T>(
  {
    bench,
    options,
    ...more
  }: Pick<StageOptions, 'bench' | 'workerEntry'> & { bench: BenchContext; options: LifecycleOptions },
  work: (site: Site) => Promise<T>,
): Promise<{ result: T; faults: string[] }> {
  const stage = await startStage({ bench, env: options.env, ...more });
  try {
    const load = await startLoad(stage, await stage.components());
    try {
      await warmUp(bench, load, options);
      const result = await work({ bench, load, options });
      bench.note('checking the invariants');
      return { result, faults: await stage.findFaults() };
    } finally {
      await load.stop();
    }
  } finally {
    await stage.stop();
  }
}

/** Every contact writes once: from then on it has a row, and an actor in the workers' memory. */
export async function warmUp(
  bench: Pick<BenchContext, 'note'>,
  load: Load,
  { contacts, warmUpRate }: Pick<LifecycleOptions, 'contacts' | 'warmUpRate'>,
): Promise<void> {
  bench.note(`warming up with ${contacts} contacts`);
  const seconds = contacts / warmUpRate;
  await load.run({ rate: warmUpRate, seconds, leadInSeconds: 0, newContacts: 1, arrivals: 'even' });
}

async function measure(
  { bench, load, options }: Site,
  rate: number,
  step: Partial<LoadStep> = {},
): Promise<StepFigures> {
  const { stepSeconds: seconds, leadInSeconds } = options;
  const figures = summarizeStep(rate, await load.run({ rate, seconds, leadInSeconds, ...step }));
  bench.note(describeStep(figures));
  return figures;
}

/** Evenly spaced, so that whether it keeps up is not a matter of how many happened to come. */
async function measureRates(site: Site): Promise<readonly RateFound[]> {
  const found: RateFound[] = [];
  for (let run = 1; run <= site.bench.runs; run += 1) found.push(await searchRate(site, found.at(-1)));
  return found;
}

function searchRate(site: Site, previous: RateFound | undefined): Promise<RateFound> {
  const { search } = site.options;
  const known = previous?.highest ?? null;
  const from = known === null ? search : { startRate: known, factor: 1.15, refinements: 1 };
  return findHighestRate((rate) => measure(site, rate, { arrivals: 'even' }), from);
}

async function measureRuns(site: Site): Promise<LifecycleRuns> {
  const { bench } = site;
  const runs = { found: [] as RateFound[], half: [] as StepFigures[], most: [] as StepFigures[] };
  const strangers: StepFigures[] = [];
  for (let run = 1; run <= bench.runs; run += 1) {
    runs.found.push(await searchRate(site, runs.found.at(-1)));
    const { highest, mostCompleted } = runs.found.at(-1)!;
    // Where it never kept up there is still something to be seen.
    const top = highest ?? Math.max(1, mostCompleted);
    bench.note(`run ${run} of ${bench.runs}: keeps up with ${formatRate(top)}/s`);
    runs.half.push(await measure(site, top * 0.5));
    runs.most.push(await measure(site, top * 0.8));
    strangers.push(await measure(site, top * 0.5, { newContacts: 1 }));
  }
  return { ...runs, strangers };
}

async function measureCeilings({ engine, runs, note }: BenchContext, seconds: number): Promise<Ceilings> {
  const found = { 'three-local': [] as CeilingFigures[], 'one-local': [] as CeilingFigures[] };
  for (let run = 1; run <= runs; run += 1) {
    for (const variant of ['three-local', 'one-local'] as const) {
      found[variant].push(await measureCeiling(await engine(), { variant, seconds, note }));
      note(`${variant}: ${formatRate(found[variant].at(-1)!.conversationsPerSecond)}/s`);
    }
  }
  return { threeLocal: medianFigures(found['three-local']), oneLocal: medianFigures(found['one-local']) };
}
