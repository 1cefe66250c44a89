/** A checker that never finds anything proves nothing: each kind of damage must be found. */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createAgent, setPresence } from '../../store/agents.ts';
import type { AssignTarget } from '../../store/assignment.ts';
import { createChannel } from '../../store/channels.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { ingestMessages, type AcceptedMessage } from '../../store/ingest.ts';
import { openByUser } from '../../store/opening.ts';
import { goQuiet } from '../../store/quiet.ts';
import { createTeam, updateTeam } from '../../store/teams.ts';
import { createWorkspace } from '../../store/workspaces.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';
import { findViolations } from './history-checker.ts';

let database: TestDatabase;
let workspaceId: string;
let accepted: AcceptedMessage[];

/**
 * Ada has had one contact's conversation until it closed, has the next one, and another's that is quiet. To Bea, one is offered, while
 * one waits that has had no room.
 */
beforeAll(async () => {
  database = await createTestDatabase();
  const { pool } = database;
  const workspace = await createWorkspace(pool, { name: 'Test' });
  ({ workspaceId } = workspace);
  await createChannel(pool, { workspaceId, key: 'web', name: 'Web' });
  await addAgent('Ada', 2, workspace.defaultTeamId);
  accepted = [await ingest('m-1'), await ingest('m-2')];
  const { contactId } = accepted[0]!;
  const first = await open(contactId);
  await requestClose(pool, { workspaceId, conversationId: first, agentId: null });
  accepted.push(await ingest('m-3'));
  await executeClose(pool, { workspaceId, contactId, conversationId: first });
  await open(contactId);

  const quiet = await ingest('q-1', 'quiet');
  await updateTeam(pool, { workspaceId, teamId: workspace.defaultTeamId, settings: { quietMinutes: 1 } });
  const conversationId = await open(quiet.contactId);
  const past = `now() - interval '2 min'`;
  await pool.query(`UPDATE messages SET received_at = ${past} WHERE workspace_id = $1`, [workspaceId]);
  await pool.query(`UPDATE conversations SET assigned_at = ${past} WHERE id = $1`, [conversationId]);
  await goQuiet(pool, { workspaceId, contactId: quiet.contactId, conversationId });

  const settings = { offer: { acceptSeconds: 60, maxMissed: 3 } };
  const made = await createTeam(pool, { workspaceId, name: 'Offers', strategy: 'round_robin', settings });
  if (made.kind !== 'created') throw new Error(made.kind);
  await addAgent('Bea', 1, made.team.id);
  for (const contact of ['offered', 'waiting']) {
    const message = await ingest(contact, contact);
    accepted.push(message);
    await open(message.contactId, { kind: 'team', teamId: made.team.id });
  }
});
afterAll(() => database?.drop());

async function addAgent(name: string, capacity: number, teamId: string): Promise<void> {
  const made = await createAgent(database.pool, { workspaceId, name, capacity, teamIds: [teamId], skills: {} });
  if (made.kind !== 'created') throw new Error(made.kind);
  await setPresence(database.pool, { workspaceId, agentId: made.agent.id, status: 'online' });
}

async function ingest(externalId: string, contactName = 'contact'): Promise<AcceptedMessage> {
  const contact = { externalId: contactName };
  const [result] = await ingestMessages(database.pool, [
    { workspaceId, channel: 'web', externalId, contact, text: 'Hello' },
  ]);
  if (result?.kind !== 'accepted') throw new Error(result?.kind);
  return result;
}

