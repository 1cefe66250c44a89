/** Flows that ask, as their users and the contacts see them: API and worker processes, and a stand-in for the channel. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { createFlowHouse, type FlowHouse, type TeamIds } from '../support/flow-house.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { startRecordingServer, type RecordingServer } from '../support/recording-server.ts';
import { waitUntilAllSent } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';

let system: TestSystem;
/** The channel at `/out`, and another system at `/customers`. */
let channel: RecordingServer;
/** The other system takes its time. */
let isHolding = false;

beforeAll(async () => {
  channel = await startRecordingServer(({ path }) => {
    if (path === '/out') return { status: 204 };
    return isHolding ? 'hold' : { status: 200, json: { tier: 'gold' } };
  });
  system = await startSystem({
    env: { OUTBOUND_PRIVATE_CIDRS: '127.0.0.0/8', ENRICHMENT_ALLOWED_HOSTS: channel.host },
  });
});
beforeEach(() => {
  channel.requests.length = 0;
  isHolding = false;
});
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

const askingCustomers = () => ({
  kind: 'http',
  url: `${channel.url}/customers`,
  timeoutMs: 10_000,
  fields: { tier: '/tier' },
});

const houseOf = (document: (teams: TeamIds) => object): Promise<FlowHouse> =>
  createFlowHouse(system, { outboundUrl: `${channel.url}/out`, document });

/** The contact writes, and has the question. */
async function askedHouse(step?: object): Promise<FlowHouse> {
  const house = await houseOf(asking(step));
  await house.say('alice', 'Hello');
  await delivered(1);
  return house;
}

/** After the first question the flow asks another system, and then a second question. The contact has the first. */
async function askedTwiceHouse(): Promise<FlowHouse> {
  const house = await houseOf((teams) => {
    const { enrichment, routing } = asking()(teams);
    const order = { kind: 'ask', field: 'order', text: 'Which order?', timeoutSeconds: 600, settleSeconds: 0 };
    return { enrichment: [...enrichment, askingCustomers(), order], routing };
  });
  await house.say('alice', 'Hello');
  await delivered(1);
  return house;
}

/** Texts that the channel has got, once there are so many. */
const delivered = (count: number): Promise<string[]> =>
  eventually(`${count} texts at the channel`, () => textsSent().length >= count && textsSent());

const textsSent = (): string[] =>
  channel.requests.filter(({ path }) => path === '/out').map(({ body }) => JSON.parse(body).data.text);

/** All that the channel has got, once nothing is under way and nothing is left to be sent. */
async function allTextsSent({ workspace: { workspaceId } }: FlowHouse): Promise<string[]> {
  await waitUntilAllSent({ pool: system.database.pool, workspaceId });
  return textsSent();
}

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
  expect(await allTextsSent(house)).toEqual([question]);
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
  const house = await askedHouse({ ...freely, settleSeconds: 4 });
  await house.say('alice', 'It is about');
  await house.say('alice', 'the order');
  await house.say('alice', 'number 7');
  const { fields } = await house.conversationWith('alice', { state: 'assigned' });
  expect(fields).toEqual({ purpose: 'It is about\nthe order\nnumber 7' });
  expect(await allTextsSent(house)).toEqual([question]);
});

test('an answer that does not fit is asked again, then the step gives up to its team', async () => {
  const house = await askedHouse();
  await house.say('alice', 'My bicycle');
  expect(await delivered(2)).toEqual([question, again]);
  await house.say('alice', 'My bicycle!');
  const conversation = await house.conversationWith('alice', { state: 'assigned' });
  expect(conversation).toMatchObject({ teamId: house.teams.support, priority: 7, fields: {} });
  expect(await allTextsSent(house)).toEqual([question, again, goodbye]);
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
  expect(await allTextsSent(house)).toEqual([question, goodbye]);
  expect(await house.conversationOf('alice')).toEqual(given);
  expect((await house.messagesOf('alice')).at(-1)).toMatchObject({ author: 'contact', text: 'Sales' });
  await assertSound(house);
});

