import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import pg from 'pg';

/**
 * Brings the database's schema up to date and returns the names of the migrations it ran. Each migration is one transaction together
 * with its record. Forward only. Two at once are safe: an advisory lock makes the second wait and then find nothing to do.
 */
export async function migrate(databaseUrl: string, log: (line: string) => void = () => {}): Promise<string[]> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'switchyard-migrate' });
  // A connection that breaks also fails the query under way, which reports it.
  client.on('error', () => undefined);
  await client.connect();
  try {
    const migrations = await runner({
      dbClient: client,
      // Beside this file in the repository and in the build alike, whatever the working directory.
      dir: fileURLToPath(new URL('./migrations', import.meta.url)),
      migrationsTable: 'schema_migrations',
      direction: 'up',
      checkOrder: true,
      singleTransaction: false,
      advisoryLockMode: 'wait',
      logger: { debug: () => {}, info: log, warn: log, error: log },
    });
    return migrations.map(({ name }) => name);
  } finally {
    await client.end();
  }
}
