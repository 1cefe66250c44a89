import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeSchema, schemaFileHead } from '../../store/schema.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

test('schema.sql is what the migrations make; if not, run `npm run schema`', async () => {
  const committed = await readFile(new URL('../../store/schema.sql', import.meta.url), 'utf8');
  expect(schemaFileHead + (await describeSchema(database.pool))).toBe(committed);
});

test('every table but the few that serve all workspaces begins its key with the workspace', async () => {
  const { rows } = await database.pool.query<{ name: string }>(
    `SELECT t.relname AS name FROM pg_class t
     WHERE t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p')
       AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                       WHERE i.indrelid = t.oid AND i.indisprimary AND a.attname = 'workspace_id')
     ORDER BY 1`,
  );
  expect(rows.map((row) => row.name)).toEqual([
    'deliveries',
    'keys',
    'leases',
    'outbox',
    'schema_migrations',
    'workspaces',
  ]);
});

test('every foreign key carries the workspace, so no row can point into another one', async () => {
  const { rows } = await database.pool.query(
    `SELECT c.conname FROM pg_constraint c
     WHERE c.contype = 'f'
       AND NOT EXISTS (SELECT FROM pg_attribute a
                       WHERE a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
                         AND (a.attname = 'workspace_id' OR c.conrelid = 'workspaces'::regclass))`,
  );
  expect(rows).toEqual([]);
});
