/** Time as tests need it: hours in a moment. The database's clock is the only one that counts, so what has happened is moved back instead. */
import type pg from 'pg';
import { expect } from 'vitest';
import { readDue, settleDue } from '../../store/due-clocks.ts';
import { countDeadlocks } from '../support/deadlocks.ts';
import { findImbalances } from './stage.ts';

/** As if all that happened to the conversation had happened so much earlier. Only its wait stays, so that tests can compare it. */
export async function letTimePass(pool: pg.Pool, conversationId: string, seconds: number): Promise<void> {
  await pool.query(
    `WITH earlier AS (SELECT $2 * interval '1 s' AS by), written AS (
       UPDATE messages SET received_at = received_at - by FROM earlier WHERE conversation_id = $1
     )
     UPDATE conversations
     SET queued_at = queued_at - by, awaited_until = awaited_until - by, offer_expires_at = offer_expires_at - by,
         return_at = return_at - by, assigned_at = assigned_at - by, due_at = due_at - by
     FROM earlier WHERE id = $1`,
    [conversationId, seconds],
  );
}

/** What the worker does with the clocks of one workspace that have run out, one after the other. @returns how many there were */
export async function settleAllDue(pool: pg.Pool, workspaceId: string): Promise<number> {
  const due = (await readDue(pool, { maxRows: 1_000 })).filter((clock) => clock.workspaceId === workspaceId);
  for (const clock of due) await settleDue(pool, clock);
  return due.length;
}

type EventData = Readonly<Record<string, unknown>>;

export async function readEvents(pool: pg.Pool, workspaceId: string, type: string): Promise<EventData[]> {
  const { rows } = await pool.query<{ data: EventData }>(
    'SELECT data FROM events WHERE workspace_id = $1 AND type = $2 ORDER BY id',
    [workspaceId, type],
  );
  return rows.map((row) => row.data);
}

/** I3 and I7 hold, and nobody has met a deadlock. */
export async function expectSound(pool: pg.Pool, workspaceId: string): Promise<void> {
  expect(await findImbalances(pool, workspaceId)).toEqual([]);
  expect(await countDeadlocks(pool)).toBe(0);
}
