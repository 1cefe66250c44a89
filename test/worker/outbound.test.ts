import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadConfig } from '../../platform/config.ts';
import { newId } from '../../platform/id.ts';
import { createLogger } from '../../platform/logger.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { createPool } from '../../platform/pool.ts';
import { createChannel, rotateChannelSecret, updateChannel } from '../../store/channels.ts';
import { transact } from '../../store/database.ts';
import { claimDeliveries } from '../../store/deliveries.ts';
import { listDeliveries, retryDelivery, retryFailedDeliveries } from '../../store/delivery-records.ts';
import { lockContact } from '../../store/locks.ts';
import { getMessage } from '../../store/messages.ts';
import { enqueueWebhook } from '../../store/outgoing.ts';
import { addReply } from '../../store/replies.ts';
import { rotateWebhookSecret } from '../../store/webhook-secrets.ts';
import { startHouseTimer } from '../../worker/house-timer.ts';
import { createOutboundMetrics } from '../../worker/outbound-metrics.ts';
import { retryDelaysMs, startOutbound, type Outbound, type OutboundOptions } from '../../worker/outbound.ts';
import { createStage, type Stage } from '../store/stage.ts';
import { startChannelEndpoint, verifyDelivery, type ChannelEndpoint } from '../support/channel-endpoint.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { allRoom } from '../support/lane-room.ts';

const logger = createLogger(loadConfig({ LOG_LEVEL: 'silent' }), 'test');
const loopback = ['127.0.0.0/8'];

let database: TestDatabase;
let stage: Stage;
let agentId: string;
let endpoint: ChannelEndpoint;
let running: Outbound[];

beforeEach(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
  agentId = await stage.addAgent(1_000);
  endpoint = await startChannelEndpoint();
  running = [];
});
afterEach(async () => {
  await endpoint.close();
  await Promise.all(running.map((outbound) => outbound.stop()));
  await database.drop();
});

function start(more: Partial<OutboundOptions> = {}) {
  const metrics = createOutboundMetrics(createMetrics({ component: 'test' }));
  const outbound = startOutbound({
    pool: database.pool,
    logger,
    metrics,
    privateCidrs: loopback,
    retryDelaysMs: [20, 20, 20],
    graceMs: 100,
    ...more,
  });
  running.push(outbound);
  return { outbound, metrics };
}

/** A channel that is told at `url`, and its secret. */
async function addChannel(url = endpoint.url) {
  const { workspaceId } = stage;
  const key = newId();
  const made = await createChannel(database.pool, { workspaceId, key, name: 'Out', outboundUrl: url });
  if (made.kind !== 'created') throw new Error(made.kind);
  return { key, id: made.channel.id, secret: made.channel.outboundSecret! };
}

async function open(channel: string) {
  const contact = newId();
  const opened = await stage.open(contact, { channel });
  return { contact, workspaceId: stage.workspaceId, ...opened };
}

async function reply(conversationId: string, text: string): Promise<string> {
  const { workspaceId } = stage;
  const result = await addReply(database.pool, { workspaceId, conversationId, agentId, text });
  if (result.kind !== 'stored') throw new Error(result.kind);
  return result.messageId;
}

const messageOf = async (messageId: string) =>
  (await getMessage(database.pool, { workspaceId: stage.workspaceId, messageId }))!;
const stateOf = async (messageId: string) => (await messageOf(messageId)).delivery;
const untilState = (messageId: string, state: string) =>
  eventually(state, async () => (await stateOf(messageId)) === state);
const listed = (state: 'pending' | 'failed') =>
  listDeliveries(database.pool, { workspaceId: stage.workspaceId, state, after: null, limit: 100 });

test('a reply arrives once, signed, with what the channel needs, and the message says so', async () => {
  const { outbound } = start();
  const channel = await addChannel();
  const { contact, contactId, conversationId } = await open(channel.key);
  const messageId = await reply(conversationId, 'Grüße 🎉 "quoted" \\ \u0001');
  await untilState(messageId, 'delivered');
  const [taken, ...more] = endpoint.taken();
  expect(more).toEqual([]);
  verifyDelivery(taken!, channel.secret);
  expect(taken!.request).toMatchObject({ method: 'POST', headers: { 'content-type': 'application/json' } });
  expect(taken).toMatchObject({ type: 'message.outbound' });
  expect(taken!.data).toEqual({
    messageId,
    conversationId,
    contactId,
    channel: channel.key,
    contact: { externalIds: [contact] },
    text: 'Grüße 🎉 "quoted" \\ \u0001',
    sequence: 2,
    author: 'agent',
    agentId,
  });
  expect(await messageOf(messageId)).toMatchObject({ deliveredAt: expect.any(Date) });
  expect(await stage.eventsOf(conversationId)).toContain('message.delivered');
  await outbound.stop();
  expect((await database.pool.query('SELECT FROM deliveries')).rowCount).toBe(0);
});

