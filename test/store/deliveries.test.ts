import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createPool } from '../../platform/pool.ts';
import { createChannel } from '../../store/channels.ts';
import { claimDeliveries, releaseDeliveries, settleDelivered, settleFailed } from '../../store/deliveries.ts';
import { addReply } from '../../store/replies.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;
let agentId: string;

beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
  agentId = await stage.addAgent(10_000);
});
afterAll(() => database?.drop());

/** Conversations of one channel with so many replies each. */
async function prepare(conversations: number, replies: number): Promise<string> {
  const { workspaceId } = stage;
  const key = newId();
  const made = await createChannel(database.pool, { workspaceId, key, name: 'Out', outboundUrl: 'https://a.example' });
  if (made.kind !== 'created') throw new Error(made.kind);
  for (let i = 0; i < conversations; i += 1) {
    const { conversationId } = await stage.open(newId(), { channel: key });
    for (let j = 0; j < replies; j += 1) {
      await addReply(database.pool, { workspaceId, conversationId, agentId, text: `${j}` });
    }
  }
  return made.channel.id;
}

const claim = async (claimedBy: string, more: Partial<Parameters<typeof claimDeliveries>[1]> = {}) =>
  (
    await claimDeliveries(database.pool, {
      claimedBy,
      leaseMs: 60_000,
      maxRows: 1_000,
      maxRowsPerLane: 1_000,
      roomByLane: new Map(),
      afterLane: null,
      ...more,
    })
  ).claimed;

const clear = () => database.pool.query('DELETE FROM deliveries');

test('of each conversation the first is claimed, and by one only', async () => {
  await prepare(10, 3);
  const found = await Promise.all(Array.from({ length: 5 }, () => claim(newId())));
  const claimed = found.flat();
  expect(new Set(claimed.map(({ id }) => id)).size).toBe(10);
  expect(claimed).toHaveLength(10);
  expect(claimed.every(({ payload }) => (payload['data'] as { text: string }).text === '0')).toBe(true);
  await clear();
});

test('each lane gets its share, and no more than it has room for', async () => {
  const lanes = [await prepare(6, 1), await prepare(6, 1), await prepare(6, 1)];
  const claimed = await claim(newId(), { maxRows: 9, roomByLane: new Map([[lanes[0]!, 1]]) });
  const counts = lanes.map((lane) => claimed.filter((delivery) => delivery.lane === lane).length);
  expect(counts).toEqual([1, 3, 3]);
  await clear();
});

test('who lost a claim settles no failure any more, but what arrived has arrived', async () => {
  await prepare(1, 1);
  const [first, second] = [newId(), newId()];
  const [claimed] = await claim(first, { leaseMs: -1 });
  expect(await claim(second)).toMatchObject([{ id: claimed!.id }]);
  const attempts = [{ id: claimed!.id, error: 'answered 500', retryAfterMs: null }];
  await settleFailed(database.pool, { claimedBy: first, attempts });
  await releaseDeliveries(database.pool, { claimedBy: first, ids: [claimed!.id] });
  const { rows } = await database.pool.query('SELECT state, claimed_by FROM deliveries');
  expect(rows).toEqual([{ state: 'pending', claimed_by: second }]);
  await settleDelivered(database.pool, [claimed!.id]);
  expect((await database.pool.query('SELECT FROM deliveries')).rowCount).toBe(0);
});

test('what waits behind a failed attempt is put off with it, and goes on after it', async () => {
  await prepare(1, 3);
  const claimedBy = newId();
  const [claimed] = await claim(claimedBy);
  const attempts = [{ id: claimed!.id, error: 'answered 500', retryAfterMs: 3_600_000 }];
  await settleFailed(database.pool, { claimedBy, attempts });
  const readDue = async () =>
    (await database.pool.query<{ due: string }>('SELECT due_at::text AS due FROM deliveries ORDER BY position')).rows;
  const due = await readDue();
  expect(new Set(due.map((row) => row.due)).size).toBe(1);
  expect(await claim(claimedBy)).toEqual([]);
  await clear();
});

test('every statement of a delivery’s life finds its rows by an index', async () => {
  const pool = createPool(
    { databaseUrl: database.url, databasePoolSize: 1 },
    { applicationName: 'test', hasGenericPlans: true },
  );
  try {
    await pool.query(`LOAD 'auto_explain'`);
    const plans: string[] = [];
    const client = await pool.connect();
    client.on('notice', ({ message }) => plans.push(message ?? ''));
    await client.query(`SET auto_explain.log_min_duration = 0`);
    await client.query(`SET auto_explain.log_level = 'notice'; SET client_min_messages = 'notice'`);
    const claimedBy = newId();
    await prepare(1, 2);
    const rest = { claimedBy, leaseMs: 1_000, maxRows: 9, maxRowsPerLane: 9, roomByLane: new Map(), afterLane: null };
    const { claimed } = await claimDeliveries(client, rest);
    await settleFailed(client, { claimedBy, attempts: [{ id: claimed[0]!.id, error: 'x', retryAfterMs: 0 }] });
    await settleDelivered(client, [claimed[0]!.id]);
    client.release(true);
    expect(plans.length).toBeGreaterThanOrEqual(3);
    expect(plans.flatMap((plan) => plan.match(/Seq Scan on (?:deliveries|messages)\w*/g) ?? [])).toEqual([]);
    // Whether something stands before a delivery is looked up by all of its key.
    expect(plans.join()).toMatch(/Index Cond: \(\(conversation_id = \S+\) AND \(lane = \S+\) AND \("?position"? < /);
  } finally {
    await pool.end();
    await clear();
  }
});
