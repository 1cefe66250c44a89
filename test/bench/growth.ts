/**
 * `npm run bench -- growth`: what a conversation and a message cost in a small house and in one that has grown, in the same run and in turns. The
 * grown one has a million contacts and ten million messages behind it. It is made once and kept
 * in the user's cache; every run leaves its own conversations there, which are few beside what is there. The small one is made anew.
 *
 * Two ways of measuring, since they see different things: the store alone, whose conversations are those of contacts picked at random from
 * all there are, so that hardly any page is where the last one was; and the whole system at a set rate.
 */
import { join } from 'node:path';
import { startEmbeddedPostgres } from '../../ops/embedded-postgres.ts';
import { resolveCacheDirectory } from '../../ops/shared-directory.ts';
import { migrate } from '../../store/migrate.ts';
import { runStatement, urlOf } from './bench-server.ts';
import type { BenchContext } from './context.ts';
import { formatFineMs, formatRatio, median, type ScenarioReport, type Table, type Verdict } from './figures.ts';
import { makePast, type Past } from './growth-population.ts';
import { baseHouse, houseCases, measureHouse, type HouseCase, type HouseFigures } from './growth-house.ts';
import { measureStore, storeMeasures, type StoreFigures } from './growth-store.ts';

export interface GrowthOptions {
  readonly contacts: { readonly small: number; readonly large: number };
  /** Of each measure in each round. */
  readonly storeSeconds: number;
  readonly house: {
    readonly rate: number;
    readonly seconds: number;
    readonly agents: number;
    readonly waiting: number;
  };
  /** Where the databases are kept; null: on the run's own server, and gone afterwards. */
  readonly keptIn: string | null;
}

export const growthDefaults: GrowthOptions = {
  contacts: { small: 1_000, large: 1_000_000 },
  storeSeconds: 3,
  house: { rate: 20, seconds: 4, agents: 10_000, waiting: 50_000 },
  keptIn: join(resolveCacheDirectory(), 'growth'),
};

export async function runGrowth(bench: BenchContext, options: GrowthOptions = growthDefaults): Promise<ScenarioReport> {
  const keeper = await openKeeper(bench, options);
  try {
    const sites = {
      small: await keeper.open(options.contacts.small),
      large: await keeper.open(options.contacts.large),
    };
    const store: Record<Size, StoreFigures[]> = { small: [], large: [] };
    const houses = new Map<string, MeasuredPair>();
    const faults: string[] = [];
    for (let run = 1; run <= bench.runs; run += 1) {
      // The other way round every other time, so that neither always comes after the other.
      for (const size of run % 2 === 0 ? (['large', 'small'] as const) : (['small', 'large'] as const)) {
        const figures = await measureStore(sites[size], { seconds: options.storeSeconds });
        bench.note(
          `run ${run}, ${size}: ${storeMeasures.map((name) => `${name} ${formatFineMs(figures[name])}`).join(', ')}`,
        );
        store[size].push(figures);
      }
    }
    const measure = async (house: HouseCase): Promise<readonly HouseFigures[]> => {
      const { databaseUrl } = sites[house.isGrown ? 'large' : 'small'];
      const measured = await measureHouse({ bench, databaseUrl, house, ...options.house });
      bench.note(
        `${house.name}: CPU a conversation ${measured.runs.map(({ cpuMs }) => formatFineMs(cpuMs)).join(', ')}`,
      );
      faults.push(...measured.faults.map((fault) => `${house.name}: ${fault}`));
      return measured.runs;
    };
    for (const house of houseCases(options.house)) {
      // Each beside a base of its own, since what a shared machine does changes from minute to minute.
      houses.set(house.name, { base: await measure(baseHouse), grown: await measure(house) });
    }
    return summarize({ store, houses, faults, options });
  } finally {
    await keeper.close();
  }
}

type Size = 'small' | 'large';

interface MeasuredPair {
  readonly base: readonly HouseFigures[];
  readonly grown: readonly HouseFigures[];
}

interface KeptPast extends Past {
  readonly databaseUrl: string;
}

interface Keeper {
  open(contacts: number): Promise<KeptPast>;
  close(): Promise<void>;
}

