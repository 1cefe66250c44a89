import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { requestClose } from '../../store/closing.ts';
import { openForContact } from '../../store/opening.ts';
import {
  readIdleContacts,
  readOldestNudgeMs,
  readStalled,
  readSystemGauges,
  readWaitingGauges,
} from '../../store/upkeep.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { createStage, type Stage } from './stage.ts';
import { insertWaiting } from './waiting-rows.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
});
afterAll(() => database?.drop());

const anHourAgo = `now() - interval '1 hour'`;

/** As if everything about this contact had happened an hour ago, and its nudges had been delivered. */
async function age(contactId: string): Promise<void> {
  const values = [stage.workspaceId, contactId];
  const where = 'WHERE workspace_id = $1 AND contact_id = $2';
  await database.pool.query(`UPDATE messages SET received_at = ${anHourAgo} ${where}`, values);
  await database.pool.query(`UPDATE conversations SET progressed_at = ${anHourAgo} ${where}`, values);
  await database.pool.query(`DELETE FROM outbox ${where}`, values);
}

const stalledOf = async (contactId: string) => {
  const stalled = await readStalled(database.pool, { afterMs: 30_000, maxRows: 1_000 });
  return stalled.filter((entry) => entry.contactId === contactId);
};

test('messages that nobody opened a conversation for are found', async () => {
  const { workspaceId } = stage;
  const { contactId } = await stage.write(newId());
  expect(await stalledOf(contactId)).toEqual([]);
  await age(contactId);
  expect(await stalledOf(contactId)).toEqual([{ workspaceId, contactId, closeConversationId: null, kind: 'pending' }]);
});

test('a flow that stands still, and a close that was not carried out, are found', async () => {
  const { workspaceId } = stage;
  const { contactId } = await stage.write(newId());
  await openForContact(database.pool, { workspaceId, contactId });
  await age(contactId);
  expect(await stalledOf(contactId)).toEqual([{ workspaceId, contactId, closeConversationId: null, kind: 'flow' }]);
  const open = await stage.open(newId());
  const { conversationId } = open;
  await requestClose(database.pool, { workspaceId, conversationId, agentId: null });
  expect(await stalledOf(open.contactId)).toEqual([]);
  await age(open.contactId);
  expect(await stalledOf(open.contactId)).toEqual([
    { workspaceId, contactId: open.contactId, closeConversationId: conversationId, kind: 'close' },
  ]);
});

test('a wake that fails for ever does not look like nudges that are late', async () => {
  const { pool } = database;
  const { conversationId, contactId } = await stage.open(newId());
  await pool.query('DELETE FROM outbox');
  await pool.query(
    `INSERT INTO outbox (shard, workspace_id, contact_id, wake_conversation_id, created_at)
     VALUES (0, $1, $2, $3, ${anHourAgo})`,
    [stage.workspaceId, contactId, conversationId],
  );
  expect(await readOldestNudgeMs(pool)).toBe(0);
  expect((await readSystemGauges(pool)).outboxOldestSeconds).toBeGreaterThan(3_000);
  await stage.write(newId());
  await pool.query(`UPDATE outbox SET created_at = ${anHourAgo}`);
  expect(await readOldestNudgeMs(pool)).toBeGreaterThan(3_000_000);
  await pool.query('DELETE FROM outbox');
});

test('what waits for people, is closed, or is still in the outbox does not stand still', async () => {
  const waiting = await stage.open(newId());
  const closed = await stage.open(newId());
  await stage.close(closed);
  for (const { contactId } of [waiting, closed]) {
    await age(contactId);
    expect(await stalledOf(contactId)).toEqual([]);
  }
  const { contactId } = await stage.write(newId());
  await database.pool.query(
    `UPDATE messages SET received_at = ${anHourAgo} WHERE workspace_id = $1 AND contact_id = $2`,
    [stage.workspaceId, contactId],
  );
  expect(await stalledOf(contactId)).toEqual([]);
});

