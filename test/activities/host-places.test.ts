import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createHostPlaces } from '../../activities/host-places.ts';

let nowMs = 0;
beforeEach(() => void vi.spyOn(performance, 'now').mockImplementation(() => nowMs));
afterEach(() => void vi.restoreAllMocks());

const waiting = (waitMs: number) => ({ waitMs, signal: new AbortController().signal });
const long = 60_000;
const waitUntil = (probe: () => boolean) => vi.waitUntil(probe, { timeout: 20_000 });

test('a place is handed on in the order of coming; keys have places of their own', async () => {
  const places = createHostPlaces(1);
  const leave = await places.enter('a', waiting(long));
  const came: string[] = [];
  const second = places.enter('a', waiting(long)).then((leaveSecond) => (came.push('second'), leaveSecond));
  const third = places.enter('a', waiting(long)).then((leaveThird) => (came.push('third'), leaveThird));
  expect(await places.enter('b', waiting(long))).not.toBeNull();
  leave!();
  (await second)!();
  (await third)!();
  expect(came).toEqual(['second', 'third']);
  expect(await places.enter('a', waiting(long))).not.toBeNull();
});

test('who has waited for long enough, or gave up, has no place and keeps none from others', async () => {
  const places = createHostPlaces(1);
  const leave = await places.enter('a', waiting(long));
  expect(await places.enter('a', waiting(1))).toBeNull();
  expect(await places.enter('a', waiting(-1))).toBeNull();
  const giving = new AbortController();
  const asked = places.enter('a', { waitMs: long, signal: giving.signal });
  giving.abort();
  expect(await asked).toBeNull();
  expect(await places.enter('a', { waitMs: long, signal: giving.signal })).toBeNull();
  leave!();
  expect(await places.enter('a', waiting(1))).not.toBeNull();
});

test('a burst on a quick host waits; at a slow one only those do whose turn may come in time', async () => {
  const places = createHostPlaces(2);
  const enterAll = (count: number) => {
    const entered: ((() => void) | null)[] = [];
    for (let i = 0; i < count; i += 1) void places.enter('a', waiting(long)).then((leave) => entered.push(leave));
    return entered;
  };
  const burst = enterAll(50);
  // One after the other leaves after 10 ms, and lets another in.
  for (let i = 0; i < 48; i += 1) {
    await waitUntil(() => burst.length > i);
    nowMs += 10;
    burst[i]!();
  }
  await waitUntil(() => burst.length === 50);
  expect(burst).not.toContain(null);
  // The last two take so long that two turns would be beyond what anybody waits, which is known before they have ended.
  nowMs += 8 * long;
  const three = enterAll(3);
  await waitUntil(() => three.length > 0);
  expect(three).toEqual([null]);
  burst[48]!();
  await waitUntil(() => three.length > 1);
  expect(three).toEqual([null, expect.any(Function)]);
  burst[49]!();
  await waitUntil(() => three.length > 2);
});
