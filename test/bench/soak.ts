/**
 * `npm run bench -- soak`: the same load for long, at 70 % of what the system keeps up with. Memory, latency and the tables are looked at
 * every minute; what grows although the load does not is a leak.
 */
import type pg from 'pg';
import type { BenchContext } from './context.ts';
import { formatRate, median, type ScenarioReport, type Table, type Verdict } from './figures.ts';
import { warmUp } from './lifecycle.ts';
import { startLoad, type Load } from './load.ts';
import { describeStep, formatPercentileCells, summarizeStep, type StepFigures } from './load-figures.ts';
import { readMemoryMiB, type Component } from './process-cpu.ts';
import { findHighestRate, keepsUp } from './rate-search.ts';
import { startStage } from './stage.ts';

export interface SoakOptions {
  readonly minutes: number;
  readonly secondsPerLook: number;
  readonly contacts: number;
  readonly warmUpRate: number;
  readonly env: Readonly<Record<string, string>>;
}

export const soakDefaults: SoakOptions = { minutes: 30, secondsPerLook: 60, contacts: 400, warmUpRate: 12, env: {} };

/** What is seen at the end of each minute. */
interface Look {
  readonly step: StepFigures;
  readonly memoryMiB: Readonly<Record<string, number>>;
  readonly tables: Readonly<Record<string, TableState>>;
}

interface TableState {
  readonly mebibytes: number;
  readonly deadRows: number;
}

export async function runSoak(bench: BenchContext, options: SoakOptions = soakDefaults): Promise<ScenarioReport> {
  const stage = await startStage({ bench, env: options.env });
  try {
    const components = await stage.components();
    const load = await startLoad(stage, components);
    try {
      await warmUp(bench, load, options);
      const rate = bench.rate ?? (await findRate(bench, load)) * 0.7;
      const looks: Look[] = [];
      const count = Math.max(3, Math.round(((bench.minutes ?? options.minutes) * 60) / options.secondsPerLook));
      for (let number = 1; number <= count; number += 1) {
        const seconds = options.secondsPerLook;
        const step = summarizeStep(rate, await load.run({ rate, seconds, leadInSeconds: 0 }));
        looks.push({ step, memoryMiB: readMemory(components), tables: await readTables(stage.pool) });
        bench.note(`${number} of ${count}: ${describeStep(step)}; ${describeMemory(looks.at(-1)!)}`);
      }
      bench.note('checking the invariants');
      return report(rate, looks, await stage.findFaults());
    } finally {
      await load.stop();
    }
  } finally {
    await stage.stop();
  }
}

async function findRate(bench: BenchContext, load: Load): Promise<number> {
  bench.note('looking for the highest rate');
  const found = await findHighestRate(
    async (rate) => {
      const step = summarizeStep(rate, await load.run({ rate, seconds: 10, leadInSeconds: 1.5, arrivals: 'even' }));
      bench.note(describeStep(step));
      return step;
    },
    { startRate: 20, factor: 1.4, refinements: 1 },
  );
  return found.highest ?? found.mostCompleted;
}

const readMemory = (components: readonly Component[]): Look['memoryMiB'] =>
  Object.fromEntries(
    components.flatMap(({ name, pids }): [string, number][] => {
      const sizes = pids.map(readMemoryMiB).filter((size) => size !== null);
      return sizes.length === 0 ? [] : [[name, sizes.reduce((sum, size) => sum + size, 0)]];
    }),
  );

const describeMemory = ({ memoryMiB }: Look): string =>
  Object.entries(memoryMiB)
    .map(([name, size]) => `${name} ${size.toFixed(0)} MiB`)
    .join(', ');

