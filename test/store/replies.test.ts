import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { addReply } from '../../store/replies.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;
let agentId: string;

beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
  agentId = await stage.addAgent(100);
});
afterAll(() => database?.drop());

const reply = (conversationId: string, more: { agentId?: string; externalId?: string } = {}) =>
  addReply(database.pool, { workspaceId: stage.workspaceId, conversationId, agentId, text: 'On its way', ...more });

test('a reply takes the next number of the thread', async () => {
  const contact = newId();
  const { contactId, conversationId } = await stage.open(contact);
  const stored = await reply(conversationId);
  if (stored.kind !== 'stored') throw new Error(stored.kind);
  expect(await stage.write(contact)).toMatchObject({ sequence: 3 });
  const messages = await stage.messagesOf(contactId);
  expect(messages[1]).toMatchObject({ id: stored.messageId, sequence: 2, conversationId });
  expect(await stage.eventsOf(conversationId)).toContain('message.sent');
});

test('replies and messages at once leave no gap', async () => {
  const contact = newId();
  const { contactId, conversationId } = await stage.open(contact);
  await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? reply(conversationId) : stage.write(contact))));
  const sequences = (await stage.messagesOf(contactId)).map((message) => message.sequence);
  expect(sequences).toEqual(Array.from({ length: 21 }, (_, i) => i + 1));
});

test('the same externalId, many times at once, stores one reply', async () => {
  const { contactId, conversationId } = await stage.open(newId());
  const results = await Promise.all(Array.from({ length: 8 }, () => reply(conversationId, { externalId: 'r-1' })));
  const ids = new Set(results.map((result) => (result.kind === 'stored' ? result.messageId : result.kind)));
  expect(ids.size).toBe(1);
  expect(results.filter((result) => result.kind === 'stored' && !result.duplicate)).toHaveLength(1);
  expect(await stage.messagesOf(contactId)).toHaveLength(2);
});

test('the answer to a repeated reply stays the same after the close', async () => {
  const ref = await stage.open(newId());
  const first = await reply(ref.conversationId, { externalId: 'r-1' });
  await stage.close(ref);
  expect(await reply(ref.conversationId, { externalId: 'r-1' })).toEqual({ ...first, duplicate: true });
});

test('another workspace’s agent is unknown, and its conversation is not found', async () => {
  const other = await createStage(database.pool);
  const { conversationId } = await stage.open(newId());
  const theirs = await other.open(newId());
  expect(await reply(conversationId, { agentId: await other.addAgent(1) })).toEqual({ kind: 'unknown_agent' });
  expect(await reply(theirs.conversationId)).toEqual({ kind: 'not_found' });
});
