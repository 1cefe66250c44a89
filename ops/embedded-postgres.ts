import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { findFreePort } from '../platform/ports.ts';
import { preparePostgresBinaries, type PostgresBinaries } from './postgres-binaries.ts';
import { choosePostgresDirectory } from './postgres-directory.ts';
import { endProcess, readProcessIdentity } from './process-identity.ts';
import { openProcessRegistry, type Log, type ManagedProcess, type ProcessRegistry } from './processes.ts';
import { keepText, readJson, removeFile, writeJson, writePrivateFile } from './state-files.ts';
import { findServerUser, type ServerUser } from './unprivileged-user.ts';

export interface EmbeddedPostgres {
  url: string;
  port: number;
  stop(): Promise<void>;
}

export interface EmbeddedPostgresOptions {
  /** Holds the data, the password and the log; data survives from start to start. */
  stateDir: string;
  log: Log;
  /** Tried first; else the port of the last start, else any free one. */
  port?: number;
  /** Server settings by name, e.g. `{ fsync: 'off' }` for tests. */
  settings?: Record<string, string>;
  /** Whoever already supervises processes passes the registry; else this server has one of its own. */
  processes?: ProcessRegistry;
}

const databaseName = 'switchyard';

/**
 * Starts a real PostgreSQL of its own, on loopback only, and returns once it answers. Initializes the data directory the first time;
 * recovers from a server or launcher that was killed. Throws with the server's own words when it does not start.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { stateDir, log, settings = {} } = options;
  const user = findServerUser();
  const binaries = preparePostgresBinaries(user, log);
  const directory = choosePostgresDirectory(stateDir, user, log);
  const own = join(stateDir, 'postgres');
  const password = keepText(join(own, 'password'), () => randomBytes(24).toString('base64url'));
  const data = join(directory, 'data');
  const processes = options.processes ?? (await openProcessRegistry({ file: join(own, 'processes.json'), log }));
  const stopOwn = options.processes ? null : () => processes.stopAll();
  try {
    await endOrphanedServer(data, log);
    if (existsSync(data)) assertVersion(data, binaries);
    else await initialize({ processes, binaries, user, directory, data, password });

    const portFile = join(own, 'port.json');
    const remembered = options.port ?? readJson<number>(portFile);
    const server = await startServer({ processes, binaries, user, data, settings, stateDir, password, remembered });
    writeJson(portFile, server.port);
    const urlOf = (database: string) => `postgres://switchyard:${password}@127.0.0.1:${server.port}/${database}`;
    await createDatabase(urlOf('postgres'));
    return { url: urlOf(databaseName), port: server.port, stop: stopOwn ?? (() => server.child.stop()) };
  } catch (error) {
    await stopOwn?.();
    throw error;
  }
}

interface Site {
  processes: ProcessRegistry;
  binaries: PostgresBinaries;
  user: ServerUser | null;
  data: string;
  password: string;
}

/** Into a draft that is renamed when complete, so that an interrupted start leaves no half-made data directory. */
async function initialize(site: Site & { directory: string }): Promise<void> {
  const { processes, binaries, user, directory, data, password } = site;
  const draft = `${data}.new`;
  const passwordFile = join(directory, 'password.new');
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { mode: 0o700 });
  writePrivateFile(passwordFile, `${password}\n`);
  for (const path of [draft, passwordFile]) if (user !== null) chownSync(path, user.uid, user.gid);
  try {
    const initdb = processes.start({
      name: 'initdb',
      command: binaries.initdb,
      args: [
        ...['-D', draft, '-U', 'switchyard', `--pwfile=${passwordFile}`, '--auth=scram-sha-256', '--encoding=UTF8'],
        ...['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'],
      ],
      cwd: '/',
      env: serverEnvironment(),
      user,
      endsByItself: true,
    });
    const { code, reason } = await initdb.exited;
    if (code !== 0) throw new Error(`initdb failed (${reason}):\n${initdb.readTail()}`);
    renameSync(draft, data);
  } finally {
    removeFile(passwordFile);
  }
}

