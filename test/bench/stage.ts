/** A whole Switchyard as in production, for one scenario: API and worker processes, workspaces with flow, teams and agents. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { nodeArguments, openProcessRegistry, type ManagedProcess, type ProcessRegistry } from '../../ops/processes.ts';
import { extendEnvironment, loadConfig } from '../../platform/config.ts';
import { createPool } from '../../platform/pool.ts';
import { findFreePort } from '../../platform/ports.ts';
import { createWorkspace } from '../../store/workspaces.ts';
import { createApiClient } from '../support/api-client.ts';
import { eventually } from '../support/eventually.ts';
import { findViolations } from '../support/history-checker.ts';
import { waitUntilSettled } from '../support/settled.ts';
import type { BenchContext } from './context.ts';
import { findPostmaster, type Component } from './process-cpu.ts';

export interface StageOptions {
  readonly bench: BenchContext;
  readonly apis?: number;
  readonly workers?: number;
  /** Variables for API and worker. */
  readonly env?: Readonly<Record<string, string>>;
  /** A database that is migrated and perhaps filled; else a new one is made. */
  readonly databaseUrl?: string;
  /** How many workspaces to make, each with a flow, teams and agents who have room for everything. */
  readonly workspaces?: number;
  readonly agents?: number;
  /** What takes the place of worker/main.ts. */
  readonly workerEntry?: string;
}

export interface StageWorkspace {
  readonly workspaceId: string;
  readonly keys: { readonly ingest: string; readonly agent: string; readonly admin: string };
  readonly teamIds: readonly string[];
}

export interface Stage {
  readonly databaseUrl: string;
  /** For looking on; API and workers have their own. */
  readonly pool: pg.Pool;
  readonly apiUrls: readonly string[];
  readonly workspaces: readonly StageWorkspace[];
  /** Whose CPU time and memory is told: API, worker, Temporal, both PostgreSQLs. */
  components(): Promise<readonly Component[]>;
  startWorker(): Promise<void>;
  /** Waits until nothing is under way, and returns what is wrong with what was left (empty: all invariants hold). */
  findFaults(): Promise<string[]>;
  /** Everything that was started here, last started first. */
  stop(): Promise<void>;
}

