/**
 * Starts what all tests share: one PostgreSQL with a migrated template database, one Temporal server, one workflow bundle. Everything
 * is real, is made in a temporary folder, and is gone afterwards.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../ops/embedded-postgres.ts';
import { startTemporalDevServer } from '../../ops/temporal-server.ts';
import { migrate } from '../../store/migrate.ts';
import { bundleWorkflows } from '../../worker/workflow-bundle.ts';

declare module 'vitest' {
  interface ProvidedContext {
    postgresUrl: string;
    temporalAddress: string;
    workflowBundlePath: string;
  }
}

export const templateDatabase = 'switchyard_template';

export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-test-'));
  const log = createProgressLog();
  const [postgres, temporal, bundle] = await Promise.all([
    // Durability is not under test here, and no crash of the machine is: without fsync the suite is much faster.
    startEmbeddedPostgres({ stateDir, log, settings: { fsync: 'off', max_connections: '300' } }),
    startTemporalDevServer({ stateDir, log, uiPort: null }),
    bundleWorkflows(log),
  ]);
  const workflowBundlePath = join(stateDir, 'workflow-bundle.js');
  await writeFile(workflowBundlePath, bundle.code);
  const admin = new pg.Client({ connectionString: postgres.url });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${templateDatabase}`);
  await admin.end();
  const templateUrl = new URL(postgres.url);
  templateUrl.pathname = `/${templateDatabase}`;
  await migrate(templateUrl.href);
  project.provide('postgresUrl', postgres.url);
  project.provide('temporalAddress', temporal.address);
  project.provide('workflowBundlePath', workflowBundlePath);
  return async () => {
    await temporal.stop();
    await postgres.stop();
    await rm(stateDir, { recursive: true, force: true });
  };
}

/** Building the Temporal CLI takes minutes and reports each of a thousand packages: a line every ten seconds shows that it lives. */
function createProgressLog(): (line: string) => void {
  let progressAt = -Infinity;
  return (line) => {
    if (/\d+ (packages compiled|MB)$/.test(line)) {
      if (performance.now() - progressAt < 10_000) return;
      progressAt = performance.now();
    }
    console.log(`  ${line}`);
  };
}
