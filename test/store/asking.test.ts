/** Questions to the contact: what is written together, who is told of an answer, and what an answer is. */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { assignManually } from '../../store/assignment.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { takeTurn } from '../../routing/flow-interpreter.ts';
import { enrichConversation, enrichConversations, readEnrichmentInputs, writeTurns } from '../../store/enriching.ts';
import { fallBack } from '../../store/fallback.ts';
import { publishFlow } from '../../store/flow-publishing.ts';
import { createFlow } from '../../store/flows.ts';
import { ingestMessages, type IngestItem } from '../../store/ingest.ts';
import { openForContact } from '../../store/opening.ts';
import { readPhase } from '../../store/phases.ts';
import { addReply } from '../../store/replies.ts';
import { readStalled } from '../../store/upkeep.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { connectAnother } from './second-pool.ts';
import { createStage } from './stage.ts';

let database: TestDatabase;
let another: pg.Pool;

beforeAll(async () => {
  database = await createTestDatabase();
  another = connectAnother(database);
});
afterAll(async () => {
  await another?.end();
  await database?.drop();
});

const ask = {
  kind: 'ask',
  field: 'purpose',
  text: 'Sales or support?',
  retryText: 'Please answer sales or support.',
  choices: [
    { value: 'sales', label: 'Sales' },
    { value: 'support', label: 'Support' },
  ],
  maxQuestions: 2,
  timeoutSeconds: 600,
  settleSeconds: 0,
};

/** A conversation whose flow is about to ask. */
async function openSomebody(step: object = ask, more: readonly object[] = []) {
  const stage = await createStage(database.pool);
  const { workspaceId, defaultTeamId: teamId } = stage;
  const document = { enrichment: [step, ...more], routing: { branches: [], otherwise: { teamId } } };
  const created = await createFlow(database.pool, { workspaceId, name: 'Asking', description: '', document });
  if (created.kind !== 'created') throw new Error(JSON.stringify(created));
  await publishFlow(database.pool, { workspaceId, flowId: created.flow.id });
  const contact = newId();
  const { contactId } = await stage.write(contact);
  const { phase } = await openForContact(database.pool, { workspaceId, contactId });
  if (phase.kind !== 'enriching') throw new Error(phase.kind);
  const { conversationId } = phase;
  const key = { workspaceId, contactId, conversationId };
  await database.pool.query('DELETE FROM outbox WHERE workspace_id = $1', [workspaceId]);
  return {
    ...stage,
    key,
    say: (text: string) => stage.write(contact, { text }),
    /** A message without text. */
    attach: () => ingestMessages(database.pool, [attachmentOf(workspaceId, contact)]),
    async row() {
      const { rows } = await database.pool.query<Row>(
        `SELECT state, fields, field_sources AS sources, flow_step AS step, question_count AS questions,
                awaiting_after_sequence AS awaiting, answer_until AS until
         FROM conversations WHERE workspace_id = $1 AND id = $2`,
        [workspaceId, conversationId],
      );
      return rows[0]!;
    },
    async texts() {
      const { rows } = await database.pool.query<{ text: string }>(
        `SELECT text FROM messages WHERE workspace_id = $1 AND conversation_id = $2 AND direction = 'outbound' ORDER BY sequence`,
        [workspaceId, conversationId],
      );
      return rows.map(({ text }) => text);
    },
    async nudges() {
      const { rows } = await database.pool.query<{ id: number }>(
        'SELECT id FROM outbox WHERE workspace_id = $1 AND wake_conversation_id IS NULL AND close_conversation_id IS NULL',
        [workspaceId],
      );
      return rows.length;
    },
    /** As if the time for an answer were over. */
    timeOut: () =>
      database.pool.query("UPDATE conversations SET answer_until = now() - interval '1 s' WHERE id = $1", [
        conversationId,
      ]),
  };
}

const attachmentOf = (workspaceId: string, contact: string): IngestItem => ({
  workspaceId,
  channel: 'web',
  externalId: newId(),
  contact: { externalId: contact },
  attachments: [{ url: 'https://files.example/1' }],
});

/** A conversation whose flow has just asked. */
async function askSomebody(step: object = ask, more: readonly object[] = []) {
  const scene = await openSomebody(step, more);
  return { ...scene, asked: await enrichConversation(database.pool, scene.key) };
}

interface Row {
  readonly state: string;
  readonly fields: Record<string, unknown>;
  readonly sources: Record<string, unknown>;
  readonly step: number;
  readonly questions: number;
  readonly awaiting: number | null;
  readonly until: Date | null;
}

