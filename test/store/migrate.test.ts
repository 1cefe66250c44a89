import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { expect, inject, onTestFinished, test } from 'vitest';
import { findVersionFault, migrate } from '../../store/migrate.ts';
import { createTestDatabase } from '../support/database.ts';

test('a PostgreSQL older than 18 is named, with what to do about it', () => {
  for (const [versionNum, version] of [
    [170_009, 'PostgreSQL 17,'],
    [150_013, 'PostgreSQL 15,'],
    [90_624, 'PostgreSQL 9,'],
  ] as const) {
    expect(findVersionFault(versionNum)).toContain(version);
    expect(findVersionFault(versionNum)).toMatch(/needs 18 or newer.*Upgrade.*DATABASE_URL/);
  }
  for (const versionNum of [180_000, 180_004, 190_000, 200_001]) expect(findVersionFault(versionNum)).toBeNull();
});

test('an old server is refused before anything is made', async () => {
  const { url, client } = await createDatabaseOfOldServer();
  await expect(migrate(url)).rejects.toThrow('The database is on PostgreSQL 15, and Switchyard needs 18 or newer.');
  const { rows } = await client.query(`SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace`);
  expect(rows).toEqual([]);
});

test('the server of these tests is taken, and has nothing left to migrate', async () => {
  const database = await createTestDatabase();
  onTestFinished(() => database.drop());
  expect(await migrate(database.url)).toEqual([]);
});

/** An empty database in which our server says of itself what an old one says. */
async function createDatabaseOfOldServer(): Promise<{ url: string; client: pg.Client }> {
  const name = `test_${randomBytes(6).toString('hex')}`;
  const url = new URL(inject('postgresUrl'));
  const admin = new pg.Client({ connectionString: url.href });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${name}`);
  await admin.query(`ALTER DATABASE ${name} SET search_path = public, pg_catalog`);
  url.pathname = `/${name}`;
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  await client.query(`CREATE FUNCTION public.current_setting(text) RETURNS text
                      RETURN CASE $1 WHEN 'server_version_num' THEN '150013' ELSE pg_catalog.current_setting($1) END`);
  onTestFinished(async () => {
    await client.end();
    await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
    await admin.end();
  });
  return { url: url.href, client };
}
