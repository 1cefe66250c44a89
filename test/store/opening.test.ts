import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { requestClose } from '../../store/closing.ts';
import { listDecisions } from '../../store/conversations.ts';
import { publishFlow } from '../../store/flow-publishing.ts';
import { createFlow } from '../../store/flows.ts';
import { openByUser, openForContact, openForContacts } from '../../store/opening.ts';
import { readDefaultTeam } from '../../store/teams.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { connectAnother } from './second-pool.ts';
import { createStage, findImbalances, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
});
afterAll(() => database?.drop());

const openAs = (contactId: string, to: Parameters<typeof openByUser>[1]['to']) =>
  openByUser(database.pool, { workspaceId: stage.workspaceId, contactId, source: 'user', to, byAgentId: null });

test('opening twenty times at once, from two processes, opens one conversation with all that waited', async () => {
  const contact = newId();
  const other = connectAnother(database);
  const { contactId } = await stage.write(contact);
  await stage.write(contact);
  const ref = { workspaceId: stage.workspaceId, contactId };
  const results = await Promise.all(
    Array.from({ length: 20 }, (_, i) => openForContact(i % 2 === 0 ? database.pool : other, ref)),
  );
  await other.end();
  expect(results.filter((result) => result.opened)).toHaveLength(1);
  const [conversation, ...rest] = await stage.conversationsOf(contactId);
  expect(rest).toEqual([]);
  for (const { phase } of results) expect(phase).toMatchObject({ kind: 'assigning', conversationId: conversation!.id });
  const messages = await stage.messagesOf(contactId);
  expect(messages.map((message) => message.conversationId)).toEqual([conversation!.id, conversation!.id]);
  expect(await stage.eventsOf(conversation!.id)).toEqual([
    'conversation.opened',
    'message.received',
    'message.received',
  ]);
});

test('nothing pending opens nothing, for a known contact and for one that does not exist', async () => {
  const contact = newId();
  const ref = await stage.open(contact);
  await stage.close(ref);
  const { workspaceId } = stage;
  for (const contactId of [ref.contactId, newId()]) {
    expect(await openForContact(database.pool, { workspaceId, contactId })).toEqual({
      phase: { kind: 'idle' },
      opened: false,
      triggerErrors: 0,
    });
  }
  expect(await stage.conversationsOf(ref.contactId)).toHaveLength(1);
});

test('a contact of another workspace is not opened', async () => {
  const other = await createStage(database.pool);
  const { contactId } = await stage.write(newId());
  const result = await openForContact(database.pool, { workspaceId: other.workspaceId, contactId });
  expect(result).toEqual({ phase: { kind: 'idle' }, opened: false, triggerErrors: 0 });
  expect(await stage.conversationsOf(contactId)).toEqual([]);
});

test('messages that came during a close open the next conversation', async () => {
  const contact = newId();
  const ref = await stage.open(contact);
  await requestClose(database.pool, {
    workspaceId: stage.workspaceId,
    agentId: null,
    conversationId: ref.conversationId,
  });
  await stage.write(contact);
  await stage.close(ref);
  const next = await openForContact(database.pool, { workspaceId: stage.workspaceId, contactId: ref.contactId });
  expect(next.opened).toBe(true);
  const [first, second] = await stage.messagesOf(ref.contactId);
  expect(first!.conversationId).toBe(ref.conversationId);
  expect(second!.conversationId).toMatch(/./);
  expect(second!.conversationId).not.toBe(ref.conversationId);
});

test('an agent opens: what waits is attached, the agent has it, the actor is told', async () => {
  const agentId = await stage.addAgent(1);
  const { contactId } = await stage.write(newId());
  const result = await openAs(contactId, { kind: 'agent', agentId, force: false });
  if (result.kind !== 'opened') throw new Error(result.kind);
  expect(await stage.conversation(result.conversationId)).toMatchObject({ state: 'assigned', source: 'user', agentId });
  expect((await stage.messagesOf(contactId))[0]!.conversationId).toBe(result.conversationId);
  expect(await stage.loadOf(agentId)).toBe(1);
  expect(await stage.nudgesOf(contactId)).toEqual([null, null]);
  expect(await openAs(contactId, { kind: 'queue' })).toEqual({
    kind: 'already_open',
    conversationId: result.conversationId,
  });
});