test('a text as long as may be arrives whole', async () => {
  start();
  const { conversationId } = await open((await addChannel()).key);
  const text = '🎉'.repeat(16_384);
  await untilState(await reply(conversationId, text), 'delivered');
  expect(endpoint.texts()).toEqual([text]);
});

test('what failed is repeated under the same id, and keeps what comes later behind it', async () => {
  let failures = 2;
  endpoint.answerWith(() => (failures-- > 0 ? { status: 500 } : { status: 200 }));
  start();
  start();
  const { conversationId } = await open((await addChannel()).key);
  for (const text of ['1', '2', '3']) await reply(conversationId, text);
  await untilState(await reply(conversationId, '4'), 'delivered');
  expect(endpoint.texts()).toEqual(['1', '1', '1', '2', '3', '4']);
  expect([...endpoint.countById().values()]).toEqual([3, 1, 1, 1]);
});

test('two workers keep the order of each conversation under failures', async () => {
  const seen = new Map<string, number>();
  // Every third request fails, whatever it is.
  let count = 0;
  endpoint.answerWith(({ data }) => {
    if ((count += 1) % 3 === 0) return { status: 503 };
    seen.set(data['messageId'], seen.size);
    return { status: 204 };
  });
  start({ retryDelaysMs: Array.from({ length: 20 }, () => 5) });
  start({ retryDelaysMs: Array.from({ length: 20 }, () => 5) });
  const { key } = await addChannel();
  const conversations = await Promise.all(Array.from({ length: 5 }, () => open(key)));
  const sent = new Map<string, string[]>(conversations.map(({ conversationId }) => [conversationId, []]));
  for (let i = 0; i < 8; i += 1) {
    await Promise.all([...sent].map(async ([id, ids]) => ids.push(await reply(id, `${i}`))));
  }
  await eventually('all arrive', () => seen.size === 40);
  for (const ids of sent.values()) {
    const places = ids.map((id) => seen.get(id)!);
    expect(places).toEqual(places.toSorted((a, b) => a - b));
  }
});

test('after the last attempt it has failed, and what comes later is sent', async () => {
  endpoint.answerWith(({ data }) => ({ status: data['text'] === 'bad' ? 500 : 204 }));
  const { metrics } = start();
  const { conversationId } = await open((await addChannel()).key);
  const [bad, good] = [await reply(conversationId, 'bad'), await reply(conversationId, 'good')];
  await untilState(good, 'delivered');
  expect(endpoint.texts()).toEqual(['bad', 'bad', 'bad', 'bad', 'good']);
  expect(await messageOf(bad)).toMatchObject({
    delivery: 'failed',
    deliveryAttempts: 4,
    deliveryError: 'answered 500',
  });
  expect(await listed('failed')).toMatchObject([{ messageId: bad, attempts: 4, lastError: 'answered 500' }]);
  expect(await stage.eventsOf(conversationId)).toContain('message.delivery_failed');
  const { values } = await metrics.deliveries.get();
  expect(Object.fromEntries(values.map(({ labels, value }) => [labels.outcome, value]))).toEqual({
    delivered: 1,
    retried: 3,
    failed: 1,
  });
});

test('410 ends it at once', async () => {
  endpoint.answerWith(() => ({ status: 410 }));
  start();
  const { conversationId } = await open((await addChannel()).key);
  await untilState(await reply(conversationId, 'x'), 'failed');
  expect(endpoint.taken()).toHaveLength(1);
});

test('what failed and is retried goes before what is pending behind it', async () => {
  endpoint.answerWith(() => ({ status: 410 }));
  const { outbound } = start();
  const { conversationId } = await open((await addChannel()).key);
  const first = await reply(conversationId, 'first');
  await untilState(first, 'failed');
  await outbound.stop();
  const second = await reply(conversationId, 'second');
  const [failed] = await listed('failed');
  await retryDelivery(database.pool, { workspaceId: stage.workspaceId, deliveryId: failed!.id });
  expect(await messageOf(first)).toMatchObject({ delivery: 'pending', deliveryAttempts: 0 });
  endpoint.answerWith(() => ({ status: 204 }));
  start();
  await untilState(second, 'delivered');
  expect(endpoint.texts()).toEqual(['first', 'first', 'second']);
});

