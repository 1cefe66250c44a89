/** Flows that ask, as their users and the contacts see them: API and worker processes, and a stand-in for the channel. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { createFlowHouse, type FlowHouse, type TeamIds } from '../support/flow-house.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { startRecordingServer, type RecordingServer } from '../support/recording-server.ts';
import { startSystem, type TestSystem } from '../support/system.ts';

let system: TestSystem;
let channel: RecordingServer;

beforeAll(async () => {
  channel = await startRecordingServer(() => ({ status: 204 }));
  system = await startSystem({ env: { OUTBOUND_PRIVATE_CIDRS: '127.0.0.0/8' } });
});
beforeEach(() => void (channel.requests.length = 0));
afterAll(async () => {
  await system?.stop();
  await channel?.close();
});

const question = 'Sales or support?';
const again = 'Please answer sales or support.';
const goodbye = 'Somebody will help you.';

const asking =
  (step: object = {}) =>
  (teams: TeamIds) => ({
    enrichment: [
      {
        kind: 'ask',
        field: 'purpose',
        text: question,
        retryText: again,
        choices: [
          { value: 'sales', label: 'Sales', synonyms: ['buy'] },
          { value: 'support', label: 'Support', synonyms: ['help'] },
        ],
        maxQuestions: 2,
        timeoutSeconds: 600,
        settleSeconds: 0,
        giveUp: { teamId: teams.support, priority: 7, text: goodbye },
        ...step,
      },
    ],
    routing: {
      branches: [{ name: 'Sales', when: "fields.purpose == 'sales'", teamId: teams.sales }],
      otherwise: { teamId: teams.support },
    },
  });

const freely = { choices: undefined, pattern: '(?s)order.*7', retryText: 'Which order?' };

const houseOf = (document: (teams: TeamIds) => object): Promise<FlowHouse> =>
  createFlowHouse(system, { outboundUrl: `${channel.url}/out`, document });

/** The contact writes, and has the question. */
async function askedHouse(step?: object): Promise<FlowHouse> {
  const house = await houseOf(asking(step));
  await house.say('alice', 'Hello');
  await delivered(1);
  return house;
}

/** Texts that the channel has got, once there are so many. */
const delivered = (count: number): Promise<string[]> =>
  eventually(`${count} texts at the channel`, () => channel.requests.length >= count && textsSent());

const textsSent = (): string[] => channel.requests.map(({ body }) => JSON.parse(body).data.text);

/** How many rows the outbox has ever had. */
async function outboxRowsEver(): Promise<number> {
  const { rows } = await system.database.pool.query<{ count: number }>(
    `SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'id')::regclass), 0)::int AS count`,
  );
  return rows[0]!.count;
}

async function assertSound(house: FlowHouse): Promise<void> {
  await assertSoundHistory(system.database.pool, { workspaceId: house.workspace.workspaceId });
}

test('the question reaches the contact once, the answer routes, and agents read what was found out and where it comes from', async () => {
  const house = await askedHouse();
  const waiting = await house.conversationWith('alice', { state: 'enriching' });
  expect(waiting).toMatchObject({ teamId: null, agentId: null, fields: {}, asking: { step: 0, question: 1 } });

  await house.say('alice', 'I would like to buy something');
  const { id } = await house.conversationWith('alice', { state: 'assigned' });
  const read = await house.api.call('GET', `/v1/conversations/${id}`, undefined, house.workspace.keys.agent);
  expect(read.body).toMatchObject({
    teamId: house.teams.sales,
    agentId: house.agents.sales,
    fields: { purpose: 'sales' },
    fieldSources: { purpose: { type: 'string', step: 0, kind: 'ask' } },
    asking: null,
  });
  expect(textsSent()).toEqual([question]);
  const messages = await house.messagesOf('alice');
  expect(messages.map(({ author, text, sequence }) => ({ author, text, sequence }))).toEqual([
    { author: 'contact', text: 'Hello', sequence: 1 },
    { author: 'flow', text: question, sequence: 2 },
    { author: 'contact', text: 'I would like to buy something', sequence: 3 },
  ]);
  await eventually(
    'known as delivered',
    async () => (await house.messagesOf('alice'))[1].delivery.state === 'delivered',
  );
  await assertSound(house);
});