test('an agent without room is refused unless forced, which is recorded', async () => {
  const agentId = await stage.addAgent(0);
  const { contactId } = await stage.write(newId());
  expect(await openAs(contactId, { kind: 'agent', agentId, force: false })).toEqual({ kind: 'no_room' });
  expect(await stage.conversationsOf(contactId)).toEqual([]);
  const forced = await openAs(contactId, { kind: 'agent', agentId, force: true });
  if (forced.kind !== 'opened') throw new Error(forced.kind);
  expect(await stage.conversation(forced.conversationId)).toMatchObject({ agentId, forced: true });
  expect(await stage.loadOf(agentId)).toBe(1);
});

test('opened for a team it waits there, or goes to a member with room at once', async () => {
  const teamId = await stage.addTeam();
  const { contactId: first } = await stage.write(newId());
  const { contactId: second } = await stage.write(newId());
  const waiting = await openAs(first, { kind: 'team', teamId });
  if (waiting.kind !== 'opened') throw new Error(waiting.kind);
  expect(await stage.conversation(waiting.conversationId)).toMatchObject({ state: 'waiting', teamId });
  const agentId = await stage.addAgent(2, [teamId]);
  expect(await stage.conversation(waiting.conversationId)).toMatchObject({ state: 'assigned', agentId });
  const direct = await openAs(second, { kind: 'team', teamId });
  if (direct.kind !== 'opened') throw new Error(direct.kind);
  expect(await stage.conversation(direct.conversationId)).toMatchObject({ state: 'assigned', agentId });
  expect(await findImbalances(database.pool, stage.workspaceId)).toEqual([]);
});

test('an unknown contact, agent or team is named, and nothing is opened', async () => {
  const { contactId } = await stage.write(newId());
  const stranger = await createStage(database.pool);
  expect(await openAs(newId(), { kind: 'queue' })).toEqual({ kind: 'unknown_contact' });
  expect(await openAs(contactId, { kind: 'team', teamId: stranger.defaultTeamId })).toEqual({ kind: 'unknown_team' });
  const agentId = await stranger.addAgent(1);
  expect(await openAs(contactId, { kind: 'agent', agentId, force: true })).toEqual({ kind: 'unknown_agent' });
  expect(await stage.conversationsOf(contactId)).toEqual([]);
});

test('an agent and the contact’s actor opening at once open one conversation', async () => {
  for (let round = 0; round < 10; round += 1) {
    const { contactId } = await stage.write(newId());
    await Promise.all([
      openAs(contactId, { kind: 'queue' }),
      openForContact(database.pool, { workspaceId: stage.workspaceId, contactId }),
      openAs(contactId, { kind: 'queue' }),
    ]);
    expect(await stage.conversationsOf(contactId)).toHaveLength(1);
  }
});

test('a trigger that cannot be evaluated counts as false, and the decision tells', async () => {
  const { pool } = database;
  const elsewhere = await createStage(pool);
  const { workspaceId } = elsewhere;
  const otherwise = { teamId: await readDefaultTeam(pool, workspaceId), priority: 0 };
  const document = {
    trigger: { on: 'conversation.opened', condition: "contact.attributes.plan == 'gold'" },
    routing: { branches: [], otherwise },
  };
  const created = await createFlow(pool, { workspaceId, name: 'Gold', description: '', document });
  if (created.kind !== 'created') throw new Error('the flow is invalid');
  await publishFlow(pool, { workspaceId, flowId: created.flow.id });

  const { contactId } = await elsewhere.write(newId());
  await openForContact(pool, { workspaceId, contactId });
  const [conversation] = await elsewhere.conversationsOf(contactId);
  const [decision] = await listDecisions(pool, {
    workspaceId,
    conversationId: conversation!.id,
    after: null,
    limit: 1,
  });
  expect(decision?.detail).toMatchObject({
    teamId: otherwise.teamId,
    reason: 'no published flow matches',
    triggerErrors: [{ error: expect.stringContaining('plan') as string }],
  });
});

