import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { withTransaction } from '../../platform/pool.ts';
import { executeClose, requestClose, writeCloseRequest } from '../../store/closing.ts';
import { lockContact } from '../../store/locks.ts';
import { openForContact } from '../../store/opening.ts';
import { addReply } from '../../store/replies.ts';
import { assignManually } from '../../store/assignment.ts';
import { getConversation } from '../../store/conversations.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { createStage, findImbalances, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

/** A workspace of its own, where a test needs to know everyone who waits. */
const begin = async (): Promise<string> => {
  stage = await createStage(database.pool);
  return stage.workspaceId;
};

test('the first close request wins; later ones change nothing and tell what is', async () => {
  const workspaceId = await begin();
  const { contactId, conversationId } = await stage.open(newId());
  const request = (category: string) =>
    requestClose(database.pool, { workspaceId, conversationId, agentId: null, category, summary: `by ${category}` });
  const kinds = (await Promise.all(['a', 'b', 'c', 'd'].map(request))).map((result) => result.kind);
  expect(kinds.toSorted()).toEqual(['already_requested', 'already_requested', 'already_requested', 'requested']);
  const winner = ['a', 'b', 'c', 'd'][kinds.indexOf('requested')]!;
  await executeClose(database.pool, { workspaceId, contactId, conversationId });
  expect(await request('late')).toEqual({ kind: 'already_closed' });
  expect(await stage.conversation(conversationId)).toMatchObject({ category: winner, summary: `by ${winner}` });
  expect(await stage.nudgesOf(contactId)).toEqual([null, conversationId]);
});

test('a close request is one statement, and answers with the conversation as it is read afterwards', async () => {
  const workspaceId = await begin();
  const { conversationId } = await stage.open(newId());
  const sent: unknown[] = [];
  const pool = {
    query: (statement: pg.QueryConfig) => {
      sent.push(statement.name);
      return database.pool.query(statement);
    },
  };
  const request = { workspaceId, conversationId, agentId: null, category: 'solved' };
  const result = await requestClose(pool as unknown as pg.Pool, request);
  expect(sent).toEqual(['request-close-if-fit']);
  const read = await getConversation(database.pool, { workspaceId, conversationId });
  expect(read).toMatchObject({ state: 'waiting', closeCategory: 'solved', closeRequestedAt: expect.any(Date) });
  const { effectivePriority, ...conversation } = read!;
  expect(result).toMatchObject({ kind: 'requested', conversation });
  // It grows with time.
  expect(
    result.kind === 'requested' && effectivePriority! - result.conversation.effectivePriority!,
  ).toBeGreaterThanOrEqual(0);
});

test('a request that waits for the contact finds the close that came before', async () => {
  const workspaceId = await begin();
  const { contactId, conversationId } = await stage.open(newId());
  const request = { workspaceId, conversationId, agentId: null };
  const { held, release } = await holdContact(contactId);
  const waiting = requestClose(database.pool, request);
  await eventually('the request waits', async () => {
    const { rows } = await database.pool.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    return rows.length > 0;
  });
  await held.query(
    `UPDATE conversations SET state = 'closed', close_requested_at = now(), closed_at = now(), version = version + 1 WHERE id = $1`,
    [conversationId],
  );
  await release();
  expect(await waiting).toEqual({ kind: 'already_closed' });
  expect(await stage.nudgesOf(contactId)).toEqual([null]);
});

/** In a transaction of its own, until it is released. */
async function holdContact(contactId: string) {
  const held = await database.pool.connect();
  await held.query('BEGIN');
  await held.query('SELECT FROM contacts WHERE id = $1 FOR NO KEY UPDATE', [contactId]);
  const release = async (): Promise<void> => {
    await held.query('COMMIT');
    held.release();
  };
  return { held, release };
}

test('a conversation of another workspace cannot be asked to close', async () => {
  await begin();
  const { conversationId } = await stage.open(newId());
  const { workspaceId } = await createStage(database.pool);
  expect(await requestClose(database.pool, { workspaceId, conversationId, agentId: null })).toEqual({
    kind: 'not_found',
  });
});