export async function startStage(options: StageOptions): Promise<Stage> {
  const { bench, apis = 1, workers = 1, workspaces: workspaceCount = 1, agents = 20 } = options;
  const { workerEntry = 'worker/main.ts' } = options;
  const engine = await bench.engine();
  const databaseUrl =
    options.databaseUrl ?? (await bench.server.createDatabase(`stage_${randomBytes(4).toString('hex')}`));
  const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-bench-stage-'));
  const processes = await openProcessRegistry({ file: join(stateDir, 'processes.json'), log: bench.note });
  const pool = createPool(loadConfig({ DATABASE_URL: databaseUrl, DATABASE_POOL_SIZE: '4' }), {
    applicationName: 'switchyard-bench',
  });
  const env = {
    DATABASE_URL: databaseUrl,
    TEMPORAL_ADDRESS: engine.address,
    TEMPORAL_NAMESPACE: engine.namespace,
    // A given engine may have other queues with other workers.
    TEMPORAL_TASK_QUEUE: `bench-${stateDir.slice(-6)}`,
    SWITCHYARD_HOME: stateDir,
    API_METRICS_PORT: '0',
    ...options.env,
  };
  const programs = createPrograms({ processes, stateDir, env, workerEntry });

  async function stop(): Promise<void> {
    await pool.end();
    await processes.stopAll();
    await rm(stateDir, { recursive: true, force: true });
  }

  try {
    bench.note(`starting ${apis} API and ${workers} worker processes`);
    const [apiUrls] = await Promise.all([
      Promise.all(Array.from({ length: apis }, programs.startApi)),
      // The first one bundles the workflow code for all.
      programs.startWorker().then(() => Promise.all(Array.from({ length: workers - 1 }, programs.startWorker))),
    ]);
    const workspaces: StageWorkspace[] = [];
    for (let number = 1; number <= workspaceCount; number += 1) {
      const { workspaceId, keys } = await createWorkspace(pool, { name: `Bench ${number}` });
      workspaces.push({ workspaceId, keys, teamIds: await furnish(createApiClient(apiUrls[0]!, keys), agents) });
    }
    return {
      databaseUrl,
      pool,
      apiUrls,
      workspaces,
      async components() {
        const [postgres, temporal] = [await findPostmaster(pool), engine.processes];
        return [
          { name: 'API', pids: programs.pidsOf('API') },
          { name: 'worker', pids: programs.pidsOf('worker'), byThread: true },
          ...temporal.map(({ name, pid }) => ({ name, pids: [pid] })),
          ...(postgres === null ? [] : [{ name: 'PostgreSQL', pids: [postgres] }]),
        ];
      },
      startWorker: programs.startWorker,
      async findFaults() {
        const faults: string[] = [];
        for (const { workspaceId } of workspaces) {
          await waitUntilSettled({ pool, workspaceId });
          faults.push(...(await findViolations(pool, { workspaceId })));
        }
        return [...faults, ...programs.findEnded()];
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

const root = fileURLToPath(new URL('../..', import.meta.url));

/** API and workers as child processes, started as `npm run api` and `npm run worker` do. */
function createPrograms(site: {
  readonly processes: ProcessRegistry;
  readonly stateDir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly workerEntry: string;
}) {
  const started: ManagedProcess[] = [];

  function start(name: 'API' | 'worker', env: Readonly<Record<string, string>>): ManagedProcess {
    const entry = name === 'API' ? 'api/main.ts' : site.workerEntry;
    const child = site.processes.start({
      name,
      command: process.execPath,
      args: nodeArguments(join(root, entry)),
      cwd: root,
      env: extendEnvironment({ ...site.env, ...env }),
      logFile: join(site.stateDir, 'logs', `${name}-${started.length}.log`),
      stopTimeoutMs: 27_000,
    });
    started.push(child);
    return child;
  }

  return {
    async startApi(): Promise<string> {
      const port = await findFreePort();
      const url = `http://127.0.0.1:${port}`;
      await waitUntilReady(start('API', { PORT: String(port) }), `${url}/readyz`);
      return url;
    },
    async startWorker(): Promise<void> {
      const port = await findFreePort();
      await waitUntilReady(start('worker', { WORKER_METRICS_PORT: String(port) }), `http://127.0.0.1:${port}/readyz`);
    },
    pidsOf: (name: 'API' | 'worker') => started.filter((child) => child.name === name).map(({ pid }) => pid),
    findEnded: () =>
      started
        .filter((child) => child.hasExited())
        .map((child) => `the ${child.name} has ended in the midst of it:\n${child.readTail()}`),
  };
}

async function waitUntilReady(child: ManagedProcess, url: string): Promise<void> {
  const ready = eventually(
    `${child.name} ready`,
    async () => child.hasExited() || (await fetch(url, { signal: AbortSignal.timeout(2_000) })).ok,
    { timeoutMs: 90_000, everyMs: 50 },
  );
  await ready.catch((error: unknown) => {
    throw new Error(`the ${child.name} is not ready:\n${child.readTail()}`, { cause: error });
  });
  if (child.hasExited()) throw new Error(`the ${child.name} ended at its start:\n${child.readTail()}`);
}

const agentCapacity = 10_000;

/**
 * Two teams, a flow that finds something out and routes by it, and agents with room for whatever comes: what waits for an agent would
 * not measure Switchyard. Each agent is in one team.
 */
async function furnish(api: ReturnType<typeof createApiClient>, agents: number): Promise<string[]> {
  await api.post('/v1/channels', { key: 'web', name: 'Web' });
  const billing = await api.post('/v1/teams', { name: 'Billing', strategy: 'least_loaded' });
  const support = await api.post('/v1/teams', { name: 'Support', strategy: 'least_loaded' });
  const teamIds: string[] = [billing.id, support.id];
  for (let number = 1; number <= agents; number += 1) {
    const agent = await api.post('/v1/agents', {
      name: `Agent ${number}`,
      capacity: agentCapacity,
      teamIds: [teamIds[number % 2]],
      skills: {},
    });
    await api.call('PUT', `/v1/agents/${agent.id}/presence`, { status: 'online' });
  }
  const flow = await api.post('/v1/flows', {
    name: 'Main',
    document: {
      enrichment: [
        {
          kind: 'keywords',
          field: 'purpose',
          rules: [{ value: 'billing', keywords: ['invoice', 'bill'] }],
          otherwise: 'general',
        },
      ],
      routing: {
        branches: [{ name: 'Bills', when: "fields.purpose == 'billing'", teamId: billing.id, priority: 10 }],
        otherwise: { teamId: support.id, priority: 0 },
      },
    },
  });
  await api.post(`/v1/flows/${flow.id}/publish`);
  return teamIds;
}
