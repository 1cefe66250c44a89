import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import pg from 'pg';
import { retryOnConflict } from '../platform/pool.ts';

/**
 * Brings the database's schema up to date and returns the names of the migrations it ran. Each migration is one transaction together
 * with its record. Forward only. Two at once are safe: an advisory lock makes the second wait and then find nothing to do. Throws on
 * a PostgreSQL that is too old, before anything is changed.
 */
export async function migrate(databaseUrl: string, log: (line: string) => void = () => {}): Promise<string[]> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'switchyard-migrate' });
  // A connection that breaks also fails the query under way, which reports it.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await refuseOldServer(client);
    const names: string[] = [];
    for (;;) {
      // One that meets running processes may be who is chosen to end a deadlock, or wait in vain for a lock; it was then undone as a whole.
      const [migration] = await retryOnConflict(() =>
        runner({
          dbClient: client,
          // Beside this file in the repository and in the build alike, whatever the working directory.
          dir: fileURLToPath(new URL('./migrations', import.meta.url)),
          migrationsTable: 'schema_migrations',
          direction: 'up',
          count: 1,
          checkOrder: true,
          advisoryLockMode: 'wait',
          logger: { debug: () => {}, info: log, warn: log, error: log },
        }),
      );
      if (migration === undefined) return names;
      names.push(migration.name);
    }
  } finally {
    await client.end();
  }
}

/**
 * What is wrong with a server whose `server_version_num` is this, or null. An older one would take most of the schema and fail later:
 * below 18 no month of messages is ever dropped, below 16 queue views fail.
 */
export function findVersionFault(versionNum: number): string | null {
  const major = Math.floor(versionNum / 10_000);
  if (major >= oldestMajor) return null;
  return (
    `The database is on PostgreSQL ${major}, and Switchyard needs ${oldestMajor} or newer. ` +
    `Upgrade that server, or let DATABASE_URL name a database on a newer one. Nothing was changed.`
  );
}

const oldestMajor = 18;

async function refuseOldServer(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ versionNum: number }>(
    `SELECT current_setting('server_version_num')::int AS "versionNum"`,
  );
  const fault = findVersionFault(rows[0]!.versionNum);
  if (fault !== null) throw new Error(fault);
}
