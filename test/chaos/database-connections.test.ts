import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { startTraffic } from '../support/traffic.ts';
import { fillWorkspace } from '../support/workspace.ts';

let system: TestSystem;

beforeAll(async () => {
  system = await startSystem();
  await fillWorkspace(system);
});
afterAll(() => system?.stop());

test('all database connections are cut several times under ingest and closes: 503 at worst, nothing lost, all heals', async () => {
  const { pool } = system.database;
  const { workspaceId } = system.workspace;
  const traffic = startTraffic({ apis: () => system.apis, contacts: 12, paceMs: 10, closes: true });
  await eventually('some cycles', () => traffic.closed.size >= 12);
  for (let cut = 1; cut <= 8; cut += 1) {
    const { rows } = await pool.query<{ cut: number }>(
      `SELECT count(pg_terminate_backend(pid)) AS cut FROM pg_stat_activity
       WHERE datname = current_database() AND application_name IN ('switchyard-api', 'switchyard-worker')`,
    );
    expect(rows[0]!.cut).toBeGreaterThan(0);
    const { size } = traffic.closed;
    const { length } = traffic.accepted;
    await eventually(
      'cycles after the cut',
      () => traffic.closed.size > size + 6 && traffic.accepted.length > length + 30,
    );
  }
  await traffic.stop();
  await waitUntilSettled({ pool, workspaceId });

  // Nothing but these: 500 would mean an outage that is taken for a defect.
  expect(traffic.refusals.filter((refusal) => refusal !== '503')).toEqual([]);
  await assertSoundHistory(pool, { workspaceId, accepted: traffic.accepted });
  const { rows } = await pool.query<{ count: number }>('SELECT count(*) FROM messages WHERE workspace_id = $1', [
    workspaceId,
  ]);
  expect(rows[0]!.count).toBe(traffic.accepted.length);
});
