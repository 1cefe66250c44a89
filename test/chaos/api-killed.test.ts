import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { startTraffic } from '../support/traffic.ts';
import { fillWorkspace } from '../support/workspace.ts';

let system: TestSystem;

beforeAll(async () => {
  system = await startSystem({ apis: 2 });
  await fillWorkspace(system);
});
afterAll(() => system?.stop());

test('an API process killed while it takes messages in: every answered one is there, repeated deliveries are not doubled', async () => {
  const { pool } = system.database;
  const { workspaceId } = system.workspace;
  let apis = [...system.apis];
  const traffic = startTraffic({ apis: () => apis, contacts: 40, paceMs: 20, closes: true });
  await eventually('traffic', () => traffic.accepted.length >= 300);
  await system.apis[0]!.process.kill('SIGKILL');
  await eventually('connections to break', () => traffic.refusals.length > 0);
  apis = apis.slice(1);
  const acceptedAtKill = traffic.accepted.length;
  await eventually('traffic through the other process', () => traffic.accepted.length >= acceptedAtKill + 300);
  await traffic.stop();
  await waitUntilSettled({ pool, workspaceId });

  await assertSoundHistory(pool, { workspaceId, accepted: traffic.accepted });
  const { rows } = await pool.query<{ count: number }>('SELECT count(*) FROM messages WHERE workspace_id = $1', [
    workspaceId,
  ]);
  expect(rows[0]!.count).toBe(traffic.accepted.length);
});
