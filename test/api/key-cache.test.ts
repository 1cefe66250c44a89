import { expect, test } from 'vitest';
import { createKeyCache } from '../../api/key-cache.ts';
import { hashSecret, type StoredKey } from '../../store/keys.ts';

const secret = 's'.repeat(43);
const id = 'a'.repeat(20);
const key = `sy_${id}_${secret}`;

test('a key is looked up once, then trusted for its time', async () => {
  const { cache, stored, lookups, pass } = createScene();
  expect(await cache.authenticate(key)).toEqual({ workspaceId: 'w', scope: 'agent', keyId: id, agentId: 'g' });
  pass(4_999);
  expect(await cache.authenticate(key)).not.toBeNull();
  expect(lookups).toEqual([id]);
  stored.set(id, { ...stored.get(id)!, revokedAt: new Date() });
  pass(1);
  expect(await cache.authenticate(key)).toBeNull();
  expect(lookups).toEqual([id, id]);
});

test('a wrong secret is refused, and costs no further lookup', async () => {
  const { cache, lookups } = createScene();
  expect(await cache.authenticate(`sy_${id}_${'t'.repeat(43)}`)).toBeNull();
  expect(await cache.authenticate(key)).not.toBeNull();
  expect(lookups).toEqual([id]);
});

test('what is no key is refused without a lookup', async () => {
  const { cache, lookups } = createScene();
  for (const text of ['', 'x', `${key}x`, key.toUpperCase(), `sy_${id}_`, `sy__${secret}`]) {
    expect(await cache.authenticate(text), text).toBeNull();
  }
  expect(lookups).toEqual([]);
});

test('an unknown key is remembered as such for a second', async () => {
  const { cache, lookups, pass } = createScene();
  const unknown = `sy_${'b'.repeat(20)}_${secret}`;
  expect(await cache.authenticate(unknown)).toBeNull();
  pass(999);
  expect(await cache.authenticate(unknown)).toBeNull();
  expect(lookups.length).toBe(1);
  pass(1);
  expect(await cache.authenticate(unknown)).toBeNull();
  expect(lookups.length).toBe(2);
});

test('requests at the same time share one lookup', async () => {
  const { cache, lookups } = createScene();
  const answers = await Promise.all(Array.from({ length: 100 }, () => cache.authenticate(key)));
  expect(answers.every((principal) => principal?.workspaceId === 'w')).toBe(true);
  expect(lookups).toEqual([id]);
});

test('a lookup that failed is neither remembered nor taken for an unknown key', async () => {
  const { cache, fail } = createScene();
  fail(new Error('away'));
  await expect(cache.authenticate(key)).rejects.toThrow('away');
  fail(null);
  expect(await cache.authenticate(key)).not.toBeNull();
});

test('guessing ids does not make the cache grow: the oldest entry leaves', async () => {
  const { cache, lookups } = createScene({ maxEntries: 2 });
  await cache.authenticate(key);
  for (const letter of ['c', 'd']) await cache.authenticate(`sy_${letter.repeat(20)}_${secret}`);
  await cache.authenticate(`sy_${'d'.repeat(20)}_${secret}`);
  await cache.authenticate(key);
  expect(lookups.map((looked) => looked[0])).toEqual(['a', 'c', 'd', 'a']);
});

function createScene({ maxEntries = 100 } = {}) {
  const stored = new Map<string, StoredKey>([
    [id, { id, workspaceId: 'w', scope: 'agent', agentId: 'g', secretHash: hashSecret(secret), revokedAt: null }],
  ]);
  const lookups: string[] = [];
  let clockMs = 0;
  let failure: Error | null = null;
  const cache = createKeyCache({
    findKey: async (wanted) => {
      lookups.push(wanted);
      if (failure !== null) throw failure;
      return stored.get(wanted) ?? null;
    },
    maxEntries,
    now: () => clockMs,
  });
  return {
    cache,
    stored,
    lookups,
    pass: (durationMs: number) => (clockMs += durationMs),
    fail: (error: Error | null) => (failure = error),
  };
}
