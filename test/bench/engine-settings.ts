/**
 * `npm run bench -- engine-settings`: what single settings of Temporal's server, of its database and of the worker cost or spare, each
 * against what we ship, with actors that do nothing. Those of a group run side by side, each with a server, a database and a worker of its
 * own, at the same time as what we ship: whatever else slows the machine slows all of them, and only ratios are told. (In turns, a busy
 * machine made the ratio of two that were the same 0.7 to 1.3.) What we ship is there twice: ratios are to the mean of both, and that of
 * the second tells what is noise. The client is one process for all, so what it costs is told only of groups
 * that take turns. `--only GOGC,shard` tries the settings that have one of these in their names.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startCeiling, type Ceiling, type CeilingFigures, type CeilingOptions } from './ceiling-measure.ts';
import type { BenchContext } from './context.ts';
import { engineSettings, type Setting, type SettingGroup } from './engine-setting-list.ts';
import { startEngine, type Engine } from './engine.ts';
import { formatFineMs, formatRate, formatRatio, median, type ScenarioReport, type Table } from './figures.ts';
import { readMemoryMiB, startCpuMeter } from './process-cpu.ts';

export interface EngineSettingsOptions {
  readonly groups: readonly SettingGroup[];
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly idleSeconds: number;
}

const defaults: EngineSettingsOptions = { groups: engineSettings, seconds: 10, warmUpSeconds: 2, idleSeconds: 4 };

type Bench = Pick<BenchContext, 'note' | 'runs' | 'only'>;

export async function runEngineSettings(
  bench: Bench,
  options: EngineSettingsOptions = defaults,
): Promise<ScenarioReport> {
  const groups = choose(options.groups, bench.only ?? []);
  const measured: Measured[][] = [];
  for (const group of groups) measured.push(await measureGroup({ bench, group, options }));
  return {
    tables: measured.map((each, index) => tableOf(groups[index]!, each)),
    figures: { settings: measured },
    verdicts: [],
    faults: null,
  };
}

/** Those asked for are measured side by side, of whatever groups they are, where the load is the same. */
function choose(groups: readonly SettingGroup[], only: readonly string[]): readonly SettingGroup[] {
  if (only.length === 0) return groups;
  const isAsked = ({ name }: Setting): boolean => only.some((text) => name.toLowerCase().includes(text.toLowerCase()));
  const isPlain = ({ load, inTurns }: SettingGroup): boolean => load === undefined && inTurns !== true;
  const together = { title: 'settings asked for', settings: groups.filter(isPlain).flatMap((group) => group.settings) };
  return [together, ...groups.filter((group) => !isPlain(group))]
    .map((group) => ({ ...group, settings: group.settings.filter(isAsked) }))
    .filter(({ settings }) => settings.length > 0);
}

interface Measured {
  readonly name: string;
  readonly runs: readonly CeilingFigures[];
  /** Of Temporal and its database together, CPU-ms a second. */
  readonly idleCpuMs: number | null;
  /** Of Temporal's server, after the load; null where the system does not tell. */
  readonly memoryMiB: number | null;
}

interface GroupRequest {
  readonly bench: Bench;
  readonly group: SettingGroup;
  readonly options: EngineSettingsOptions;
}

interface Stage {
  readonly name: string;
  readonly engine: Engine;
  readonly ceiling: Ceiling;
  readonly runs: CeilingFigures[];
}

