import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import type { Ring } from '../../routing/requirements.ts';
import { setPresence } from '../../store/agents.ts';
import { assignManually } from '../../store/assignment.ts';
import { requestClose } from '../../store/closing.ts';
import { readDue, settleDue } from '../../store/due-clocks.ts';
import { addReply } from '../../store/replies.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { expectSound, letTimePass, readEvents, settleAllDue } from './passing-time.ts';
import { connectAnother } from './second-pool.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let other: pg.Pool;
let pool: pg.Pool;
let stage: Stage;
let workspaceId: string;
let teamId: string;

beforeAll(async () => {
  database = await createTestDatabase();
  ({ pool } = database);
  other = connectAnother(database);
});
beforeEach(async () => {
  stage = await createStage(pool);
  ({ workspaceId } = stage);
  teamId = await stage.addTeam();
});
afterEach(() => expectSound(pool, workspaceId));
afterAll(async () => {
  await other?.end();
  await database?.drop();
});

const text = 'Nobody is free, sorry.';
const webhookUrl = 'https://hooks.example.com/nobody';
const end = (then: 'wait' | 'close', more: { text?: string; webhookUrl?: string } = {}, afterSeconds = 30): Ring => ({
  kind: 'fallback',
  afterSeconds,
  then,
  ...more,
});
const relax: Ring = { kind: 'relax', afterSeconds: 10, levels: [{ skill: 'spanish', level: 0 }] };

type Ref = { readonly contactId: string; readonly conversationId: string };

/** One whose rings are all due. */
async function openOverdue(rings: readonly Ring[]): Promise<Ref> {
  const skills = [{ skill: 'spanish', level: 3, preferred: false }];
  const ref = await stage.open(newId(), { teamId, skills, rings });
  await letTimePass(pool, ref.conversationId, 60);
  return ref;
}

/** What the contact was sent. */
async function sentTo({ conversationId }: Ref) {
  const { rows } = await pool.query<{ text: string; agentId: string | null; sequence: number }>(
    `SELECT text, agent_id AS "agentId", sequence FROM messages
     WHERE workspace_id = $1 AND conversation_id = $2 AND direction = 'outbound' ORDER BY sequence`,
    [workspaceId, conversationId],
  );
  return rows;
}

test('a fallback that closes sends its text before the close is asked for, and the next conversation is another', async () => {
  const ref = await openOverdue([end('close', { text })]);
  expect(await settleAllDue(pool, workspaceId)).toBe(1);
  expect(await sentTo(ref)).toEqual([{ text, agentId: null, sequence: 2 }]);
  expect(await stage.conversation(ref.conversationId)).toMatchObject({
    state: 'waiting',
    ring: 1,
    dueKind: null,
    closeReason: 'nobody_available',
    closeRequestedAt: expect.any(Date),
  });
  const types = (await stage.eventsOf(ref.conversationId)).filter((type) => type !== 'conversation.waiting');
  expect(types.slice(-3)).toEqual(['conversation.ring_passed', 'message.sent', 'conversation.close_requested']);
  expect(await stage.nudgesOf(ref.contactId)).toContain(ref.conversationId);
  expect(await settleAllDue(pool, workspaceId)).toBe(0);
  expect(await sentTo(ref)).toHaveLength(1);
});

test('one that waits sends its text once and goes on waiting, for whoever comes', async () => {
  const ref = await openOverdue([relax, end('wait', { text, webhookUrl })]);
  const { waitingSince, queuedAt } = await stage.conversation(ref.conversationId);
  while ((await settleAllDue(pool, workspaceId)) > 0);
  expect(await sentTo(ref)).toEqual([{ text, agentId: null, sequence: 2 }]);
  expect(await webhooksOf(ref)).toEqual([webhookUrl]);
  expect(await stage.conversation(ref.conversationId)).toMatchObject({
    state: 'waiting',
    ring: 2,
    dueKind: null,
    dueAt: null,
    closeRequestedAt: null,
    waitingSince,
    queuedAt,
  });
  // What events tell are ids and short facts.
  expect(await readEvents(pool, workspaceId, 'conversation.ring_passed')).toEqual([
    { ring: 1, change: 'relax', skills: [] },
    { ring: 2, change: 'fallback', then: 'wait' },
  ]);
  const agentId = await stage.addAgent(1, [teamId]);
  expect(await stage.conversation(ref.conversationId)).toMatchObject({ state: 'assigned', agentId });
});

