import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { requestClose } from '../../store/closing.ts';
import { openByUser } from '../../store/opening.ts';
import { closeConversationSignal, retireSignal } from '../../workflows/contract.ts';
import { retireIdleActors } from '../../worker/retirement.ts';
import { startEnrichmentServer, type EnrichmentServer } from '../activities/enrichment-server.ts';
import { eventually } from '../support/eventually.ts';
import { startActors, type Actors } from './actors.ts';

let actors: Actors;

let server: EnrichmentServer;

beforeAll(async () => {
  server = await startEnrichmentServer();
  actors = await startActors({ env: { ENRICHMENT_ALLOWED_HOSTS: server.host } });
});
afterAll(async () => {
  server?.release();
  await actors?.stop();
  await server?.close();
});

test('the query tells where the contact stands, from opening to close', async () => {
  const scene = await actors.enter();
  const contactId = await scene.say(newId());
  const conversationId = await scene.untilOpen(contactId);
  expect(await scene.stateOf(contactId)).toEqual({
    phase: { kind: 'open', conversationId },
    unread: { nudged: false, closeConversationIds: [] },
  });
  await scene.requestClose(contactId, conversationId);
  await scene.untilIdle(contactId);
  expect(await scene.conversation(conversationId)).toMatchObject({ state: 'closed' });
});

test('doubled nudges, and closes that name another conversation, change nothing', async () => {
  const scene = await actors.enter();
  const contact = newId();
  const contactId = await scene.say(contact);
  const first = await scene.untilOpen(contactId);
  await scene.requestClose(contactId, first);
  await scene.untilIdle(contactId);
  await scene.say(contact);
  const second = await scene.untilOpen(contactId, first);
  const stranger = await scene.untilOpen(await scene.say(newId()));
  await Promise.all([
    scene.nudge(contactId),
    scene.tellToClose(contactId, first),
    scene.tellToClose(contactId, stranger),
    scene.tellToClose(contactId, newId()),
    scene.nudge(contactId),
    scene.tellToClose(contactId, first),
  ]);
  await eventually('all of it is read', async () => {
    const { phase, unread } = await scene.stateOf(contactId);
    return phase.kind === 'open' && !unread.nudged && unread.closeConversationIds.length === 0;
  });
  expect(await scene.conversationsOf(contactId)).toEqual([
    { id: first, state: 'closed' },
    { id: second, state: 'waiting' },
  ]);
  expect(await scene.conversation(stranger)).toMatchObject({ state: 'waiting' });
});

test('a nudge that overtakes the close before it leads to the same end', async () => {
  const scene = await actors.enter();
  const contact = newId();
  const contactId = await scene.say(contact);
  const first = await scene.untilOpen(contactId);
  // Stored in this order: close request, message. Told in the other.
  await requestClose(scene.pool, { workspaceId: scene.workspaceId, conversationId: first, agentId: null });
  await scene.write(contact);
  await scene.nudge(contactId);
  await scene.tellToClose(contactId, first);
  const second = await scene.untilOpen(contactId, first);
  const [, message] = await scene.messagesOf(contactId);
  expect(message!.conversationId).toBe(second);
  expect(await scene.conversation(first)).toMatchObject({ state: 'closed' });
});

test('a close that is only told, without a request, closes, whether the actor runs or starts by it', async () => {
  const scene = await actors.enter();
  const contact = newId();
  const contactId = await scene.say(contact);
  const first = await scene.untilOpen(contactId);
  await scene.tellToClose(contactId, first);
  await scene.untilIdle(contactId);
  expect(await scene.conversation(first)).toMatchObject({ state: 'closed' });
  await scene.say(contact);
  const second = await scene.untilOpen(contactId, first);
  await scene.handleOf(contactId).terminate('lost');
  await scene.tellToClose(contactId, second);
  await scene.untilIdle(contactId);
  expect(await scene.conversation(second)).toMatchObject({ state: 'closed' });
});

test('a run that was terminated resumes where the contact stands', async () => {
  const scene = await actors.enter();
  const contactId = await scene.say(newId());
  const conversationId = await scene.untilOpen(contactId);
  await scene.handleOf(contactId).terminate('lost');
  await scene.nudge(contactId);
  expect(await scene.untilOpen(contactId)).toBe(conversationId);
  expect(await scene.conversationsOf(contactId)).toHaveLength(1);
});

test('a conversation that an agent opened has an actor, which closes it', async () => {
  const scene = await actors.enter();
  const agentId = await scene.addAgent(1);
  const { contactId } = await scene.write(newId());
  const result = await openByUser(scene.pool, {
    workspaceId: scene.workspaceId,
    contactId,
    source: 'user',
    to: { kind: 'agent', agentId, force: false },
    byAgentId: agentId,
  });
  if (result.kind !== 'opened') throw new Error(result.kind);
  await scene.nudge(contactId);
  expect(await scene.untilOpen(contactId)).toBe(result.conversationId);
  await scene.requestClose(contactId, result.conversationId);
  await scene.untilIdle(contactId);
  expect(await scene.loadOf(agentId)).toBe(0);
});