test('idle are contacts with nothing open, nothing pending and no message for a while', async () => {
  const { workspaceId } = stage;
  const old = await stage.open(newId());
  await stage.close(old);
  await age(old.contactId);
  const recent = await stage.open(newId());
  await stage.close(recent);
  const open = await stage.open(newId());
  await age(open.contactId);
  const pending = await stage.write(newId());
  await age(pending.contactId);
  const contacts = [old, recent, open, pending].map(({ contactId }) => ({ workspaceId, contactId }));
  const idle = await readIdleContacts(database.pool, { contacts, idleMs: 60_000 });
  expect(idle).toEqual([{ workspaceId, contactId: old.contactId }]);
});

test('the gauges count what is there', async () => {
  const own = await createTestDatabase();
  const scene = await createStage(own.pool);
  await scene.addAgent(3);
  await scene.addAgent(5, [scene.defaultTeamId], { online: false });
  await scene.open(newId());
  await scene.open(newId());
  await scene.close(await scene.open(newId()));
  const { contactId } = await scene.write(newId());
  await openForContact(own.pool, { workspaceId: scene.workspaceId, contactId });
  expect(await readSystemGauges(own.pool)).toMatchObject({
    outboxDepth: 5,
    conversationsByState: { assigned: 2, routing: 1 },
    agentsByPresence: { online: 1, offline: 1 },
    freeCapacityUnits: 1,
  });
  await own.drop();
});

test('the oldest transaction may be an idle one that has written, here or in another database', async () => {
  for (const url of [database.url, inject('postgresUrl')]) {
    const writer = new pg.Client({ connectionString: url });
    await writer.connect();
    await writer.query('BEGIN');
    await writer.query('SELECT pg_current_xact_id()');
    const ageSeconds = await eventually('the transaction grows old', async () => {
      const { rows } = await writer.query<{ age: number }>(
        'SELECT extract(epoch FROM clock_timestamp() - now())::float8 AS age',
      );
      return rows[0]!.age > 0.1 && rows[0]!.age;
    });
    // Idle it has no snapshot, so that it keeps no dead rows; but the feed waits for it.
    const { oldestTransactionSeconds } = await readSystemGauges(database.pool);
    expect(oldestTransactionSeconds).toBeGreaterThanOrEqual(ageSeconds);
    await writer.end();
  }
});

test('what waits is summed over all teams, and told by team only where there are not too many', async () => {
  const own = await createTestDatabase();
  const scene = await createStage(own.pool);
  const { workspaceId, defaultTeamId } = scene;
  const busy = await scene.addTeam('round_robin', { slaSeconds: 100 });
  const offeredTo = await scene.addAgent(1, []);
  await insertWaiting(own.pool, { workspaceId, teamId: busy }, [
    { waitedSeconds: 10 },
    { waitedSeconds: 85 },
    { waitedSeconds: 130 },
    { waitedSeconds: 110, offeredTo },
  ]);
  // No target: it waits long, but breaches nothing.
  const [longest] = await insertWaiting(own.pool, { workspaceId, teamId: defaultTeamId }, [{ waitedSeconds: 2_000 }]);
  const sums = { slaBreached: 2, slaAtRisk: 1, longestWaitSeconds: expect.closeTo(2_000, -2) };
  const { teams, ...told } = await readWaitingGauges(own.pool, { maxTeams: 2 });
  expect(told).toEqual(sums);
  expect(teams!.toSorted((left, right) => left.waiting - right.waiting)).toMatchObject([
    { workspaceId, teamId: defaultTeamId, name: 'Default', waiting: 1, slaBreached: 0, slaAtRisk: 0 },
    { teamId: busy, waiting: 4, slaBreached: 2, slaAtRisk: 1, longestWaitSeconds: expect.closeTo(130, -2) },
  ]);
  for (const maxTeams of [1, 0]) {
    expect(await readWaitingGauges(own.pool, { maxTeams })).toEqual({ ...sums, teams: null });
  }
  await requestClose(own.pool, { workspaceId, conversationId: longest!, agentId: null });
  expect(await readWaitingGauges(own.pool, { maxTeams: 0 })).toMatchObject({
    longestWaitSeconds: expect.closeTo(130, -2),
  });
  await own.drop();
});
