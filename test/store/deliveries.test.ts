import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createPool } from '../../platform/pool.ts';
import { createChannel, updateChannel } from '../../store/channels.ts';
import { transact } from '../../store/database.ts';
import { claimDeliveries, releaseDeliveries, settleDelivered, settleFailedAttempts } from '../../store/deliveries.ts';
import { forgetFailedDeliveries, retryDelivery } from '../../store/delivery-records.ts';
import { addReply } from '../../store/replies.ts';
import { readSystemGauges } from '../../store/upkeep.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { allRoom } from '../support/lane-room.ts';
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

/** Every lane is well, and has nothing under way. */

const claim = async (claimedBy: string, more: Partial<Parameters<typeof claimDeliveries>[1]> = {}) =>
  (
    await claimDeliveries(database.pool, {
      claimedBy,
      leaseMs: 60_000,
      maxRows: 1_000,
      maxRowsPerLane: 1_000,
      room: allRoom,
      afterLane: null,
      ...more,
    })
  ).claimed;

const clear = () => database.pool.query('DELETE FROM deliveries');

const textsOf = (claimed: Awaited<ReturnType<typeof claim>>) =>
  claimed.map(({ payload }) => (payload['data'] as { text: string }).text);

const dayMs = 86_400_000;
const putOff = (claimedBy: string, id: string, db: Parameters<typeof settleFailedAttempts>[0] = database.pool) =>
  settleFailedAttempts(db, { claimedBy, attempts: [{ id, error: 'answered 500', retryAfterMs: dayMs }] });

/** A conversation whose first of so many replies failed, and all of which wait for tomorrow. */
async function preparePutOff(replies: number) {
  const lane = await prepare(1, replies);
  const claimedBy = newId();
  await putOff(claimedBy, (await claim(claimedBy))[0]!.id);
  const { rows } = await database.pool.query<{ id: string; conversationId: string }>(
    'SELECT id, conversation_id AS "conversationId" FROM deliveries ORDER BY position',
  );
  return { lane, claimedBy, conversationId: rows[0]!.conversationId, ids: rows.map(({ id }) => id) };
}

const retry = (deliveryId: string) => retryDelivery(database.pool, { workspaceId: stage.workspaceId, deliveryId });

const untilSomebodyWaits = () =>
  eventually('somebody waits for a lock', async () => {
    const { rowCount } = await database.pool.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    return rowCount! > 0;
  });

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
  const claimed = await claim(newId(), {
    maxRows: 9,
    room: { ...allRoom, roomByLane: new Map([[lanes[0]!, 1]]) },
  });
  const counts = lanes.map((lane) => claimed.filter((delivery) => delivery.lane === lane).length);
  expect(counts).toEqual([1, 3, 3]);
  await clear();
});

test('ailing lanes get so much in all, whichever of them has something that is due', async () => {
  const idle = [await prepare(1, 1), await prepare(1, 1)];
  await clear();
  const lanes = [await prepare(6, 1), await prepare(6, 1), await prepare(6, 1)];
  const ailingLanes = [...idle, ...lanes.slice(0, 2)];
  const roomByLane = new Map(ailingLanes.map((lane) => [lane, 2]));
  const claimed = await claim(newId(), { maxRows: 60, room: { roomByLane, ailingLanes, ailingRoom: 3 } });
  const counts = lanes.map((lane) => claimed.filter((delivery) => delivery.lane === lane).length);
  expect(counts[2]).toBe(6);
  expect(counts.slice(0, 2).toSorted()).toEqual([1, 2]);
  await clear();
});

test('of ailing lanes those are taken first that come first, so that each gets its turn', async () => {
  const lanes = [await prepare(6, 1), await prepare(6, 1), await prepare(6, 1)];
  const taken: string[] = [];
  const roomByLane = new Map(lanes.map((lane) => [lane, 1]));
  for (const first of [2, 0, 1, 2]) {
    const ailingLanes = [...lanes.slice(first), ...lanes.slice(0, first)];
    const claimed = await claim(newId(), { room: { roomByLane, ailingLanes, ailingRoom: 1 } });
    taken.push(...claimed.map(({ lane }) => lane));
  }
  expect(taken).toEqual([2, 0, 1, 2].map((place) => lanes[place]));
  await clear();
});

test('who lost a claim settles no failure any more, but what arrived has arrived', async () => {
  await prepare(1, 1);
  const [first, second] = [newId(), newId()];
  const [claimed] = await claim(first, { leaseMs: -1 });
  expect(await claim(second)).toMatchObject([{ id: claimed!.id }]);
  const attempts = [{ id: claimed!.id, error: 'answered 500', retryAfterMs: null }];
  await settleFailedAttempts(database.pool, { claimedBy: first, attempts });
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
  await settleFailedAttempts(database.pool, { claimedBy, attempts });
  const readDue = async () =>
    (await database.pool.query<{ due: string }>('SELECT due_at::text AS due FROM deliveries ORDER BY position')).rows;
  const due = await readDue();
  expect(new Set(due.map((row) => row.due)).size).toBe(1);
  expect(await claim(claimedBy)).toEqual([]);
  await clear();
});

