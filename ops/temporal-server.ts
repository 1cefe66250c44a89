import { connect } from 'node:net';
import { devNull } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { extendEnvironment } from '../platform/config.ts';
import { findFreePort } from '../platform/ports.ts';
import { openProcessRegistry, type Log, type ManagedProcess, type ProcessRegistry } from './processes.ts';
import { findTemporalCli } from './temporal-cli.ts';
import { readJson, writeJson } from './state-files.ts';

export interface TemporalDevServer {
  address: string;
  uiUrl: string | null;
  stop(): Promise<void>;
}

export interface TemporalDevServerOptions {
  /** Holds the server's database and log; workflows survive from start to start. */
  stateDir: string;
  log: Log;
  /** The program; without it, it is looked for with findTemporalCli(). */
  cliPath?: string;
  /** Tried first; else the port of the last start, else any free one. */
  port?: number;
  /** The same for the web interface; null for none. */
  uiPort?: number | null;
  namespace?: string;
  /** Whoever already supervises processes passes the registry; else this server has one of its own. */
  processes?: ProcessRegistry;
}

/** The development server throttles for a laptop's sake; here it would be felt as latency, since clients retry silently. */
const dynamicConfig: Record<string, number> = {
  'frontend.rps': 100_000,
  'frontend.namespaceRPS': 100_000,
  'frontend.namespaceCount': 100_000,
  'matching.rps': 100_000,
  'history.rps': 100_000,
  'frontend.persistenceMaxQPS': 100_000,
  'matching.persistenceMaxQPS': 100_000,
  'history.persistenceMaxQPS': 100_000,
  // One partition: with few workers on one machine, tasks and pollers then meet without being forwarded.
  'matching.numTaskqueueReadPartitions': 1,
  'matching.numTaskqueueWritePartitions': 1,
};

/** Starts Temporal's development server on loopback and returns once its namespace can be used. */
export async function startTemporalDevServer(options: TemporalDevServerOptions): Promise<TemporalDevServer> {
  const { stateDir, log } = options;
  const folder = join(stateDir, 'temporal');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const processes = options.processes ?? (await openProcessRegistry({ file: join(folder, 'processes.json'), log }));
  const stopOwn = options.processes ? null : () => processes.stopAll();
  const portFile = join(folder, 'ports.json');
  const remembered = readJson<{ port: number; uiPort: number | null }>(portFile);
  try {
    const cliPath = options.cliPath ?? (await findTemporalCli({ log, processes })).path;
    for (let attempt = 1; ; attempt += 1) {
      const port = await findFreePort(attempt === 1 ? (options.port ?? remembered?.port) : null);
      const uiPort =
        options.uiPort === null
          ? null
          : await findFreePort(attempt === 1 ? (options.uiPort ?? remembered?.uiPort) : null);
      const child = startServer({ ...options, cliPath }, processes, folder, port, uiPort);
      const complaint = await waitUntilReady(child, cliPath, port, options.namespace);
      if (complaint === null) {
        writeJson(portFile, { port, uiPort });
        const uiUrl = uiPort === null ? null : `http://127.0.0.1:${uiPort}`;
        return { address: `127.0.0.1:${port}`, uiUrl, stop: stopOwn ?? (() => child.stop()) };
      }
      await child.stop();
      if (!/address already in use|can't set up port/i.test(complaint) || attempt === 3) {
        throw new Error(`The Temporal server does not start:\n${complaint}`);
      }
    }
  } catch (error) {
    await stopOwn?.();
    throw error;
  }
}

function startServer(
  options: TemporalDevServerOptions & { cliPath: string },
  processes: ProcessRegistry,
  folder: string,
  port: number,
  uiPort: number | null,
): ManagedProcess {
  const { cliPath, stateDir, namespace } = options;
  return processes.start({
    name: 'Temporal',
    command: cliPath,
    args: [
      ...['server', 'start-dev', '--db-filename', join(folder, 'temporal.db'), '--sqlite-pragma', 'journal_mode=WAL'],
      ...['--ip', '127.0.0.1', '--port', String(port), '--log-level', 'warn'],
      ...(uiPort === null ? ['--headless'] : ['--ui-port', String(uiPort)]),
      ...(namespace === undefined || namespace === 'default' ? [] : ['--namespace', namespace]),
      ...Object.entries(dynamicConfig).flatMap(([key, value]) => ['--dynamic-config-value', `${key}=${value}`]),
    ],
    cwd: folder,
    env: plainEnvironment(),
    logFile: join(stateDir, 'logs', 'temporal.log'),
  });
}

/** Null when the namespace answers, else the end of the log. */
async function waitUntilReady(
  child: ManagedProcess,
  cliPath: string,
  port: number,
  namespace = 'default',
): Promise<string | null> {
  const deadline = Date.now() + 60_000;
  while (!child.hasExited()) {
    if ((await canConnect(port)) && isNamespaceReady(cliPath, port, namespace)) return null;
    if (Date.now() > deadline) return `no answer for a minute\n${child.readTail()}`;
    await sleep(100);
  }
  return child.readTail();
}

function isNamespaceReady(cliPath: string, port: number, namespace: string): boolean {
  const args = ['operator', 'namespace', 'describe', '--namespace', namespace, '--address', `127.0.0.1:${port}`];
  return spawnSync(cliPath, args, { stdio: 'ignore', timeout: 10_000, env: plainEnvironment() }).status === 0;
}

/** The user's own settings for Temporal (another cluster's address, keys) must not steer this server. */
function plainEnvironment(): NodeJS.ProcessEnv {
  const env = extendEnvironment({});
  const kept = Object.entries(env).filter(([name]) => !name.startsWith('TEMPORAL_'));
  return { ...Object.fromEntries(kept), TEMPORAL_CONFIG_FILE: devNull };
}

/** Whether anything listens there. */
export function canConnect(port: number, host = '127.0.0.1', timeoutMs = 2_000): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host, timeout: timeoutMs });
    const finish = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => finish(true));
    socket.once('error', () => finish(false));
    socket.once('timeout', () => finish(false));
  });
}