test('the question is a message of the thread, and the conversation waits for what comes above it', async () => {
  const scene = await askSomebody();
  expect(scene.asked.phase).toEqual({
    kind: 'asking',
    conversationId: scene.key.conversationId,
    waitMs: 600_000,
  });
  expect(await scene.row()).toMatchObject({ state: 'enriching', step: 0, questions: 1, awaiting: 2, fields: {} });
  expect(await scene.texts()).toEqual(['Sales or support?']);
  expect(await scene.eventsOf(scene.key.conversationId)).toEqual([
    'conversation.opened',
    'message.received',
    'conversation.asked',
    'message.sent',
  ]);
  expect(await readPhase(database.pool, scene.key)).toMatchObject({ kind: 'asking' });
});

test('a step that comes again asks no second time, in this process or another', async () => {
  const scene = await askSomebody();
  for (const pool of [database.pool, another]) {
    expect(await enrichConversation(pool, scene.key)).toMatchObject({ phase: null });
  }
  expect(await scene.texts()).toEqual(['Sales or support?']);
});

test('two workers that ask at once ask once', async () => {
  const scene = await askSomebody();
  await scene.say('hello?');
  const turns = await Promise.all([database.pool, another].map((pool) => enrichConversation(pool, scene.key)));
  expect(turns.filter(({ phase }) => phase !== null)).toHaveLength(1);
  expect(await scene.texts()).toEqual(['Sales or support?', 'Please answer sales or support.']);
  expect(await scene.row()).toMatchObject({ questions: 2, awaiting: 4 });
});

test('the answer tells the actor, becomes the field, and the flow goes on', async () => {
  const scene = await askSomebody();
  await scene.say('SUPPORT please');
  expect(await scene.nudges()).toBe(1);
  expect(await readPhase(database.pool, scene.key)).toMatchObject({ kind: 'enriching' });
  expect(await enrichConversation(database.pool, scene.key)).toMatchObject({ phase: { kind: 'routing' } });
  expect(await scene.row()).toMatchObject({
    state: 'routing',
    fields: { purpose: 'support' },
    sources: { purpose: { type: 'string', step: 0, kind: 'ask' } },
    awaiting: null,
    until: null,
  });
  expect((await scene.eventsOf(scene.key.conversationId)).slice(-2)).toEqual([
    'conversation.answered',
    'conversation.enriched',
  ]);
});

test('several quick messages are one answer: the actor waits until the contact has been silent', async () => {
  const scene = await askSomebody({ ...ask, choices: undefined, settleSeconds: 30 });
  await scene.say('my parcel');
  await scene.say('has not come');
  const phase = await readPhase(database.pool, scene.key);
  expect(phase).toMatchObject({ kind: 'asking' });
  expect((phase as { waitMs: number }).waitMs).toBeGreaterThan(20_000);
  expect((phase as { waitMs: number }).waitMs).toBeLessThanOrEqual(30_000);
  expect(await enrichConversation(database.pool, scene.key)).toMatchObject({ phase: null });
  await database.pool.query(
    "UPDATE messages SET received_at = received_at - interval '31 s' WHERE conversation_id = $1",
    [scene.key.conversationId],
  );
  await enrichConversation(database.pool, scene.key);
  expect((await scene.row()).fields).toEqual({ purpose: 'my parcel\nhas not come' });
});

test('ten messages are enough, and an answer under way when the time is over counts', async () => {
  const many = await askSomebody({ ...ask, choices: undefined, settleSeconds: 30 });
  for (let i = 0; i < 10; i += 1) await many.say(`part ${i}`);
  expect(await enrichConversation(database.pool, many.key)).toMatchObject({ phase: { kind: 'routing' } });
  const late = await askSomebody({ ...ask, settleSeconds: 30 });
  await late.say('sales');
  await late.timeOut();
  await enrichConversation(database.pool, late.key);
  expect((await late.row()).fields).toEqual({ purpose: 'sales' });
});

test('no answer in time: the question is given up, and what comes later changes nothing and tells nobody', async () => {
  const scene = await askSomebody({ ...ask, giveUp: { value: 'unknown', text: 'Somebody will ask you again.' } });
  await scene.timeOut();
  expect(await enrichConversation(database.pool, scene.key)).toMatchObject({ phase: { kind: 'routing' } });
  expect(await scene.row()).toMatchObject({ fields: { purpose: 'unknown' }, awaiting: null });
  expect(await scene.texts()).toEqual(['Sales or support?', 'Somebody will ask you again.']);
  await scene.say('sales');
  expect(await scene.nudges()).toBe(0);
  expect((await scene.row()).fields).toEqual({ purpose: 'unknown' });
});

