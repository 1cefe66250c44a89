/** Written past our code, straight into the tables: the constraints alone hold what must never be. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let mine: Stage;
let theirs: Stage;
let ref: { contactId: string; conversationId: string };
let foreign: { contactId: string; conversationId: string };
let agentId: string;
let foreignAgentId: string;

beforeAll(async () => {
  database = await createTestDatabase();
  mine = await createStage(database.pool);
  theirs = await createStage(database.pool);
  ref = await mine.open('contact');
  foreign = await theirs.open('contact');
  agentId = await mine.addAgent(1, [], { online: false });
  foreignAgentId = await theirs.addAgent(1, [], { online: false });
});
afterAll(() => database?.drop());

const foreignKeyViolation = '23503';
const uniqueViolation = '23505';
const checkViolation = '23514';

async function expectRefusal(code: string, sql: string, values: readonly unknown[]): Promise<void> {
  await expect(database.pool.query(sql, [...values])).rejects.toMatchObject({ code });
}

const updateConversation = (set: string): string =>
  `UPDATE conversations SET ${set} WHERE workspace_id = $1 AND id = $2`;
const key = (): string[] => [mine.workspaceId, ref.conversationId];

test('a conversation cannot name a contact, a team or an agent of another workspace', async () => {
  await expectRefusal(
    foreignKeyViolation,
    `INSERT INTO conversations (workspace_id, id, contact_id, state, source) VALUES ($1, $2, $3, 'routing', 'contact')`,
    [mine.workspaceId, newId(), foreign.contactId],
  );
  await expectRefusal(foreignKeyViolation, updateConversation('team_id = $3'), [...key(), theirs.defaultTeamId]);
  const assigned = `state = 'assigned', assigned_at = now(), agent_id = $3`;
  await expectRefusal(foreignKeyViolation, updateConversation(assigned), [...key(), foreignAgentId]);
});

test('teams and agents of two workspaces cannot be joined, and a key cannot act for a foreign agent', async () => {
  const join = 'INSERT INTO team_members (workspace_id, team_id, agent_id) VALUES ($1, $2, $3)';
  await expectRefusal(foreignKeyViolation, join, [mine.workspaceId, mine.defaultTeamId, foreignAgentId]);
  await expectRefusal(foreignKeyViolation, join, [mine.workspaceId, theirs.defaultTeamId, agentId]);
  await expectRefusal(
    foreignKeyViolation,
    `INSERT INTO keys (id, workspace_id, scope, name, secret_hash, agent_id)
     VALUES ($1, $2, 'agent', 'x', decode(repeat('00', 32), 'hex'), $3)`,
    [newId(), mine.workspaceId, foreignAgentId],
  );
});

test('an identity cannot lead to another workspace’s contact', async () => {
  await expectRefusal(
    foreignKeyViolation,
    `INSERT INTO contact_identities (workspace_id, channel_id, external_id, contact_id)
     SELECT $1, id, 'stolen', $2 FROM channels WHERE workspace_id = $1`,
    [mine.workspaceId, foreign.contactId],
  );
});

test('a default team of another workspace is refused', async () => {
  await expectRefusal(foreignKeyViolation, 'UPDATE workspaces SET default_team_id = $2 WHERE id = $1', [
    mine.workspaceId,
    theirs.defaultTeamId,
  ]);
});

test('a second open conversation of a contact is refused', async () => {
  await expectRefusal(
    uniqueViolation,
    `INSERT INTO conversations (workspace_id, id, contact_id, state, source) VALUES ($1, $2, $3, 'routing', 'contact')`,
    [mine.workspaceId, newId(), ref.contactId],
  );
});

test('a contact cannot point at another contact’s conversation', async () => {
  await expectRefusal(
    foreignKeyViolation,
    'UPDATE contacts SET open_conversation_id = $3 WHERE workspace_id = $1 AND id = $2',
    [mine.workspaceId, (await mine.write('third contact')).contactId, ref.conversationId],
  );
});

test('a load below zero is refused', async () => {
  await expectRefusal(checkViolation, 'UPDATE agents SET load = load - 1 WHERE workspace_id = $1 AND id = $2', [
    mine.workspaceId,
    agentId,
  ]);
});

test('a sequence number is used once', async () => {
  await expectRefusal(
    uniqueViolation,
    `INSERT INTO messages (workspace_id, id, contact_id, direction, sequence) VALUES ($1, $2, $3, 'inbound', 1)`,
    [mine.workspaceId, newId(), ref.contactId],
  );
});

test('a conversation closes once: a second closed event is refused', async () => {
  const insert = `INSERT INTO events (workspace_id, type, conversation_id) VALUES ($1, 'conversation.closed', $2)`;
  const closed = await mine.open('closed contact');
  await mine.close(closed);
  await expectRefusal(uniqueViolation, insert, [mine.workspaceId, closed.conversationId]);
});

test('a state without what belongs to it is refused', async () => {
  for (const set of [
    `state = 'closed'`,
    `closed_at = now()`,
    `state = 'assigned'`,
    `state = 'waiting', team_id = NULL`,
    `state = 'waiting', waiting_since = NULL`,
    `state = 'gone'`,
    `priority = 101`,
    `units = 0`,
  ]) {
    await expectRefusal(checkViolation, updateConversation(set), key());
  }
  await expectRefusal(checkViolation, updateConversation('agent_id = $3'), [...key(), agentId]);
});