test('what stands behind one that is sent again by hand goes out after it, and not when it was put off to', async () => {
  const { ids, conversationId } = await preparePutOff(3);
  await retry(ids[0]!);
  const [first, ...none] = await claim(newId());
  expect([first!.id, ...none]).toEqual([ids[0]]);
  await addReply(database.pool, { workspaceId: stage.workspaceId, conversationId, agentId, text: '3' });
  await settleDelivered(database.pool, [first!.id]);
  for (const text of ['1', '2', '3']) {
    const claimed = await claim(newId());
    expect(textsOf(claimed)).toEqual([text]);
    await settleDelivered(database.pool, [claimed[0]!.id]);
  }
});

test('what stands behind one that is sent again and fails for good is sent at once', async () => {
  const { ids, claimedBy } = await preparePutOff(2);
  await retry(ids[0]!);
  await claim(claimedBy);
  const attempts = [{ id: ids[0]!, error: 'answered 410', retryAfterMs: null }];
  await settleFailedAttempts(database.pool, { claimedBy, attempts });
  expect(textsOf(await claim(newId()))).toEqual(['1']);
  await clear();
});

test('to send one at once, what holds it up is sent at once', async () => {
  const { ids } = await preparePutOff(3);
  await retry(ids[1]!);
  for (const text of ['0', '1']) {
    const claimed = await claim(newId());
    expect(textsOf(claimed)).toEqual([text]);
    await settleDelivered(database.pool, [claimed[0]!.id]);
  }
  await clear();
});

test('a success that comes late, of what another has put off or is putting off, frees what stands behind', async () => {
  for (const isCommitted of [true, false]) {
    await prepare(1, 2);
    const [late, other] = [newId(), newId()];
    const { id } = (await claim(late, { leaseMs: -1 }))[0]!;
    expect(await claim(other)).toMatchObject([{ id }]);
    let settled: Promise<void> | undefined;
    await transact(database.pool, async (tx) => {
      await putOff(other, id, tx);
      if (isCommitted) return;
      settled = settleDelivered(database.pool, [id]);
      await untilSomebodyWaits();
    });
    await (settled ?? settleDelivered(database.pool, [id]));
    expect(textsOf(await claim(newId()))).toEqual(['1']);
    await clear();
  }
});

test('what is claimed while it is sent again by hand stays claimed', async () => {
  const { ids, lane } = await preparePutOff(1);
  const claimedBy = newId();
  let retried: Promise<void> | undefined;
  await transact(database.pool, async (tx) => {
    await tx.query(`UPDATE deliveries SET claimed_by = $2, due_at = now() + interval '1 min' WHERE lane = $1`, [
      lane,
      claimedBy,
    ]);
    retried = retry(ids[0]!);
    await untilSomebodyWaits();
  });
  await retried;
  const { rows } = await database.pool.query('SELECT claimed_by, due_at > now() AS "isHeld" FROM deliveries');
  expect(rows).toEqual([{ claimed_by: claimedBy, isHeld: true }]);
  await clear();
});

test('lanes are served in turn, however little room there is', async () => {
  const lanes = [await prepare(3, 1), await prepare(3, 1), await prepare(3, 1)].toSorted();
  const served: (string | null)[] = [];
  for (let afterLane: string | null = null; served.length < 11;) {
    const options = { leaseMs: 60_000, maxRows: 1, maxRowsPerLane: 9, room: allRoom, afterLane };
    const found = await claimDeliveries(database.pool, { claimedBy: newId(), ...options });
    served.push(found.claimed[0]?.lane ?? null);
    ({ afterLane } = found);
    // Behind the last lane there is nothing, and it begins at the first again.
    if (served.at(-1) === null) expect(afterLane).toBeNull();
  }
  expect(served).toEqual([...lanes, null, ...lanes, null, ...lanes]);
  await clear();
});

/** Whoever locks several rows that wait does so by id, whatever the index says: while it waits for the lowest, it holds none of the others. */
async function expectLockedById(ids: readonly string[], work: () => Promise<unknown>): Promise<void> {
  const [lowest, ...others] = ids.toSorted();
  let working: Promise<unknown> | undefined;
  await transact(database.pool, async (tx) => {
    await tx.query('SELECT FROM deliveries WHERE id = $1 FOR UPDATE', [lowest]);
    working = work();
    await untilSomebodyWaits();
    const { rows } = await database.pool.query<{ id: string }>(
      'SELECT id FROM deliveries WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE SKIP LOCKED',
      [others],
    );
    expect(rows.map(({ id }) => id)).toEqual(others);
  });
  await working;
}