/** A server of its own, whose settings are those of `npm start`, with one database a size. */
async function openKeeper(
  { server, note }: BenchContext,
  { keptIn, contacts: { small } }: GrowthOptions,
): Promise<Keeper> {
  const kept = keptIn === null ? null : await startEmbeddedPostgres({ stateDir: keptIn, log: note });

  async function open(contacts: number): Promise<KeptPast> {
    const name = `past_${contacts}`;
    const databaseUrl = kept === null ? await server.createDatabase(name) : urlOf(kept.url, name);
    if (kept !== null) {
      if (contacts === small) await runStatement(kept.url, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
      await runStatement(kept.url, `CREATE DATABASE ${name}`).catch((error: unknown) => {
        // duplicate_database: it is the one that was kept.
        if ((error as { code?: string }).code !== '42P04') throw error;
      });
      await migrate(databaseUrl);
    }
    const past = await makePast(databaseUrl, { contacts, note: (line) => note(`${contacts} contacts: ${line}`) });
    return { ...past!, databaseUrl };
  }

  return { open, close: async () => kept?.stop() };
}

interface Findings {
  readonly store: Readonly<Record<Size, readonly StoreFigures[]>>;
  readonly houses: ReadonlyMap<string, MeasuredPair>;
  readonly faults: readonly string[];
  readonly options: GrowthOptions;
}

function summarize({ store, houses, faults, options }: Findings): ScenarioReport {
  const storeRatios = Object.fromEntries(
    storeMeasures.map((name) => [
      name,
      // Round by round, as what slows the machine for a while slows neighbours alike.
      median(store.large.map((figures, round) => figures[name] / store.small[round]![name])),
    ]),
  );
  const houseRatios = [...houses].map(([name, { base, grown }]) => ({ name, cpu: cpuOf(grown) / cpuOf(base) }));
  const verdicts: Verdict[] = [
    ...storeMeasures.map((name) => ({
      what: `CPU of the store, ${name}, large to small`,
      value: storeRatios[name]!,
      bar: 1.3,
    })),
    ...houseRatios.map(({ name, cpu }) => ({ what: `CPU a conversation, ${name} to base`, value: cpu, bar: 1.3 })),
  ];
  return {
    tables: [tableStore(store, storeRatios, options), tableHouses(houses), tableMemory(houses)],
    figures: { options, store, storeRatios, houses: Object.fromEntries(houses), houseRatios },
    verdicts,
    faults,
  };
}

function tableStore(
  store: Findings['store'],
  ratios: Readonly<Record<string, number>>,
  { contacts }: GrowthOptions,
): Table {
  const cell = (size: Size, name: keyof StoreFigures) =>
    formatFineMs(median(store[size].map((figures) => figures[name])));
  return {
    title: 'The store alone: CPU of client and server',
    columns: ['', `${contacts.small.toLocaleString('en')} contacts`, contacts.large.toLocaleString('en'), 'ratio'],
    rows: storeMeasures.map((name) => [name, cell('small', name), cell('large', name), formatRatio(ratios[name]!)]),
  };
}

const cpuOf = (runs: readonly HouseFigures[]): number => median(runs.map(({ cpuMs }) => cpuMs));

function tableHouses(houses: Findings['houses']): Table {
  const first = [...houses.values()][0]!.base[0]!;
  const components = Object.keys(first.cpuMsOf);
  const row = (name: string, runs: readonly HouseFigures[], ratio: string) => [
    name,
    formatFineMs(cpuOf(runs)),
    ratio,
    ...components.map((component) => median(runs.map(({ cpuMsOf }) => cpuMsOf[component] ?? 0)).toFixed(1)),
    median(runs.map(({ perSecond }) => perSecond)).toFixed(1),
    formatFineMs(median(runs.map(({ p50Ms }) => p50Ms))),
    formatFineMs(median(runs.map(({ p99Ms }) => p99Ms))),
  ];
  return {
    title: 'The whole system at a set rate: each beside a base that is small in everything. CPU-ms a conversation',
    columns: ['', 'in all', 'to base', ...components, 'completed/s', 'open→assigned p50', 'p99'],
    rows: [...houses].flatMap(([name, { base, grown }]) => [
      row('base', base, ''),
      row(name, grown, formatRatio(cpuOf(grown) / cpuOf(base))),
    ]),
  };
}

function tableMemory(houses: Findings['houses']): Table {
  const [[, { base }]] = [...houses] as [[string, MeasuredPair]];
  const components = Object.keys(base[0]!.memoryMiB);
  const row = (name: string, runs: readonly HouseFigures[]) => [
    name,
    ...components.map((component) => median(runs.map(({ memoryMiB }) => memoryMiB[component] ?? 0)).toFixed(0)),
  ];
  return {
    title: 'Memory at the end, MiB; of several processes the sum',
    columns: ['', ...components],
    rows: [row('base', base), ...[...houses].map(([name, { grown }]) => row(name, grown))],
  };
}
