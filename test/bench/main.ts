/** `npm run bench -- <scenario> [options]`: prints what it does meanwhile to stderr, and the figures to stdout. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, release, tmpdir, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readConfig } from '../../platform/config.ts';
import { runAssign } from './assign.ts';
import { runCeiling } from './ceiling.ts';
import { startBenchServer, type ServerFacts } from './bench-server.ts';
import type { BenchContext } from './context.ts';
import { runEngineSettings } from './engine-settings.ts';
import { startEngine, type Engine, type EngineKind } from './engine.ts';
import { renderTable, renderVerdict, type ScenarioReport } from './figures.ts';
import { runFlows } from './flows.ts';
import { runGrowth } from './growth.ts';
import { runIngest } from './ingest.ts';
import { runLatency } from './latency.ts';
import { runLifecycle } from './lifecycle.ts';
import { runNeighbours } from './neighbours.ts';
import { runOutbound } from './outbound.ts';
import { runSoak } from './soak.ts';
import { runSteps } from './steps.ts';

const scenarios = new Map<string, (bench: BenchContext) => Promise<ScenarioReport>>([
  ['assign', (bench) => runAssign(bench.server, bench.note)],
  ['steps', (bench) => runSteps(bench)],
  ['ceiling', (bench) => runCeiling(bench)],
  ['engine-settings', (bench) => runEngineSettings(bench)],
  ['lifecycle', (bench) => runLifecycle(bench)],
  ['ingest', (bench) => runIngest(bench)],
  ['flows', (bench) => runFlows(bench)],
  ['outbound', (bench) => runOutbound(bench)],
  ['growth', (bench) => runGrowth(bench)],
  ['latency', (bench) => runLatency(bench)],
  ['soak', (bench) => runSoak(bench)],
  ['neighbours', (bench) => runNeighbours(bench)],
]);

class Interrupted extends Error {}

const usage = `npm run bench -- <scenario> [options]

  scenarios        ${[...scenarios.keys()].join(', ')}
  --engine KIND    dev: Temporal's development server (default); server: the real one on a PostgreSQL of its own
  --shards N       history shards of the real server, default 4
  --runs N         how often each thing is measured, default 3; tables tell medians
  --rate N         conversations a second, where a scenario would look for its rate by itself
  --only TEXT,...  the settings whose names have one of these in them (engine-settings tries 40, which takes half an hour)
  --minutes N      how long the soak lasts, default 30
  --database URL   a PostgreSQL where databases may be created; else DATABASE_URL, else one is started for the run
  --json FILE      writes the figures there too
`;

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${error instanceof Interrupted ? error.message : String((error as Error).stack)}\n`);
  // What was under way is not waited for.
  process.exit(error instanceof Interrupted ? 130 : 1);
}

async function main(): Promise<number> {
  const options = readArguments();
  const startedAt = performance.now();
  const note = (line: string): void => {
    process.stderr.write(`${((performance.now() - startedAt) / 1_000).toFixed(1).padStart(6)} s  ${line}\n`);
  };
  const stopping = new Promise<never>((_resolve, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => reject(new Interrupted(`ended by ${signal}`)));
    }
  });
  // Heard where it is raced; a signal before that ends the run all the same.
  stopping.catch(() => undefined);
  const server = await startBenchServer(options.databaseUrl, note);
  const engine = createEngineStarter(options, note);
  try {
    const head = describeRun(options.name, server.facts);
    printFacts(head);
    const { runs, rate, minutes, only, jsonFile } = options;
    const bench: BenchContext = { server, note, runs, rate, minutes, only, engine: engine.start };
    const report = await Promise.race([options.scenario(bench), stopping]);
    const seconds = Math.round((performance.now() - startedAt) / 1_000);
    print(report, seconds);
    if (jsonFile !== undefined) {
      const { figures, verdicts, faults } = report;
      const run = { ...Object.fromEntries(head), ...engine.facts(), seconds };
      writeFileSync(jsonFile, `${JSON.stringify({ run, figures, verdicts, faults }, null, 2)}\n`);
    }
    return (report.faults ?? []).length === 0 ? 0 : 1;
  } finally {
    await engine.stop();
    await server.stop();
  }
}

/** The engine is started for the first scenario that asks, since not all do. */
function createEngineStarter({ engine: kind, shards }: ReturnType<typeof readArguments>, note: BenchContext['note']) {
  let starting: Promise<Engine> | null = null;
  let facts: Engine['facts'] = {};
  let stateDir = '';
  async function start(): Promise<Engine> {
    note(`starting the engine: ${kind}`);
    stateDir = await mkdtemp(join(tmpdir(), 'switchyard-bench-engine-'));
    const engine = await startEngine({ kind, shards, stateDir, log: note });
    ({ facts } = engine);
    printFacts(Object.entries(facts));
    return engine;
  }
  return {
    start: () => (starting ??= start()),
    facts: () => facts,
    async stop() {
      // Its failure was told to whoever asked for it.
      await (await starting?.catch(() => null))?.stop();
      if (stateDir !== '') await rm(stateDir, { recursive: true, force: true });
    },
  };
}