test('what is put off, or hurried by another URL, is locked in one order, so that nobody waits in a circle', async () => {
  const { lane, claimedBy } = await preparePutOff(8);
  await database.pool.query(
    `UPDATE deliveries d
     SET id = overlay(id::text PLACING lpad((100 - place)::text, 8, '0') FROM 1)::uuid, due_at = due_at + place * interval '1 s'
     FROM (SELECT position, row_number() OVER (ORDER BY position) AS place FROM deliveries) p WHERE p.position = d.position`,
  );
  const { rows } = await database.pool.query<{ id: string }>('SELECT id FROM deliveries ORDER BY position');
  const ids = rows.map(({ id }) => id);
  expect(ids).toEqual(ids.toSorted().toReversed());
  const key = { workspaceId: stage.workspaceId, channelId: lane };
  await expectLockedById(ids, () => updateChannel(database.pool, { ...key, outboundUrl: 'https://b.example' }));
  const [head, ...none] = await claim(claimedBy);
  expect([head!.id, ...none]).toEqual([ids[0]]);
  await expectLockedById(ids.slice(1), () => putOff(claimedBy, head!.id));
  await clear();
});

test('what failed long ago is forgotten, the oldest first, and what is pending never', async () => {
  await prepare(4, 1);
  await database.pool.query(
    `UPDATE deliveries d SET state = CASE place WHEN 1 THEN 'pending' ELSE 'failed' END,
            created_at = now() - CASE place WHEN 4 THEN 6.9 ELSE 9 - place END * interval '1 day'
     FROM (SELECT id, row_number() OVER (ORDER BY position) AS place FROM deliveries) p WHERE p.id = d.id`,
  );
  const forget = () => forgetFailedDeliveries(database.pool, { olderThanDays: 5, maxRows: 2 });
  const left = async () =>
    (
      await database.pool.query(
        `SELECT state, extract(day FROM now() - created_at)::int AS days FROM deliveries ORDER BY 2 DESC`,
      )
    ).rows;
  expect(await forgetFailedDeliveries(database.pool, { olderThanDays: 8, maxRows: 2 })).toBe(0);
  const pending = { state: 'pending', days: 8 };
  expect(await forget()).toBe(2);
  expect(await left()).toEqual([pending, { state: 'failed', days: 6 }]);
  expect(await forget()).toBe(1);
  expect(await forget()).toBe(0);
  expect(await left()).toEqual([pending]);
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
    try {
      await prepare(1, 2);
      const rest = { claimedBy, leaseMs: 1_000, maxRows: 9, maxRowsPerLane: 9, room: allRoom, afterLane: null };
      const { claimed } = await claimDeliveries(client, rest);
      await settleFailedAttempts(client, {
        claimedBy,
        attempts: [{ id: claimed[0]!.id, error: 'x', retryAfterMs: 0 }],
      });
      await settleDelivered(client, [claimed[0]!.id]);
      await retryDelivery(client, { workspaceId: stage.workspaceId, deliveryId: claimed[0]!.id });
      await forgetFailedDeliveries(client, { olderThanDays: 30, maxRows: 9 });
      const lane = newId();
      await database.pool.query(
        `INSERT INTO deliveries (id, workspace_id, contact_id, conversation_id, kind, lane, url, payload, state)
         SELECT gen_random_uuid(), $1, $1, gen_random_uuid(), 'webhook', $1, 'https://a.example', '{}', (ARRAY['pending', 'failed'])[1 + g % 2]
         FROM generate_series(1, 5000) g`,
        [lane],
      );
      await database.pool.query('ANALYZE deliveries');
      expect((await readSystemGauges(client)).deliveriesByState).toEqual({ pending: 2_501, failed: 2_500 });
    } finally {
      client.release(true);
    }
    expect(plans.length).toBeGreaterThanOrEqual(6);
    expect(plans.flatMap((plan) => plan.match(/Seq Scan on (?:deliveries|messages)\w*/g) ?? [])).toEqual([]);
    // Nor is a whole index read: what has failed, or waits for tomorrow, may be much.
    const searches = plans
      .flatMap((plan) => plan.split(/->|\bSub(?:Plan|query)/))
      .filter((node) => /Scan using deliveries_/.test(node));
    expect(searches.length).toBeGreaterThan(6);
    expect(searches.filter((node) => !node.includes('Index Cond:'))).toEqual([]);
    // Whether something stands before a delivery is looked up by all of its key.
    expect(plans.join()).toMatch(/Index Cond: \(\(conversation_id = \S+\) AND \(lane = \S+\) AND \("?position"? < /);
  } finally {
    await pool.end();
    await clear();
  }
});