test('closing many times at once closes once: one event, room given back once', async () => {
  const workspaceId = await begin();
  const agentId = await stage.addAgent(3);
  const ref = await stage.open(newId());
  await stage.open(newId());
  const results = await Promise.all(
    Array.from({ length: 10 }, () => executeClose(database.pool, { workspaceId, ...ref })),
  );
  expect(results.filter((result) => result.closed)).toHaveLength(1);
  for (const { phase } of results) expect(phase).toEqual({ kind: 'idle' });
  expect((await stage.eventsOf(ref.conversationId)).filter((type) => type === 'conversation.closed')).toHaveLength(1);
  expect(await stage.loadOf(agentId)).toBe(1);
});

test('a stale close, naming the conversation before, leaves the open one alone', async () => {
  const workspaceId = await begin();
  const contact = newId();
  const old = await stage.open(contact);
  await stage.close(old);
  const current = await stage.open(contact);
  const result = await executeClose(database.pool, { workspaceId, ...old });
  expect(result).toEqual({ phase: { kind: 'open', conversationId: current.conversationId }, closed: false });
});

test('another contact’s conversation is left alone', async () => {
  const workspaceId = await begin();
  const mine = await stage.open(newId());
  const theirs = await stage.open(newId());
  const { contactId } = mine;
  const result = await executeClose(database.pool, { workspaceId, contactId, conversationId: theirs.conversationId });
  expect(result.closed).toBe(false);
  expect(await stage.conversation(theirs.conversationId)).toMatchObject({ state: 'waiting' });
});

test('a conversation closes before it was routed and while it waits, and is never handed out afterwards', async () => {
  const workspaceId = await begin();
  const { contactId } = await stage.write(newId());
  const { phase } = await openForContact(database.pool, { workspaceId, contactId });
  if (phase.kind !== 'assigning') throw new Error(phase.kind);
  const early = { contactId, conversationId: phase.conversationId };
  const waiting = await stage.open(newId());
  await stage.close(early);
  await stage.close(waiting);
  const asked = await stage.open(newId());
  await requestClose(database.pool, { workspaceId, conversationId: asked.conversationId, agentId: null });
  const agentId = await stage.addAgent(5);
  for (const { conversationId } of [early, waiting, asked]) {
    expect(await stage.conversation(conversationId)).toMatchObject({ agentId: null });
  }
  expect(await stage.loadOf(agentId)).toBe(0);
});

test('whoever closes, assigns or queues a conversation whose flow waits for an answer ends that', async () => {
  const workspaceId = await begin();
  const { pool } = database;
  const agentId = await stage.addAgent(5);
  const by = { workspaceId, byAgentId: null };
  const ends: ((key: { contactId: string; conversationId: string }) => Promise<unknown>)[] = [
    ({ conversationId }) => requestClose(pool, { workspaceId, conversationId, agentId: null }),
    (key) =>
      withTransaction(pool, async (tx) => {
        await lockContact(tx, { workspaceId, contactId: key.contactId });
        const close = { agentId: null, category: null, summary: null, reason: 'flow' } as const;
        expect(await writeCloseRequest(tx, { workspaceId, ...key }, close)).toBe(true);
      }),
    (key) => executeClose(pool, { workspaceId, ...key }),
    ({ conversationId }) =>
      assignManually(pool, { ...by, conversationId, to: { kind: 'agent', agentId, force: false } }),
    ({ conversationId }) => assignManually(pool, { ...by, conversationId, to: { kind: 'queue' } }),
  ];
  for (const end of ends) {
    const key = await openAsking();
    expect(await askingOf(key.conversationId)).toEqual({ asks: true, until: expect.any(Date) });
    await end(key);
    expect(await askingOf(key.conversationId)).toEqual({ asks: false, until: null });
  }
  const { rows } = await pool.query<{ reason: string }>(
    `SELECT data ->> 'reason' AS reason FROM events WHERE workspace_id = $1 AND type = 'conversation.close_requested' ORDER BY id`,
    [workspaceId],
  );
  expect(rows.map(({ reason }) => reason)).toEqual(['agent', 'flow']);
});