function readArguments() {
  try {
    const { positionals, values } = parseArgs({
      allowPositionals: true,
      options: {
        engine: { type: 'string', default: 'dev' },
        shards: { type: 'string', default: '4' },
        runs: { type: 'string', default: '3' },
        rate: { type: 'string' },
        minutes: { type: 'string' },
        only: { type: 'string', default: '' },
        database: { type: 'string' },
        json: { type: 'string' },
      },
    });
    const [name = '', ...more] = positionals;
    const scenario = scenarios.get(name);
    if (scenario === undefined || more.length > 0) throw new Error('name one scenario');
    const { engine, database, json: jsonFile } = values;
    if (!isEngineKind(engine)) throw new Error('--engine is dev or server');
    return {
      ...{ name, scenario, engine, jsonFile },
      databaseUrl: database ?? readConfig().databaseUrl,
      shards: readCount('--shards', values.shards),
      runs: readCount('--runs', values.runs),
      rate: values.rate === undefined ? null : readPositive('--rate', values.rate),
      only: values.only.split(',').filter((text) => text !== ''),
      minutes: values.minutes === undefined ? null : readPositive('--minutes', values.minutes),
    };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${usage}`);
    process.exit(2);
  }
}

function isEngineKind(text: string): text is EngineKind {
  return text === 'dev' || text === 'server';
}

function readPositive(option: string, text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new Error(`${option} is a number above 0`);
}

function readCount(option: string, text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw new Error(`${option} is a whole number from 1`);
}

function describeRun(name: string, { postgres, settings, commitMs }: ServerFacts): [string, string][] {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const [cpu] = cpus();
  const gibibytes = (totalmem() / 2 ** 30).toFixed(0);
  return [
    ['Scenario', name],
    ['Switchyard', `${version}${readCommit()}`],
    ['Node.js', process.versions.node],
    [
      'PostgreSQL',
      `${postgres}, ${Object.entries(settings)
        .map(([key, value]) => `${key} ${value}`)
        .join(', ')}`,
    ],
    ['Commit', `${commitMs.toFixed(2)} ms for a transaction of one row`],
    ['Machine', `${cpus().length} × ${cpu?.model.trim() ?? 'unknown'}, ${gibibytes} GiB, ${type()} ${release()}`],
    ['Begun', new Date().toISOString()],
  ];
}

function printFacts(facts: readonly (readonly [string, string])[]): void {
  process.stdout.write(`${facts.map(([what, value]) => `${what.padEnd(12)}${value}`).join('\n')}\n`);
}

function readCommit(): string {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return ` at ${git('rev-parse', '--short', 'HEAD').trim()}${git('status', '--porcelain') === '' ? '' : ' and changes'}`;
  } catch {
    return '';
  }
}

function print({ tables, verdicts, faults }: ScenarioReport, seconds: number): void {
  const parts = [
    ...tables.map(renderTable),
    ...(verdicts.length === 0 ? [] : [verdicts.map(renderVerdict).join('\n')]),
    ...(faults === null ? [] : [describeFaults(faults)]),
    `${seconds} s in all.`,
  ];
  process.stdout.write(`\n${parts.join('\n\n')}\n`);
}

function describeFaults(faults: readonly string[]): string {
  if (faults.length === 0) return 'Invariants: all hold.';
  return `Invariants broken, ${faults.length} times:\n${faults.slice(0, 20).join('\n')}`;
}
