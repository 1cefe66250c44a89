import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, describe, expect, test } from 'vitest';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../ops/embedded-postgres.ts';
import { readProcessIdentity } from '../../ops/process-identity.ts';
import { migrate } from '../../store/migrate.ts';

/** Only processes die here, not the machine, so nothing need reach the disk. */
const settings = { fsync: 'off' };
const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

describe('embedded PostgreSQL', () => {
  // mkdtemp makes the folder for its owner only, so as root this also covers a home that the server's user cannot enter.
  test('keeps its data, port and password across a restart', async () => {
    const stateDir = makeStateDir();
    const first = await start(stateDir);
    await query(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await first.stop();

    const second = await start(stateDir);
    expect(second.url).toBe(first.url);
    expect(await query(second.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
    expect(statSync(join(stateDir, 'postgres', 'password')).mode & 0o777).toBe(0o600);
  });

  test('recovers from a server killed by SIGKILL, also when its pid belongs to another program by now', async () => {
    const stateDir = makeStateDir();
    const lines: string[] = [];
    const first = await start(stateDir, lines);
    await query(first.url, 'CREATE TABLE kept AS SELECT 1 AS answer');
    const data = await query(first.url, 'SHOW data_directory').then(([row]) => String(row?.['data_directory']));
    const pid = Number(readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')[0]);
    process.kill(pid, 'SIGKILL');
    await first.stop();
    expect(existsSync(join(data, 'postmaster.pid'))).toBe(true);
    const stale = readFileSync(join(data, 'postmaster.pid'), 'utf8').replace(String(pid), String(process.pid));
    writeFileSync(join(data, 'postmaster.pid'), stale);

    const second = await start(stateDir, lines);
    expect(await query(second.url, 'SELECT answer FROM kept')).toEqual([{ answer: 1 }]);
    expect(lines.join('\n')).toContain('removing the stale postmaster.pid');
    expect(readProcessIdentity(process.pid)).not.toBeNull();
  });

  test('takes the migrations of two processes at once, each migration once', async () => {
    const { url } = await start(makeStateDir());
    const [one, two] = await Promise.all([migrate(url), migrate(url)]);
    const all = [...one, ...two];
    expect(all.length).toBeGreaterThan(0);
    expect(new Set(all).size).toBe(all.length);
    expect(await migrate(url)).toEqual([]);
  });
});

function makeStateDir(): string {
  const stateDir = mkdtempSync(join(tmpdir(), 'switchyard-ops-'));
  cleanups.push(() => {
    const location = join(stateDir, 'postgres', 'location.json');
    if (existsSync(location))
      rmSync(JSON.parse(readFileSync(location, 'utf8')).directory, { recursive: true, force: true });
    rmSync(stateDir, { recursive: true, force: true });
  });
  return stateDir;
}

async function start(stateDir: string, lines: string[] = []): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ stateDir, log: (line) => lines.push(line), settings });
  cleanups.push(() => server.stop());
  return server;
}

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}