/** One whose flow has just asked its contact something. */
async function openAsking(): Promise<{ contactId: string; conversationId: string }> {
  const { workspaceId } = stage;
  const { contactId } = await stage.write(newId());
  const { phase } = await openForContact(database.pool, { workspaceId, contactId });
  if (phase.kind !== 'assigning') throw new Error(phase.kind);
  const { conversationId } = phase;
  await database.pool.query(
    `UPDATE conversations SET state = 'enriching', team_id = NULL, routed_at = NULL, question_count = 1, flow_step = 2,
            awaiting_after_sequence = 1, answer_until = now() + interval '1 hour', answer_settle_seconds = 3
     WHERE id = $1`,
    [conversationId],
  );
  return { contactId, conversationId };
}

async function askingOf(conversationId: string): Promise<{ asks: boolean; until: Date | null }> {
  const { rows } = await database.pool.query<{ asks: boolean; until: Date | null }>(
    'SELECT awaiting_after_sequence IS NOT NULL AS asks, answer_until AS until FROM conversations WHERE id = $1',
    [conversationId],
  );
  return rows[0]!;
}

test('freed room goes to who waits: higher priority first, then the longest wait', async () => {
  const workspaceId = await begin();
  const agentId = await stage.addAgent(1);
  let busy = await stage.open(newId());
  const [first, second, urgent] = [await stage.open(newId()), await stage.open(newId()), await stage.open(newId())];
  await database.pool.query('UPDATE conversations SET priority = 50 WHERE workspace_id = $1 AND id = $2', [
    workspaceId,
    urgent.conversationId,
  ]);
  for (const next of [urgent, first, second]) {
    await stage.close(busy);
    expect(await stage.conversation(next.conversationId)).toMatchObject({ state: 'assigned', agentId });
    expect(await stage.loadOf(agentId)).toBe(1);
    expect(await findImbalances(database.pool, workspaceId)).toEqual([]);
    busy = next;
  }
});

test('freed room goes to the longest wait of all the agent’s teams', async () => {
  const workspaceId = await begin();
  const teamId = await stage.addTeam();
  const agentId = await stage.addAgent(1, [stage.defaultTeamId, teamId]);
  const busy = await stage.open(newId());
  const elder = await stage.open(newId());
  const younger = await stage.open(newId());
  await assignManually(database.pool, {
    workspaceId,
    conversationId: elder.conversationId,
    to: { kind: 'team', teamId },
    byAgentId: null,
  });
  await stage.close(busy);
  expect(await stage.conversation(elder.conversationId)).toMatchObject({ state: 'assigned', agentId });
  await stage.close(elder);
  expect(await stage.conversation(younger.conversationId)).toMatchObject({ state: 'assigned', agentId });
});

test('from the request on, replies and assignments are refused', async () => {
  const workspaceId = await begin();
  const agentId = await stage.addAgent(1);
  const { contactId, conversationId } = await stage.open(newId());
  const reply = () => addReply(database.pool, { workspaceId, conversationId, agentId, text: 'Hi' });
  const assign = () =>
    assignManually(database.pool, { workspaceId, conversationId, to: { kind: 'queue' }, byAgentId: null });
  await requestClose(database.pool, { workspaceId, conversationId, agentId });
  expect([await reply(), await assign()]).toEqual([{ kind: 'closing' }, { kind: 'closing' }]);
  await executeClose(database.pool, { workspaceId, contactId, conversationId });
  expect([await reply(), await assign()]).toEqual([{ kind: 'closed' }, { kind: 'closed' }]);
});

test('a close in the name of an agent of another workspace is refused, and nothing is requested', async () => {
  await begin();
  const foreign = await stage.addAgent(1);
  const workspaceId = await begin();
  const { conversationId } = await stage.open(newId());
  const request = { workspaceId, conversationId, agentId: foreign };
  expect(await requestClose(database.pool, request)).toEqual({ kind: 'unknown_agent' });
  expect(await requestClose(database.pool, { ...request, agentId: null })).toMatchObject({ kind: 'requested' });
});
