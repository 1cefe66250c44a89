/**
 * A worker killed by SIGKILL in the middle of each kind of step, and another one started: every conversation goes on to an agent, and no contact is
 * asked the same thing twice.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { createFlowHouse, type FlowHouse, type TeamIds } from '../support/flow-house.ts';
import { assertSoundHistory, type AcceptedMessage } from '../support/history-checker.ts';
import { completionSaying } from '../support/model-server.ts';
import { startRecordingServer, type RecordedRequest, type RecordingServer } from '../support/recording-server.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';

let system: TestSystem;
/** The channel, another system and the model. */
let outside: RecordingServer;
let isHolding = false;

beforeAll(async () => {
  outside = await startRecordingServer((request) => {
    if (request.path === '/out') return { status: 204 };
    return isHolding ? 'hold' : { status: 200, json: request.path === '/customer' ? { tier: 'gold' } : completion };
  });
  system = await startSystem({
    env: {
      OUTBOUND_PRIVATE_CIDRS: '127.0.0.0/8',
      ENRICHMENT_ALLOWED_HOSTS: outside.host,
      CLASSIFY_URL: `${outside.url}/v1`,
      CLASSIFY_MODEL: 'small',
      CLASSIFY_API_KEY: 'key-of-the-model',
    },
  });
});
beforeEach(() => {
  outside.requests.length = 0;
  isHolding = false;
});
afterAll(async () => {
  outside?.release();
  await system?.stop();
  await outside?.close();
});

const completion = completionSaying(JSON.stringify({ label: 'billing', confidence: 0.9 }));

const localSteps = [
  { kind: 'set', field: 'origin', value: 'chat' },
  { kind: 'keywords', field: 'topic', rules: [{ value: 'billing', keywords: ['invoice'] }], otherwise: 'general' },
  { kind: 'language', field: 'language', otherwise: 'en' },
  { kind: 'contact', fields: { visits: 'conversationCount', name: 'name' } },
];

const askStep = {
  kind: 'ask',
  field: 'purpose',
  text: 'Sales or support?',
  choices: [
    { value: 'sales', label: 'Sales' },
    { value: 'support', label: 'Support' },
  ],
  timeoutSeconds: 600,
  settleSeconds: 0,
};

const salesBranch = (teams: TeamIds) => ({ name: 'Sales', when: "fields.purpose == 'sales'", teamId: teams.sales });

const withSteps =
  (...enrichment: object[]) =>
  (teams: TeamIds) => ({
    enrichment,
    routing: {
      branches: enrichment.includes(askStep) ? [salesBranch(teams)] : [],
      otherwise: { teamId: teams.support },
    },
  });

const houseOf = (...enrichment: object[]): Promise<FlowHouse> =>
  createFlowHouse(system, { outboundUrl: `${outside.url}/out`, document: withSteps(...enrichment) });

const namesOf = (count: number): string[] => Array.from({ length: count }, (_, i) => `contact-${i}`);

/** All at once. @returns what was answered 202 */
async function allSay(house: FlowHouse, contacts: readonly string[], text: string): Promise<AcceptedMessage[]> {
  const answers = await Promise.all(contacts.map((contact) => house.say(contact, text)));
  return answers.map(({ body }) => body);
}

