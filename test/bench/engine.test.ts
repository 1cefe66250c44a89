import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { expect, test } from 'vitest';
import { readProcessIdentity } from '../../ops/process-identity.ts';
import { engineProgramsFolder } from './engine-programs.ts';
import { startEngine, type EngineKind } from './engine.ts';

test('the development server can be used when it has started, and is gone when it is stopped', () =>
  tryEngine('dev', 1));

// To build it takes 8 min: it is tried where a bench has been run before.
test.skipIf(!existsSync(join(engineProgramsFolder(), 'temporal-sql-tool')))(
  'the real server can be used when it has started, and is gone with its database when it is stopped',
  () => tryEngine('server', 2),
);

async function tryEngine(kind: EngineKind, processCount: number): Promise<void> {
  const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-bench-engine-'));
  const engine = await startEngine({ kind, stateDir, log: () => undefined });
  try {
    expect(engine.processes).toHaveLength(processCount);
    const connection = await Connection.connect({ address: engine.address });
    const { workflow } = new Client({ connection, namespace: engine.namespace });
    const handle = await workflow.start('anyWorkflow', { workflowId: 'one', taskQueue: 'nobody', args: [] });
    expect((await handle.describe()).status.name).toBe('RUNNING');
    await connection.close();
  } finally {
    await engine.stop();
    await rm(stateDir, { recursive: true, force: true });
  }
  expect(engine.processes.filter(({ pid }) => readProcessIdentity(pid) !== null)).toEqual([]);
}
