/** What goes out to a contact who has changed channels within a conversation. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createChannel } from '../../store/channels.ts';
import { claimDeliveries, settleDelivered, settleFailedAttempts } from '../../store/deliveries.ts';
import { retryDelivery } from '../../store/delivery-records.ts';
import { addReply } from '../../store/replies.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { allRoom } from '../support/lane-room.ts';
import { createStage } from './stage.ts';

let database: TestDatabase;
beforeAll(async () => void (database = await createTestDatabase()));
afterAll(() => database?.drop());

const claimedBy = newId();

/** Text to id of what may be sent now. */
async function claim(): Promise<Record<string, string>> {
  const { claimed } = await claimDeliveries(database.pool, {
    claimedBy,
    leaseMs: 60_000,
    maxRows: 100,
    maxRowsPerLane: 100,
    room: allRoom,
    afterLane: null,
  });
  return Object.fromEntries(claimed.map(({ id, payload }) => [(payload['data'] as { text: string }).text, id]));
}

test('within a conversation each channel keeps its own order, and none waits for another', async () => {
  const { pool } = database;
  const stage = await createStage(pool);
  const { workspaceId } = stage;
  const agentId = await stage.addAgent(1);
  for (const key of ['chat', 'mail']) {
    await createChannel(pool, { workspaceId, key, name: key, outboundUrl: 'https://out.example.com' });
  }
  const { contactId, conversationId } = await stage.open(newId(), { channel: 'chat' });
  const reply = (text: string) => addReply(pool, { workspaceId, conversationId, agentId, text });
  for (const text of ['chat 1', 'chat 2']) await reply(text);
  await stage.write(newId(), { channel: 'mail', contact: { externalId: newId(), id: contactId } });
  for (const text of ['mail 1', 'mail 2']) await reply(text);

  const first = await claim();
  expect(Object.keys(first).toSorted()).toEqual(['chat 1', 'mail 1']);
  const attempts = [{ id: first['chat 1']!, error: 'answered 500', retryAfterMs: 86_400_000 }];
  await settleFailedAttempts(pool, { claimedBy, attempts });
  await settleDelivered(pool, [first['mail 1']!]);
  const second = await claim();
  expect(Object.keys(second)).toEqual(['mail 2']);
  await settleDelivered(pool, [second['mail 2']!]);
  expect(await claim()).toEqual({});

  await retryDelivery(pool, { workspaceId, deliveryId: first['chat 1']! });
  for (const text of ['chat 1', 'chat 2']) {
    const claimed = await claim();
    expect(Object.keys(claimed)).toEqual([text]);
    await settleDelivered(pool, Object.values(claimed));
  }
});
