/**
 * The scenario `ingest`: durable messages a second into open conversations, which never touch the engine. By single posts and by batches of
 * 500, against a bare Fastify with a batched insert of the same row, and one transaction a message against micro-batches at the store. What is compared
 * is measured in turns within one run, by the same load generator, over the same number of connections.
 */
import { createIngest, createIngestPool } from '../../api/ingest.ts';
import { loadConfig } from '../../platform/config.ts';
import { createLogger } from '../../platform/logger.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { createPool } from '../../platform/pool.ts';
import { ingestMessages, type IngestItem } from '../../store/ingest.ts';
import type { BenchContext } from './context.ts';
import { formatRate, formatRatio, median, type ScenarioReport } from './figures.ts';
import { findIngestFaults, openConversations, startServer, type IngestHouse } from './ingest-house.ts';
import { createMessage, runIngestLoad } from './ingest-load.ts';
import { findPostmaster, startCpuMeter, type ComponentCpu } from './process-cpu.ts';

export interface IngestOptions {
  readonly contacts: number;
  readonly connections: number;
  readonly batchConnections: number;
  readonly batch: number;
  readonly seconds: number;
  /** For each way, unmeasured: some 5,000 requests until the code is compiled. */
  readonly warmUpSeconds: number;
}

const ingestDefaults: IngestOptions = {
  contacts: 2_000,
  connections: 128,
  batchConnections: 8,
  batch: 500,
  seconds: 8,
  warmUpSeconds: 5,
};

const ways = ['single', 'bare', 'batch', 'store single', 'store batched'] as const;
type Way = (typeof ways)[number];

interface Measured {
  readonly messages: number;
  readonly perSecond: number;
  /** By component, a message. */
  readonly cpuMs: Readonly<Record<string, number>>;
}

export async function runIngest(bench: BenchContext, options: IngestOptions = ingestDefaults): Promise<ScenarioReport> {
  const site = await openSite(bench, options);
  try {
    const measured = new Map<Way, Measured[]>(ways.map((way) => [way, []]));
    // Unmeasured: the code is compiled, the connections and statements are there.
    for (const way of ways) await site.measure(way, { seconds: options.warmUpSeconds, run: 'warm' });
    for (let run = 1; run <= bench.runs; run += 1) {
      // There and back: whoever comes after another finds the database larger and its caches full of the other's pages.
      for (const way of run % 2 === 1 ? ways : ways.toReversed()) {
        const found = await site.measure(way, { seconds: options.seconds, run: `run${run}` });
        bench.note(`run ${run} of ${bench.runs}, ${way}: ${formatRate(found.perSecond)} messages/s`);
        measured.get(way)!.push(found);
      }
    }
    bench.note('checking the invariants');
    return describe(measured, await site.findFaults(), options);
  } finally {
    await site.stop();
  }
}

async function openSite({ server, note }: BenchContext, options: IngestOptions) {
  const databaseUrl = await server.createDatabase('ingest');
  const config = loadConfig({ DATABASE_URL: databaseUrl });
  const pool = createPool(config, { applicationName: 'switchyard-bench' });
  // For both ways of the store, so that only the batching tells them apart.
  const storePool = createIngestPool(config, createLogger({ ...config, logLevel: 'silent' }, 'bench'));
  const store = createIngest(storePool, createMetrics({ component: 'bench' }));
  note(`opening ${options.contacts} conversations`);
  const house = await openConversations(pool, options.contacts);
  const [api, bare] = [
    await startServer('../../api/main.ts', databaseUrl),
    await startServer('./ingest-bare.ts', databaseUrl),
  ];
  const postmaster = await findPostmaster(pool);
  let expected = options.contacts;

  async function measure(way: Way, { seconds, run }: { seconds: number; run: string }): Promise<Measured> {
    const readCpu = startCpuMeter([
      ...(way.startsWith('store') ? [] : [{ name: 'server', pids: [way === 'bare' ? bare.pid : api.pid] }]),
      ...(postmaster === null ? [] : [{ name: 'PostgreSQL', pids: [postmaster] }]),
    ]);
    const { contacts, connections, batchConnections, batch } = options;
    const load = { contacts, seconds, run: `${run}-${way}` };
    if (way.startsWith('store')) {
      const add =
        way === 'store single' ? (item: IngestItem) => ingestMessages(storePool, [item]) : store.add.bind(store);
      const own = process.cpuUsage();
      const found = await loadStore(add, house, { ...load, callers: connections });
      const { user, system } = process.cpuUsage(own);
      expected += found.messages;
      return toMeasured(found, [...readCpu(), { name: 'server', cpuMs: (user + system) / 1_000 }]);
    }
    const report = await runIngestLoad({
      ...load,
      url: way === 'bare' ? bare.url : api.url,
      key: house.key,
      batch: way === 'batch' ? batch : 1,
      connections: way === 'batch' ? batchConnections : connections,
    });
    if (report.refused > 0) throw new Error(`${way}: ${report.refused} messages were refused`);
    if (way !== 'bare') expected += report.messages;
    return toMeasured(report, [...readCpu(), { name: 'generator', cpuMs: report.cpuMs }]);
  }

  return {
    measure,
    findFaults: () => findIngestFaults(pool, house, expected),
    async stop(): Promise<void> {
      await Promise.all([api.stop(), bare.stop()]);
      await store.close();
      await Promise.all([storePool.end(), pool.end()]);
    },
  };
}