async function open(contactId: string, to: AssignTarget = { kind: 'queue' }): Promise<string> {
  const opened = await openByUser(database.pool, {
    workspaceId,
    contactId,
    source: 'user',
    to,
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

test('what an agent had is not held against a capacity that was lowered, nor what was forced', async () => {
  await damaged('UPDATE agents SET capacity = 0 WHERE workspace_id = $1', async (client) => {
    const { rows: agents } = await client.query<{ id: string }>('SELECT id FROM agents WHERE workspace_id = $1', [
      workspaceId,
    ]);
    const loweredAgentIds = agents.map(({ id }) => id);
    expect(await findViolations(client, { workspaceId, accepted, loweredAgentIds })).toEqual([]);
    const setForced = `UPDATE events SET data = data || '{"forced": true}'
                       WHERE workspace_id = $1 AND type IN ('conversation.assigned', 'conversation.offered')`;
    await client.query(setForced, [workspaceId]);
    expect(await findViolations(client, { workspaceId, accepted })).toEqual([]);
  });
});

/** About all conversations in a state, and by default their agents. */
const event = (type: string, conversation: string, agentId = 'coalesce(offered_agent_id, agent_id)'): string =>
  `INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
   SELECT workspace_id, '${type}', id, contact_id, jsonb_build_object('agentId', ${agentId}, 'units', units)
   FROM conversations WHERE workspace_id = $1 AND state = '${conversation}'`;
const ada = `(SELECT id FROM agents WHERE workspace_id = $1 AND name = 'Ada')`;

const damages: readonly (readonly [string, string, string])[] = [
  ['a message without a conversation', 'UPDATE messages SET conversation_id = NULL WHERE workspace_id = $1', 'I1'],
  [
    'a message told twice',
    `INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
     SELECT workspace_id, type, conversation_id, contact_id, data FROM events
     WHERE workspace_id = $1 AND type = 'message.received' LIMIT 1`,
    'I1',
  ],
  [
    'a message in another contact’s conversation',
    `UPDATE messages SET conversation_id = (SELECT id FROM conversations v WHERE v.contact_id <> messages.contact_id LIMIT 1)
     WHERE workspace_id = $1`,
    'a message belongs to',
  ],
  [
    'a message of a contact that is not there',
    `UPDATE messages SET contact_id = id WHERE workspace_id = $1`,
    'a message belongs to',
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
  [
    'a load on a channel that is too high',
    `UPDATE agents SET channel_loads = '{"web": 3}' WHERE workspace_id = $1`,
    'I3 load is what agents hold',
  ],
  [
    'a quiet conversation that takes units',
    `UPDATE agents SET load = 2 WHERE workspace_id = $1 AND id = ${ada}`,
    'I3 load is what agents hold',
  ],
  [
    'one that counts and takes no units',
    'UPDATE conversations SET quiet_since = NULL WHERE workspace_id = $1',
    'I3 load is what agents hold',
  ],
  [
    'an offer that reserves nothing',
    `UPDATE agents SET load = 0, channel_loads = '{}' WHERE workspace_id = $1 AND name = 'Bea'`,
    'I3 load is what agents hold',
  ],
  ['more than the capacity', 'UPDATE agents SET capacity = 0 WHERE workspace_id = $1', 'I3 agent'],
  [
    'more on a channel than its limit',
    `UPDATE agents SET channel_limits = '{"web": 0}' WHERE workspace_id = $1`,
    'I3 agent',
  ],
  [
    'an event that tells other units',
    `UPDATE events SET data = data || '{"units": 7}' WHERE workspace_id = $1 AND type = 'conversation.offered'`,
    'I3 an event tells what the conversation costs',
  ],
  ['an offer of what somebody has', event('conversation.offered', 'assigned'), 'I3 only what nobody has is offered'],
  ['the end of no offer', event('conversation.offer_ended', 'assigned'), 'I3 only an offer that was made ends'],
  [
    'an assignment past an offer',
    event('conversation.assigned', 'waiting', ada),
    'I3 an offer ends before another agent gets it',
  ],
  ['a loss by who never had it', event('conversation.unassigned', 'waiting', ada), 'I3 only who has it loses it'],
  ['going quiet twice', event('conversation.quiet', 'assigned'), 'I3 only what counts goes quiet'],
  ['waking of what was not quiet', event('conversation.woken', 'assigned'), 'I3 only what is quiet wakes'],
  [
    'a wait that began anew',
    `UPDATE conversations SET waiting_since = now() + interval '1 s' WHERE workspace_id = $1 AND state = 'waiting'`,
    'what waits keeps the time',
  ],
  [
    'one filed where nobody looks',
    `UPDATE conversations SET queue_key = 'elsewhere' WHERE workspace_id = $1 AND state = 'waiting'`,
    'what waits is filed and timed',
  ],
  [
    'an offer that never ends',
    'UPDATE conversations SET due_at = NULL, due_kind = NULL WHERE workspace_id = $1 AND offered_agent_id IS NOT NULL',
    'what waits is filed and timed',
  ],
  ['a flow that ran for a user’s conversation', event('conversation.routed', 'assigned'), 'I4'],
  ['a gap in the sequence', 'UPDATE contacts SET last_sequence = last_sequence + 1 WHERE workspace_id = $1', 'I5'],
  ['a close without its event', `DELETE FROM events WHERE workspace_id = $1 AND type = 'conversation.closed'`, 'I6'],
  ['a close event too many', event('conversation.closed', 'assigned'), 'I6'],
  ['something after the close', event('conversation.assigned', 'closed'), 'nothing happens after the close'],
  [
    'waiting though there is room',
    `WITH queued AS (
       UPDATE conversations SET state = 'waiting', agent_id = NULL, quiet_since = NULL, waiting_since = now()
       WHERE workspace_id = $1 AND state = 'assigned'
     )
     UPDATE agents SET load = 0 WHERE workspace_id = $1`,
    'I7',
  ],
];

test.each(damages)('%s is found', async (_what, damage, claim) => {
  await damaged(damage, async (client) => {
    const found = await findViolations(client, { workspaceId, accepted });
    expect(found.filter((violation) => violation.startsWith(claim))).not.toEqual([]);
  });
});

async function damaged(damage: string, look: (client: pg.PoolClient) => Promise<void>): Promise<void> {
  const client = await database.pool.connect();
  try {
    await client.query('BEGIN');
    await client.query(damage, [workspaceId]);
    await look(client);
  } finally {
    await client.query('ROLLBACK');
    client.release();
  }
}