/** What we ship comes first and last. */
async function measureGroup({ bench, group, options }: GroupRequest): Promise<Measured[]> {
  const { seconds, warmUpSeconds, idleSeconds } = options;
  const { inTurns = false, settings } = group;
  const closing: (() => Promise<unknown>)[] = [];
  async function startStage({ name, ceiling: changes, ...server }: Setting): Promise<Stage> {
    const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-bench-engine-'));
    closing.push(() => rm(stateDir, { recursive: true, force: true }));
    const engine = await startEngine({ kind: 'server', stateDir, log: () => undefined, ...server });
    closing.push(() => engine.stop());
    const inFlight = inTurns ? 60 : Math.ceil(60 / (settings.length + 2));
    const load: CeilingOptions = { variant: 'one-local', client: 'native', warmUpSeconds, inFlight };
    const ceiling = await startCeiling(engine, { ...load, ...group.load, ...changes });
    closing.push(() => ceiling.stop());
    bench.note(`started: ${name}`);
    return { name, engine, ceiling, runs: [] };
  }
  try {
    const starting = await Promise.allSettled(
      [{ name: 'as shipped' }, ...settings, { name: 'as shipped, again' }].map(startStage),
    );
    // All of them, so that none starts after the others were stopped.
    const stages = starting.map((each) => {
      if (each.status === 'rejected') throw each.reason;
      return each.value;
    });
    const idleCpuMs = await measureIdle(stages, idleSeconds);
    const measure = async ({ ceiling, runs }: Stage): Promise<unknown> =>
      runs.push(await ceiling.run(group.seconds ?? seconds));
    for (let run = 1; run <= bench.runs; run += 1) {
      if (inTurns) for (const stage of stages) await measure(stage);
      else await Promise.all(stages.map(measure));
      bench.note(`${run} of ${bench.runs}`);
    }
    return stages.map(({ name, runs, engine }, index) => ({
      ...{ name, runs, idleCpuMs: idleCpuMs[index] ?? null },
      memoryMiB: readMemoryMiB(engine.processes.find((child) => child.name === 'Temporal')!.pid),
    }));
  } finally {
    for (const close of closing.toReversed()) await close();
  }
}

/** All at the same time, with their workers waiting for something to do. */
async function measureIdle(stages: readonly Stage[], seconds: number): Promise<(number | undefined)[]> {
  const readings = stages.map(({ engine }) =>
    startCpuMeter([{ name: 'idle', pids: engine.processes.map(({ pid }) => pid) }]),
  );
  await delay(seconds * 1_000);
  return readings.map((read) => read().map(({ cpuMs }) => cpuMs / seconds)[0]);
}

const engineParts = ['Temporal', 'PostgreSQL of Temporal', 'worker'];

/** The first row in ms, as a mean of the two; the others as ratios to it, and of the sum the least and the greatest ratio as well. */
function tableOf(group: SettingGroup, measured: readonly Measured[]): Table {
  const parts = group.inTurns === true ? [...engineParts, 'client'] : engineParts;
  const costOf = ({ cpuMs }: CeilingFigures, names: readonly string[]): number =>
    cpuMs.filter(({ name }) => names.includes(name)).reduce((sum, { perConversation }) => sum + perConversation, 0);
  const [shipped, again] = [measured[0]!, measured.at(-1)!];
  type Figure = (figures: CeilingFigures) => number;
  const ofShipped = (figure: Figure, run: number): number =>
    (figure(shipped.runs[run]!) + figure(again.runs[run]!)) / 2;
  const ratios = (runs: Measured['runs'], figure: Figure): number[] =>
    runs.map((figures, run) => figure(figures) / ofShipped(figure, run));
  const rateOf = ({ conversationsPerSecond }: CeilingFigures): number => conversationsPerSecond;
  function rowOf({ name, runs, idleCpuMs, memoryMiB }: Measured): string[] {
    const rest = [
      idleCpuMs === null ? '?' : `${idleCpuMs.toFixed(0)} ms/s`,
      memoryMiB === null ? '?' : `${memoryMiB.toFixed(0)} MiB`,
    ];
    if (runs === shipped.runs) {
      const middle = (figure: Figure) => median(runs.map((_figures, run) => ofShipped(figure, run)));
      const ms = (names: readonly string[]) => formatFineMs(middle((figures) => costOf(figures, names)));
      return [name, ms(parts), '', ...parts.map((part) => ms([part])), `${formatRate(middle(rateOf))}/s`, ...rest];
    }
    const ratio = (names: readonly string[]) => formatRatio(median(ratios(runs, (figures) => costOf(figures, names))));
    const all = ratios(runs, (figures) => costOf(figures, parts));
    return [
      name,
      ratio(parts),
      `${Math.min(...all).toFixed(2)} – ${Math.max(...all).toFixed(2)}`,
      ...parts.map((part) => ratio([part])),
      formatRatio(median(ratios(runs, rateOf))),
      ...rest,
    ];
  }
  return {
    title: `CPU per conversation, ${group.title}: changed to shipped (medians of the ratios)`,
    columns: ['', 'in all', 'from – to', ...parts, 'rate', 'idle server', 'its memory'],
    rows: measured.map(rowOf),
  };
}
