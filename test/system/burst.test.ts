import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { assertSoundHistory } from '../support/history-checker.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { fillWorkspace } from '../support/workspace.ts';

let system: TestSystem;

beforeAll(async () => {
  system = await startSystem({ apis: 2, workers: 1 });
  await fillWorkspace(system);
});
afterAll(() => system?.stop());

test('200 messages of one new contact at once over two processes, half of them twice, are 200 messages of one conversation', async () => {
  const { pool } = system.database;
  const { workspaceId } = system.workspace;
  const externalIds = Array.from({ length: 200 }, () => randomUUID());
  // Every second one is delivered twice, to both processes at the same time.
  const deliveries = externalIds.flatMap((externalId, i) =>
    (i % 2 === 0 ? [i % 4 === 0 ? 0 : 1] : [0, 1]).map((api) => ({ externalId, api: system.apis[api]! })),
  );
  const answers = await Promise.all(
    deliveries.map(async ({ externalId, api }) => ({
      externalId,
      ...(await api.send('new-contact', 'Where is my invoice?', { externalId })),
    })),
  );

  expect(answers).toHaveLength(300);
  expect(new Set(answers.map((answer) => answer.status))).toEqual(new Set([202]));
  expect(answers.filter((answer) => answer.body.duplicate)).toHaveLength(100);
  for (const externalId of externalIds) {
    const same = answers.filter((answer) => answer.externalId === externalId);
    const ids = same.map(({ body }) => `${body.messageId} ${body.contactId} ${body.sequence}`);
    expect(new Set(ids).size, `answers to ${externalId}`).toBe(1);
  }

  await waitUntilSettled({ pool, workspaceId });
  const { rows: conversations } = await pool.query('SELECT id FROM conversations WHERE workspace_id = $1', [
    workspaceId,
  ]);
  expect(conversations).toHaveLength(1);
  const { rows: messages } = await pool.query<{ sequence: number; external_id: string }>(
    'SELECT sequence, external_id FROM messages WHERE workspace_id = $1 AND conversation_id = $2 ORDER BY sequence',
    [workspaceId, conversations[0].id],
  );
  expect(messages.map((message) => message.sequence)).toEqual(Array.from({ length: 200 }, (_, i) => i + 1));
  expect(new Set(messages.map((message) => message.external_id))).toEqual(new Set(externalIds));
  await assertSoundHistory(pool, { workspaceId, accepted: answers.map((answer) => answer.body) });

  // Told again when all is over, a delivery is answered with the same ids and its conversation.
  const again = await system.apis[1]!.send('new-contact', 'Where is my invoice?', { externalId: externalIds[0]! });
  const { messageId, contactId, sequence } = answers.find((answer) => answer.externalId === externalIds[0])!.body;
  expect(again.body).toEqual({ messageId, contactId, sequence, conversationId: conversations[0].id, duplicate: true });
});
