/**
 * `npm run bench -- assign`: what an assignment costs, in a large house and in a small one, in the same run and in turns, so that
 * whatever else the machine does falls on both. A third house is small but for its queue, which is as long as the large one's. In a fourth,
 * where nobody waits, the same comes in sets (assign-sets.ts).
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { percentile } from '../../ops/demo/percentile.ts';
import { findNeedlessWaits, findWrongLoads } from '../support/balance.ts';
import type { CoreRounds } from './assign-core.ts';
import { houseNames, ofHouses, type HouseName, type PopulationSize } from './assign-population.ts';
import { calm, measureSets, setSizes, setsTable, type SetCosts } from './assign-sets.ts';
import { createAssignStage, type AssignStage } from './assign-stage.ts';
import {
  measureArrivalsThatWait,
  measureArrivalsWithRoom,
  measureDrains,
  measureRingBatch,
  measureSlopeChanges,
  type Sample,
} from './assign-store.ts';
import type { BenchServer } from './bench-server.ts';
import {
  formatFineMs,
  formatRate,
  formatRatio,
  median,
  type ScenarioReport,
  type Table,
  type Verdict,
} from './figures.ts';

export interface AssignOptions {
  readonly sizes: Readonly<Record<HouseName, PopulationSize>>;
  readonly rounds: number;
  /** How long each thing is measured in each round. */
  readonly budgetMs: number;
  readonly connections: number;
  /** Single decisions of the core in each round. */
  readonly coreDecisions: number;
}

export const assignDefaults: AssignOptions = {
  sizes: {
    small: { agents: 100, teams: 2, waiting: 500 },
    large: { agents: 10_000, teams: 200, waiting: 50_000 },
    long: { agents: 100, teams: 2, waiting: 50_000 },
  },
  rounds: 7,
  budgetMs: 800,
  connections: 8,
  coreDecisions: 2_000,
};

export async function runAssign(
  server: BenchServer,
  note: (line: string) => void,
  options: AssignOptions = assignDefaults,
): Promise<ScenarioReport> {
  note('the core alone');
  const core = await measureCore(options);
  note('in sets');
  const sets = await measureInSets(server, options);
  const houses = await openHouses(server, options, note);
  try {
    const rounds: Round[] = [];
    for (let number = 1; number <= options.rounds; number += 1) {
      // The other way round every other time, so that none always comes after the same one.
      for (const house of number % 2 === 0 ? houses.toReversed() : houses) {
        rounds.push(await measureRound(house, options));
        note(`round ${number} of ${options.rounds}, ${house.name}: ${describeRound(rounds.at(-1)!)}`);
      }
    }
    note('rings and slopes');
    const events = await measureEvents(houses, options);
    const records = await readRecordBytes(houses.find(({ name }) => name === 'large')!.stage);
    note('checking the invariants');
    const faults = (await Promise.all(houses.map((house) => findFaults(house, options)))).flat();
    return summarize({
      rounds,
      core,
      sets: sets.rounds,
      events,
      records,
      faults: [...sets.faults, ...faults],
      options,
    });
  } finally {
    await Promise.all(houses.map(({ stage }) => stage.end()));
  }
}

interface House {
  readonly name: HouseName;
  readonly stage: AssignStage;
}

async function openHouses(
  server: BenchServer,
  { sizes, connections }: AssignOptions,
  note: (line: string) => void,
): Promise<House[]> {
  const houses: House[] = [];
  for (const name of houseNames) {
    const databaseUrl = await server.createDatabase(name);
    const size = sizes[name];
    const stage = await createAssignStage(databaseUrl, { size, connections, note: (line) => note(`${name}: ${line}`) });
    await stage.settle();
    // The first calls prepare statements and compile code.
    for (const pool of [stage.pools.single, stage.pools.several]) await measureDrains(stage, pool, 50);
    houses.push({ name, stage });
  }
  return houses;
}

/** A house of the small one's size. */
async function measureInSets(
  server: BenchServer,
  { sizes, connections, rounds, budgetMs }: AssignOptions,
): Promise<{ rounds: SetCosts[]; faults: string[] }> {
  const size = { ...sizes.small, waiting: 0 };
  const stage = await createAssignStage(await server.createDatabase('calm'), {
    size,
    connections,
    note: () => undefined,
  });
  try {
    await calm(stage);
    await stage.settle();
    for (const setSize of setSizes) await measureSets(stage, setSize, budgetMs / 2);
    const costs: SetCosts[] = [];
    for (let round = 0; round < rounds; round += 1) {
      for (const setSize of setSizes) costs.push(await measureSets(stage, setSize, budgetMs));
    }
    const { aside } = stage.pools;
    const found = [
      ...(await findWrongLoads(aside, stage.workspaceId)),
      ...(await findNeedlessWaits(aside, stage.workspaceId)),
    ];
    return { rounds: costs, faults: found.map((fault) => `calm: ${fault}`) };
  } finally {
    await stage.end();
  }
}

const storeMeasures = ['drain', 'drainSeveral', 'arrivalWithRoom', 'arrivalThatWaits'] as const;
type StoreMeasure = (typeof storeMeasures)[number];

