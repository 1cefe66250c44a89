/** A checker that never finds anything proves nothing: each kind of damage must be found. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createAgent, setPresence } from '../../store/agents.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { createChannel } from '../../store/channels.ts';
import { ingestMessages, type AcceptedMessage } from '../../store/ingest.ts';
import { openByUser } from '../../store/opening.ts';
import { createWorkspace } from '../../store/workspaces.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';
import { findViolations } from './history-checker.ts';

let database: TestDatabase;
let workspaceId: string;
let accepted: AcceptedMessage[];

/** One contact with a closed and an assigned conversation, one message in each. */
beforeAll(async () => {
  database = await createTestDatabase();
  const { pool } = database;
  const workspace = await createWorkspace(pool, { name: 'Test' });
  ({ workspaceId } = workspace);
  await createChannel(pool, { workspaceId, key: 'web', name: 'Web' });
  const made = await createAgent(pool, {
    workspaceId,
    name: 'Ada',
    capacity: 2,
    teamIds: [workspace.defaultTeamId],
    skills: {},
  });
  if (made.kind !== 'created') throw new Error(made.kind);
  await setPresence(pool, { workspaceId, agentId: made.agent.id, status: 'online' });
  accepted = [await ingest('m-1'), await ingest('m-2')];
  const { contactId } = accepted[0]!;
  const first = await open(contactId);
  await requestClose(pool, { workspaceId, conversationId: first, agentId: null });
  accepted.push(await ingest('m-3'));
  await executeClose(pool, { workspaceId, contactId, conversationId: first });
  await open(contactId);
});
afterAll(() => database?.drop());

async function ingest(externalId: string): Promise<AcceptedMessage> {
  const contact = { externalId: 'contact' };
  const [result] = await ingestMessages(database.pool, [
    { workspaceId, channel: 'web', externalId, contact, text: 'Hello' },
  ]);
  if (result?.kind !== 'accepted') throw new Error(result?.kind);
  return result;
}

async function open(contactId: string): Promise<string> {
  const opened = await openByUser(database.pool, {
    workspaceId,
    contactId,
    source: 'user',
    to: { kind: 'queue' },
    byAgentId: null,
  });
  if (opened.kind !== 'opened') throw new Error(opened.kind);
  return opened.conversationId;
}

test('a sound history has no violation', async () => {
  expect(await findViolations(database.pool, { workspaceId, accepted })).toEqual([]);
});

test('a message that was answered and is not there', async () => {
  const lost = { ...accepted[0]!, messageId: newId() };
  const found = await findViolations(database.pool, { workspaceId, accepted: [lost] });
  expect(found).toEqual([`I1 what was answered 202 is there: ${lost.messageId} sequence 1`]);
});

const event = (type: string, conversation: string): string =>
  `INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
   SELECT workspace_id, '${type}', id, contact_id, jsonb_build_object('agentId', agent_id)
   FROM conversations WHERE workspace_id = $1 AND state = '${conversation}'`;

const damages: readonly (readonly [string, string, string])[] = [
  ['a message without a conversation', 'UPDATE messages SET conversation_id = NULL WHERE workspace_id = $1', 'I1'],
  [
    'a message told twice',
    `INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
     SELECT workspace_id, type, conversation_id, contact_id, data FROM events
     WHERE workspace_id = $1 AND type = 'message.received' LIMIT 1`,
    'I1',
  ],
  ['a message whose key is gone', 'DELETE FROM message_keys WHERE workspace_id = $1', 'I1'],
  ['a pointer to nothing', 'UPDATE contacts SET open_conversation_id = NULL WHERE workspace_id = $1', 'I2'],
  ['an opening while one is open', event('conversation.opened', 'assigned'), 'I2'],
  [
    'intervals that overlap',
    `UPDATE conversations SET opened_at = opened_at - interval '1 min' WHERE workspace_id = $1 AND state = 'assigned'`,
    'I2',
  ],
  ['a load that is too high', 'UPDATE agents SET load = load + 1 WHERE workspace_id = $1', 'I3'],
  ['more than the capacity', 'UPDATE agents SET capacity = 0 WHERE workspace_id = $1', 'I3'],
  ['a flow that ran for a user’s conversation', event('conversation.routed', 'assigned'), 'I4'],
  ['a gap in the sequence', 'UPDATE contacts SET last_sequence = last_sequence + 1 WHERE workspace_id = $1', 'I5'],
  ['a close without its event', `DELETE FROM events WHERE workspace_id = $1 AND type = 'conversation.closed'`, 'I6'],
  ['a close event too many', event('conversation.closed', 'assigned'), 'I6'],
  ['something after the close', event('conversation.assigned', 'closed'), 'nothing happens after the close'],
  [
    'waiting though there is room',
    `WITH queued AS (
       UPDATE conversations SET state = 'waiting', agent_id = NULL, waiting_since = now()
       WHERE workspace_id = $1 AND state = 'assigned'
     )
     UPDATE agents SET load = 0 WHERE workspace_id = $1`,
    'I7',
  ],
];

test.each(damages)('%s is found', async (_what, damage, claim) => {
  const client = await database.pool.connect();
  try {
    await client.query('BEGIN');
    await client.query(damage, [workspaceId]);
    const found = await findViolations(client, { workspaceId, accepted });
    expect(found.filter((violation) => violation.startsWith(claim))).not.toEqual([]);
  } finally {
    await client.query('ROLLBACK');
    client.release();
  }
});