test('a webhook alone is told, and the contact is sent nothing', async () => {
  for (const then of ['wait', 'close'] as const) {
    const ref = await openOverdue([end(then, { webhookUrl })]);
    await settleAllDue(pool, workspaceId);
    expect(await webhooksOf(ref)).toEqual([webhookUrl]);
    expect(await sentTo(ref)).toEqual([]);
    expect((await stage.conversation(ref.conversationId)).closeReason).toBe(
      then === 'close' ? 'nobody_available' : null,
    );
  }
});

test('clocks that fire again and again, in two processes at once, send and tell once', async () => {
  for (const then of ['wait', 'close'] as const) {
    const ref = await openOverdue([end(then, { text, webhookUrl })]);
    const due = (await readDue(pool, { maxRows: 1_000 })).find((clock) => clock.conversationId === ref.conversationId)!;
    expect(due).toMatchObject({ kind: 'ring', needsContact: true });
    const pools = [pool, other, pool, other, pool, other];
    await Promise.all(pools.map((by) => settleDue(by, due)));
    await settleDue(other, due);
    // As if it had been read before the ring passed, by one who took it for a ring like others.
    await settleDue(pool, { ...due, needsContact: false });
    expect(await sentTo(ref)).toHaveLength(1);
    expect(await webhooksOf(ref)).toEqual([webhookUrl]);
    expect((await stage.conversation(ref.conversationId)).ring).toBe(1);
  }
});

test('nothing is sent before the time, nor when somebody took or closed it meanwhile, nor after a transfer', async () => {
  const rings = [end('wait', { text, webhookUrl })];
  const key = (ref: Ref) =>
    ({ workspaceId, ...ref, teamId, kind: 'ring', needsContact: true, lateSeconds: 0 }) as const;
  const early = await stage.open(newId(), { teamId, rings });
  await settleDue(pool, key(early));
  expect(await stage.conversation(early.conversationId)).toMatchObject({ ring: 0, dueKind: 'ring' });
  const taken = await openOverdue(rings);
  const agentId = await stage.addAgent(0, [teamId]);
  const to = { kind: 'agent', agentId, force: true } as const;
  await assignManually(pool, { workspaceId, conversationId: taken.conversationId, to, byAgentId: null });
  const closing = await openOverdue(rings);
  await requestClose(pool, { workspaceId, conversationId: closing.conversationId, agentId: null });
  const moved = await openOverdue(rings);
  const elsewhere = { kind: 'team', teamId: await stage.addTeam() } as const;
  await assignManually(pool, { workspaceId, conversationId: moved.conversationId, to: elsewhere, byAgentId: null });
  for (const ref of [taken, closing, moved]) await settleDue(pool, key(ref));
  for (const ref of [early, taken, closing, moved]) {
    expect(await sentTo(ref)).toEqual([]);
    expect(await webhooksOf(ref)).toEqual([]);
  }
});

test('a text takes its place among messages and replies that come at once, without a gap or a deadlock', async () => {
  const agentId = await stage.addAgent(0, [teamId]);
  for (let round = 0; round < 8; round += 1) {
    const contact = newId();
    const ref = await stage.open(contact, { teamId, rings: [end(round % 2 === 0 ? 'wait' : 'close', { text })] });
    await letTimePass(pool, ref.conversationId, 60);
    const due = (await readDue(pool, { maxRows: 1_000 })).find((clock) => clock.conversationId === ref.conversationId)!;
    const { conversationId } = ref;
    await Promise.all([
      settleDue(pool, due),
      stage.write(contact),
      setPresence(other, { workspaceId, agentId, status: round % 2 === 0 ? 'away' : 'online' }),
      settleDue(other, due),
      addReply(other, { workspaceId, conversationId, agentId, text: 'Soon' }),
      stage.write(contact),
    ]);
    const sequences = (await stage.messagesOf(ref.contactId)).map(({ sequence }) => sequence);
    expect(sequences).toEqual(sequences.map((_, index) => index + 1));
    expect((await sentTo(ref)).filter((message) => message.text === text)).toHaveLength(1);
  }
});

/** Which addresses are to be told, each with what it is about. */
async function webhooksOf({ conversationId, contactId }: Ref): Promise<string[]> {
  const { rows } = await pool.query<{ url: string; payload: { data: Record<string, unknown> } }>(
    `SELECT url, payload FROM deliveries
     WHERE workspace_id = $1 AND conversation_id = $2 AND kind = 'webhook' ORDER BY position`,
    [workspaceId, conversationId],
  );
  for (const { payload } of rows) {
    expect(payload.data).toMatchObject({ reason: 'nobody_available', conversationId, contactId, teamId });
  }
  return rows.map(({ url }) => url);
}
