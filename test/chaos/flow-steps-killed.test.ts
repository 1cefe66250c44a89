/**
 * A worker killed by SIGKILL in the middle of each kind of step, and another one started: every conversation goes on to an agent, and no contact is
 * asked the same thing twice. What the channel had not answered by then is sent again, under the same id.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { createFlowHouse, type FlowHouse, type TeamIds } from '../support/flow-house.ts';
import { installTurnHold, withHeldTurns, type HeldTurn, type TurnHold } from '../support/held-turns.ts';
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
    if (isHolding) return 'hold';
    if (request.path === '/out') return { status: 204 };
    return { status: 200, json: request.path === '/customer' ? { tier: 'gold' } : completion };
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
  await installTurnHold(system.database.pool);
});
beforeEach(() => {
  outside.requests.length = 0;
  isHolding = false;
});
afterAll(async () => {
  isHolding = false;
  outside?.release();
  await system?.stop();
  await outside?.close();
});

const completion = completionSaying(JSON.stringify({ label: 'billing', confidence: 0.9 }));

/** Each with what it finds out. */
const localSteps = [
  { step: { kind: 'set', field: 'origin', value: 'chat' }, fields: { origin: 'chat' } },
  {
    step: { kind: 'keywords', field: 'topic', rules: [{ value: 'billing', keywords: ['invoice'] }] },
    fields: { topic: 'billing' },
  },
  { step: { kind: 'language', field: 'language', otherwise: 'none' }, fields: { language: 'en' } },
  { step: { kind: 'contact', fields: { visits: 'conversationCount' } }, fields: { visits: 0 } },
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

interface Step {
  readonly kind: string;
  readonly [member: string]: unknown;
}

const salesBranch = (teams: TeamIds) => ({ name: 'Sales', when: "fields.purpose == 'sales'", teamId: teams.sales });

const withSteps =
  (...enrichment: readonly Step[]) =>
  (teams: TeamIds) => ({
    enrichment,
    routing: {
      branches: enrichment.some(({ kind }) => kind === 'ask') ? [salesBranch(teams)] : [],
      otherwise: { teamId: teams.support },
    },
  });

const houseOf = (...enrichment: readonly Step[]): Promise<FlowHouse> =>
  createFlowHouse(system, { outboundUrl: `${outside.url}/out`, document: withSteps(...enrichment) });

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

async function awaitCount(house: FlowHouse, condition: string, count: number): Promise<void> {
  await eventually(condition, async () => (await countWhere(house, condition)) === count);
}

const isAsked = 'awaiting_after_sequence IS NOT NULL';

/** The contacts are asked, and the channel has taken that. */
async function askAll(house: FlowHouse, contacts: readonly string[]): Promise<AcceptedMessage[]> {
  const accepted = await allSay(house, contacts, 'Hello');
  await awaitCount(house, isAsked, contacts.length);
  await awaitDelivered(house, contacts.length);
  return accepted;
}

const awaitDelivered = (house: FlowHouse, count: number): Promise<true> =>
  eventually(
    'all questions are delivered',
    async () => (await readQuestions(house)).filter(({ delivery }) => delivery === 'delivered').length >= count,
    { timeoutMs: 120_000 },
  );

async function readQuestions({ workspace }: FlowHouse) {
  const { rows } = await system.database.pool.query<{ id: string; conversation: string; delivery: string }>(
    `SELECT id, conversation_id AS conversation, delivery FROM messages WHERE workspace_id = $1 AND direction = 'outbound'`,
    [workspace.workspaceId],
  );
  return rows;
}

/** Every contact has one question, and every question one id at the channel. @returns how often each was sent */
async function expectOneQuestionEach(house: FlowHouse, count: number): Promise<number[]> {
  await awaitDelivered(house, count);
  const questions = await readQuestions(house);
  expect(questions).toHaveLength(count);
  expect(new Set(questions.map(({ conversation }) => conversation)).size).toBe(count);
  return questions.map(({ id }) => {
    const sent = requestsTo('/out').filter(({ body }) => JSON.parse(body).data.messageId === id);
    expect(new Set(sent.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    return sent.length;
  });
}

const requestsTo = (path: string): RecordedRequest[] => outside.requests.filter((asked) => asked.path === path);

async function expectAllAssigned(house: FlowHouse, count: number, accepted: AcceptedMessage[]): Promise<void> {
  const { pool } = system.database;
  const { workspaceId } = house.workspace;
  await waitUntilSettled({ pool, workspaceId });
  expect(await countWhere(house, `state = 'assigned' AND fallback_reason IS NULL`)).toBe(count);
  await assertSoundHistory(pool, { workspaceId, accepted });
  const { rows: repeated } = await pool.query(
    `SELECT conversation_id, type FROM events WHERE workspace_id = $1 AND type LIKE 'conversation.%'
     GROUP BY conversation_id, type HAVING count(*) > 1`,
    [workspaceId],
  );
  expect(repeated).toEqual([]);
}

/** The fields of all conversations; each kind once. */
async function fieldsOf({ workspace }: FlowHouse): Promise<object[]> {
  const { rows } = await system.database.pool.query<{ fields: object }>(
    'SELECT DISTINCT fields FROM conversations WHERE workspace_id = $1',
    [workspace.workspaceId],
  );
  return rows.map(({ fields }) => fields);
}

const killWorker = (): Promise<void> => system.workers.at(-1)!.kill('SIGKILL');

const hold = (houses: readonly FlowHouse[], task: (held: TurnHold) => Promise<void>): Promise<void> =>
  withHeldTurns(
    system.database.pool,
    houses.map(({ workspace }) => workspace.workspaceId),
    task,
  );

/** @returns the turns that come to be held after `cause` */
async function holdNext(held: TurnHold, count: number, cause: () => Promise<unknown>): Promise<HeldTurn[]> {
  const before = new Set((await held.read()).map(({ xid }) => xid));
  await cause();
  return eventually(`${count} more turns are held`, async () => {
    const turns = (await held.read()).filter(({ xid }) => !before.has(xid));
    return turns.length === count && turns;
  });
}

/**
 * Kills the worker in the middle of these turns and starts another: the first are undone, as if the database had gone down too; the others are
 * committed while the next worker waits for the same rows.
 */
async function replaceWorkerDuring(held: TurnHold, undone: HeldTurn[], committed: HeldTurn[]): Promise<void> {
  await killWorker();
  expect(idsOf(await held.read())).toEqual(idsOf([...undone, ...committed]));
  await held.undo(undone[0]!.pid);
  await held.letOthersPass();
  await system.startWorker();
  await held.awaitRival(committed[0]!.pid);
}

/** The dead worker has written the second, and nothing of the first. */
async function expectWritten(undone: HeldTurn[], committed: HeldTurn[]): Promise<void> {
  const { rows } = await system.database.pool.query<{ id: string }>(
    'SELECT conversation_id AS id FROM decisions WHERE xmin::text = ANY ($1) ORDER BY id',
    [[...undone, ...committed].map(({ xid }) => xid)],
  );
  expect(rows.map(({ id }) => id)).toEqual(idsOf(committed));
}

const idsOf = (turns: readonly HeldTurn[]): string[] => turns.map(({ conversationId }) => conversationId).toSorted();

test('killed while it writes what set, keywords, language and contact have found: each conversation goes on with it, once', async () => {
  const houses = await Promise.all(localSteps.map(({ step }) => houseOf(step)));
  const occupiers = await Promise.all([houseOf(localSteps[0]!.step), houseOf(localSteps[0]!.step)]);
  const accepted = new Map<FlowHouse, AcceptedMessage[]>();
  const say = async (house: FlowHouse, contact: string): Promise<void> => {
    const answers = await allSay(house, [contact], 'Where is the invoice for my last order?');
    accepted.set(house, [...(accepted.get(house) ?? []), ...answers]);
  };
  let undone: HeldTurn[] = [];
  let committed: HeldTurn[] = [];

  await hold([...houses, ...occupiers], async (held) => {
    // Two batches may be under way. What comes while others' are is taken together by the next one: one of each kind.
    for (const house of occupiers) await holdNext(held, 1, () => say(house, 'alice'));
    const holdOneEach = async (contact: string, occupier: FlowHouse): Promise<HeldTurn[]> => {
      await Promise.all(houses.map((house) => say(house, contact)));
      await eventually('all are opened', () => areOpened(houses));
      return holdNext(held, houses.length, () => held.release(occupier.workspace.workspaceId));
    };
    undone = await holdOneEach('bob', occupiers[0]);
    committed = await holdOneEach('carol', occupiers[1]);
    await replaceWorkerDuring(held, undone, committed);
  });

  for (const house of occupiers) await expectAllAssigned(house, 1, accepted.get(house)!);
  for (const [i, house] of houses.entries()) {
    await expectAllAssigned(house, 2, accepted.get(house)!);
    expect(await fieldsOf(house)).toEqual([localSteps[i]!.fields]);
  }
  await expectWritten(undone, committed);
});

/** No message waits for its conversation, and no statement of a step is under way but those held. */
async function areOpened(houses: readonly FlowHouse[]): Promise<boolean> {
  const { rows } = await system.database.pool.query(
    `SELECT FROM messages WHERE workspace_id = ANY ($1) AND conversation_id IS NULL
     UNION ALL
     SELECT FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'switchyard-steps' AND state <> 'idle'
       AND wait_event IS DISTINCT FROM 'advisory'`,
    [houses.map(({ workspace }) => workspace.workspaceId)],
  );
  return rows.length === 0;
}

test('killed while it writes questions: each contact is asked once, also by who was killed', async () => {
  const house = await houseOf(askStep);
  const [undone, committed, hellos] = await replaceWorkerWhile(house, 'Hello');
  await awaitCount(house, isAsked, 2);
  expect(await expectOneQuestionEach(house, 2)).toEqual([1, 1]);

  const answers = await allSay(house, ['alice', 'bob'], 'Sales');
  await expectAllAssigned(house, 2, [...hellos, ...answers]);
  expect(await countWhere(house, `team_id = '${house.teams.sales}'`)).toBe(2);
  await expectWritten(undone, committed);
  expect(await expectOneQuestionEach(house, 2)).toEqual([1, 1]);
});

test('killed while it takes answers: each is taken once, and nobody is asked again', async () => {
  const house = await houseOf(askStep);
  const hellos = await askAll(house, ['alice', 'bob']);
  const [undone, committed, answers] = await replaceWorkerWhile(house, 'Sales');
  await expectAllAssigned(house, 2, [...hellos, ...answers]);
  expect(await fieldsOf(house)).toEqual([{ purpose: 'sales' }]);
  expect(await countWhere(house, `team_id = '${house.teams.sales}'`)).toBe(2);
  await expectWritten(undone, committed);
  expect(await expectOneQuestionEach(house, 2)).toEqual([1, 1]);
});

/** Two contacts say it, and the worker is killed in the turns that follow, the first of which is undone. */
async function replaceWorkerWhile(
  house: FlowHouse,
  text: string,
): Promise<[undone: HeldTurn[], committed: HeldTurn[], accepted: AcceptedMessage[]]> {
  let undone: HeldTurn[] = [];
  let committed: HeldTurn[] = [];
  const accepted: AcceptedMessage[] = [];
  await hold([house], async (held) => {
    const say = async (contact: string) => accepted.push(...(await allSay(house, [contact], text)));
    undone = await holdNext(held, 1, () => say('alice'));
    committed = await holdNext(held, 1, () => say('bob'));
    await replaceWorkerDuring(held, undone, committed);
  });
  return [undone, committed, accepted];
}

test('killed while questions wait, then one is answered and the time of another passes: the next worker takes the answer and gives up', async () => {
  const patient = await houseOf(askStep);
  const hasty = await houseOf({ ...askStep, timeoutSeconds: 10, giveUp: { value: 'sales' } });
  const [hello, knock] = [...(await askAll(patient, ['alice'])), ...(await askAll(hasty, ['bob']))];
  await killWorker();
  const [answer] = await allSay(patient, ['alice'], 'Support');
  expect(await countWhere(hasty, `${isAsked} AND answer_until > now()`)).toBe(1);
  await awaitCount(hasty, 'answer_until < now()', 1);
  expect(await countWhere(hasty, `state = 'enriching' AND fields = '{}'`)).toBe(1);
  await system.startWorker();

  await expectAllAssigned(patient, 1, [hello!, answer!]);
  expect(await fieldsOf(patient)).toEqual([{ purpose: 'support' }]);
  await expectAllAssigned(hasty, 1, [knock!]);
  expect(await fieldsOf(hasty)).toEqual([{ purpose: 'sales' }]);
  expect(await outcomesOf(hasty)).toEqual(['gave_up']);
  for (const house of [patient, hasty]) expect(await expectOneQuestionEach(house, 1)).toEqual([1]);
});

async function outcomesOf({ workspace }: FlowHouse): Promise<string[]> {
  const { rows } = await system.database.pool.query<{ outcome: string }>(
    `SELECT data ->> 'outcome' AS outcome FROM events WHERE workspace_id = $1 AND type = 'conversation.answered'`,
    [workspace.workspaceId],
  );
  return rows.map(({ outcome }) => outcome);
}

test('killed while the channel, http and classify hold their requests: each question is sent at least once under one id, the others are asked again', async () => {
  const contacts = ['alice', 'bob', 'carol'];
  const http = { kind: 'http', method: 'GET', url: `${outside.url}/customer`, fields: { tier: '/tier' } };
  const labels = [{ label: 'billing' }, { label: 'delivery' }];
  const classify = { kind: 'classify', field: 'topic', labels, otherwise: 'general' };
  const asksHttp = await houseOf(askStep, { ...http, timeoutMs: 10_000 });
  const asksModel = await houseOf(askStep, { ...classify, timeoutMs: 10_000 });
  const houses = [asksHttp, asksModel];
  const countRequests = () => ['/out', '/customer', '/v1/chat/completions'].map((path) => requestsTo(path).length);
  const awaitRequests = (counts: number[]) =>
    eventually(`requests: ${counts.join()}`, () => {
      const isSame = countRequests().join() === counts.join();
      return isSame && outside.held === outside.requests.length;
    });

  isHolding = true;
  const hellos = await Promise.all(houses.map((house) => allSay(house, contacts, 'Hello')));
  await awaitRequests([6, 0, 0]);
  // The questions are on their way, and yet they may be answered.
  const answers = await Promise.all(houses.map((house) => allSay(house, contacts, 'Sales')));
  await awaitRequests([6, 3, 3]);
  await killWorker();
  isHolding = false;
  outside.release();
  for (const house of houses) expect(await countWhere(house, `state = 'enriching'`)).toBe(contacts.length);
  await system.startWorker();

  for (const [i, house] of houses.entries()) {
    await expectAllAssigned(house, contacts.length, [...hellos[i]!, ...answers[i]!]);
    for (const times of await expectOneQuestionEach(house, contacts.length)) expect(times).toBeGreaterThanOrEqual(2);
  }
  expect(await fieldsOf(asksHttp)).toEqual([{ purpose: 'sales', tier: 'gold' }]);
  expect(await fieldsOf(asksModel)).toEqual([{ purpose: 'sales', topic: 'billing' }]);
  for (const count of countRequests().slice(1)) expect(count).toBeGreaterThanOrEqual(2 * contacts.length);
});
