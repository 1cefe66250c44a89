import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { fillWorkspace } from '../support/workspace.ts';

let system: TestSystem;

beforeAll(async () => {
  system = await startSystem({ apis: 1, workers: 2 });
});
afterAll(() => system?.stop());

test('two agents of capacity 2 never have more, 46 of 50 wait, and get their turn oldest first', async () => {
  const { pool } = system.database;
  const { workspaceId } = system.workspace;
  const api = system.apis[0]!;
  await fillWorkspace(system, { agents: 2, capacity: 2 });
  const sampling = sampleLoads();

  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => api.send(`contact-${i}`, 'Hello')));
  expect(new Set(answers.map((answer) => answer.status))).toEqual(new Set([202]));
  const countByState = async (): Promise<Record<string, number>> => {
    const { rows } = await pool.query<{ state: string; count: number }>(
      'SELECT state, count(*) FROM conversations WHERE workspace_id = $1 GROUP BY state',
      [workspaceId],
    );
    return Object.fromEntries(rows.map(({ state, count }) => [state, count]));
  };
  await eventually('all opened and matched', async () => {
    const { waiting = 0, assigned = 0 } = await countByState();
    return waiting + assigned === 50;
  });
  expect(await countByState()).toEqual({ waiting: 46, assigned: 4 });
  await assertSoundHistory(pool, { workspaceId, accepted: answers.map((answer) => answer.body) });
  const { rows: queue } = await pool.query<{ id: string }>(
    `SELECT id FROM conversations WHERE workspace_id = $1 AND state = 'waiting' ORDER BY waiting_since, id`,
    [workspaceId],
  );

  const closeRequested = new Set<string>();
  await eventually('none waits', async () => {
    const { items } = await api.get('/v1/conversations?state=assigned');
    const next = (items as { id: string }[]).filter(({ id }) => !closeRequested.has(id));
    await Promise.all(next.map(({ id }) => api.post(`/v1/conversations/${id}/close`, {})));
    for (const { id } of next) closeRequested.add(id);
    return closeRequested.size === 50;
  });
  await waitUntilSettled({ pool, workspaceId });
  expect(await countByState()).toEqual({ closed: 50 });

  const { rows: turns } = await pool.query<{ id: string }>(
    `SELECT conversation_id AS id FROM events
     WHERE workspace_id = $1 AND type = 'conversation.assigned' AND conversation_id = ANY($2::uuid[]) ORDER BY events.id`,
    [workspaceId, queue.map(({ id }) => id)],
  );
  expect(turns).toEqual(queue);
  const { samples, highest } = await sampling.stop();
  expect(samples).toBeGreaterThan(20);
  expect(highest).toBe(2);
  await assertSoundHistory(pool, { workspaceId });

  /** Looks all the time at what the agents have: by their load, and by counting. */
  function sampleLoads(): { stop(): Promise<{ samples: number; highest: number }> } {
    let stopped = false;
    let samples = 0;
    let highest = 0;
    async function sample(): Promise<void> {
      while (!stopped) {
        await delay(5);
        const { rows } = await pool.query<{ most: number }>(
          `SELECT greatest(max(a.load), max((SELECT count(*) FROM conversations v
                                             WHERE v.workspace_id = a.workspace_id AND v.agent_id = a.id
                                               AND v.closed_at IS NULL))) AS most
           FROM agents a WHERE a.workspace_id = $1`,
          [workspaceId],
        );
        samples += 1;
        highest = Math.max(highest, rows[0]!.most);
      }
    }
    const running = sample();
    // Told by stop(); until then it must not count as unheard.
    running.catch(() => (stopped = true));
    return {
      async stop() {
        stopped = true;
        await running;
        return { samples, highest };
      },
    };
  }
});
