import { migrate } from '../store/migrate.ts';
import { resolveDatabaseUrl } from './dev-file.ts';

/* `npm run migrate`: brings the database's schema up to date. */

try {
  const names = await migrate(resolveDatabaseUrl(), (line) => console.error(line));
  console.log(names.length === 0 ? 'The schema is up to date.' : `Migrated: ${names.join(', ')}`);
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