test('what the contact wrote before the question is no answer to it', async () => {
  const second = { ...ask, field: 'again', text: 'And how?', choices: [{ value: 'x', label: 'Sales' }] };
  const scene = await askSomebody(ask, [second]);
  await scene.say('sales');
  await enrichConversation(database.pool, scene.key);
  expect(await scene.row()).toMatchObject({ step: 1, questions: 1, fields: { purpose: 'sales' }, awaiting: 4 });
  expect(await enrichConversation(database.pool, scene.key)).toMatchObject({ phase: null });
  expect(await scene.texts()).toEqual(['Sales or support?', 'And how?']);
});

test('an agent’s reply while the flow waits is no answer', async () => {
  const scene = await askSomebody();
  const agentId = await scene.addAgent(1);
  const { workspaceId, conversationId } = scene.key;
  await addReply(database.pool, { workspaceId, conversationId, agentId, text: 'sales' });
  expect(await readPhase(database.pool, scene.key)).toMatchObject({ kind: 'asking' });
  expect(await scene.nudges()).toBe(0);
});

test('a close while the flow waits: nothing waits any more, and the next message opens the next conversation', async () => {
  const scene = await askSomebody();
  const { workspaceId, conversationId } = scene.key;
  await requestClose(database.pool, { workspaceId, conversationId, agentId: null });
  expect(await readPhase(database.pool, scene.key)).toMatchObject({ kind: 'closing' });
  const { conversationId: pending } = await scene.say('sales');
  expect(pending).toBeNull();
  await executeClose(database.pool, scene.key);
  expect(await scene.row()).toMatchObject({ state: 'closed', awaiting: null });
  expect(await readPhase(database.pool, scene.key)).toMatchObject({ kind: 'pending' });
});

test('a person who takes it over while the flow waits: messages tell no actor, and the flow changes nothing', async () => {
  const scene = await askSomebody();
  const agentId = await scene.addAgent(1);
  const { workspaceId, conversationId } = scene.key;
  const to = { kind: 'agent', agentId, force: false } as const;
  expect(await assignManually(database.pool, { workspaceId, conversationId, to, byAgentId: null })).toMatchObject({
    kind: 'done',
  });
  await scene.say('sales');
  expect(await scene.nudges()).toBe(0);
  expect(await enrichConversation(database.pool, scene.key)).toMatchObject({ phase: null });
  expect(await scene.row()).toMatchObject({ state: 'assigned', awaiting: null, fields: {} });
});

test('what the contact adds while its answer is being judged is judged with it', async () => {
  const scene = await askSomebody();
  await scene.say('hm');
  const [input] = await readEnrichmentInputs(database.pool, [scene.key]);
  const turn = takeTurn(input!.flow, input!.facts, input!.progress, input!.heard);
  if (turn.kind !== 'ask') throw new Error(turn.kind);
  await scene.say('sales');
  expect(await writeTurns(database.pool, [{ key: scene.key, input: input!, turn }])).toEqual([null]);
  expect(await scene.texts()).toEqual(['Sales or support?']);
  await enrichConversation(database.pool, scene.key);
  expect(await scene.row()).toMatchObject({ state: 'routing', fields: { purpose: 'sales' } });
});

/** A contact whose answer does not fit, and a turn that asks again, prepared as while other systems are asked. */
async function prepareTurn(scene: Awaited<ReturnType<typeof askSomebody>>) {
  const [input] = await readEnrichmentInputs(database.pool, [scene.key]);
  if (input === null || input === undefined) throw new Error('there is nothing to judge yet');
  const turn = takeTurn(input.flow, input.facts, input.progress, input.heard);
  if (turn.kind === 'request') throw new Error(turn.kind);
  const heard = input.heard.kind === 'answer' ? input.heard.texts.length : 0;
  const write = async () => (await writeTurns(database.pool, [{ key: scene.key, input, turn }]))[0];
  return { heard, write };
}

test('a contact that never stops writing is heard ten times at most, and then asked on', async () => {
  const scene = await askSomebody();
  await scene.say('hm');
  const heard: number[] = [];
  for (let round = 0; round < 20; round += 1) {
    const turn = await prepareTurn(scene);
    heard.push(turn.heard);
    await scene.say('hm');
    if ((await turn.write()) !== null) break;
  }
  expect(heard).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  expect(await scene.row()).toMatchObject({ questions: 2, awaiting: 14 });
  expect(await scene.texts()).toEqual(['Sales or support?', 'Please answer sales or support.']);
  // What came in between is below the second question, and no answer to it.
  expect(await readPhase(database.pool, scene.key)).toMatchObject({ kind: 'asking' });
});