interface Round extends Readonly<Record<StoreMeasure, Sample>> {
  readonly name: HouseName;
}

async function measureRound({ name, stage }: House, { budgetMs }: AssignOptions): Promise<Round> {
  const { single, several } = stage.pools;
  return {
    name,
    drain: await measureDrains(stage, single, budgetMs),
    drainSeveral: await measureDrains(stage, several, budgetMs),
    arrivalWithRoom: await measureArrivalsWithRoom(stage, single, budgetMs / 2),
    arrivalThatWaits: await measureArrivalsThatWait(stage, single, budgetMs / 2),
  };
}

const costOf = ({ elapsedMs, done }: Sample): number => elapsedMs / done;
const rateOf = (costMs: number): number => 1_000 / costMs;

const describeRound = ({ drain, drainSeveral }: Round): string =>
  `${formatRate(rateOf(costOf(drain)))} decisions/s, on several connections ${formatRate(rateOf(costOf(drainSeveral)))}`;

/** In a process of its own: see there. */
async function measureCore(options: AssignOptions): Promise<CoreRounds> {
  const file = fileURLToPath(new URL('./assign-core-process.ts', import.meta.url));
  const child = fork(file, [JSON.stringify(options)], {
    execArgv: [`--max-semi-space-size=${youngMebibytes}`, '--import', 'tsx'],
  });
  try {
    // Comes after every message.
    const ended = once(child, 'disconnect').then(() => {
      throw new Error('the measurement of the core ended without an answer');
    });
    const [rounds] = (await Promise.race([once(child, 'message'), ended])) as [CoreRounds];
    return rounds;
  } finally {
    child.kill();
  }
}

const youngMebibytes = 256;

interface HouseEvents {
  readonly name: HouseName;
  readonly rings: number;
  readonly ringBatchMs: readonly number[];
  readonly slopeChangeMs: readonly number[];
  readonly drainsDuring: Sample;
}

async function measureEvents(houses: readonly House[], { rounds, budgetMs }: AssignOptions): Promise<HouseEvents[]> {
  const events: HouseEvents[] = [];
  for (const { name, stage } of houses) {
    const batches = [];
    for (let round = 0; round < rounds; round += 1) batches.push(await measureRingBatch(stage, stage.pools.single));
    const { changes, drains } = await measureSlopeChanges(stage, stage.pools.single, 2 * budgetMs);
    events.push({
      name,
      rings: median(batches.map(({ rings }) => rings)),
      ringBatchMs: batches.map(({ ms }) => ms),
      slopeChangeMs: changes,
      drainsDuring: drains,
    });
  }
  return events;
}

interface RecordBytes {
  readonly records: number;
  readonly raw: number;
  readonly stored: number;
}

/** Raw: as JSON text. Stored: as PostgreSQL keeps it, compressed where that is shorter. */
async function readRecordBytes({ pools }: AssignStage): Promise<RecordBytes> {
  const { rows } = await pools.aside.query<RecordBytes>(
    `SELECT count(*) AS records, avg(octet_length(detail::text))::float8 AS raw, avg(pg_column_size(detail))::float8 AS stored
     FROM decisions WHERE detail ->> 'chosen' IS NOT NULL`,
  );
  return rows[0]!;
}

async function findFaults({ name, stage }: House, { sizes }: AssignOptions): Promise<string[]> {
  const { workspaceId, pools } = stage;
  const faults = [
    ...(await findWrongLoads(pools.aside, workspaceId)),
    ...(await stage.findOverfull()),
    ...(await findNeedlessWaits(pools.aside, workspaceId)),
  ];
  const waiting = await stage.countWaiting();
  if (waiting !== sizes[name].waiting) faults.push(`${waiting} wait, and ${sizes[name].waiting} should`);
  return faults.map((fault) => `${name}: ${fault}`);
}

interface Findings {
  readonly rounds: readonly Round[];
  readonly core: CoreRounds;
  readonly sets: readonly SetCosts[];
  readonly events: readonly HouseEvents[];
  readonly records: RecordBytes;
  readonly faults: readonly string[];
  readonly options: AssignOptions;
}

function summarize(findings: Findings): ScenarioReport {
  const { core, sets, events, records, faults, options } = findings;
  const store = Object.fromEntries(
    storeMeasures.map((measure) => [measure, summarizeStore(findings.rounds, measure)]),
  ) as Record<StoreMeasure, Measured>;
  const cores = { whole: summarizeCore(core.whole), single: summarizeCore(core.single) };
  const verdicts: Verdict[] = [
    { what: 'cost of a decision through the store, large to small', value: store.drain.ratios.large, bar: 1.5 },
    {
      what: 'cost of a decision of the core alone, a house in one call, large to small',
      value: cores.whole.ratios.large,
      bar: 1.5,
    },
    {
      what: 'cost of a decision of the core alone, one by one, large to small',
      value: cores.single.ratios.large,
      bar: 1.5,
    },
    { what: 'cost of a decision through the store, long queue to small', value: store.drain.ratios.long, bar: 1.5 },
  ];
  return {
    tables: [sizesTable(options), storeTable(store, cores), setsTable(sets), eventsTable(events, records)],
    figures: { options, store, core: cores, sets, events: events.map(summarizeEvents), recordBytes: records },
    verdicts,
    faults,
  };
}

