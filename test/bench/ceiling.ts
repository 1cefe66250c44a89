/** `npm run bench -- ceiling`: what the engine alone can do, with actors that do nothing but are told the same as ours. */
import {
  ceilingVariants,
  startCeiling,
  type Ceiling,
  type CeilingFigures,
  type CeilingVariant,
} from './ceiling-measure.ts';
import type { BenchContext } from './context.ts';
import { formatFineMs, formatRate, formatRatio, median, type ScenarioReport, type Table } from './figures.ts';

export interface CeilingRunOptions {
  readonly variants: readonly CeilingVariant[];
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly inFlight: number;
}

export const ceilingDefaults: CeilingRunOptions = {
  variants: Object.keys(ceilingVariants) as CeilingVariant[],
  seconds: 8,
  warmUpSeconds: 8,
  inFlight: 60,
};

/** Variants take turns, so that what slows the machine for a while slows them alike. */
export async function runCeiling(
  bench: BenchContext,
  { variants, seconds, warmUpSeconds, inFlight }: CeilingRunOptions = ceilingDefaults,
): Promise<ScenarioReport> {
  const engine = await bench.engine();
  const started: { variant: CeilingVariant; ceiling: Ceiling; runs: CeilingFigures[] }[] = [];
  try {
    const starting = variants.map(async (variant) => {
      const ceiling = await startCeiling(engine, { variant, warmUpSeconds, inFlight });
      started.push({ variant, ceiling, runs: [] });
    });
    // All of them, so that none starts after the others were stopped.
    for (const { status, ...result } of await Promise.allSettled(starting)) {
      if (status === 'rejected') throw (result as PromiseRejectedResult).reason;
    }
    started.sort((left, right) => variants.indexOf(left.variant) - variants.indexOf(right.variant));
    for (let run = 1; run <= bench.runs; run += 1) {
      for (const { variant, ceiling, runs } of started) {
        const figures = await ceiling.run(seconds);
        runs.push(figures);
        bench.note(`${run}/${bench.runs} ${titles[variant]}: ${formatRate(figures.conversationsPerSecond)}/s`);
      }
    }
  } finally {
    for (const { ceiling } of started) await ceiling.stop();
  }
  const measured = started.map(({ variant, runs }) => ({ variant, ...medianFigures(runs), runs }));
  return {
    tables: [tableOf(measured)],
    figures: { engine: engine.facts, variants: measured },
    verdicts: [],
    faults: null,
  };
}

/** Of each figure by itself. */
export function medianFigures(runs: readonly CeilingFigures[]): CeilingFigures {
  return {
    conversationsPerSecond: median(runs.map((run) => run.conversationsPerSecond)),
    openedMs: median(runs.map((run) => run.openedMs)),
    cpuMs: runs[0]!.cpuMs.map(({ name }) => ({
      name,
      perConversation: median(runs.map(({ cpuMs }) => cpuMs.find((part) => part.name === name)!.perConversation)),
    })),
  };
}

const titles: Readonly<Record<CeilingVariant, string>> = {
  'one-local': 'one local activity a waking, by updates',
  'three-local': 'three local activities, by updates',
  'one-local-signals': 'one local activity a waking, by signals',
  'three-local-signals': 'three local activities, by signals',
  'three-regular': 'three regular activities, by signals',
};

/** Components stand as columns; a thread of the worker is part of its process and is told in the JSON only. */
function tableOf(measured: readonly (CeilingFigures & { variant: CeilingVariant })[]): Table {
  const parts = measured[0]!.cpuMs.map(({ name }) => name).filter((name) => !name.includes(':'));
  const best = Math.max(...measured.map(({ conversationsPerSecond }) => conversationsPerSecond));
  return {
    title: 'The engine alone, CPU per conversation (medians)',
    columns: [
      '',
      'conversations/s',
      'to the best',
      'open→done p50',
      ...parts,
      ...(parts.length === 0 ? [] : ['in all']),
    ],
    rows: measured.map(({ variant, conversationsPerSecond, openedMs, cpuMs }) => {
      const costs = parts.map((part) => cpuMs.find(({ name }) => name === part)!.perConversation);
      const sum = costs.reduce((total, cost) => total + cost, 0);
      return [
        titles[variant],
        formatRate(conversationsPerSecond),
        formatRatio(conversationsPerSecond / best),
        formatFineMs(openedMs),
        ...costs.map(formatFineMs),
        ...(parts.length === 0 ? [] : [formatFineMs(sum)]),
      ];
    }),
  };
}
