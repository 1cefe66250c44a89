/** Changed rules are live for the next decision on every process, and assignment goes on meanwhile. */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { assignRouted } from '../../store/assignment.ts';
import { openForContact } from '../../store/opening.ts';
import { updateTeam } from '../../store/teams.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { connectAnother } from './second-pool.ts';
import { createStage, findImbalances, type Stage } from './stage.ts';
import { insertWaiting } from './waiting-rows.ts';

let database: TestDatabase;
let others: pg.Pool[];
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
  others = [connectAnother(database), connectAnother(database)];
  stage = await createStage(database.pool);
});
afterAll(async () => {
  await Promise.all((others ?? []).map((pool) => pool.end()));
  await database?.drop();
});

/** Who gets the conversation of a new contact, decided by a process of its own. */
async function decideOn(pool: pg.Pool): Promise<string | null> {
  const { workspaceId } = stage;
  const { contactId } = await stage.write(newId());
  const { phase } = await openForContact(pool, { workspaceId, contactId });
  if (phase.kind !== 'assigning') throw new Error(phase.kind);
  await assignRouted(pool, { workspaceId, contactId, conversationId: phase.conversationId });
  return (await stage.conversation(phase.conversationId)).agentId;
}

test('a rule changed on one process decides the next conversation on every other', async () => {
  const { workspaceId, defaultTeamId: teamId } = stage;
  const [first, second] = [await stage.addAgent(100), await stage.addAgent(100)];
  for (const pool of others) await decideOn(pool);
  for (const chosen of [second, first, second]) {
    const settings = { priorityList: [chosen] };
    await updateTeam(database.pool, { workspaceId, teamId, strategy: 'priority_list', settings });
    for (const pool of others) expect(await decideOn(pool)).toBe(chosen);
  }
});

test('a changed slope re-orders 50,000 that wait at once, and assignment does not stop for it', async () => {
  const { workspaceId } = stage;
  const teamId = await stage.addTeam('round_robin');
  await stage.addAgent(1, [teamId]);
  let held = await stage.open(newId(), { teamId });
  const urgent = await insertWaiting(
    database.pool,
    { workspaceId, teamId },
    Array.from({ length: 25_000 }, (_, n) => ({ priority: 50, waitedSeconds: 60 - n / 1_000 })),
  );
  const patient = await insertWaiting(
    database.pool,
    { workspaceId, teamId },
    Array.from({ length: 25_000 }, (_, n) => ({ priority: 10, waitedSeconds: 3_000 - n / 1_000 })),
  );
  await database.pool.query('VACUUM ANALYZE conversations');
  const contacts = new Map<string, string>();
  const next = async (): Promise<string> => {
    await stage.close(held);
    const { rows } = await database.pool.query<{ id: string; contact_id: string }>(
      `SELECT id, contact_id FROM conversations WHERE workspace_id = $1 AND team_id = $2 AND state = 'assigned'`,
      [workspaceId, teamId],
    );
    const [{ id, contact_id: contactId }] = rows as [{ id: string; contact_id: string }];
    await database.pool.query('UPDATE contacts SET open_conversation_id = $2 WHERE id = $1', [contactId, id]);
    held = { conversationId: id, contactId };
    contacts.set(id, contactId);
    return id;
  };
  expect([await next(), await next()]).toEqual(urgent.slice(0, 2));

  const { rows: before } = await database.pool.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
  let longestMs = 0;
  const changes = (async () => {
    for (const agingPointsPerMinute of [0.5, 0, 2, 0, 1]) {
      await updateTeam(others[0]!, { workspaceId, teamId, settings: { agingPointsPerMinute } });
    }
  })();
  for (let n = 0; n < 5; n += 1) {
    const startedAt = performance.now();
    await next();
    longestMs = Math.max(longestMs, performance.now() - startedAt);
  }
  await changes;
  // About 20 ms; the bound leaves room for a busy machine.
  expect(longestMs).toBeLessThan(3_000);
  const { rows: written } = await database.pool.query(
    `SELECT FROM conversations WHERE team_id = $1 AND state = 'waiting' AND xmin::text::bigint > $2`,
    [teamId, before[0]!.xid],
  );
  expect(written).toEqual([]);
  const left = patient.filter((id) => !contacts.has(id));
  expect([await next(), await next()]).toEqual(left.slice(0, 2));
  expect(await findImbalances(database.pool, workspaceId)).toEqual([]);
});