test('ten messages are the answer, and attachments count: an eleventh refuses nothing', async () => {
  const scene = await askSomebody();
  for (let i = 0; i < 9; i += 1) await scene.say('hm');
  await scene.attach();
  const turn = await prepareTurn(scene);
  await scene.say('sales');
  expect(await turn.write()).toMatchObject({ kind: 'asking' });
  expect(await scene.texts()).toEqual(['Sales or support?', 'Please answer sales or support.']);
});

test('what comes when the time for the answer is over refuses nothing', async () => {
  const answered = await askSomebody();
  await answered.say('hm');
  await answered.timeOut();
  const again = await prepareTurn(answered);
  await answered.say('sales');
  expect(await again.write()).toMatchObject({ kind: 'asking' });
  const silent = await askSomebody({ ...ask, giveUp: { value: 'unknown', text: 'Somebody will ask you again.' } });
  await silent.timeOut();
  const givingUp = await prepareTurn(silent);
  await silent.say('sales');
  expect(await givingUp.write()).toMatchObject({ kind: 'routing' });
  expect(await silent.row()).toMatchObject({ fields: { purpose: 'unknown' } });
});

test('what came in time and was not seen is judged, also by a turn that ends when the time is over', async () => {
  const scene = await askSomebody();
  await scene.say('hm');
  const turn = await prepareTurn(scene);
  await scene.say('sales');
  await database.pool.query(
    `UPDATE conversations SET answer_until = (SELECT max(received_at) + interval '1 ms' FROM messages WHERE conversation_id = $1)
     WHERE id = $1`,
    [scene.key.conversationId],
  );
  expect(await turn.write()).toBeNull();
  await enrichConversation(database.pool, scene.key);
  expect(await scene.row()).toMatchObject({ state: 'routing', fields: { purpose: 'sales' } });
});

test('an agent’s reply while an answer is being judged refuses nothing', async () => {
  const scene = await askSomebody();
  const agentId = await scene.addAgent(1);
  await scene.say('hm');
  const turn = await prepareTurn(scene);
  const { workspaceId, conversationId } = scene.key;
  await addReply(database.pool, { workspaceId, conversationId, agentId, text: 'sales' });
  expect(await turn.write()).toMatchObject({ kind: 'asking' });
  expect(await scene.row()).toMatchObject({ questions: 2, awaiting: 5 });
});

test('of many that ask, one whose contact somebody holds is left for later, and the others ask at once', async () => {
  const scenes = [await openSomebody(), await openSomebody(), await openSomebody()];
  const holder = await another.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM contacts WHERE id = $1 FOR UPDATE', [scenes[1]!.key.contactId]);
  const enriched = await enrichConversations(
    database.pool,
    scenes.map(({ key }) => key),
  );
  expect(enriched.map(({ phase }) => phase?.kind)).toEqual(['asking', undefined, 'asking']);
  await holder.query('COMMIT');
  holder.release();
  expect(await enrichConversation(database.pool, scenes[1]!.key)).toMatchObject({ phase: { kind: 'asking' } });
});

test('a failure that comes too late says nothing twice and cuts off no question; one in time keeps what was found', async () => {
  const { pool } = database;
  const giveUp = { value: 'unknown', text: 'Somebody will ask you again.' };
  const scene = await askSomebody({ ...ask, giveUp });
  expect(await fallBack(pool, scene.key, 'enriching failed')).toBe(false);
  await scene.timeOut();
  const [input] = await readEnrichmentInputs(pool, [scene.key]);
  const { version } = input!;
  const turn = takeTurn(input!.flow, input!.facts, input!.progress, input!.heard);
  const late = { ...turn, version: version - 1 };
  expect(await fallBack(pool, scene.key, 'too late', late)).toBe(false);
  expect(await fallBack(pool, scene.key, 'step 2 failed', { ...turn, version })).toBe(true);
  expect(await fallBack(pool, scene.key, 'again', { ...turn, version })).toBe(false);
  expect(await scene.texts()).toEqual(['Sales or support?', 'Somebody will ask you again.']);
  expect(await scene.row()).toMatchObject({ state: 'routing', fields: { purpose: 'unknown' }, awaiting: null });
  expect((await scene.eventsOf(scene.key.conversationId)).slice(-3)).toEqual([
    'conversation.answered',
    'conversation.fell_back',
    'message.sent',
  ]);
});

