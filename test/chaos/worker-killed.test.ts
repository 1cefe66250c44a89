import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { readMetric } from '../support/metrics-page.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { fillWorkspace } from '../support/workspace.ts';

const contacts = 100;

let system: TestSystem;

beforeAll(async () => {
  system = await startSystem();
  await fillWorkspace(system, { agents: 2, capacity: 20 });
});
afterAll(() => system?.stop());

test('a worker killed in the middle of 100 openings: another one completes all, nothing happens twice', async () => {
  const { pool } = system.database;
  const { workspaceId } = system.workspace;
  const sentAt = Date.now();
  const answers = Promise.all(
    Array.from({ length: contacts }, (_, i) => system.apis[0]!.send(`contact-${i}`, 'Where is my invoice?')),
  );
  const countMoving = async (): Promise<{ opened: number; done: number }> => {
    const { rows } = await pool.query<{ opened: number; done: number }>(
      `SELECT count(*) AS opened, count(*) FILTER (WHERE state IN ('waiting', 'assigned')) AS done
       FROM conversations WHERE workspace_id = $1`,
      [workspaceId],
    );
    return rows[0]!;
  };
  await eventually('a third of the openings', async () => (await countMoving()).opened >= contacts / 3, { everyMs: 2 });
  await system.workers[0]!.kill('SIGKILL');
  const atKill = await countMoving();
  expect(atKill.done).toBeLessThan(contacts);
  const worker = await system.startWorker();
  expect(new Set((await answers).map((answer) => answer.status))).toEqual(new Set([202]));
  await waitUntilSettled({ pool, workspaceId });

  expect(await countMoving()).toEqual({ opened: contacts, done: contacts });
  await assertSoundHistory(pool, { workspaceId, accepted: (await answers).map((answer) => answer.body) });
  const { rows: repeated } = await pool.query(
    `SELECT conversation_id, type, count(*) FROM events WHERE workspace_id = $1 AND conversation_id IS NOT NULL
     GROUP BY conversation_id, type HAVING count(*) > 1`,
    [workspaceId],
  );
  expect(repeated).toEqual([]);
  const { rows: redecided } = await pool.query(
    `SELECT conversation_id, kind, count(*) FROM decisions WHERE workspace_id = $1
     GROUP BY conversation_id, kind HAVING count(*) > 1`,
    [workspaceId],
  );
  expect(redecided).toEqual([]);
  // The outbox and Temporal alone have mended it. The house timer looks at what is 30 s old: on a machine so busy that all this took
  // longer, it rightly found contacts standing still.
  if (Date.now() - sentAt < 30_000) {
    expect(await readMetric(worker.metricsUrl, 'switchyard_house_timer_mended_total')).toBe(0);
  }
});
