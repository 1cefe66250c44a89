/** A whole Switchyard for a test: a database, API and worker processes as in production, and a client that speaks HTTP to them. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';
import { extendEnvironment } from '../../platform/config.ts';
import { createWorkspace, type NewWorkspace } from '../../store/workspaces.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';
import { createApiClient, type ApiClient } from './api-client.ts';

export interface TestProcess {
  readonly child: ChildProcess;
  /** The lines it has logged, for when something fails. */
  readonly output: string[];
  /** The page of its metrics. */
  readonly metricsUrl: string;
  kill(signal: NodeJS.Signals): Promise<void>;
}

export type TestApi = ApiClient & { readonly process: TestProcess };

export interface TestSystem {
  readonly database: TestDatabase;
  readonly workspace: NewWorkspace;
  readonly taskQueue: string;
  readonly temporalAddress: string;
  /** One client per API process. */
  readonly apis: readonly TestApi[];
  readonly workers: readonly TestProcess[];
  /** One more, added to `apis`. */
  startApi(): Promise<TestApi>;
  /** One more, added to `workers`. */
  startWorker(): Promise<TestProcess>;
  stop(): Promise<void>;
}

export async function startSystem({
  apis = 1,
  workers = 1,
  temporalAddress = inject('temporalAddress'),
  env = {},
}: {
  apis?: number;
  workers?: number;
  temporalAddress?: string;
  env?: Record<string, string>;
} = {}): Promise<TestSystem> {
  const database = await createTestDatabase();
  const workspace = await createWorkspace(database.pool, { name: 'Test' });
  const taskQueue = `test-${randomBytes(6).toString('hex')}`;
  const environment = {
    DATABASE_URL: database.url,
    TEMPORAL_ADDRESS: temporalAddress,
    TEMPORAL_TASK_QUEUE: taskQueue,
    WORKFLOW_BUNDLE_PATH: inject('workflowBundlePath'),
    PORT: '0',
    API_METRICS_PORT: '0',
    WORKER_METRICS_PORT: '0',
    LOG_LEVEL: 'info',
    ...env,
  };
  const running: TestProcess[] = [];
  const start = async (entry: string): Promise<{ process: TestProcess; ready: ReadyLine }> => {
    const started = await startProcess(entry, environment);
    running.push(started.process);
    return started;
  };
  const startWorker = async (): Promise<TestProcess> => (await start('worker/main.ts')).process;
  const startApi = async (): Promise<TestApi> => {
    const { process, ready } = await start('api/main.ts');
    return { ...createApiClient(ready.url!, workspace.keys), process };
  };
  const [startedApis, startedWorkers] = await Promise.all([
    Promise.all(Array.from({ length: apis }, startApi)),
    Promise.all(Array.from({ length: workers }, startWorker)),
  ]);
  return {
    database,
    workspace,
    taskQueue,
    temporalAddress,
    apis: startedApis,
    workers: startedWorkers,
    async startApi() {
      const api = await startApi();
      startedApis.push(api);
      return api;
    },
    async startWorker() {
      const worker = await startWorker();
      startedWorkers.push(worker);
      return worker;
    },
    async stop() {
      await Promise.all(running.map((process) => process.kill('SIGTERM')));
      await database.drop();
    },
  };
}

interface ReadyLine {
  readonly msg: string;
  readonly url?: string;
  readonly metricsUrl: string;
}

/** Resolves when the process says that it is ready; rejects with its output when it ends before. */
async function startProcess(
  entry: string,
  environment: Record<string, string>,
): Promise<{ process: TestProcess; ready: ReadyLine }> {
  const path = fileURLToPath(new URL(`../../${entry}`, import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', path], {
    env: extendEnvironment(environment),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => output.push(line));
  const lines = createInterface({ input: child.stdout });
  const ready = await new Promise<ReadyLine>((resolve, reject) => {
    lines.on('line', (line) => {
      output.push(line);
      if (!line.startsWith('{')) return;
      const entry = JSON.parse(line) as ReadyLine;
      if (entry.msg === 'api ready' || entry.msg === 'worker ready') resolve(entry);
    });
    child.once('exit', () => reject(new Error(`${path} ended at start:\n${output.join('\n')}`)));
  });
  return {
    ready,
    process: {
      child,
      output,
      metricsUrl: ready.metricsUrl,
      async kill(signal) {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const ended = once(child, 'exit');
        child.kill(signal);
        await ended;
      },
    },
  };
}