test('several quick messages are one answer', async () => {
  const house = await askedHouse({ ...freely, settleSeconds: 1 });
  await house.say('alice', 'It is about');
  await house.say('alice', 'the order');
  await house.say('alice', 'number 7');
  const { fields } = await house.conversationWith('alice', { state: 'assigned' });
  expect(fields).toEqual({ purpose: 'It is about\nthe order\nnumber 7' });
  expect(textsSent()).toEqual([question]);
});

test('an answer that does not fit is asked again, then the step gives up to its team', async () => {
  const house = await askedHouse();
  await house.say('alice', 'My bicycle');
  expect(await delivered(2)).toEqual([question, again]);
  await house.say('alice', 'My bicycle!');
  const conversation = await house.conversationWith('alice', { state: 'assigned' });
  expect(conversation).toMatchObject({ teamId: house.teams.support, priority: 7, fields: {} });
  expect(await delivered(3)).toEqual([question, again, goodbye]);
  await assertSound(house);
});

test('no answer in time gives up; a late one changes nothing, wakes nobody, and stands in the conversation', async () => {
  const house = await askedHouse({ timeoutSeconds: 5 });
  const given = await house.conversationWith('alice', { state: 'assigned' });
  expect(given).toMatchObject({ teamId: house.teams.support, priority: 7, fields: {} });
  expect(await delivered(2)).toEqual([question, goodbye]);

  const rowsBefore = await outboxRowsEver();
  const late = await house.say('alice', 'Sales');
  expect(late.body).toMatchObject({ conversationId: given.id });
  expect(await outboxRowsEver()).toBe(rowsBefore);
  expect(await house.conversationOf('alice')).toEqual(given);
  expect((await house.messagesOf('alice')).at(-1)).toMatchObject({ author: 'contact', text: 'Sales' });
  await assertSound(house);
});

test('what is said at giving up is sent, also where the flow then asks another system', async () => {
  const house = await houseOf((teams) => {
    const { enrichment, routing } = asking({ maxQuestions: 1, giveUp: { value: 'support', text: goodbye } })(teams);
    const http = { kind: 'http', url: `${channel.url}/customers`, timeoutMs: 1_000, fields: { tier: '/tier' } };
    return { enrichment: [...enrichment, http], routing };
  });
  await house.say('alice', 'Hello');
  await delivered(1);
  await house.say('alice', 'My bicycle');
  expect(await delivered(2)).toEqual([question, goodbye]);
  await house.conversationWith('alice', { state: 'assigned', fields: { purpose: 'support' } });
  await assertSound(house);
});

test('a step that gives up with a close says so, closes, and the next message begins anew', async () => {
  const house = await askedHouse({ maxQuestions: 1, giveUp: { close: true, text: goodbye } });
  await house.say('alice', 'My bicycle');
  const closed = await house.conversationWith('alice', { state: 'closed' });
  expect(closed).toMatchObject({ teamId: null, closing: { reason: 'flow' } });
  expect(await delivered(2)).toEqual([question, goodbye]);
  await house.say('alice', 'Hello again');
  expect(await delivered(3)).toEqual([question, goodbye, question]);
  await assertSound(house);
});

test('a text that comes to nothing is not sent', async () => {
  const house = await houseOf((teams) => ({
    routing: { branches: [], otherwise: { teamId: teams.support, text: '{{contact.attributes.greeting}}' } },
  }));
  await house.say('alice', 'Hello');
  await house.conversationWith('alice', { state: 'assigned' });
  expect(await house.messagesOf('alice')).toHaveLength(1);
});

test('two questions with another system between them: each is asked once, and each takes its own answer', async () => {
  const house = await houseOf((teams) => {
    const { enrichment, routing } = asking()(teams);
    const http = { kind: 'http', url: `${channel.url}/customers`, timeoutMs: 1_000, fields: { tier: '/tier' } };
    const order = { kind: 'ask', field: 'order', text: 'Which order?', timeoutSeconds: 600, settleSeconds: 0 };
    return { enrichment: [...enrichment, http, order], routing };
  });
  await house.say('alice', 'Hello');
  await delivered(1);
  await house.say('alice', 'Sales');
  expect(await delivered(2)).toEqual([question, 'Which order?']);
  await house.say('alice', 'Support AB-1');
  const conversation = await house.conversationWith('alice', { state: 'assigned' });
  expect(conversation).toMatchObject({
    teamId: house.teams.sales,
    fields: { purpose: 'sales', order: 'Support AB-1' },
    fieldSources: { purpose: { step: 0 }, order: { step: 2, kind: 'ask' } },
  });
  expect(textsSent()).toEqual([question, 'Which order?']);
  await assertSound(house);
});

