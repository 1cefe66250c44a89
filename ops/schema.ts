/** Writes `store/schema.sql` from a database that was just migrated. Run it after adding a migration: `npm run schema`. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { migrate } from '../store/migrate.ts';
import { describeSchema, schemaFileHead } from '../store/schema.ts';
import { startEmbeddedPostgres } from './embedded-postgres.ts';

const target = fileURLToPath(new URL('../store/schema.sql', import.meta.url));
const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-schema-'));
const postgres = await startEmbeddedPostgres({ stateDir, log: () => undefined, settings: { fsync: 'off' } });
try {
  await migrate(postgres.url);
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  await writeFile(target, schemaFileHead + (await describeSchema(client)));
  await client.end();
  console.log(`Wrote ${target}`);
} finally {
  await postgres.stop();
  await rm(stateDir, { recursive: true, force: true });
}