async function startServer(
  site: Site & { settings: Record<string, string>; stateDir: string; remembered: number | null },
): Promise<{ child: ManagedProcess; port: number }> {
  const { processes, binaries, user, data, settings, stateDir, password, remembered } = site;
  const all: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: '200',
    ...settings,
  };
  for (let attempt = 1; ; attempt += 1) {
    const port = await findFreePort(attempt === 1 ? remembered : null);
    const child = processes.start({
      name: 'PostgreSQL',
      command: binaries.postgres,
      args: [
        '-D',
        data,
        '-p',
        String(port),
        ...Object.entries(all).flatMap(([key, value]) => ['-c', `${key}=${value}`]),
      ],
      cwd: '/',
      env: serverEnvironment(),
      user,
      logFile: join(stateDir, 'logs', 'postgres.log'),
      // SIGINT is PostgreSQL's fast shutdown (SIGTERM would wait for all clients), SIGQUIT its immediate one.
      stopSignals: ['SIGINT', 'SIGQUIT'],
    });
    // Until it answers, its end is reported from here.
    const ready = await waitUntilReady(child, `postgres://switchyard:${password}@127.0.0.1:${port}/postgres`);
    if (ready === null) return { child, port };
    await child.stop();
    const mayPass = /Address already in use|pre-existing shared memory block/.test(ready);
    if (!mayPass || attempt === 5) throw new Error(`PostgreSQL does not start:\n${ready}`);
    await sleep(200);
  }
}

/** Null when it accepts connections, else the end of its log. A crash recovery may take a while, so only its end counts as failure. */
async function waitUntilReady(child: ManagedProcess, url: string): Promise<string | null> {
  const deadline = Date.now() + 120_000;
  while (!child.hasExited()) {
    const complaint = await tryQuery(url);
    if (complaint === null) return null;
    // 57P03: starting up. No code or ECONNREFUSED: not listening yet. Anything else is an answer that waiting does not mend.
    const isStarting = ['57P03', 'ECONNREFUSED', 'ECONNRESET', undefined].includes(complaint.code);
    if (!isStarting) return `${complaint.message}\n${child.readTail()}`;
    if (Date.now() > deadline) return `no answer for two minutes\n${child.readTail()}`;
    await sleep(30);
  }
  return child.readTail();
}

async function tryQuery(url: string): Promise<{ code: string | undefined; message: string } | null> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return null;
  } catch (error) {
    return { code: (error as { code?: string }).code, message: (error as Error).message };
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function createDatabase(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [databaseName]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${databaseName}`);
  } finally {
    await client.end();
  }
}

/**
 * A server whose launcher was killed before it could record it still runs on our data; and after a crash the pid in postmaster.pid may
 * belong to some other program by now, which PostgreSQL would take for a server in the way.
 */
async function endOrphanedServer(data: string, log: Log): Promise<void> {
  const pidFile = join(data, 'postmaster.pid');
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, 'utf8').split('\n')[0]);
  const identity = Number.isInteger(pid) && pid > 0 ? readProcessIdentity(pid) : null;
  if (identity === null) return;
  if (isServerOf(pid, data)) {
    log(`stopping a PostgreSQL (process ${pid}) that was left behind on this data`);
    await endProcess({ name: 'PostgreSQL', pid, identity, stopSignals: ['SIGINT', 'SIGQUIT'], stopTimeoutMs: 10_000 });
  } else {
    log(`process ${pid} is not PostgreSQL: removing the stale postmaster.pid`);
    removeFile(pidFile);
  }
}

function isServerOf(pid: number, data: string): boolean {
  if (process.platform !== 'linux') return true;
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return /(^|\/)postgres$/.test(args[0] ?? '') && args.includes(data);
  } catch {
    return false;
  }
}

function assertVersion(data: string, { majorVersion }: PostgresBinaries): void {
  const version = readFileSync(join(data, 'PG_VERSION'), 'utf8').trim();
  if (version === majorVersion) return;
  throw new Error(
    `The data in ${data} is of PostgreSQL ${version}, and the installed one is ${majorVersion}. ` +
      'Move the data away to begin anew, or dump it with the older version and load it again.',
  );
}

/** A clean environment: PGDATA, PGPORT, LC_ALL and the like must not steer this server. */
function serverEnvironment(): NodeJS.ProcessEnv {
  return { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
}
