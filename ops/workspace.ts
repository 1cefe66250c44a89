import pg from 'pg';
import { createWorkspace } from '../store/workspaces.ts';
import { resolveDatabaseUrl } from './dev-file.ts';

/* `npm run workspace -- create NAME`: makes a workspace and prints it, with its keys, as JSON. The keys are shown this once. */

const [command, name, ...rest] = process.argv.slice(2);

if (command !== 'create' || name === undefined || name.trim() === '' || rest.length > 0) {
  console.error('usage: npm run workspace -- create NAME');
  process.exitCode = 2;
} else {
  try {
    await printNewWorkspace(name.trim());
  } catch (error) {
    console.error((error as Error).message);
    process.exitCode = 1;
  }
}

async function printNewWorkspace(workspaceName: string): Promise<void> {
  const pool = new pg.Pool({
    connectionString: resolveDatabaseUrl(),
    application_name: 'switchyard-workspace',
    max: 1,
  });
  pool.on('error', () => undefined);
  try {
    console.log(JSON.stringify(await createWorkspace(pool, { name: workspaceName }), null, 2));
  } finally {
    await pool.end();
  }
}
