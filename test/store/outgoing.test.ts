import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createChannel } from '../../store/channels.ts';
import { transact } from '../../store/database.ts';
import { lockContact, type ConversationKey } from '../../store/locks.ts';
import { getMessage } from '../../store/messages.ts';
import { sendToContact, type OutgoingMessage } from '../../store/outgoing.ts';
import { addReply } from '../../store/replies.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
  await stage.addAgent(1_000);
});
afterAll(() => database?.drop());

async function addChannel(outboundUrl: string | null = 'https://chat.example.com/out'): Promise<string> {
  const key = newId();
  await createChannel(database.pool, { workspaceId: stage.workspaceId, key, name: 'Out', outboundUrl });
  return key;
}

async function open(channel: string) {
  const contact = newId();
  return { contact, channel, key: { workspaceId: stage.workspaceId, ...(await stage.open(contact, { channel })) } };
}

const send = (key: ConversationKey, messages: readonly OutgoingMessage[]) =>
  transact(database.pool, async (tx) => {
    await lockContact(tx, key);
    return sendToContact(tx, key, messages);
  });

interface Queued {
  readonly payload: { readonly data: Readonly<Record<string, unknown>> };
  readonly isDue: boolean;
}

async function queuedOf({ conversationId }: ConversationKey): Promise<Queued[]> {
  const { rows } = await database.pool.query<Queued>(
    'SELECT payload, due_at <= clock_timestamp() AS "isDue" FROM deliveries WHERE conversation_id = $1 ORDER BY position',
    [conversationId],
  );
  return rows;
}

const say = (text: string, detail?: OutgoingMessage['detail']): OutgoingMessage => ({
  text,
  agentId: null,
  ...(detail === undefined ? {} : { detail }),
});

test('several messages take the next numbers, in their order, and are told so', async () => {
  const { contact, channel, key } = await open(await addChannel());
  const choices = [{ value: 'sales', label: 'Sales' }];
  const question = { step: 0, number: 1 };
  const sent = await send(key, [say('Hello'), say('What is it about?', { choices, question })]);
  expect(sent.map(({ sequence }) => sequence)).toEqual([2, 3]);
  expect(await stage.write(contact, { channel })).toMatchObject({ sequence: 4 });
  const queued = await queuedOf(key);
  expect(queued.map(({ payload }) => payload.data)).toMatchObject([
    { messageId: sent[0]!.messageId, sequence: 2, text: 'Hello', author: 'flow', agentId: null },
    { messageId: sent[1]!.messageId, sequence: 3, choices },
  ]);
  const { rows } = await database.pool.query(
    `SELECT data FROM events WHERE conversation_id = $1 AND type = 'message.sent' ORDER BY id`,
    [key.conversationId],
  );
  expect(rows.map(({ data }) => data)).toEqual([
    { messageId: sent[0]!.messageId, sequence: 2, agentId: null },
    { messageId: sent[1]!.messageId, sequence: 3, agentId: null, question },
  ]);
});

test('the channel is the one on which the contact wrote last', async () => {
  const [first, second] = [await addChannel(), await addChannel()];
  const { key } = await open(first);
  const { workspaceId, contactId, conversationId } = key;
  await database.pool.query(
    `WITH numbered AS (UPDATE contacts SET last_sequence = 2 WHERE id = $3)
     INSERT INTO messages (workspace_id, id, contact_id, conversation_id, direction, sequence, channel_id)
     SELECT $1, $2, $3, $4, 'inbound', 2, id FROM channels WHERE workspace_id = $1 AND key = $5`,
    [workspaceId, newId(), contactId, conversationId, second],
  );
  const [sent] = await send(key, [say('Hello')]);
  expect(await getMessage(database.pool, { workspaceId, messageId: sent!.messageId })).toMatchObject({
    channel: second,
    delivery: 'pending',
  });
  expect((await queuedOf(key))[0]!.payload.data['channel']).toBe(second);
});

test('where the channel has no outbound URL, it is stored and nobody is told', async () => {
  const { key } = await open(await addChannel(null));
  const [sent] = await send(key, [say('Hello')]);
  const message = await getMessage(database.pool, { workspaceId: key.workspaceId, messageId: sent!.messageId });
  expect(message).toMatchObject({ text: 'Hello', direction: 'outbound', delivery: null });
  expect(await queuedOf(key)).toEqual([]);
});

test('what is rolled back was not sent', async () => {
  const { contact, channel, key } = await open(await addChannel());
  const undone = transact(database.pool, async (tx) => {
    await lockContact(tx, key);
    await sendToContact(tx, key, [say('Hello')]);
    throw new Error('undone');
  });
  await expect(undone).rejects.toThrow('undone');
  expect(await queuedOf(key)).toEqual([]);
  expect(await stage.write(contact, { channel })).toMatchObject({ sequence: 2 });
});

test('what is written behind something that was put off is due with it', async () => {
  const { key } = await open(await addChannel());
  await send(key, [say('1')]);
  await database.pool.query(
    `UPDATE deliveries SET due_at = now() + interval '1 hour', attempts = 5 WHERE conversation_id = $1`,
    [key.conversationId],
  );
  await send(key, [say('2')]);
  expect((await queuedOf(key)).map(({ isDue }) => isDue)).toEqual([false, false]);
  // One that is being sent may be done at any moment.
  await database.pool.query('UPDATE deliveries SET claimed_by = $2 WHERE conversation_id = $1', [
    key.conversationId,
    newId(),
  ]);
  await send(key, [say('3')]);
  expect((await queuedOf(key)).map(({ isDue }) => isDue)).toEqual([false, false, true]);
});

test('what is written behind something that is sent again before its time is due at once, whatever stands between', async () => {
  const { key } = await open(await addChannel());
  for (const text of ['1', '2']) await send(key, [say(text)]);
  await database.pool.query(
    `UPDATE deliveries SET due_at = now() + CASE payload -> 'data' ->> 'text' WHEN '1' THEN interval '1 s' ELSE interval '1 day' END
     WHERE conversation_id = $1`,
    [key.conversationId],
  );
  await send(key, [say('3')]);
  expect((await queuedOf(key)).map(({ isDue }) => isDue)).toEqual([false, false, true]);
});

test('flows, agents and the contact at once leave no gap, and the history is sound', async () => {
  const world = await createStage(database.pool);
  const agentId = await world.addAgent(1_000);
  await database.pool.query(
    `UPDATE channels SET outbound_url = 'https://chat.example.com', outbound_secret = 'whsec_x' WHERE workspace_id = $1`,
    [world.workspaceId],
  );
  const contact = newId();
  const key = { workspaceId: world.workspaceId, ...(await world.open(contact)) };
  await Promise.all(
    Array.from({ length: 15 }, async (_, i) => {
      if (i % 3 === 0) await world.write(contact);
      else if (i % 3 === 1) await send(key, [say('a'), say('b')]);
      else await addReply(database.pool, { ...key, agentId, text: 'c' });
    }),
  );
  const sequences = (await queuedOf(key)).map(({ payload }) => payload.data['sequence'] as number);
  expect(sequences).toHaveLength(15);
  expect(sequences).toEqual(sequences.toSorted((a, b) => a - b));
  await assertSoundHistory(database.pool, { workspaceId: world.workspaceId });
});