interface StoreLoad {
  readonly contacts: number;
  readonly seconds: number;
  readonly run: string;
  /** At once. */
  readonly callers: number;
}

/** In this process: what the store alone does, without HTTP. */
async function loadStore(add: (item: IngestItem) => Promise<unknown>, { workspaceId }: IngestHouse, load: StoreLoad) {
  const startedMs = performance.now();
  const endMs = startedMs + load.seconds * 1000;
  let messages = 0;
  const loop = async (): Promise<void> => {
    while (performance.now() < endMs) await add({ workspaceId, ...createMessage(load, messages++) });
  };
  await Promise.all(Array.from({ length: load.callers }, loop));
  return { messages, seconds: (performance.now() - startedMs) / 1000 };
}

function toMeasured(
  { messages, seconds }: { readonly messages: number; readonly seconds: number },
  cpu: readonly ComponentCpu[],
): Measured {
  const cpuMs = Object.fromEntries(cpu.map((one) => [one.name, one.cpuMs / messages]));
  return { messages, perSecond: messages / seconds, cpuMs };
}

function describe(
  measured: ReadonlyMap<Way, readonly Measured[]>,
  faults: readonly string[],
  options: IngestOptions,
): ScenarioReport {
  const rateOf = (way: Way) => median(measured.get(way)!.map(({ perSecond }) => perSecond));
  // Of each run its own ratio: what else the machine does changes from run to run.
  const ratioOf = (way: Way, to: Way) =>
    median(measured.get(way)!.map(({ perSecond }, run) => perSecond / measured.get(to)![run]!.perSecond));
  const cpuOf = (way: Way, component: string) => {
    const values = measured.get(way)!.flatMap(({ cpuMs }) => cpuMs[component] ?? []);
    return values.length === 0 ? '-' : median(values).toFixed(3);
  };
  return {
    tables: [
      {
        title: `Durable messages a second into ${options.contacts} open conversations, with CPU-ms a message`,
        columns: ['way', 'messages/s', 'to bare', 'server', 'PostgreSQL', 'generator'],
        rows: ways.map((way) => [
          way,
          formatRate(rateOf(way)),
          formatRatio(ratioOf(way, 'bare')),
          ...['server', 'PostgreSQL', 'generator'].map((component) => cpuOf(way, component)),
        ]),
      },
    ],
    figures: { options, measured: Object.fromEntries(measured) },
    verdicts: [
      { what: 'single posts to bare Fastify', value: ratioOf('single', 'bare'), bar: 0.8, bound: 'at least' },
      {
        what: 'micro-batches to one transaction a message, at the store',
        value: ratioOf('store batched', 'store single'),
        bar: 5,
        bound: 'at least',
      },
      { what: 'messages/s by batches', value: rateOf('batch'), bar: 20_000, bound: 'at least' },
    ],
    faults,
  };
}