interface Measured {
  readonly houses: Readonly<Record<HouseName, { perSecond: number; p50Ms?: number; p99Ms?: number; samples: number }>>;
  /** Of the cost in the same round, small being 1. */
  readonly ratios: Readonly<Record<HouseName, number>>;
}

function summarizeStore(rounds: readonly Round[], measure: StoreMeasure): Measured {
  const samples = ofHouses((name) => rounds.filter((round) => round.name === name).map((round) => round[measure]));
  const costs = ofHouses((name) => samples[name].map(costOf));
  return {
    houses: ofHouses((name) => {
      const times = samples[name].flatMap((sample) => sample.times);
      return {
        perSecond: rateOf(median(costs[name])),
        p50Ms: percentile(times, 50)!,
        p99Ms: percentile(times, 99)!,
        samples: times.length,
      };
    }),
    ratios: ratiosOf(costs),
  };
}

const summarizeCore = (costs: Readonly<Record<HouseName, readonly number[]>>): Measured => ({
  houses: ofHouses((name) => ({ perSecond: rateOf(median(costs[name])), samples: costs[name].length })),
  ratios: ratiosOf(costs),
});

/** Round by round, as what slows the machine for a while slows neighbours alike. */
const ratiosOf = (costs: Readonly<Record<HouseName, readonly number[]>>): Record<HouseName, number> =>
  ofHouses((name) => median(costs[name].map((cost, round) => cost / costs.small[round]!)));

const summarizeEvents = ({ name, rings, ringBatchMs, slopeChangeMs, drainsDuring }: HouseEvents) => ({
  name,
  rings,
  ringBatchMs: median(ringBatchMs),
  slopeChanges: slopeChangeMs.length,
  slopeChangeP50Ms: percentile(slopeChangeMs, 50),
  slopeChangeMaxMs: Math.max(...slopeChangeMs),
  decisionsPerSecondDuring: rateOf(costOf(drainsDuring)),
});

const sizesTable = ({ sizes }: AssignOptions): Table => ({
  title: 'Houses',
  columns: ['', ...houseNames],
  rows: (['agents', 'teams', 'waiting'] as const).map((what) => [
    what,
    ...houseNames.map((name) => sizes[name][what].toLocaleString('en')),
  ]),
});

const storeTitles: Readonly<Record<StoreMeasure, string>> = {
  drain: 'close that assigns the next, one connection',
  drainSeveral: 'the same, several connections',
  arrivalWithRoom: 'arrival that finds room',
  arrivalThatWaits: 'arrival that has to wait',
};

function storeTable(
  store: Readonly<Record<StoreMeasure, Measured>>,
  cores: Readonly<Record<'whole' | 'single', Measured>>,
): Table {
  const ratesOf = ({ houses, ratios }: Measured) => [
    ...houseNames.map((name) => formatRate(houses[name].perSecond)),
    formatRatio(ratios.large),
    formatRatio(ratios.long),
  ];
  const timesOf = ({ houses }: Measured, which: 'p50Ms' | 'p99Ms') => [
    ...houseNames.map((name) => formatFineMs(houses[name][which]!)),
    '',
    '',
  ];
  const rows = storeMeasures.flatMap((measure) => [
    [`${storeTitles[measure]}, per second`, ...ratesOf(store[measure])],
    ['  transaction p50', ...timesOf(store[measure], 'p50Ms')],
    ['  transaction p99', ...timesOf(store[measure], 'p99Ms')],
  ]);
  return {
    title: 'Decisions (medians of rounds; cost is the median of the ratios within a round)',
    columns: ['', ...houseNames, 'cost large/small', 'cost long/small'],
    rows: [
      ...rows,
      ['core alone, a house in one call, per second', ...ratesOf(cores.whole)],
      ['core alone, one by one, per second', ...ratesOf(cores.single)],
    ],
  };
}

function eventsTable(events: readonly HouseEvents[], { raw, stored }: RecordBytes): Table {
  const summaries = events.map(summarizeEvents);
  return {
    title: 'Besides',
    columns: ['', ...summaries.map(({ name }) => name)],
    rows: [
      ['rings of a team due at once', ...summaries.map(({ rings }) => String(rings))],
      ['  their transaction', ...summaries.map(({ ringBatchMs }) => formatFineMs(ringBatchMs))],
      ['changes of a slope', ...summaries.map(({ slopeChanges }) => String(slopeChanges))],
      ['  p50', ...summaries.map(({ slopeChangeP50Ms }) => formatFineMs(slopeChangeP50Ms!))],
      ['  longest', ...summaries.map(({ slopeChangeMaxMs }) => formatFineMs(slopeChangeMaxMs))],
      ['  decisions/s meanwhile', ...summaries.map((summary) => formatRate(summary.decisionsPerSecondDuring))],
      ['bytes of a decision record, as JSON', '', Math.round(raw).toLocaleString('en'), ''],
      ['  as stored', '', Math.round(stored).toLocaleString('en'), ''],
    ],
  };
}