test('continuing as new under a stream of messages and closes loses nothing', async () => {
  const scene = await actors.enter();
  const contact = newId();
  const options = { maxHistoryEvents: 20 };
  const { contactId } = await scene.write(contact);
  await scene.nudge(contactId, options);
  const firstRun = (await scene.handleOf(contactId).describe()).runId;
  let last: string | undefined;
  for (let cycle = 0; cycle < 6; cycle += 1) {
    last = await scene.untilOpen(contactId, last);
    // The next message is told together with the close, some closes twice, and all closes as where an update failed.
    await requestClose(scene.pool, { workspaceId: scene.workspaceId, conversationId: last, agentId: null });
    const closing = last;
    const closes = Array.from({ length: 1 + (cycle % 3) }, () =>
      scene.handleOf(contactId).signal(closeConversationSignal, { conversationId: closing }),
    );
    await scene.write(contact);
    await Promise.all([...closes, scene.nudge(contactId, options)]);
  }
  await scene.untilOpen(contactId, last);
  const conversations = await scene.conversationsOf(contactId);
  expect(conversations.map(({ state }) => state)).toEqual([...Array<string>(6).fill('closed'), 'waiting']);
  expect((await scene.messagesOf(contactId)).map((message) => message.conversationId)).toEqual(
    conversations.map(({ id }) => id),
  );
  const { runId } = await scene.handleOf(contactId).describe();
  expect(runId).not.toBe(firstRun);
});

test('an actor that never rests, as its contact writes whenever another system is asked, continues as new all the same', async () => {
  const scene = await actors.enter();
  const contact = newId();
  const ask = { kind: 'ask', choices: [{ value: 'x', label: 'X' }], settleSeconds: 0, timeoutSeconds: 600 };
  await scene.publish({
    enrichment: [
      { ...ask, field: 'first', text: 'First?', maxQuestions: 1 },
      { kind: 'http', url: `${server.url}/slow`, timeoutMs: 10_000, fields: { tier: '/customer/tier' } },
      { ...ask, field: 'second', text: 'Second?', maxQuestions: 1, giveUp: { value: 'none' } },
    ],
    routing: { branches: [], otherwise: { teamId: scene.defaultTeamId } },
  });
  const options = { maxHistoryEvents: 40 };
  const { contactId } = await scene.write(contact);
  await scene.nudge(contactId, options);
  const untilAsking = () =>
    eventually('a question waits', async () => (await scene.stateOf(contactId)).phase.kind === 'asking');
  const requests = () => server.requests.filter(({ body }) => JSON.stringify(body).includes(contactId)).length;
  const untilRequested = (count: number) => eventually(`${count} requests`, () => requests() === count);
  const describe = () => scene.handleOf(contactId).describe();
  await untilAsking();
  await scene.say(contact, 'x');
  await untilRequested(1);
  const { runId } = await describe();
  // The actor is told of much while it waits for the other system, and of one thing that is part of the answer.
  await scene.write(contact, { text: 'and' });
  await eventually('a long history', async () => {
    await scene.nudge(contactId, options);
    return (await describe()).historyLength > 40;
  });
  server.release();
  // What was found is not written, as more of the answer has come: it asks again, in a new history.
  await untilRequested(2);
  const next = await describe();
  expect(next.runId).not.toBe(runId);
  expect(next.historyLength).toBeLessThan(40);
  server.release();
  await untilAsking();
  await scene.say(contact, 'x');
  await scene.untilOpen(contactId);
  expect(await scene.messagesOf(contactId)).toHaveLength(6);
  expect(requests()).toBe(2);
});

/** A contact whose flow has asked it something, with an actor that soon begins a new history. */
async function askSomebody(step: object) {
  const scene = await actors.enter();
  const agentId = await scene.addAgent(1);
  const ask = { kind: 'ask', field: 'topic', text: 'Which?', choices: [{ value: 'x', label: 'X' }], maxQuestions: 1 };
  await scene.publish({
    enrichment: [{ ...ask, giveUp: { value: 'none' }, ...step }],
    routing: { branches: [], otherwise: { teamId: scene.defaultTeamId } },
  });
  const contact = newId();
  const { contactId } = await scene.write(contact);
  await scene.nudge(contactId, { maxHistoryEvents: 20 });
  const { runId } = await scene.handleOf(contactId).describe();
  return {
    ...scene,
    contact,
    contactId,
    agentId,
    /** @returns how long the question still waits, as the next run has found */
    untilAskingInNextRun: () =>
      eventually('the question waits in a new history', async () => {
        const { phase } = await scene.stateOf(contactId);
        if (phase.kind !== 'asking' || (await scene.handleOf(contactId).describe()).runId === runId) return undefined;
        return phase.waitMs;
      }),
  };
}