test('all that failed are retried, of one channel or of all', async () => {
  endpoint.answerWith(() => ({ status: 410 }));
  const { outbound } = start();
  const channels = [await addChannel(), await addChannel()];
  for (const { key } of channels) {
    for (let i = 0; i < 2; i += 1) await reply((await open(key)).conversationId, 'x');
  }
  await eventually('all failed', async () => (await listed('failed')).length === 4);
  await outbound.stop();
  const { workspaceId } = stage;
  expect(await retryFailedDeliveries(database.pool, { workspaceId, channelId: channels[0]!.id })).toBe(2);
  expect(await retryFailedDeliveries(database.pool, { workspaceId, channelId: null })).toBe(2);
  expect(await retryFailedDeliveries(database.pool, { workspaceId: newId(), channelId: null })).toBe(0);
  expect(await listed('pending')).toHaveLength(4);
});

test('the claims of a worker that died come back, and are sent under the same id', async () => {
  const { conversationId } = await open((await addChannel()).key);
  const messageId = await reply(conversationId, 'x');
  const options = {
    leaseMs: 300,
    maxRows: 10,
    maxRowsPerLane: 10,
    room: allRoom,
    afterLane: null,
  };
  const { claimed } = await claimDeliveries(database.pool, { ...options, claimedBy: newId() });
  expect(claimed).toHaveLength(1);
  start();
  await untilState(messageId, 'delivered');
  expect(endpoint.taken().map(({ id }) => id)).toEqual([claimed[0]!.id]);
});

test('a worker that is stopped gives back what does not end', async () => {
  endpoint.answerWith(() => 'hold');
  const { outbound } = start();
  const { conversationId } = await open((await addChannel()).key);
  const messageId = await reply(conversationId, 'x');
  await eventually('under way', () => endpoint.held === 1);
  await outbound.stop();
  expect(await messageOf(messageId)).toMatchObject({ delivery: 'pending', deliveryAttempts: 0 });
  endpoint.answerWith(() => ({ status: 204 }));
  // Long before the claim would have ended.
  const startedAt = performance.now();
  start();
  await untilState(messageId, 'delivered');
  expect(performance.now() - startedAt).toBeLessThan(10_000);
});

test('channels that do not answer hold up no other', async () => {
  const dead = await startChannelEndpoint();
  dead.answerWith(() => 'hold');
  try {
    start({ requestTimeoutMs: 60_000, leaseMs: 120_000 });
    for (let i = 0; i < 2; i += 1) {
      const { key } = await addChannel(dead.url);
      for (let j = 0; j < 20; j += 1) await reply((await open(key)).conversationId, 'dead');
    }
    await eventually('as many as may be are held', () => dead.held === 32);
    const { conversationId } = await open((await addChannel()).key);
    await untilState(await reply(conversationId, 'alive'), 'delivered');
    expect(dead.held).toBe(32);
  } finally {
    await dead.close();
  }
});

test('a busy channel keeps no other waiting for its whole queue', async () => {
  endpoint.answerWith(() => 'hold');
  const busy = await Promise.all(Array.from({ length: 8 }, () => addChannel()));
  for (const { key } of busy) {
    const conversations = await Promise.all(Array.from({ length: 20 }, () => open(key)));
    await Promise.all(conversations.map(({ conversationId }) => reply(conversationId, 'busy')));
  }
  // Made last, so the last that a claim comes to.
  const quiet = await open((await addChannel()).key);
  // None of them counts as slow, however slow the machine is.
  start({ slowMs: 60_000 });
  await eventually('there is no room', () => endpoint.held === 64);
  const messageId = await reply(quiet.conversationId, 'quiet');
  endpoint.answerWith(({ data }) => (data['text'] === 'quiet' ? { status: 204 } : 'hold'));
  // Room becomes free bit by bit: the held ones are asked again, and the first of them is answered.
  for (let answered = 0; (await stateOf(messageId)) !== 'delivered'; answered += 1) {
    expect(answered).toBeLessThan(20);
    let isFree = true;
    endpoint.answerWith(({ data }) => {
      if (data['text'] === 'quiet') return { status: 204 };
      if (!isFree) return 'hold';
      isFree = false;
      return { status: 204 };
    });
    const before = endpoint.taken().length;
    endpoint.release();
    await eventually('the next one comes', () => endpoint.taken().length > before);
  }
});

