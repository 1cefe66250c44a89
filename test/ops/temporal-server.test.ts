import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { expect, test } from 'vitest';
import { canConnect, startTemporalDevServer } from '../../ops/temporal-server.ts';

test('the Temporal server keeps its address and its namespaces across a restart, and ends when told to', async () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'switchyard-ops-'));
  const options = { stateDir, log: () => undefined, uiPort: null };
  const first = await startTemporalDevServer({ ...options, namespace: 'kept' });
  await first.stop();
  const second = await startTemporalDevServer(options);
  try {
    expect(second.address).toBe(first.address);
    expect(second.uiUrl).toBeNull();
    const connection = await Connection.connect({ address: second.address });
    await connection.workflowService.describeNamespace({ namespace: 'kept' });
    await connection.close();
  } finally {
    await second.stop();
    rmSync(stateDir, { recursive: true, force: true });
  }
  expect(await canConnect(Number(second.address.split(':')[1]))).toBe(false);
});