test('an actor that continues as new while its question waits takes the answer that is begun in one run and ended in the next', async () => {
  const scene = await askSomebody({ timeoutSeconds: 600, settleSeconds: 60 });
  const { contact, contactId, agentId } = scene;
  for (const text of ['well', 'let', 'me', 'see']) await scene.say(contact, text);
  expect(await scene.untilAskingInNextRun()).toBeLessThanOrEqual(60_000);
  // With the tenth message nobody waits for more.
  for (const text of ['x', 'it', 'is', 'I', 'think', 'so']) await scene.say(contact, text);
  const conversationId = await scene.untilOpen(contactId);
  expect(await scene.conversation(conversationId)).toMatchObject({
    state: 'assigned',
    agentId,
    fields: { topic: 'x' },
    fallbackReason: null,
  });
  // One question among them.
  expect(await scene.messagesOf(contactId)).toHaveLength(12);
});

test('an actor that continues as new while its question waits gives up when the rest of the time is over', async () => {
  const scene = await askSomebody({ timeoutSeconds: 20, settleSeconds: 0 });
  const { contactId, agentId } = scene;
  for (let i = 0; i < 4; i += 1) await scene.nudge(contactId);
  expect(await scene.untilAskingInNextRun()).toBeLessThan(20_000);
  const conversationId = await scene.untilOpen(contactId);
  expect(await scene.conversation(conversationId)).toMatchObject({
    state: 'assigned',
    agentId,
    fields: { topic: 'none' },
    fallbackReason: null,
  });
  expect(await scene.messagesOf(contactId)).toHaveLength(2);
});

test('an idle actor that is told to retire ends, and the next message starts it again', async () => {
  const scene = await actors.enter();
  const contact = newId();
  const contactId = await scene.say(contact);
  const first = await scene.untilOpen(contactId);
  await scene.requestClose(contactId, first);
  await scene.untilIdle(contactId);
  await scene.handleOf(contactId).signal(retireSignal);
  await scene.handleOf(contactId).result();
  expect((await scene.handleOf(contactId).describe()).status.name).toBe('COMPLETED');
  await scene.say(contact);
  expect(await scene.untilOpen(contactId, first)).toBeDefined();
});

test('an actor with an open conversation does not retire', async () => {
  const scene = await actors.enter();
  const contactId = await scene.say(newId());
  const conversationId = await scene.untilOpen(contactId);
  await scene.handleOf(contactId).signal(retireSignal);
  // Once this is answered, that has been heard, too. Heard together with the close, it would end the actor after that.
  await scene.nudge(contactId);
  await scene.requestClose(contactId, conversationId);
  await scene.untilIdle(contactId);
  expect((await scene.handleOf(contactId).describe()).status.name).toBe('RUNNING');
});

test('the round that retires quiet actors ends those without anything open, and no other', async () => {
  const scene = await actors.enter();
  const quiet = await scene.say(newId());
  const first = await scene.untilOpen(quiet);
  await scene.requestClose(quiet, first);
  await scene.untilIdle(quiet);
  const busy = await scene.say(newId());
  await scene.untilOpen(busy);
  // The server lists a run a moment after it began. Contacts of other databases are not idle here: they do not exist.
  await eventually('the quiet actor has ended', async () => {
    await retireIdleActors({ pool: scene.pool, client: actors.client, idleMs: 0 });
    return (await scene.handleOf(quiet).describe()).status.name === 'COMPLETED';
  });
  expect((await scene.handleOf(busy).describe()).status.name).toBe('RUNNING');
});

const trigger = { on: 'conversation.opened', condition: 'true' };
const nowhere = { branches: [], otherwise: { teamId: newId(), priority: 0 } };

test.for([
  ['routes to a team that does not exist', { trigger, enrichment: [], routing: nowhere }, 'routing failed'],
  ['sends nobody anywhere', { trigger, enrichment: [], routing: { branches: [], otherwise: null } }, 'routing failed'],
  ['has no routing', { trigger, enrichment: [], routing: null }, 'cannot be read'],
  ['cannot be read at all', {}, 'cannot be read'],
] as const)('a flow that %s sends the conversation to the default team, marked', async ([, document, reason]) => {
  const scene = await actors.enter();
  await scene.publishUnchecked(document);
  const agentId = await scene.addAgent(1);
  const contactId = await scene.say(newId());
  const conversationId = await scene.untilOpen(contactId);
  expect(await scene.conversation(conversationId)).toMatchObject({
    state: 'assigned',
    agentId,
    teamId: scene.defaultTeamId,
    fallbackReason: expect.stringContaining(reason),
  });
  expect(await scene.eventsOf(conversationId)).toContain('conversation.fell_back');
});