test('where many lanes wait, each poll looks at all of them, and pauses then', async () => {
  const { conversationId, contactId, workspaceId } = await open((await addChannel()).key);
  await database.pool.query(
    `INSERT INTO deliveries (id, workspace_id, contact_id, conversation_id, kind, lane, url, payload, due_at)
     SELECT gen_random_uuid(), $1, $2, gen_random_uuid(), 'webhook', gen_random_uuid(), 'https://a.example', '{}', now() + interval '1 hour'
     FROM generate_series(1, 1000)`,
    [workspaceId, contactId],
  );
  let queries = 0;
  const pool = createPool({ databaseUrl: database.url, databasePoolSize: 5 }, { applicationName: 'test' });
  pool.on('acquire', () => (queries += 1));
  const { outbound } = start({ pool });
  try {
    const startedAt = performance.now();
    await eventually('it looks again and again', () => queries > 24);
    expect(performance.now() - startedAt).toBeGreaterThan(1_000);
    await untilState(await reply(conversationId, 'x'), 'delivered');
  } finally {
    await outbound.stop();
    await pool.end();
  }
});

test('what waited for days behind one that failed is tried once, and begins anew when it is sent again by hand', async () => {
  endpoint.answerWith(() => ({ status: 500 }));
  const { conversationId, workspaceId } = await open((await addChannel()).key);
  const ids = [await reply(conversationId, 'a'), await reply(conversationId, 'b')];
  await database.pool.query(`UPDATE deliveries SET tried_since = now() - interval '3 days'`);
  start();
  await untilState(ids[1]!, 'failed');
  expect(endpoint.texts()).toEqual(['a', 'b']);
  const [failed] = await listed('failed');
  await retryDelivery(database.pool, { workspaceId, deliveryId: failed!.id });
  await untilState(ids[0]!, 'failed');
  expect(endpoint.texts()).toEqual(['a', 'b', 'a', 'a', 'a', 'a']);
});

test('what failed is kept for thirty days, or for as long as messages are', async () => {
  endpoint.answerWith(() => ({ status: 410 }));
  start();
  const { conversationId } = await open((await addChannel()).key);
  for (const days of [6, 8, 29, 31]) {
    await untilState(await reply(conversationId, `${days}`), 'failed');
    await database.pool.query(
      `UPDATE deliveries SET created_at = now() - $1::int * interval '1 day' WHERE payload -> 'data' ->> 'text' = $1::text`,
      [days],
    );
  }
  const kept = async () =>
    (
      await database.pool.query<{ text: string }>(
        `SELECT payload -> 'data' ->> 'text' AS text FROM deliveries ORDER BY position`,
      )
    ).rows.map(({ text }) => text);
  for (const [messageRetentionDays, left] of [
    [undefined, ['6', '8', '29']],
    [400, ['6', '8', '29']],
    [7, ['6']],
  ] as const) {
    const metrics = createMetrics({ component: 'test' });
    const houseTimer = startHouseTimer({ pool: database.pool, metrics, logger, maxTeams: 0, messageRetentionDays });
    try {
      await eventually('it is forgotten', async () => (await kept()).length === left.length);
    } finally {
      await houseTimer.stop();
    }
    expect(await kept()).toEqual(left);
  }
});

test('a private address is not asked unless it is allowed', async () => {
  start({ privateCidrs: [], retryDelaysMs: [] });
  const { conversationId } = await open((await addChannel()).key);
  const messageId = await reply(conversationId, 'x');
  await untilState(messageId, 'failed');
  expect(endpoint.taken()).toEqual([]);
  const deliveryError = 'is a private address that OUTBOUND_PRIVATE_CIDRS does not have';
  expect(await messageOf(messageId)).toMatchObject({ deliveryError });
});

