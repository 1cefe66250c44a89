import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { extendEnvironment, type Config } from '../platform/config.ts';
import { migrate } from '../store/migrate.ts';
import { ensureDemoWorkspace } from './demo-workspace.ts';
import { devFilePath, type DevFile } from './dev-file.ts';
import { startEmbeddedPostgres } from './embedded-postgres.ts';
import { findFreePort, findNextFreePort, isPortFree } from '../platform/ports.ts';
import { nodeArguments, type ManagedProcess, type ProcessRegistry } from './processes.ts';
import { keepText, readJson, removeFile, writeJson } from './state-files.ts';
import type { Steps } from './steps.ts';
import { findTemporalCli } from './temporal-cli.ts';
import { canConnect, startTemporalDevServer } from './temporal-server.ts';

export interface LaunchOptions {
  config: Config;
  processes: ProcessRegistry;
  steps: Steps;
  /** The repository's folder. */
  root: string;
  /** The programs to run, relative to the root. */
  apiEntry: string;
  workerEntry: string;
}

/**
 * Brings the whole system up, part by part, and returns what dev.json says. Each part is a process of the registry, so that stopping
 * the registry at any moment stops what is there so far, and makes this function throw.
 */
export async function launchSwitchyard(options: LaunchOptions): Promise<DevFile> {
  const { config, steps } = options;
  const stateDir = config.switchyardHome;
  // It tells that the system is ready, so it must not be there while it is not.
  removeFile(devFilePath(stateDir));
  const ports = await choosePorts(config);
  const databaseUrl = await providePostgres(options);
  await steps.run(
    'Migrations',
    (note) => migrate(databaseUrl, note),
    (names) => (names.length === 0 ? 'up to date' : names.join(', ')),
  );
  const temporal = await provideTemporal(options);
  const metricsKey =
    config.metricsKey ?? keepText(join(stateDir, 'metrics-key'), () => randomBytes(24).toString('base64url'));
  const env = extendEnvironment({
    ...outboundDefaults(config),
    SWITCHYARD_HOME: stateDir,
    DATABASE_URL: databaseUrl,
    ...temporal.environment,
    PORT: String(ports.api),
    API_METRICS_PORT: String(ports.apiMetrics),
    WORKER_METRICS_PORT: String(ports.workerMetrics),
    METRICS_KEY: metricsKey,
  });
  const urlOf = (host: string, port: number) => `http://${isWildcard(host) ? '127.0.0.1' : host}:${port}`;
  const apiUrl = urlOf(config.host, ports.api);
  const metricsUrls = {
    api: `${urlOf(config.metricsHost, ports.apiMetrics)}/metrics`,
    worker: `${urlOf(config.metricsHost, ports.workerMetrics)}/metrics`,
  };
  await startPrograms(options, env, {
    api: `${apiUrl}/readyz`,
    worker: `${urlOf(config.metricsHost, ports.workerMetrics)}/readyz`,
  });
  const workspace = await steps.run('Demo workspace', (note) =>
    ensureDemoWorkspace({ stateDir, databaseUrl, databaseName: nameDatabase(config), apiUrl, log: note }),
  );
  const devFile: DevFile = {
    apiUrl,
    metricsUrls,
    temporalAddress: temporal.address,
    temporalUiUrl: temporal.uiUrl,
    databaseUrl,
    workspaceId: workspace.workspaceId,
    keys: { ...workspace.keys, metrics: metricsKey },
  };
  writeJson(devFilePath(stateDir), devFile);
  return devFile;
}

/**
 * The channel that somebody tries first is a program of theirs on this machine, which a system in earnest does not reach. What the operator
 * gave, counts.
 */
export function outboundDefaults({ given }: Pick<Config, 'given'>): Record<string, string> {
  return given.includes('OUTBOUND_PRIVATE_CIDRS') ? {} : { OUTBOUND_PRIVATE_CIDRS: '127.0.0.0/8,::1/128' };
}

/** A port that the user named must be free; where none was named, the next free one does, and for 0 any. */
async function choosePorts(config: Config): Promise<{ api: number; apiMetrics: number; workerMetrics: number }> {
  const taken: number[] = [];
  async function choose(variable: 'PORT' | 'API_METRICS_PORT' | 'WORKER_METRICS_PORT', port: number, host: string) {
    const isNamed = config.given.includes(variable) && port !== 0;
    if (isNamed && !(await isPortFree(port, host))) {
      throw new Error(`${variable} ${port} is taken by another program. Name a free one, or leave ${variable} out.`);
    }
    const findPort = () => (port === 0 ? findFreePort(null, host) : findNextFreePort(port, host, taken));
    const chosen = isNamed ? port : await findPort();
    taken.push(chosen);
    return chosen;
  }
  return {
    api: await choose('PORT', config.port, config.host),
    apiMetrics: await choose('API_METRICS_PORT', config.apiMetricsPort, config.metricsHost),
    workerMetrics: await choose('WORKER_METRICS_PORT', config.workerMetricsPort, config.metricsHost),
  };
}

