import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { acquireLeases, readLeases, releaseLeases } from '../../store/leases.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

const acquire = (owner: string, names: readonly string[], ttlMs = 60_000) =>
  acquireLeases(database.pool, { names, owner, ttlMs }).then((held) => held.toSorted());

test('of many who ask at once, one gets each lease', async () => {
  const names = ['race/1', 'race/2', 'race/3'];
  const held = await Promise.all(Array.from({ length: 10 }, () => acquire(randomUUID(), names)));
  expect(held.flat().toSorted()).toEqual(names);
});

test('the owner renews, others get nothing until it gives back', async () => {
  const [one, two] = [randomUUID(), randomUUID()];
  expect(await acquire(one, ['keep'])).toEqual(['keep']);
  expect(await acquire(one, ['keep'])).toEqual(['keep']);
  expect(await acquire(two, ['keep', 'other'])).toEqual(['other']);
  await releaseLeases(database.pool, { names: ['keep'], owner: two });
  expect(await acquire(two, ['keep'])).toEqual([]);
  await releaseLeases(database.pool, { names: ['keep'], owner: one });
  expect(await acquire(two, ['keep'])).toEqual(['keep']);
});

test('an expired lease is nobody’s, and free for the next', async () => {
  const [dead, next] = [randomUUID(), randomUUID()];
  await acquire(dead, ['brief/1'], 100);
  await eventually('it expires', async () => (await readLeases(database.pool, 'brief/')).length === 0);
  expect(await acquire(next, ['brief/1'])).toEqual(['brief/1']);
  expect(await readLeases(database.pool, 'brief/')).toEqual([{ name: 'brief/1', owner: next }]);
  expect(await acquire(dead, ['brief/1'])).toEqual([]);
});