test('an address that may never be asked fails at once and holds up nothing; a name that leads inside is tried again', async () => {
  start({ privateCidrs: [], retryDelaysMs: [60_000] });
  for (const url of [
    'http://169.254.169.254/latest',
    'http://[::1]/',
    'http://127.1/',
    'http://chat.example.com:99999/',
  ]) {
    const { conversationId } = await open((await addChannel(url)).key);
    const messageIds = [await reply(conversationId, 'one'), await reply(conversationId, 'two')];
    for (const messageId of messageIds) {
      await untilState(messageId, 'failed');
      expect(await messageOf(messageId)).toMatchObject({ deliveryAttempts: 1 });
    }
  }
  const { conversationId } = await open((await addChannel('http://localhost:1/')).key);
  const messageId = await reply(conversationId, 'x');
  await eventually('tried', async () => (await messageOf(messageId)).deliveryAttempts === 1);
  expect(await messageOf(messageId)).toMatchObject({
    delivery: 'pending',
    deliveryError: 'resolves to a private address that OUTBOUND_PRIVATE_CIDRS does not have',
  });
});

test('after a rotation both secrets sign', async () => {
  start();
  const channel = await addChannel();
  const { workspaceId } = stage;
  const rotated = await rotateChannelSecret(database.pool, { workspaceId, channelId: channel.id });
  const { conversationId } = await open(channel.key);
  await untilState(await reply(conversationId, 'x'), 'delivered');
  const [taken] = endpoint.taken();
  for (const secret of [channel.secret, rotated!.outboundSecret!]) verifyDelivery(taken!, secret);
  await database.pool.query(`UPDATE channels SET outbound_secret_at = now() - interval '25 hours'`);
  await untilState(await reply(conversationId, 'y'), 'delivered');
  expect(() => verifyDelivery(endpoint.taken()[1]!, channel.secret)).toThrow();
});

/** A reply to a channel at which nothing listens, tried once: the next attempt is a minute away. */
async function addWaitingReply() {
  start({ retryDelaysMs: [60_000, 60_000] });
  const channel = await addChannel('http://127.0.0.1:1/out');
  const { conversationId } = await open(channel.key);
  const messageId = await reply(conversationId, 'x');
  await eventually('tried', async () => (await messageOf(messageId)).deliveryAttempts === 1);
  return { channel, messageId, key: { workspaceId: stage.workspaceId, channelId: channel.id } };
}

test('what waits for a channel is tried at once where it is told another URL', async () => {
  const { channel, messageId, key } = await addWaitingReply();
  await updateChannel(database.pool, { ...key, outboundUrl: endpoint.url });
  await untilState(messageId, 'delivered');
  verifyDelivery(endpoint.taken()[0]!, channel.secret);
});

test('what waits for a channel fails at once where its URL is taken away', async () => {
  const { messageId, key } = await addWaitingReply();
  await updateChannel(database.pool, { ...key, outboundUrl: null });
  await untilState(messageId, 'failed');
  expect(await messageOf(messageId)).toMatchObject({ deliveryError: 'has no outbound URL', deliveryAttempts: 2 });
});

test('a reply on a channel without a URL is stored and waits for no delivery', async () => {
  const channel = await addChannel();
  await updateChannel(database.pool, { workspaceId: stage.workspaceId, channelId: channel.id, outboundUrl: null });
  const { conversationId } = await open(channel.key);
  expect(await stateOf(await reply(conversationId, 'y'))).toBeNull();
  expect((await database.pool.query('SELECT FROM deliveries')).rowCount).toBe(0);
});

test('a webhook of a flow is sent with the secret of the workspace, whether it was asked for or not', async () => {
  start();
  const key = await open((await addChannel()).key);
  const tell = (reason: string) =>
    transact(database.pool, async (tx) => {
      await lockContact(tx, key);
      await enqueueWebhook(tx, key, { url: `${endpoint.url}/hook?token=1`, reason, data: { branch: 'Gold' } });
    });
  await tell('routed');
  await eventually('it comes', () => endpoint.taken().length === 1);
  const secret = await rotateWebhookSecret(database.pool, key.workspaceId);
  await tell('routed');
  await eventually('it comes', () => endpoint.taken().length === 2);
  expect(verifyDelivery(endpoint.taken()[1]!, secret)).toEqual({
    type: 'flow.routed',
    timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    data: { reason: 'routed', conversationId: key.conversationId, contactId: key.contactId, branch: 'Gold' },
  });
  expect(endpoint.taken()[1]!.path).toBe('/out/hook?token=1');
});