test('what is said at giving up is sent, also where the flow then asks another system', async () => {
  const house = await houseOf((teams) => {
    const { enrichment, routing } = asking({ maxQuestions: 1, giveUp: { value: 'support', text: goodbye } })(teams);
    return { enrichment: [...enrichment, askingCustomers()], routing };
  });
  await house.say('alice', 'Hello');
  await delivered(1);
  await house.say('alice', 'My bicycle');
  expect(await delivered(2)).toEqual([question, goodbye]);
  const { fields } = await house.conversationWith('alice', { state: 'assigned' });
  expect(fields).toEqual({ purpose: 'support', tier: 'gold' });
  expect(await allTextsSent(house)).toEqual([question, goodbye]);
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
  await house.say('alice', 'Sales');
  await house.conversationWith('alice', { state: 'assigned', teamId: house.teams.sales });
  expect(await allTextsSent(house)).toEqual([question, goodbye, question]);
  await assertSound(house);
});

test('a text that comes to nothing is not sent', async () => {
  const house = await houseOf((teams) => ({
    routing: { branches: [], otherwise: { teamId: teams.support, text: '{{contact.attributes.greeting}}' } },
  }));
  await house.say('alice', 'Hello');
  await house.conversationWith('alice', { state: 'assigned' });
  expect(await house.messagesOf('alice')).toHaveLength(1);
  expect(await allTextsSent(house)).toEqual([]);
});

test('two questions with another system between them: each is asked once, and each takes its own answer', async () => {
  const house = await askedTwiceHouse();
  await house.say('alice', 'Sales');
  expect(await delivered(2)).toEqual([question, 'Which order?']);
  await house.say('alice', 'Support AB-1');
  const conversation = await house.conversationWith('alice', { state: 'assigned' });
  expect(conversation).toMatchObject({
    teamId: house.teams.sales,
    fields: { purpose: 'sales', tier: 'gold', order: 'Support AB-1' },
    fieldSources: { purpose: { step: 0 }, tier: { step: 1, kind: 'http' }, order: { step: 2, kind: 'ask' } },
  });
  expect(await allTextsSent(house)).toEqual([question, 'Which order?']);
  await assertSound(house);
});

test('what is written before the second question, and the first answer once more, are no answer to the second', async () => {
  const house = await askedTwiceHouse();
  const externalId = randomUUID();
  isHolding = true;
  await house.say('alice', 'Sales', externalId);
  await eventually('the other system is asked', () => channel.held > 0);
  await house.say('alice', 'And quickly, please');
  isHolding = false;
  channel.release();
  expect(await delivered(2)).toEqual([question, 'Which order?']);
  const waiting = await house.conversationOf('alice');
  expect(waiting).toMatchObject({ state: 'enriching', fields: { purpose: 'sales' }, asking: { step: 2, question: 1 } });
  expect(waiting.fields).not.toHaveProperty('order');

  const rowsBefore = await outboxRowsEver();
  const doubled = await house.say('alice', 'Sales', externalId);
  expect(doubled.body).toMatchObject({ duplicate: true });
  expect(await outboxRowsEver()).toBe(rowsBefore);
  expect(await house.conversationOf('alice')).toEqual(waiting);

  await house.say('alice', 'AB-1');
  const { fields } = await house.conversationWith('alice', { state: 'assigned' });
  expect(fields).toEqual({ purpose: 'sales', tier: 'gold', order: 'AB-1' });
  expect(await allTextsSent(house)).toEqual([question, 'Which order?']);
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
  expect(await allTextsSent(house)).toEqual([question, again]);
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
  expect(await allTextsSent(house)).toEqual([question, question]);
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
  expect(await allTextsSent(house)).toEqual([question]);
  await assertSound(house);
});

test('a worker that is replaced while a question waits: the answer goes on, nothing is asked twice', async () => {
  const house = await askedHouse();
  await system.workers.at(-1)!.kill('SIGTERM');
  await house.say('alice', 'Help');
  await system.startWorker();
  const conversation = await house.conversationWith('alice', { state: 'assigned' });
  expect(conversation).toMatchObject({ teamId: house.teams.support, fields: { purpose: 'support' } });
  expect(await allTextsSent(house)).toEqual([question]);
  await assertSound(house);
});