/** Partitions count with the table that they are of. */
async function readTables(pool: pg.Pool): Promise<Look['tables']> {
  const { rows } = await pool.query<{ name: string; bytes: string; deadRows: string }>(
    `SELECT coalesce(parent.relname, s.relname) AS name, sum(pg_total_relation_size(s.relid))::text AS bytes,
            sum(s.n_dead_tup)::text AS "deadRows"
     FROM pg_stat_user_tables s
     LEFT JOIN pg_inherits i ON i.inhrelid = s.relid
     LEFT JOIN pg_class parent ON parent.oid = i.inhparent
     GROUP BY 1 ORDER BY sum(pg_total_relation_size(s.relid)) DESC`,
  );
  return Object.fromEntries(
    rows.map(({ name, bytes, deadRows }) => [name, { mebibytes: Number(bytes) / 2 ** 20, deadRows: Number(deadRows) }]),
  );
}

/** Tables whose rows come and go, or change: what they take must not grow with what has gone through. */
const boundedTables = ['outbox', 'agents', 'agent_presence', 'contacts', 'leases'];

function report(rate: number, looks: readonly Look[], faults: readonly string[]): ScenarioReport {
  const growth = (what: string, value: (look: Look) => number, bar: number): Verdict => ({
    what: `${what}, last third to the third before`,
    value: growthOf(looks.map(value)),
    bar,
  });
  const verdicts: Verdict[] = [
    ...['API', 'worker']
      .filter((name) => looks[0]!.memoryMiB[name] !== undefined)
      .map((name) => growth(`memory of the ${name}`, (look) => look.memoryMiB[name]!, 1.1)),
    growth('open→assigned p50', (look) => look.step.openToAssignedMs.p50 ?? Infinity, 1.2),
    growth('open→assigned p99', (look) => look.step.openToAssignedMs.p99 ?? Infinity, 1.5),
    ...boundedTables
      .filter((name) => looks[0]!.tables[name] !== undefined)
      .map((name) => growth(`size of ${name}`, (look) => look.tables[name]!.mebibytes, 1.2)),
    {
      what: 'minutes in which it did not keep up',
      value: looks.filter(({ step }) => !keepsUp({ ...step, completedShare: step.unfinished === 0 ? 1 : 0 })).length,
      bar: 0,
    },
  ];
  return { tables: [tableLooks(rate, looks), tableTables(looks)], figures: { rate, looks }, verdicts, faults };
}

/** The first third is a start: memory that V8 takes while it is there, indexes that grow to their size. */
export function growthOf(values: readonly number[]): number {
  const third = Math.floor(values.length / 3);
  return median(values.slice(-third)) / Math.max(0.01, median(values.slice(-2 * third, -third)));
}

function tableLooks(rate: number, looks: readonly Look[]): Table {
  const names = Object.keys(looks[0]!.memoryMiB);
  return {
    title: `Soak at ${formatRate(rate)}/s`,
    columns: ['look', 'completed', 'open→assigned p50', 'p95', 'p99', ...names.map((name) => `${name} MiB`)],
    rows: looks.map(({ step, memoryMiB }, index) => [
      String(index + 1),
      `${formatRate(step.completedPerSecond)}/s`,
      ...formatPercentileCells(step.openToAssignedMs),
      ...names.map((name) => memoryMiB[name]!.toFixed(0)),
    ]),
  };
}

function tableTables(looks: readonly Look[]): Table {
  const [first, middle, last] = [looks[0]!, looks[Math.floor(looks.length / 2)]!, looks.at(-1)!];
  const size = ({ tables }: Look, name: string) => (tables[name]?.mebibytes ?? 0).toFixed(1);
  return {
    title: 'Tables, MiB with indexes',
    columns: ['', 'first look', 'half-way', 'last look', 'most dead rows', 'dead rows at last'],
    rows: Object.keys(last.tables)
      .slice(0, 15)
      .map((name) => [
        name,
        size(first, name),
        size(middle, name),
        size(last, name),
        String(Math.max(...looks.map(({ tables }) => tables[name]?.deadRows ?? 0))),
        String(last.tables[name]!.deadRows),
      ]),
  };
}
