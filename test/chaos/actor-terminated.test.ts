import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { contactWorkflowId } from '../../workflows/contract.ts';
import { eventually } from '../support/eventually.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { fillWorkspace } from '../support/workspace.ts';

let system: TestSystem;
let connection: Connection;
let client: Client;

beforeAll(async () => {
  system = await startSystem();
  await fillWorkspace(system);
  connection = await Connection.connect({ address: system.temporalAddress });
  client = new Client({ connection });
});
afterAll(async () => {
  await connection?.close();
  await system?.stop();
});

interface Conversation {
  readonly id: string;
  readonly state: string;
}

const readConversations = async (contactId: string): Promise<Conversation[]> =>
  (await system.apis[0]!.get(`/v1/conversations?contactId=${contactId}`)).items;

const openConversation = (contactId: string, not: readonly string[]): Promise<Conversation> =>
  eventually('an assigned conversation', async () =>
    (await readConversations(contactId)).find(({ id, state }) => state === 'assigned' && !not.includes(id)),
  );

const terminateActor = async (contactId: string): Promise<void> => {
  const { workspaceId } = system.workspace;
  await client.workflow.getHandle(contactWorkflowId({ workspaceId, contactId })).terminate('by hand');
};

const closeAndWait = async (conversationId: string): Promise<void> => {
  await system.apis[0]!.post(`/v1/conversations/${conversationId}/close`, {});
  const isClosed = async (): Promise<boolean> =>
    (await system.apis[0]!.get(`/v1/conversations/${conversationId}`)).state === 'closed';
  await eventually('closed', isClosed);
};

test('an actor terminated while its conversation is open: the close is carried out, and the next message opens another', async () => {
  const { contactId } = (await system.apis[0]!.send('terminated-open', 'Hello')).body;
  const first = await openConversation(contactId, []);
  await terminateActor(contactId);

  // A message to the open conversation needs no actor.
  const more = await system.apis[0]!.send('terminated-open', 'Are you there?');
  expect(more.body.conversationId).toBe(first.id);

  await closeAndWait(first.id);
  const next = await system.apis[0]!.send('terminated-open', 'One more thing');
  expect(next.body.conversationId).toBeNull();
  const second = await openConversation(contactId, [first.id]);
  await closeAndWait(second.id);
  expect(await readConversations(contactId)).toHaveLength(2);
  await expectSoundHistory();
});

test('an actor terminated while nothing is open: the next message opens a conversation', async () => {
  const { contactId } = (await system.apis[0]!.send('terminated-idle', 'Hello')).body;
  const first = await openConversation(contactId, []);
  await closeAndWait(first.id);
  await terminateActor(contactId);

  await system.apis[0]!.send('terminated-idle', 'One more thing');
  await openConversation(contactId, [first.id]);
  await expectSoundHistory();
});

test('an actor terminated after the close was requested: the close is carried out nevertheless', async () => {
  const { contactId } = (await system.apis[0]!.send('terminated-closing', 'Hello')).body;
  const first = await openConversation(contactId, []);
  await Promise.all([terminateActor(contactId), closeAndWait(first.id)]);
  await system.apis[0]!.send('terminated-closing', 'One more thing');
  await openConversation(contactId, [first.id]);
  await expectSoundHistory();
});

async function expectSoundHistory(): Promise<void> {
  const { pool } = system.database;
  const { workspaceId } = system.workspace;
  await waitUntilSettled({ pool, workspaceId });
  await assertSoundHistory(pool, { workspaceId });
}
