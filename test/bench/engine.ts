/**
 * The Temporal server of a bench run: the development server that `npm start` uses, or the real one on a PostgreSQL of its own, with the
 * settings that compose uses. Everything listens on loopback and is gone after stop(), except what is in `stateDir`.
 */
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { startEmbeddedPostgres } from '../../ops/embedded-postgres.ts';
import { openProcessRegistry, type Log, type ManagedProcess, type ProcessRegistry } from '../../ops/processes.ts';
import { temporalCliVersion } from '../../ops/temporal-cli.ts';
import { startTemporalDevServer } from '../../ops/temporal-server.ts';
import { findNextFreePort } from '../../platform/ports.ts';
import { findEnginePrograms, temporalServerVersion, type EnginePrograms } from './engine-programs.ts';

export type EngineKind = 'dev' | 'server';

export interface Engine {
  readonly address: string;
  readonly namespace: string;
  /** What a reader of the figures has to know of it. */
  readonly facts: Readonly<Record<string, string>>;
  /** Whose CPU time is the engine's; PostgreSQL's with all its children. */
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
  stop(): Promise<void>;
}

export interface EngineOptions {
  readonly kind: EngineKind;
  /** History shards of the real server; the development server has one. */
  readonly shards?: number;
  readonly stateDir: string;
  readonly log: Log;
  /** What to change from what compose has, to learn what it costs. */
  readonly tuning?: EngineTuning;
}

export interface EngineTuning {
  /** Environment of the server: GOGC, SQL_MAX_CONNS, PROMETHEUS_ENDPOINT. */
  readonly env?: Readonly<Record<string, string>>;
  readonly dynamicConfig?: Readonly<Record<string, string | number | boolean>>;
  /** Of Temporal's PostgreSQL. */
  readonly postgres?: Readonly<Record<string, string>>;
}

const namespace = 'default';

/** Returns once the namespace can be used. */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const folder = join(options.stateDir, 'engine');
  mkdirSync(folder, { recursive: true, mode: 0o711 });
  // Started as root, PostgreSQL runs as another user, who must get to its files.
  chmodSync(options.stateDir, statSync(options.stateDir).mode | 0o011);
  const { log } = options;
  const processes = await openProcessRegistry({ file: join(folder, 'processes.json'), log });
  const started: ManagedProcess[] = [];
  const watched: ProcessRegistry = {
    ...processes,
    start(request) {
      const child = processes.start(request);
      started.push(child);
      return child;
    },
  };
  try {
    const site = { ...options, folder, processes: watched };
    const { address, facts } = await (options.kind === 'dev' ? startDevelopment(site) : startCluster(site));
    return {
      address,
      namespace,
      facts,
      processes: started.filter((child) => !child.hasExited()).map(({ name, pid }) => ({ name: titleOf(name), pid })),
      stop: () => processes.stopAll(),
    };
  } catch (error) {
    await processes.stopAll();
    throw error;
  }
}

type Site = EngineOptions & { readonly folder: string; readonly processes: ProcessRegistry };
type Started = Pick<Engine, 'address' | 'facts'>;

const titleOf = (name: string): string => (name === 'PostgreSQL' ? 'PostgreSQL of Temporal' : name);

async function startDevelopment({ folder, log, processes }: Site): Promise<Started> {
  const { address } = await startTemporalDevServer({ stateDir: folder, log, uiPort: null, processes });
  return {
    address,
    facts: { Engine: `development server of the Temporal CLI ${temporalCliVersion}, SQLite, 1 shard` },
  };
}

async function startCluster(site: Site): Promise<Started> {
  const { folder, log, processes, shards = 4, tuning = {} } = site;
  const programs = await findEnginePrograms({ log, processes });
  const settings = { ...postgresSettings, ...tuning.postgres };
  const postgres = await startEmbeddedPostgres({ stateDir: folder, log, processes, settings });
  const database = new URL(postgres.url);
  createSchemas(programs, database);
  const dynamicConfigFile = join(folder, 'dynamicconfig.yaml');
  writeFileSync(dynamicConfigFile, composeDynamicConfig(tuning.dynamicConfig ?? {}));
  const env = {
    ...serverSettings,
    ...connectionTo(database),
    NUM_HISTORY_SHARDS: String(shards),
    DYNAMIC_CONFIG_FILE_PATH: dynamicConfigFile,
    ...tuning.env,
  };
  const address = await startServer({ site, programs, env });
  const { GOGC } = env;
  return {
    address,
    facts: {
      Engine: `Temporal server ${temporalServerVersion} on a PostgreSQL of its own, ${shards} history shards, GOGC ${GOGC}`,
      'Its database': Object.entries({ fsync: 'on', ...settings })
        .map(([key, value]) => `${key} ${value}`)
        .join(', '),
    },
  };
}

/** As docker-compose.yml sets them for the server there. */
const serverSettings = { DB: 'postgres12_pgx', LOG_LEVEL: 'warn', BIND_ON_IP: '127.0.0.1', GOGC: '400' };
const postgresSettings: Readonly<Record<string, string>> = {};
const databases = { temporal: 'temporal', temporal_visibility: 'visibility' };