/** How many conversations fulfil the condition, in SQL. */
async function countWhere({ workspace }: FlowHouse, condition: string): Promise<number> {
  const { rows } = await system.database.pool.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM conversations WHERE workspace_id = $1 AND ${condition}`,
    [workspace.workspaceId],
  );
  return rows[0]!.count;
}

/** Kills the worker as soon as the probe is true, and starts another. */
async function replaceWorkerWhen(what: string, probe: () => Promise<boolean> | boolean): Promise<void> {
  await eventually(what, probe, { everyMs: 2 });
  await system.workers.at(-1)!.kill('SIGKILL');
  await system.startWorker();
}

async function expectAllAssigned(house: FlowHouse, count: number, accepted: AcceptedMessage[]): Promise<void> {
  const { pool } = system.database;
  const { workspaceId } = house.workspace;
  await waitUntilSettled({ pool, workspaceId }, { timeoutMs: 50_000 });
  expect(await countWhere(house, `state = 'assigned' AND fallback_reason IS NULL`)).toBe(count);
  await assertSoundHistory(pool, { workspaceId, accepted });
}

/** The fields of all conversations; each kind once. */
async function fieldsOf({ workspace }: FlowHouse): Promise<object[]> {
  const { rows } = await system.database.pool.query<{ fields: object }>(
    'SELECT DISTINCT fields FROM conversations WHERE workspace_id = $1',
    [workspace.workspaceId],
  );
  return rows.map(({ fields }) => fields);
}

/** Every conversation has one question, and every question one id at the channel. */
async function expectOneQuestionEach(house: FlowHouse, count: number): Promise<void> {
  const { rows: questions } = await system.database.pool.query<{ id: string; conversation: string }>(
    `SELECT id, conversation_id AS conversation FROM messages WHERE workspace_id = $1 AND direction = 'outbound'`,
    [house.workspace.workspaceId],
  );
  expect(questions).toHaveLength(count);
  expect(new Set(questions.map(({ conversation }) => conversation)).size).toBe(count);
  const messageIds = new Set(questions.map(({ id }) => id));
  const webhookIds = await eventually(
    'all questions at the channel',
    () => {
      const ids = new Map<string, Set<unknown>>();
      for (const request of outside.requests.filter(({ path }) => path === '/out')) {
        const messageId = messageIdOf(request);
        if (!messageIds.has(messageId)) continue;
        ids.set(messageId, (ids.get(messageId) ?? new Set()).add(request.headers['webhook-id']));
      }
      return ids.size >= count && ids;
    },
    { timeoutMs: 60_000 },
  );
  expect([...webhookIds.values()].map((ids) => ids.size)).toEqual(questions.map(() => 1));
}

const messageIdOf = ({ body }: RecordedRequest): string => JSON.parse(body).data.messageId;

test('killed during set, keywords, language and contact: all conversations come to an agent with their fields', async () => {
  const contacts = namesOf(60);
  const house = await houseOf(...localSteps);
  const answers = allSay(house, contacts, 'Where is my invoice?');
  await replaceWorkerWhen(
    'a third of the openings',
    async () => (await countWhere(house, 'true')) >= contacts.length / 3,
  );
  await expectAllAssigned(house, contacts.length, await answers);
  const fields = await fieldsOf(house);
  expect(fields).toHaveLength(contacts.length);
  for (const each of fields) expect(each).toMatchObject({ origin: 'chat', topic: 'billing', visits: 0 });
});

test('killed while questions are written, and again while answers are taken: one question each, and all go on', async () => {
  const contacts = namesOf(30);
  const house = await houseOf(askStep);
  const first = allSay(house, contacts, 'Hello');
  const asked = 'awaiting_after_sequence IS NOT NULL';
  await replaceWorkerWhen(
    'a third of the questions',
    async () => (await countWhere(house, asked)) >= contacts.length / 3,
  );
  const accepted = await first;
  await eventually('all are asked', async () => (await countWhere(house, asked)) === contacts.length, {
    timeoutMs: 40_000,
  });
  await expectOneQuestionEach(house, contacts.length);

  const second = allSay(house, contacts, 'Sales');
  const answered = `fields <> '{}'`;
  await replaceWorkerWhen(
    'a third of the answers',
    async () => (await countWhere(house, answered)) >= contacts.length / 3,
  );
  await expectAllAssigned(house, contacts.length, [...accepted, ...(await second)]);
  expect(await countWhere(house, `team_id = '${house.teams.sales}'`)).toBe(contacts.length);
  await expectOneQuestionEach(house, contacts.length);
});

test('killed while a question waits and nobody hears the answer: the next worker takes it', async () => {
  const house = await houseOf(askStep);
  const [hello] = await allSay(house, ['alice'], 'Hello');
  await eventually('asked', async () => (await countWhere(house, 'awaiting_after_sequence IS NOT NULL')) === 1);
  await system.workers.at(-1)!.kill('SIGKILL');
  const [answer] = await allSay(house, ['alice'], 'Support');
  await system.startWorker();
  await expectAllAssigned(house, 1, [hello!, answer!]);
  expect(await fieldsOf(house)).toEqual([{ purpose: 'support' }]);
  await expectOneQuestionEach(house, 1);
});

test('killed while http and classify wait for their answers, after a question: the next worker asks again and goes on', async () => {
  const contacts = namesOf(3);
  const http = { kind: 'http', method: 'GET', url: `${outside.url}/customer`, fields: { tier: '/tier' } };
  const labels = [{ label: 'billing' }, { label: 'delivery' }];
  const classify = { kind: 'classify', field: 'topic', labels, otherwise: 'general' };
  const [asksHttp, asksModel] = await Promise.all(
    [http, classify].map((step) => houseOf(askStep, { ...step, timeoutMs: 10_000 })),
  );
  const houses = [asksHttp!, asksModel!];
  const hellos = await Promise.all(houses.map((house) => allSay(house, contacts, 'Hello')));
  for (const house of houses) {
    const areAsked = async () => (await countWhere(house, 'awaiting_after_sequence IS NOT NULL')) === contacts.length;
    await eventually('all are asked', areAsked);
  }
  isHolding = true;
  const answers = await Promise.all(houses.map((house) => allSay(house, contacts, 'Sales')));
  const requestCounts = () =>
    ['/customer', '/v1/chat/completions'].map((path) => outside.requests.filter((asked) => asked.path === path).length);
  await eventually(
    'a request for each',
    () => requestCounts().every((count) => count === contacts.length) && outside.held === 2 * contacts.length,
  );
  await system.workers.at(-1)!.kill('SIGKILL');
  isHolding = false;
  outside.release();
  await system.startWorker();

  for (const [i, house] of houses.entries()) {
    await expectAllAssigned(house, contacts.length, [...hellos[i]!, ...answers[i]!]);
    await expectOneQuestionEach(house, contacts.length);
  }
  expect(await fieldsOf(asksHttp!)).toEqual([{ purpose: 'sales', tier: 'gold' }]);
  expect(await fieldsOf(asksModel!)).toEqual([{ purpose: 'sales', topic: 'billing' }]);
  for (const count of requestCounts()) expect(count).toBeGreaterThanOrEqual(2 * contacts.length);
});
