/** A real PostgreSQL for one run: its own, set as in production, or a given one. Its databases are the run's own, and go with it. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../ops/embedded-postgres.ts';
import { migrate } from '../../store/migrate.ts';

export interface BenchServer {
  /** What a reader of the figures has to know of it. */
  readonly facts: ServerFacts;
  /** @returns the URL of a new, migrated database */
  createDatabase(name: string): Promise<string>;
  /** Drops what was created, and ends what was started. Safe to repeat. */
  stop(): Promise<void>;
}

export interface ServerFacts {
  readonly postgres: string;
  readonly settings: Readonly<Record<string, string>>;
  /** Median of a transaction that writes one row: what no decision can be quicker than, one after the other. */
  readonly commitMs: number;
}

/** @param url of a given server, where the role may create databases; else one is started in a temporary folder */
export async function startBenchServer(url: string | undefined, log: (line: string) => void): Promise<BenchServer> {
  const server = url === undefined ? await startOwn(log) : { url, stop: () => Promise.resolve() };
  const created = new Set<string>();
  const run = randomBytes(4).toString('hex');

  async function createDatabase(name: string): Promise<string> {
    const database = `bench_${run}_${name}`;
    await runStatement(server.url, `CREATE DATABASE ${database}`);
    created.add(database);
    const own = urlOf(server.url, database);
    await migrate(own);
    return own;
  }

  async function stop(): Promise<void> {
    for (const database of created) {
      created.delete(database);
      await runStatement(server.url, `DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
    }
    await server.stop();
  }

  try {
    return { facts: await readFacts(await createDatabase('facts')), createDatabase, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startOwn(log: (line: string) => void): Promise<{ url: string; stop(): Promise<void> }> {
  const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-bench-'));
  const remove = () => rm(stateDir, { recursive: true, force: true });
  try {
    // No settings: fsync is on and everything else as `npm start` has it.
    const server = await startEmbeddedPostgres({ stateDir, log });
    return {
      url: server.url,
      async stop() {
        await server.stop();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function readFacts(url: string): Promise<ServerFacts> {
  return withClient(url, async (client) => {
    const { rows } = await client.query<{ name: string; setting: string }>(
      `SELECT name, current_setting(name) AS setting FROM unnest($1::text[]) AS name`,
      [['server_version', 'fsync', 'synchronous_commit', 'shared_buffers', 'max_wal_size', 'autovacuum']],
    );
    const { server_version: postgres = '?', ...settings } = Object.fromEntries(
      rows.map(({ name, setting }) => [name, setting]),
    );
    const times: number[] = [];
    for (let commit = 0; commit < 100; commit += 1) {
      const startedAt = performance.now();
      await client.query({
        name: 'bench-commit',
        text: `INSERT INTO leases (name, owner, expires_at) VALUES ($1, gen_random_uuid(), now())`,
        values: [`bench ${commit}`],
      });
      times.push(performance.now() - startedAt);
    }
    return { postgres, settings, commitMs: times.toSorted((left, right) => left - right)[50]! };
  });
}

/** The same server's `database`. */
export const urlOf = (url: string, database: string): string => {
  const own = new URL(url);
  own.pathname = `/${database}`;
  return own.href;
};

export const runStatement = (url: string, statement: string) => withClient(url, (client) => client.query(statement));

async function withClient<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
