import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { startTraffic } from '../support/traffic.ts';
import { fillWorkspace } from '../support/workspace.ts';

let system: TestSystem;

beforeAll(async () => {
  system = await startSystem({ apis: 2 });
  await fillWorkspace(system, { agents: 2, capacity: 3 });
});
afterAll(() => system?.stop());

test('over 300 closes while the contacts write, each message belongs to one conversation and none came after the request', async () => {
  const { pool } = system.database;
  const { workspaceId } = system.workspace;
  const traffic = startTraffic({ apis: () => system.apis, contacts: 16, paceMs: 60, closes: true });
  try {
    await eventually('300 closes', () => traffic.closed.size >= 300, { timeoutMs: 180_000 });
  } finally {
    await traffic.stop();
  }
  await waitUntilSettled({ pool, workspaceId });

  await assertSoundHistory(pool, { workspaceId, accepted: traffic.accepted });
  const { rows: late } = await pool.query(
    `SELECT m.data ->> 'messageId' AS message, m.conversation_id
     FROM events m
     JOIN events c ON c.workspace_id = m.workspace_id AND c.conversation_id = m.conversation_id
                  AND c.type = 'conversation.close_requested'
     WHERE m.workspace_id = $1 AND m.type = 'message.received' AND m.id > c.id`,
    [workspaceId],
  );
  expect(late).toEqual([]);
  const { rows: closed } = await pool.query<{ id: string }>(
    `SELECT id FROM conversations WHERE workspace_id = $1 AND state = 'closed'`,
    [workspaceId],
  );
  expect(new Set(closed.map(({ id }) => id))).toEqual(traffic.closed);
  const { rows: counts } = await pool.query('SELECT count(*) FROM messages WHERE workspace_id = $1', [workspaceId]);
  expect(counts[0].count).toBe(traffic.accepted.length);
});

test('a close and a new message within one second: the message opens the next conversation', async () => {
  const { pool } = system.database;
  const { workspaceId } = system.workspace;
  const api = system.apis[0]!;
  const conversations = async (contactId: string): Promise<{ id: string; state: string }[]> => {
    const { items } = await api.get(`/v1/conversations?contactId=${contactId}`);
    return items;
  };
  const first = await api.send('quick-contact', 'Hello');
  const { contactId } = first.body;
  const seen = new Set<string>();
  for (let round = 1; round <= 5; round += 1) {
    const open = await eventually('a new conversation', async () =>
      (await conversations(contactId)).find(({ id, state }) => state !== 'closed' && !seen.has(id)),
    );
    seen.add(open.id);
    await api.post(`/v1/conversations/${open.id}/close`, {});
    const next = await system.apis[1]!.send('quick-contact', 'One more thing');
    expect(next.body.conversationId).not.toBe(open.id);
  }
  await waitUntilSettled({ pool, workspaceId });
  expect(await conversations(contactId)).toHaveLength(6);
  await assertSoundHistory(pool, { workspaceId });
});