/** Flows in this order, each with one trigger, that send everybody to the default team. */
async function publishTriggers(stage: Stage, conditions: readonly string[]): Promise<string[]> {
  const { workspaceId, defaultTeamId: teamId } = stage;
  const versionIds: string[] = [];
  for (const condition of conditions) {
    const trigger = { on: 'conversation.opened', condition };
    const document = { trigger, routing: { branches: [], otherwise: { teamId } } };
    const created = await createFlow(database.pool, { workspaceId, name: condition, description: '', document });
    if (created.kind !== 'created') throw new Error(JSON.stringify(created));
    const published = await publishFlow(database.pool, { workspaceId, flowId: created.flow.id });
    if (published.kind !== 'published') throw new Error(published.kind);
    versionIds.push(published.version.id);
  }
  return versionIds;
}

test('a trigger that fails before another flow’s matches is counted and recorded; of those after it nobody asks', async () => {
  const { pool } = database;
  const scene = await createStage(pool);
  const { workspaceId, itemOf } = scene;
  const conditions = ['int(contact.attributes.age) > 3', "contact.attributes.plan == 'gold'", 'true'];
  const [byAge, byPlan, everybody] = await publishTriggers(scene, [...conditions, 'int(contact.attributes.age) > 5']);
  const open = async (attributes: Record<string, string>) => {
    const externalId = newId();
    const { contactId } = await scene.write(externalId, { ...itemOf(externalId), contact: { externalId, attributes } });
    const opening = await openForContact(pool, { workspaceId, contactId });
    const [conversation] = await scene.conversationsOf(contactId);
    const conversationId = conversation!.id;
    const decisions = await listDecisions(pool, { workspaceId, conversationId, after: null, limit: 5 });
    return { opening, decisions };
  };

  const failing = await open({ age: 'abc' });
  expect(failing.opening).toMatchObject({ phase: { kind: 'routing' }, opened: true, triggerErrors: 2 });
  expect(failing.decisions).toMatchObject([
    {
      kind: 'routing',
      detail: {
        flowVersionId: everybody,
        flowVersionNumber: 1,
        flowName: 'true',
        triggerErrors: [
          { flowVersionId: byAge, error: expect.stringMatching(/./) as string },
          { flowVersionId: byPlan, error: expect.stringContaining('plan') as string },
        ],
      },
    },
  ]);
  const sound = await open({ age: '2', plan: 'none' });
  expect(sound.opening).toMatchObject({ phase: { kind: 'routing' }, opened: true, triggerErrors: 0 });
  expect(sound.decisions).toEqual([]);
});

test('of several that are opened at once each has the triggers that failed for it, and no opening costs a statement more', async () => {
  const scene = await createStage(database.pool);
  const { workspaceId } = scene;
  await publishTriggers(scene, ['int(contact.attributes.age) > 3', 'true']);
  const write = async (age: string) => {
    const externalId = newId();
    const { contactId } = await scene.write(externalId, { contact: { externalId, attributes: { age } } });
    return { workspaceId, contactId };
  };
  const pool = connectAnother(database);
  let statements = 0;
  // Nothing here is a transaction: each statement takes a connection of its own.
  pool.on('acquire', () => (statements += 1));
  try {
    const openCounting = async (ages: readonly string[]) => {
      const contacts = await Promise.all(ages.map(write));
      statements = 0;
      const openings = await openForContacts(pool, contacts);
      return { statements, errors: openings.map(({ opened, triggerErrors }) => opened && triggerErrors) };
    };
    // The versions are read once in a process.
    await openCounting(['1']);
    expect(await openCounting(['1'])).toEqual({ statements: 2, errors: [0] });
    expect(await openCounting(['abc'])).toEqual({ statements: 2, errors: [1] });
    expect(await openCounting(['1', 'abc', '4'])).toEqual({ statements: 2, errors: [0, 1, 0] });
  } finally {
    await pool.end();
  }
  const { rows } = await database.pool.query<{ decisions: number }>(
    'SELECT count(*)::int AS decisions FROM decisions WHERE workspace_id = $1',
    [workspaceId],
  );
  expect(rows).toEqual([{ decisions: 2 }]);
});