test('a reply is on its way within milliseconds', async () => {
  start();
  const { conversationId } = await open((await addChannel()).key);
  const took: number[] = [];
  for (let i = 0; i < 9; i += 1) {
    const startedAt = performance.now();
    await reply(conversationId, `${i}`);
    await eventually('it comes', () => endpoint.taken().length === i + 1, { everyMs: 1 });
    took.push(performance.now() - startedAt);
  }
  // Each is written when the one before has come, so that polling alone would take almost its 250 ms.
  expect(took.toSorted((a, b) => a - b)[4]).toBeLessThan(200);
});

test('a claim looks at what is due, not at all that waits', async () => {
  const channel = await addChannel();
  const { conversationId, contactId, workspaceId } = await open(channel.key);
  // A channel that has been away for long: many conversations whose first was put off, and more behind them.
  await database.pool.query(
    `INSERT INTO deliveries (id, workspace_id, contact_id, conversation_id, kind, lane, message_id, channel_id, payload, due_at, attempts)
     SELECT gen_random_uuid(), $1, $2, gen_random_uuid(), 'message', $3, gen_random_uuid(), $3, '{}', now() + interval '1 hour', 3
     FROM generate_series(1, 20000)`,
    [workspaceId, contactId, channel.id],
  );
  await database.pool.query('ANALYZE deliveries');
  await reply(conversationId, 'x');
  const pool = createPool(
    { databaseUrl: database.url, databasePoolSize: 1 },
    { applicationName: 'test', hasGenericPlans: true },
  );
  try {
    const options = {
      leaseMs: 1_000,
      maxRows: 64,
      maxRowsPerLane: 16,
      room: allRoom,
      afterLane: null,
    };
    const countRead = async (): Promise<number> => {
      const { rows } = await pool.query<{ read: number }>(
        `SELECT pg_stat_get_xact_tuples_fetched('deliveries'::regclass) + pg_stat_get_xact_tuples_returned('deliveries'::regclass) AS read`,
      );
      return rows[0]!.read;
    };
    const claim = async (): Promise<number> => {
      const before = await countRead();
      const { claimed } = await claimDeliveries(pool, { ...options, claimedBy: newId() });
      expect(claimed).toHaveLength(1);
      return (await countRead()) - before;
    };
    await pool.query('BEGIN');
    expect(await claim()).toBeLessThan(100);
    await pool.query('ROLLBACK');
    // What is counted does count.
    await pool.query('BEGIN');
    await pool.query('DROP INDEX deliveries_due');
    expect(await claim()).toBeGreaterThan(10_000);
    await pool.query('ROLLBACK');
  } finally {
    await pool.end();
  }
});

test('the attempts take about three days', () => {
  const hours = retryDelaysMs.reduce((sum, ms) => sum + ms, 0) / 3_600_000;
  expect(hours).toBeGreaterThan(71);
  expect(hours).toBeLessThan(73);
});

test('a place that failed once is not forgotten behind others that failed and have nothing more to take', async () => {
  endpoint.answerWith(({ data }) => ({ status: data['text'] === 'gone' ? 410 : 200 }));
  start();
  const gone: string[] = [];
  for (let place = 0; place < 40; place += 1) {
    const { conversationId } = await open((await addChannel()).key);
    gone.push(await reply(conversationId, 'gone'));
  }
  for (const messageId of gone) await untilState(messageId, 'failed');
  let failures = 1;
  endpoint.answerWith(() => ({ status: failures-- > 0 ? 500 : 200 }));
  const { conversationId } = await open((await addChannel()).key);
  await untilState(await reply(conversationId, 'once more'), 'delivered');
});

test('places that answer slowly leave room for the others, however much they have to take', async () => {
  const slow = await Promise.all(Array.from({ length: 5 }, () => addChannel()));
  const isSlow = (key: unknown) => slow.some((channel) => channel.key === key);
  endpoint.answerWith(({ data }) => (isSlow(data['channel']) ? 'hold' : { status: 204 }));
  start({ slowMs: 50 });
  for (const { key } of slow) await reply((await open(key)).conversationId, 'first');
  await eventually('all are held', () => endpoint.held === slow.length);
  for (const { key } of slow) {
    for (let place = 0; place < 14; place += 1) await reply((await open(key)).conversationId, 'more');
  }
  await eventually('they take their half', () => endpoint.held === 32);
  await untilState(await reply((await open((await addChannel()).key)).conversationId, 'quick'), 'delivered');
  expect(endpoint.held).toBe(32);
});
