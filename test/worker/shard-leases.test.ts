import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadConfig } from '../../platform/config.ts';
import { createLogger } from '../../platform/logger.ts';
import { acquireLeases } from '../../store/leases.ts';
import { shardCount } from '../../store/outbox.ts';
import { createShardLeases, type ShardLeases } from '../../worker/shard-leases.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';

const logger = createLogger(loadConfig({ LOG_LEVEL: 'silent' }), 'test');
const everyShard = Array.from({ length: shardCount }, (_, shard) => shard);
let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(() => database?.drop());

const join = (): ShardLeases => createShardLeases({ pool: database.pool, owner: randomUUID(), logger });

/** Waits until the members, asked again and again as the relays do, hold every shard once and this many each. */
const untilDivided = (members: readonly ShardLeases[], counts: readonly number[]): Promise<unknown> =>
  eventually(`divided as ${counts.join()}`, async () => {
    const held = [];
    for (const member of members) held.push(await member.hold());
    const all = held.flat().toSorted((a, b) => a - b);
    const sizes = held.map((shards) => shards.length).toSorted((a, b) => b - a);
    return all.join() === everyShard.join() && sizes.join() === counts.join();
  });

test('one worker has all shards; two and three share them evenly; who leaves is replaced at once', async () => {
  const [one, two, three] = [join(), join(), join()];
  await untilDivided([one], [16]);
  await untilDivided([one, two], [8, 8]);
  await untilDivided([one, two, three], [6, 6, 4]);
  await two.release();
  await untilDivided([one, three], [8, 8]);
});

test('a shard that another process holds is left to it until its lease expires', async () => {
  const ghost = randomUUID();
  await acquireLeases(database.pool, { names: ['relay-shard/3'], owner: ghost, ttlMs: 5_000 });
  const member = join();
  expect(await member.hold()).not.toContain(3);
  await untilDivided([member], [16]);
});