function connectionTo({ hostname, port, username, password }: URL): Record<string, string> {
  const [DBNAME, VISIBILITY_DBNAME] = Object.keys(databases) as [string, string];
  return {
    POSTGRES_SEEDS: hostname,
    DB_PORT: port,
    POSTGRES_USER: username,
    POSTGRES_PWD: decodeURIComponent(password),
    DBNAME,
    VISIBILITY_DBNAME,
  };
}

/** Takes two seconds. Does nothing where it is done already. */
function createSchemas({ sqlTool }: EnginePrograms, { hostname, port, username, password }: URL): void {
  for (const [database, schema] of Object.entries(databases)) {
    for (const command of [
      ['create-database'],
      ['setup-schema', '-v', '0.0'],
      ['update-schema', '--schema-name', `postgresql/v12/${schema}`],
    ]) {
      const { status, stdout, stderr } = spawnSync(sqlTool, command, {
        encoding: 'utf8',
        env: {
          SQL_PLUGIN: 'postgres12',
          SQL_HOST: hostname,
          SQL_PORT: port,
          SQL_USER: username,
          SQL_PASSWORD: decodeURIComponent(password),
          SQL_DATABASE: database,
        },
      });
      if (status !== 0) throw new Error(`temporal-sql-tool ${command[0]} of ${database}: ${stderr || stdout}`);
    }
  }
}

/** The file that compose mounts, with single settings replaced. */
function composeDynamicConfig(changes: Readonly<Record<string, string | number | boolean>>): string {
  const shipped = readFileSync(new URL('../../ops/temporal/dynamicconfig/switchyard.yaml', import.meta.url), 'utf8');
  const kept = Object.keys(changes).reduce(
    (text, key) => text.replace(new RegExp(`^${key.replaceAll('.', '\\.')}:\\n  - value: .*\\n`, 'm'), ''),
    shipped,
  );
  return (
    kept +
    Object.entries(changes)
      .map(([key, value]) => `${key}:\n  - value: ${JSON.stringify(value)}\n`)
      .join('')
  );
}

interface ServerRequest {
  readonly site: Site;
  readonly programs: EnginePrograms;
  readonly env: Readonly<Record<string, string>>;
}

async function startServer({ site, programs, env }: ServerRequest): Promise<string> {
  const { folder, processes } = site;
  for (let attempt = 1; ; attempt += 1) {
    const ports = await choosePorts();
    const child = processes.start({
      name: 'Temporal',
      command: programs.server,
      args: ['--allow-no-auth', 'start'],
      cwd: folder,
      // Nothing of our own environment: settings for another cluster must not steer this one.
      env: { PATH: '/usr/bin:/bin', ...env, ...ports },
      logFile: join(folder, 'logs', 'temporal.log'),
    });
    const address = `127.0.0.1:${ports['FRONTEND_GRPC_PORT']}`;
    const complaint = await waitUntilReady(child, address);
    if (complaint === null) return address;
    await child.stop();
    if (!/address already in use/i.test(complaint) || attempt === 3) {
      throw new Error(`The Temporal server does not start:\n${complaint}`);
    }
  }
}

/** Every port the server listens on; without them, two servers on one machine get in each other's way. */
async function choosePorts(): Promise<Record<string, string>> {
  const services = ['FRONTEND', 'HISTORY', 'MATCHING', 'WORKER'];
  const names = ['FRONTEND_HTTP_PORT', ...services.flatMap((name) => [`${name}_GRPC_PORT`, `${name}_MEMBERSHIP_PORT`])];
  const ports: Record<string, string> = {};
  // The table of members holds ports as int2, which many of those that the system gives out do not fit into.
  let next = randomInt(10_000, 30_000);
  for (const name of names) {
    const port = await findNextFreePort(next);
    ports[name] = String(port);
    next = port + 1;
  }
  return ports;
}

/** Null when the namespace answers in every service, else the end of the log. */
async function waitUntilReady(child: ManagedProcess, address: string): Promise<string | null> {
  const deadline = Date.now() + 60_000;
  for (let last: unknown; !child.hasExited(); await sleep(100)) {
    if (Date.now() > deadline) return `no answer for a minute (${String(last)})\n${readComplaint(child)}`;
    try {
      const connection = await Connection.connect({ address, connectTimeout: 2_000 });
      try {
        await createNamespace(connection);
        return null;
      } finally {
        await connection.close();
      }
    } catch (error) {
      last = error;
    }
  }
  return readComplaint(child);
}

/** Every line has a stack of some thousand characters. */
const readComplaint = (child: ManagedProcess): string =>
  child
    .readTail(3)
    .split('\n')
    .map((line) => line.slice(0, 500))
    .join('\n');

async function createNamespace({ workflowService }: Connection): Promise<void> {
  const known = await workflowService.describeNamespace({ namespace }).catch(() => null);
  if (known === null) {
    // One hour is the least the server takes.
    await workflowService.registerNamespace({
      namespace,
      workflowExecutionRetentionPeriod: { seconds: 3600 as never },
    });
  }
  // Matching, and a shard of history: the namespace reaches their caches within two seconds.
  await workflowService.describeTaskQueue({ namespace, taskQueue: { name: 'ready' }, taskQueueType: 1 });
  const execution = { workflowId: 'ready', runId: '' };
  await workflowService.describeWorkflowExecution({ namespace, execution }).catch((error: unknown) => {
    if ((error as { code?: number }).code !== notFound || !/workflow/i.test((error as Error).message)) throw error;
  });
}

const notFound = 5;
