/** `npm run bench -- <scenario> [--database URL] [--json FILE]`: prints what it does meanwhile to stderr, and the figures to stdout. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem, type } from 'node:os';
import { parseArgs } from 'node:util';
import { readConfig } from '../../platform/config.ts';
import { runAssign } from './assign.ts';
import { startBenchServer, type BenchServer, type ServerFacts } from './bench-server.ts';
import { renderTable, renderVerdict, type ScenarioReport } from './figures.ts';

type Scenario = (server: BenchServer, note: (line: string) => void) => Promise<ScenarioReport>;
const scenarios = new Map<string, Scenario>([['assign', (server, note) => runAssign(server, note)]]);

class Interrupted extends Error {}

const usage = `npm run bench -- <scenario> [--database URL] [--json FILE]

  scenarios        ${[...scenarios.keys()].join(', ')}
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
  const { name, scenario, databaseUrl, jsonFile } = readArguments();
  const startedAt = performance.now();
  const note = (line: string): void => {
    process.stderr.write(`${((performance.now() - startedAt) / 1_000).toFixed(1).padStart(6)} s  ${line}\n`);
  };
  const server = await startBenchServer(databaseUrl, note);
  const stopping = new Promise<never>((_resolve, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => reject(new Interrupted(`ended by ${signal}`)));
    }
  });
  try {
    const head = describeRun(name, server.facts);
    process.stdout.write(`${head.map(([what, value]) => `${what.padEnd(12)}${value}`).join('\n')}\n`);
    const report = await Promise.race([scenario(server, note), stopping]);
    const seconds = Math.round((performance.now() - startedAt) / 1_000);
    print(report, seconds);
    if (jsonFile !== undefined) {
      const { figures, verdicts, faults } = report;
      const run = { ...Object.fromEntries(head), seconds };
      writeFileSync(jsonFile, `${JSON.stringify({ run, figures, verdicts, faults }, null, 2)}\n`);
    }
    return report.faults.length === 0 ? 0 : 1;
  } finally {
    await server.stop();
  }
}

function readArguments() {
  try {
    const { positionals, values } = parseArgs({
      allowPositionals: true,
      options: { database: { type: 'string' }, json: { type: 'string' } },
    });
    const [name = '', ...more] = positionals;
    const scenario = scenarios.get(name);
    if (scenario === undefined || more.length > 0) throw new Error('name one scenario');
    return { name, scenario, databaseUrl: values.database ?? readConfig().databaseUrl, jsonFile: values.json };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${usage}`);
    process.exit(2);
  }
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
    verdicts.map(renderVerdict).join('\n'),
    faults.length === 0
      ? 'Invariants: all hold.'
      : `Invariants broken, ${faults.length} times:\n${faults.slice(0, 20).join('\n')}`,
    `${seconds} s in all.`,
  ];
  process.stdout.write(`\n${parts.join('\n\n')}\n`);
}
