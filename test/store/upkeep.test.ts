import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { requestClose } from '../../store/closing.ts';
import { openForContact } from '../../store/opening.ts';
import { readIdleContacts, readStalled, readSystemGauges } from '../../store/upkeep.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage, type Stage } from './stage.ts';

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
  await scene.addAgent(5, [scene.defaultTeamId], false);
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
    longestWaitSeconds: 0,
  });
  await own.drop();
});