test('an answer that nobody has heard of is found by the house timer', async () => {
  const scene = await askSomebody();
  await scene.say('sales');
  await database.pool.query('DELETE FROM outbox WHERE workspace_id = $1', [scene.key.workspaceId]);
  const found = await readStalled(database.pool, { afterMs: 0, maxRows: 1_000 });
  expect(found.filter(({ contactId }) => contactId === scene.key.contactId)).toMatchObject([{ kind: 'flow' }]);
});

test('whoever waits for its contact does not stand still; half a minute after its time is over it does', async () => {
  const scene = await askSomebody();
  const stalled = async (afterMs: number): Promise<boolean> => {
    const found = await readStalled(database.pool, { afterMs, maxRows: 1_000 });
    return found.some(({ contactId }) => contactId === scene.key.contactId);
  };
  expect(await stalled(0)).toBe(false);
  await database.pool.query("UPDATE conversations SET progressed_at = progressed_at - interval '1 h' WHERE id = $1", [
    scene.key.conversationId,
  ]);
  expect(await stalled(30_000)).toBe(true);
});

/** Runs `first` up to the contact's lock, then `second`, and only then lets both go on, in this order. */
async function inOrder<First, Second>(
  contactId: string,
  first: () => Promise<First>,
  second: () => Promise<Second>,
): Promise<[First, Second]> {
  const holder = await database.pool.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM contacts WHERE id = $1 FOR UPDATE', [contactId]);
  try {
    const one = first();
    await eventually('the first waits for the contact', async () => (await countWaiting()) === 1);
    const other = second();
    await eventually('the second waits behind it', async () => (await countWaiting()) === 2);
    await holder.query('COMMIT');
    return await Promise.all([one, other]);
  } finally {
    // What failed before the commit leaves the connection, and the lock with it.
    holder.release(true);
  }
}

async function countWaiting(): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(
    `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
  );
  return rows[0]!.count;
}

test('a message just before the first question is no answer to it', async () => {
  const scene = await openSomebody();
  const [message, enriched] = await inOrder(
    scene.key.contactId,
    () => scene.say('sales'),
    () => enrichConversation(another, scene.key),
  );
  expect(enriched.phase).toMatchObject({ kind: 'asking' });
  expect(await scene.row()).toMatchObject({ questions: 1, awaiting: message.sequence + 1, fields: {} });
  expect(await scene.nudges()).toBe(0);
  expect(await readPhase(database.pool, scene.key)).toMatchObject({ kind: 'asking' });
});

test('a message just before the question is asked again is judged with the answer before it, and nothing is asked', async () => {
  const scene = await askSomebody();
  await scene.say('what?');
  const [message, enriched] = await inOrder(
    scene.key.contactId,
    () => scene.say('sales'),
    () => enrichConversation(another, scene.key),
  );
  expect(enriched.phase).toBeNull();
  expect(message.sequence).toBe(4);
  expect(await scene.row()).toMatchObject({ state: 'enriching', questions: 1, awaiting: 2 });
  expect(await scene.texts()).toEqual(['Sales or support?']);
  expect(await readPhase(database.pool, scene.key)).toMatchObject({ kind: 'enriching' });
  expect(await enrichConversation(another, scene.key)).toMatchObject({ phase: { kind: 'routing' } });
  expect(await scene.row()).toMatchObject({ fields: { purpose: 'sales' } });
});

test.each([
  ['first', 1, () => openSomebody()],
  [
    'next',
    2,
    async () => {
      const scene = await askSomebody();
      await scene.say('what?');
      await database.pool.query('DELETE FROM outbox WHERE workspace_id = $1', [scene.key.workspaceId]);
      return scene;
    },
  ],
])('a message just after the %s question is its answer, and tells the actor', async (_, questions, begin) => {
  const scene = await begin();
  const [enriched, message] = await inOrder(
    scene.key.contactId,
    () => enrichConversation(another, scene.key),
    () => scene.say('sales'),
  );
  expect(enriched.phase).toMatchObject({ kind: 'asking' });
  expect(await scene.row()).toMatchObject({ state: 'enriching', questions, awaiting: message.sequence - 1 });
  expect(await scene.nudges()).toBe(1);
  expect(await readPhase(database.pool, scene.key)).toMatchObject({ kind: 'enriching' });
  expect(await enrichConversation(another, scene.key)).toMatchObject({ phase: { kind: 'routing' } });
  expect(await scene.row()).toMatchObject({ fields: { purpose: 'sales' } });
});