async function providePostgres({ config, processes, steps }: LaunchOptions): Promise<string> {
  const { databaseUrl } = config;
  if (databaseUrl !== undefined) {
    steps.say(`  PostgreSQL · ${nameDatabase(config)} (DATABASE_URL)`);
    return databaseUrl;
  }
  const { url } = await steps.run(
    'PostgreSQL',
    () => startEmbeddedPostgres({ stateDir: config.switchyardHome, log: (line) => steps.say(`  ${line}`), processes }),
    ({ port }) => `127.0.0.1:${port}`,
  );
  return url;
}

interface TemporalAccess {
  address: string;
  uiUrl: string | null;
  /** What API and worker get of it; `undefined` takes a variable away. */
  environment: Record<string, string | undefined>;
}

async function provideTemporal({ config, processes, steps }: LaunchOptions): Promise<TemporalAccess> {
  const { temporalAddress, temporalNamespace: namespace } = config;
  if (config.given.includes('TEMPORAL_ADDRESS')) {
    await steps.run(`Temporal at ${temporalAddress} (TEMPORAL_ADDRESS)`, () => assertReachable(temporalAddress));
    return { address: temporalAddress, uiUrl: null, environment: {} };
  }
  const cli = await steps.run(
    'Temporal CLI',
    (note) => findTemporalCli({ processes, log: createTemporalNarrator(steps, note) }),
    ({ path, source }) => `${path} (${source})`,
  );
  const server = await steps.run(
    'Temporal server',
    () =>
      startTemporalDevServer({
        ...{ stateDir: config.switchyardHome, cliPath: cli.path, namespace, processes },
        // The usual ports when they are free, so that Temporal's own tools find this server unasked; else those of the last start.
        ...readPreferredTemporalPorts(config.switchyardHome),
        log: (line) => steps.say(`  ${line}`),
      }),
    ({ address }) => address,
  );
  const cleared = [
    'API_KEY',
    'TLS',
    'TLS_CLIENT_CERT_PATH',
    'TLS_CLIENT_KEY_PATH',
    'TLS_SERVER_CA_CERT_PATH',
    'TLS_SERVER_NAME',
  ];
  const environment = Object.fromEntries(cleared.map((name) => [`TEMPORAL_${name}`, undefined]));
  return {
    ...server,
    environment: { ...environment, TEMPORAL_ADDRESS: server.address, TEMPORAL_NAMESPACE: namespace },
  };
}

function readPreferredTemporalPorts(stateDir: string): { port?: number; uiPort?: number } {
  return readJson(join(stateDir, 'temporal', 'ports.json')) === null ? { port: 7233, uiPort: 8233 } : {};
}

/** What happens once is said in a line; what changes all the time is shown beside the step. */
function createTemporalNarrator(steps: Steps, note: (detail: string) => void): (line: string) => void {
  return (line) => {
    if (/^\d+( of \d+)? MB$|^Go build: \d/.test(line)) note(line);
    else steps.say(`  ${line}`);
  };
}

async function assertReachable(address: string): Promise<void> {
  const [, host = '', port = '7233'] = /^\[?(.*?)\]?(?::(\d+))?$/.exec(address) ?? [];
  const deadline = Date.now() + 10_000;
  while (!(await canConnect(Number(port), host))) {
    if (Date.now() > deadline)
      throw new Error(`TEMPORAL_ADDRESS ${address}: nothing answers there. Mend it, or leave it out.`);
    await sleep(250);
  }
}

/** Both at once; the API is started last, since what is started last is stopped first. */
async function startPrograms(
  { config, processes, steps, root, apiEntry, workerEntry }: LaunchOptions,
  env: Record<string, string>,
  readyUrls: { api: string; worker: string },
): Promise<void> {
  const startProgram = (name: string, entry: string, logName: string) =>
    processes.start({
      name,
      command: process.execPath,
      args: nodeArguments(join(root, entry)),
      cwd: root,
      env,
      logFile: join(config.switchyardHome, 'logs', logName),
      // Their own deadline for closing in order is 25 s.
      stopTimeoutMs: 27_000,
    });
  await steps.run('API and worker', async (note) => {
    const worker = startProgram('worker', workerEntry, 'worker.log');
    const api = startProgram('API', apiEntry, 'api.log');
    const waiting = new Set(['worker', 'API']);
    const wait = async (child: ManagedProcess, url: string) => {
      await waitUntilHealthy(child, url);
      waiting.delete(child.name);
      note(`waiting for the ${[...waiting].join(' and the ')}`);
    };
    note('waiting for the worker and the API');
    await Promise.all([wait(worker, readyUrls.worker), wait(api, readyUrls.api)]);
  });
}

async function waitUntilHealthy(child: ManagedProcess, url: string): Promise<void> {
  const deadline = Date.now() + 90_000;
  for (;;) {
    if (child.hasExited()) throw new Error(`the ${child.name} ended before it was ready:\n${child.readTail()}`);
    const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) }).catch(() => null);
    if (answer?.ok) return;
    if (Date.now() > deadline) {
      throw new Error(
        `the ${child.name} is not ready after 90 s (${url}: ${answer?.status ?? 'no answer'}):\n${child.readTail()}`,
      );
    }
    await sleep(100);
  }
}

function nameDatabase({ databaseUrl }: Config): string {
  if (databaseUrl === undefined) return 'embedded';
  const { host, pathname } = new URL(databaseUrl.replace(/@(?=\/)/, '@localhost'));
  return `${host}${pathname}`;
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}
