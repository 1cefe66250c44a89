import type { LookupFunction } from 'node:net';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createBoundedLookup } from '../../platform/bounded-lookup.ts';

let nowMs = 0;
beforeEach(() => void vi.spyOn(performance, 'now').mockImplementation(() => nowMs));
afterEach(() => void vi.restoreAllMocks());

/** A resolver that answers when it is told to. */
function createResolver() {
  const underWay = new Map<string, (failed: boolean) => void>();
  const asked: string[] = [];
  const lookup: LookupFunction = (hostname, _options, callback) => {
    asked.push(hostname);
    underWay.set(hostname, (failed) => {
      if (failed) callback(Object.assign(new Error('none'), { code: 'EAI_AGAIN' }), [], 0);
      else callback(null, [{ address: '203.0.114.1', family: 4 }]);
    });
  };
  return {
    lookup,
    asked,
    answer(hostname: string, { afterMs = 0, failed = false } = {}) {
      nowMs += afterMs;
      const settle = underWay.get(hostname)!;
      underWay.delete(hostname);
      settle(failed);
    },
  };
}

function createAsker(resolver: ReturnType<typeof createResolver>, maxUnderWay = 3) {
  const bounded = createBoundedLookup(resolver.lookup, maxUnderWay);
  const told: string[] = [];
  return {
    told,
    ask(hostname: string, isWanted = () => true) {
      bounded(hostname, { all: true }, { isWanted, callback: () => void told.push(hostname) });
    },
  };
}

test('no more new names are looked up at a time than may be; the others follow in their order', () => {
  const resolver = createResolver();
  const { ask, told } = createAsker(resolver);
  for (const name of ['a', 'b', 'c', 'd']) ask(name);
  expect(resolver.asked).toEqual(['a', 'b']);
  resolver.answer('b');
  expect(resolver.asked).toEqual(['a', 'b', 'c']);
  resolver.answer('a');
  resolver.answer('c');
  resolver.answer('d');
  expect(told).toEqual(['b', 'a', 'c', 'd']);
});

test('many who want the same name take one place, and are all told', () => {
  const resolver = createResolver();
  const { ask, told } = createAsker(resolver);
  for (let i = 0; i < 5; i += 1) ask('dead');
  ask('alive');
  expect(resolver.asked).toEqual(['dead', 'alive']);
  resolver.answer('alive');
  ask('Dead');
  resolver.answer('dead');
  expect(told).toEqual(['alive', 'dead', 'dead', 'dead', 'dead', 'dead', 'Dead']);
  // It is asked anew: a name may come to mean something else.
  ask('dead');
  expect(resolver.asked).toEqual(['dead', 'alive', 'dead']);
});

test('what nobody wants any more is not looked up', () => {
  const resolver = createResolver();
  const { ask, told } = createAsker(resolver);
  let isWanted = true;
  for (const name of ['a', 'b']) ask(name);
  ask('given up', () => isWanted);
  ask('c');
  isWanted = false;
  resolver.answer('a');
  expect(resolver.asked).toEqual(['a', 'b', 'c']);
  resolver.answer('c');
  expect(told).toEqual(['a', 'c']);
});

test('names whose servers are away have one place together, whatever is new or quick goes past them', () => {
  const resolver = createResolver();
  const { ask, told } = createAsker(resolver);
  for (const name of ['away 1', 'away 2']) ask(name);
  resolver.answer('away 1', { afterMs: 12_000, failed: true });
  resolver.answer('away 2', { failed: true });
  for (const name of ['away 1', 'away 2', 'new']) ask(name);
  expect(resolver.asked.slice(2)).toEqual(['away 1', 'new']);
  resolver.answer('new');
  expect(told.at(-1)).toBe('new');
  expect(resolver.asked).toHaveLength(4);
  resolver.answer('away 1');
  expect(resolver.asked.slice(4)).toEqual(['away 2']);
});

test('a name that was quick does not wait for any number of new ones', () => {
  const resolver = createResolver();
  const { ask, told } = createAsker(resolver);
  ask('quick');
  resolver.answer('quick', { afterMs: 999 });
  for (let i = 0; i < 50; i += 1) ask(`made up ${i}`);
  ask('quick');
  expect(resolver.asked).toEqual(['quick', 'made up 0', 'made up 1', 'quick']);
  resolver.answer('quick');
  expect(told).toEqual(['quick', 'quick']);
  // It is slow as soon as its servers are away, too: from then on it has no place before others.
  ask('quick');
  resolver.answer('quick', { afterMs: 1_000 });
  ask('quick');
  expect(resolver.asked).toHaveLength(5);
});

test('a name that failed at once is neither slow nor quick; one that is quick again is no longer slow', () => {
  const resolver = createResolver();
  const { ask } = createAsker(resolver);
  ask('typo');
  resolver.answer('typo', { failed: true });
  ask('back');
  resolver.answer('back', { afterMs: 5_000 });
  ask('back');
  resolver.answer('back');
  for (const name of ['away', 'typo', 'typo 2', 'back']) ask(name);
  expect(resolver.asked.slice(3)).toEqual(['away', 'typo', 'back']);
});

test('of the names that were asked for, a bounded number is remembered', () => {
  const resolver = createResolver();
  const { ask } = createAsker(resolver);
  for (let i = 0; i <= 10_000; i += 1) {
    ask(`name ${i}`);
    resolver.answer(`name ${i}`);
  }
  for (const name of ['new 1', 'new 2', 'name 0', 'name 1']) ask(name);
  expect(resolver.asked.slice(10_001)).toEqual(['new 1', 'new 2', 'name 1']);
});
