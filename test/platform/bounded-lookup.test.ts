import type { LookupFunction } from 'node:net';
import { expect, test } from 'vitest';
import { createBoundedLookup } from '../../platform/bounded-lookup.ts';

/** A resolver that answers when it is told to. */
function createResolver() {
  const underWay = new Map<string, () => void>();
  const asked: string[] = [];
  const lookup: LookupFunction = (hostname, _options, callback) => {
    asked.push(hostname);
    underWay.set(hostname, () => callback(null, [{ address: '203.0.114.1', family: 4 }]));
  };
  return {
    lookup,
    asked,
    answer(hostname: string) {
      const settle = underWay.get(hostname)!;
      underWay.delete(hostname);
      settle();
    },
  };
}

function createAsker(resolver: ReturnType<typeof createResolver>) {
  const bounded = createBoundedLookup(resolver.lookup, 2);
  const told: string[] = [];
  return {
    told,
    ask(hostname: string, isWanted = () => true) {
      bounded(hostname, { all: true }, { isWanted, callback: () => void told.push(hostname) });
    },
  };
}

test('no more names are looked up at a time than may be; the others follow in their order', () => {
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