test('an answer that is delivered twice counts once', async () => {
  const house = await askedHouse();
  const externalId = randomUUID();
  await house.say('alice', 'My bicycle', externalId);
  expect(await delivered(2)).toEqual([question, again]);
  const doubled = await house.say('alice', 'My bicycle', externalId);
  expect(doubled.body).toMatchObject({ duplicate: true });
  await house.say('alice', 'Sales');
  const conversation = await house.conversationWith('alice', { state: 'assigned' });
  expect(conversation).toMatchObject({ teamId: house.teams.sales, fields: { purpose: 'sales' } });
  expect(textsSent()).toEqual([question, again]);
  expect(await house.messagesOf('alice')).toHaveLength(5);
});

test('a close ends the wait for an answer, and the next message begins anew', async () => {
  const house = await askedHouse();
  const first = await house.conversationOf('alice');
  await house.api.post(`/v1/conversations/${first.id}/close`, {});
  await house.conversationWith('alice', { id: first.id, state: 'closed' });

  await house.say('alice', 'Sales');
  expect(await delivered(2)).toEqual([question, question]);
  const second = await house.conversationWith('alice', { state: 'enriching' });
  expect(second.id).not.toBe(first.id);
  await house.say('alice', 'Support');
  await house.conversationWith('alice', { id: second.id, state: 'assigned', fields: { purpose: 'support' } });
  expect(textsSent()).toEqual([question, question]);
  await assertSound(house);
});

test('once a person has assigned it by hand, messages wake no actor and the question is off', async () => {
  const house = await askedHouse({ timeoutSeconds: 5 });
  const { id } = await house.conversationOf('alice');
  await house.api.post(`/v1/conversations/${id}/assign`, { agentId: house.agents.sales });
  const taken = await house.conversationWith('alice', { state: 'assigned', agentId: house.agents.sales });

  const rowsBefore = await outboxRowsEver();
  await house.say('alice', 'Support');
  await house.say('alice', 'Hello?');
  expect(await outboxRowsEver()).toBe(rowsBefore);
  // The actor still has the question's timer: what it finds then is that a person was first.
  const askedAt = Date.parse((await house.messagesOf('alice'))[1].receivedAt ?? taken.openedAt);
  await eventually('the end of the question', () => Date.now() > askedAt + 5_500);
  expect(await house.conversationOf('alice')).toEqual(taken);
  expect(textsSent()).toEqual([question]);
  await assertSound(house);
});

test('a worker that is replaced while a question waits: the answer goes on, nothing is asked twice', async () => {
  const house = await askedHouse();
  await system.workers.at(-1)!.kill('SIGTERM');
  await house.say('alice', 'Help');
  await system.startWorker();
  const conversation = await house.conversationWith('alice', { state: 'assigned' });
  expect(conversation).toMatchObject({ teamId: house.teams.support, fields: { purpose: 'support' } });
  expect(textsSent()).toEqual([question]);
  await assertSound(house);
});

test('a new version is live for the next opening within 2 s; the conversation that waits for an answer keeps its own', async () => {
  const house = await askedHouse();
  const { flowVersionId } = await house.conversationOf('alice');
  const newQuestion = 'What can we do for you?';
  const versionId = await house.publish((teams) => ({
    enrichment: asking({ text: newQuestion })(teams).enrichment,
    routing: { branches: [], otherwise: { teamId: teams.support } },
  }));
  const publishedAt = Date.now();
  await eventually('the new version', async () => {
    const contact = randomUUID();
    const isInTime = Date.now() - publishedAt < 2_000;
    await house.say(contact, 'Hello');
    const opened = await house.conversationWith(contact, { state: 'enriching' });
    if (!isInTime) expect(opened.flowVersionId).toBe(versionId);
    return opened.flowVersionId === versionId;
  });
  await eventually('the new question', () => textsSent().includes(newQuestion));

  await house.say('alice', 'Sales');
  const conversation = await house.conversationWith('alice', { state: 'assigned' });
  expect(conversation).toMatchObject({ flowVersionId, teamId: house.teams.sales });
  await assertSound(house);
});
