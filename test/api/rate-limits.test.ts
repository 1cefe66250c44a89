import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createRateBuckets } from '../../api/rate-limits.ts';
import { newId } from '../../platform/id.ts';
import { createChannel } from '../../store/channels.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createTestWorkspace, startApi, type ApiUnderTest } from './bare-api.ts';

describe('a bucket of tokens', () => {
  it('holds a burst, fills with time, and tells how long to wait', () => {
    let time = 0;
    const buckets = createRateBuckets({ perSecond: 10, burst: 20, now: () => time });
    expect(buckets.take('a', 20)).toMatchObject({ isTaken: true, remaining: 0, resetSeconds: 2 });
    expect(buckets.take('a', 5)).toMatchObject({ isTaken: false, remaining: 0, retryAfterSeconds: 1 });
    expect(buckets.take('a', 15)).toMatchObject({ isTaken: false, retryAfterSeconds: 2 });
    expect(buckets.take('b', 1)).toMatchObject({ isTaken: true, remaining: 19 });
    time = 500;
    expect(buckets.take('a', 5)).toMatchObject({ isTaken: true, remaining: 0 });
    time = 1_000_000;
    expect(buckets.take('a', 21)).toMatchObject({ isTaken: false, remaining: 20 });
  });

  it('takes for a batch in place of what its request took, and nothing when it is refused', () => {
    let time = 0;
    const buckets = createRateBuckets({ perSecond: 1, burst: 500, now: () => time });
    buckets.take('a', 500);
    for (let tries = 0; tries < 3; tries += 1) {
      time += 1_000;
      expect(buckets.take('a', 1).isTaken).toBe(true);
      expect(buckets.takeInstead('a', 1, 500)).toMatchObject({ isTaken: false, retryAfterSeconds: 499 - tries });
    }
    time += 497_000;
    expect(buckets.take('a', 1).isTaken).toBe(true);
    expect(buckets.takeInstead('a', 1, 500)).toMatchObject({ isTaken: true, remaining: 0 });
  });

  it('forgets who has a full bucket, and nobody else', () => {
    let time = 0;
    const buckets = createRateBuckets({ perSecond: 1, burst: 5, maxKeys: 2, now: () => time });
    buckets.take('old', 1);
    time = 2_000;
    buckets.take('new', 5);
    expect(buckets.take('newest', 1).isTaken).toBe(true);
    expect(buckets.take('new', 1).isTaken).toBe(false);
  });
});

describe('an API that limits the rate of a key', () => {
  let database: TestDatabase;
  let api: ApiUnderTest;

  beforeAll(async () => {
    database = await createTestDatabase();
    api = await startApi(database.pool, { RATE_LIMIT_PER_SECOND: '1', RATE_LIMIT_BURST: '500' });
  });

  afterAll(async () => {
    await api?.close();
    await database?.drop();
  });

  it('counts the messages of a batch, refuses what is too much whole, and does nothing of it', async () => {
    const { workspaceId, keys } = await createTestWorkspace(database.pool);
    await createChannel(database.pool, { workspaceId, key: 'chat', name: 'Chat' });
    const write = (count: number) =>
      api.call('POST', '/v1/messages/batch', {
        key: keys.ingest,
        body: { messages: Array.from({ length: count }, createMessage) },
      });
    const taken = await write(300);
    expect([taken.status, taken.headers['ratelimit-limit']]).toEqual([202, '500']);
    expect(Number(taken.headers['ratelimit-remaining'])).toBeLessThan(210);

    const refused = await write(400);
    expect(refused.status).toBe(429);
    expect(refused.body).toMatchObject({ type: 'urn:switchyard:problem:rate_limited', retryable: true });
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(100);
    expect(Number(refused.headers['ratelimit-reset'])).toBeGreaterThan(200);
    // A token a second: what is missing of the batch is as many seconds, and repetitions do not make it more.
    let missing = 400 - Number(refused.headers['ratelimit-remaining']);
    expect(Number(refused.headers['retry-after'])).toBe(missing);
    for (let tries = 0; tries < 5; tries += 1) {
      const { status, headers } = await write(400);
      expect([status, headers['retry-after']]).toEqual([429, String(400 - Number(headers['ratelimit-remaining']))]);
      expect(Number(headers['retry-after'])).toBeLessThanOrEqual(missing);
      missing = Number(headers['retry-after']);
    }
    const { rows } = await database.pool.query('SELECT count(*) FROM messages WHERE workspace_id = $1', [workspaceId]);
    expect(rows).toEqual([{ count: 300 }]);

    // Another key has its own.
    const other = await api.call('POST', '/v1/messages', { key: keys.admin, body: createMessage() });
    expect(other.status).toBe(202);
    expect(await api.metrics.registry.metrics()).toMatch(/rate_limited_total\{[^}]*\} 6\n/);
  });

  it('refuses single requests when the bucket is empty, before it reads their body', async () => {
    const { keys } = await createTestWorkspace(database.pool);
    const messages = Array.from({ length: 500 }, createMessage);
    // None of them names a channel that exists: they count nevertheless.
    const emptied = await api.call('POST', '/v1/messages/batch', { key: keys.ingest, body: { messages } });
    expect(emptied.status).toBe(202);
    const json = { 'content-type': 'application/json' };
    const answers = await Promise.all(
      Array.from({ length: 50 }, () =>
        api.call('POST', '/v1/messages', { key: keys.ingest, body: '{', headers: json }),
      ),
    );
    const refused = answers.filter(({ status }) => status === 429);
    // The bucket fills while it is asked: the few others were read, and found to be no JSON.
    expect(refused.length).toBeGreaterThan(20);
    for (const { headers } of refused) expect(headers['retry-after']).toBe('1');
    expect((await api.call('GET', '/healthz')).status).toBe(200);
  });
});

const createMessage = () => ({ channel: 'chat', externalId: newId(), contact: { externalId: newId() }, text: 'Hello' });
