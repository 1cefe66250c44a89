import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { assignManually } from '../../store/assignment.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { readContactHistories } from '../../store/contact-histories.ts';
import { enrichConversation } from '../../store/enriching.ts';
import { publishFlow } from '../../store/flow-publishing.ts';
import { createFlow } from '../../store/flows.ts';
import { openForContact } from '../../store/opening.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
});
afterAll(() => database?.drop());

interface Past {
  readonly agentId?: string | null;
  readonly category?: string;
}

/** One conversation of the contact, from its opening to its close. */
async function passConversation(contact: string, { agentId = null, category }: Past, { workspaceId, open } = stage) {
  const ref = { workspaceId, ...(await open(contact)) };
  const { conversationId } = ref;
  if (agentId !== null) {
    const to = { kind: 'agent', agentId, force: false } as const;
    const { kind } = await assignManually(database.pool, { workspaceId, conversationId, to, byAgentId: null });
    expect(kind).toBe('done');
  }
  const notes = category === undefined ? {} : { category };
  await requestClose(database.pool, { workspaceId, conversationId, agentId, ...notes });
  await executeClose(database.pool, ref);
}

/** What the contact's open conversation is told of those before it. */
async function readHistory(contact: string, { workspaceId, open } = stage) {
  const ref = { workspaceId, ...(await open(contact)) };
  return (await readContactHistories(database.pool, [ref]))[0]!;
}

const nothing = { conversationCount: 0, lastAgentId: null, lastCategory: null };
/** In no team, so that only those conversations come to it that a person gives it. */
const addAgent = ({ addAgent: add }: Stage = stage) => add(10, []);

test('a contact’s first conversation has no history, though others have one', async () => {
  await passConversation(newId(), { agentId: await addAgent(), category: 'complaint' });
  expect(await readHistory(newId())).toEqual(nothing);
});

test('the last agent is who had the last conversation that anybody had, and the category that of the last with one', async () => {
  const contact = newId();
  const [first, second] = [await addAgent(), await addAgent()];
  await passConversation(contact, { agentId: first, category: 'complaint' });
  await passConversation(contact, { agentId: second });
  await passConversation(contact, {});
  expect(await readHistory(contact)).toEqual({
    conversationCount: 3,
    lastAgentId: second,
    lastCategory: 'complaint',
  });
});

test('a later agent and a later category take the place of the earlier', async () => {
  const contact = newId();
  const [first, second] = [await addAgent(), await addAgent()];
  await passConversation(contact, { agentId: first, category: 'complaint' });
  await passConversation(contact, { agentId: second, category: 'praise' });
  expect(await readHistory(contact)).toMatchObject({ lastAgentId: second, lastCategory: 'praise' });
});

test('the open conversation itself is none of the earlier', async () => {
  const contact = newId();
  const { workspaceId } = stage;
  const [agentId, teamId] = [await addAgent(), await stage.addTeam()];
  await stage.addAgent(10, [teamId]);
  await passConversation(contact, { agentId });
  const ref = { workspaceId, ...(await stage.open(contact, { teamId })) };
  expect(await stage.conversation(ref.conversationId)).toMatchObject({ state: 'assigned' });
  expect(await readContactHistories(database.pool, [ref])).toEqual([
    { conversationCount: 1, lastAgentId: agentId, lastCategory: null },
  ]);
});

test('each contact is told its own, in the order of the keys, and nothing of its namesake in another workspace', async () => {
  const elsewhere = await createStage(database.pool);
  const [alice, bob] = [newId(), newId()];
  const [ours, theirs] = [await addAgent(), await addAgent(elsewhere)];
  await passConversation(alice, { agentId: ours, category: 'complaint' });
  await passConversation(alice, { agentId: theirs, category: 'praise' }, elsewhere);
  await passConversation(alice, { category: 'praise' }, elsewhere);
  const open = async (contact: string, { workspaceId, open: openOne }: Stage) => ({
    workspaceId,
    ...(await openOne(contact)),
  });
  const keys = [await open(bob, stage), await open(alice, elsewhere), await open(alice, stage)];
  expect(await readContactHistories(database.pool, keys)).toEqual([
    nothing,
    { conversationCount: 2, lastAgentId: theirs, lastCategory: 'praise' },
    { conversationCount: 1, lastAgentId: ours, lastCategory: 'complaint' },
  ]);
  // A contact's id in another workspace is nobody's.
  const [, , { contactId, conversationId }] = keys as [object, object, { contactId: string; conversationId: string }];
  const foreign = [{ workspaceId: elsewhere.workspaceId, contactId, conversationId }];
  expect(await readContactHistories(database.pool, foreign)).toEqual([nothing]);
});

test('of agents and categories a hundred conversations are looked at, and a thousand are counted', async () => {
  const contact = newId();
  const { workspaceId } = stage;
  const agentId = await addAgent();
  await passConversation(contact, { agentId, category: 'complaint' });
  await passConversation(contact, {});
  const { contactId } = await stage.write(contact);
  const passMany = (count: number) =>
    database.pool.query(
      `INSERT INTO conversations (workspace_id, id, contact_id, state, source, close_requested_at, closed_at)
       SELECT $1, id, $2, 'closed', 'contact', now(), now() FROM unnest($3::uuid[]) AS made (id)`,
      [workspaceId, contactId, Array.from({ length: count }, () => newId())],
    );
  const read = async () =>
    (await readContactHistories(database.pool, [{ workspaceId, contactId, conversationId: newId() }]))[0];
  await passMany(98);
  expect(await read()).toEqual({ conversationCount: 100, lastAgentId: agentId, lastCategory: 'complaint' });
  await passMany(1);
  expect(await read()).toEqual({ conversationCount: 101, lastAgentId: null, lastCategory: null });
  await passMany(1_000);
  expect(await read()).toMatchObject({ conversationCount: 1_000 });
});

test('a flow that asks for it finds it: the returning contact’s agent, category and count become fields', async () => {
  const { workspaceId, ...home } = await createStage(database.pool);
  const contact = newId();
  const agentId = await home.addAgent(10, []);
  await passConversation(contact, { agentId, category: 'complaint' }, { workspaceId, ...home });
  await passConversation(contact, {}, { workspaceId, ...home });
  const sources = { agent: 'lastAgentId', category: 'lastCategory', visits: 'conversationCount' };
  const created = await createFlow(database.pool, {
    workspaceId,
    name: 'Flow',
    description: '',
    document: {
      enrichment: [{ kind: 'contact', fields: sources }],
      routing: { branches: [], otherwise: { teamId: home.defaultTeamId, priority: 0 } },
    },
  });
  if (created.kind !== 'created') throw new Error(JSON.stringify(created));
  await publishFlow(database.pool, { workspaceId, flowId: created.flow.id });
  const { contactId } = await home.write(contact);
  const { phase } = await openForContact(database.pool, { workspaceId, contactId });
  if (phase.kind !== 'enriching') throw new Error(phase.kind);
  const { conversationId } = phase;
  await enrichConversation(database.pool, { workspaceId, contactId, conversationId });
  expect((await home.conversation(conversationId)).fields).toEqual({
    agent: agentId,
    category: 'complaint',
    visits: 2,
  });
});
