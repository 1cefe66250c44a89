import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BatcherClosedError, QueueFullError, createMicroBatcher } from '../../platform/micro-batcher.ts';
import type { FlushStats, MicroBatcherOptions, Outcome } from '../../platform/micro-batcher.ts';

interface Item {
  readonly key: string;
  readonly n: number;
}

type Options = Partial<MicroBatcherOptions<Item, string>>;

describe('the micro-batcher', () => {
  it('gives each item its own outcome', async () => {
    const batcher = createBatcher({
      flush: async (items) =>
        items.map((item) => (item.n === 1 ? { ok: false, error: new Error('odd one') } : succeed(item))),
    });
    const results = await Promise.allSettled([0, 1, 2].map((n) => batcher.add({ key: `k${n}`, n })));
    expect(results).toMatchObject([
      { status: 'fulfilled', value: 'k0:0' },
      { status: 'rejected', reason: { message: 'odd one' } },
      { status: 'fulfilled', value: 'k2:2' },
    ]);
  });

  it('sends what comes together in one flight, items of the same key in order', async () => {
    const flights: Item[][] = [];
    const batcher = createBatcher({ flush: recordInto(flights) });
    await addAll(batcher, [item('a', 1), item('b', 1), item('a', 2), item('a', 3)]);
    expect(flights).toEqual([[item('a', 1), item('a', 2), item('a', 3), item('b', 1)]]);
  });

  it('flushes after maxWaitMs, long before the batch is full', async () => {
    const batcher = createBatcher({ maxRows: 1_000_000, maxWaitMs: 5 });
    await expect(batcher.add(item('a', 1))).resolves.toBe('a:1');
  });

  it('flushes at once when maxRows are there, and never more than maxRows', async () => {
    const flights: Item[][] = [];
    const batcher = createBatcher({ maxRows: 3, maxWaitMs: 60_000, flush: recordInto(flights) });
    await addAll(batcher, [item('a', 1), item('b', 1), item('c', 1), item('d', 1), item('e', 1), item('f', 1)]);
    expect(flights.map((flight) => flight.map(({ key }) => key).join(''))).toEqual(['abc', 'def']);
  });

  it('splits what one key brings over several flights', async () => {
    const flights: Item[][] = [];
    const batcher = createBatcher({ maxRows: 3, flush: recordInto(flights) });
    await addAll(
      batcher,
      Array.from({ length: 8 }, (_, n) => item('hot', n)),
    );
    expect(flights.map((flight) => flight.map(({ n }) => n))).toEqual([
      [0, 1, 2],
      [3, 4, 5],
      [6, 7],
    ]);
  });

  it('keeps a key in one flight: what comes meanwhile leaves with the next, in order', async () => {
    const gate = createGate();
    const batcher = createBatcher({ maxWaitMs: 0, maxRows: 2, flush: gate.flush });
    const added = addAll(batcher, [item('a', 1), item('a', 2), item('a', 3)]);
    const later = [batcher.add(item('a', 4)), batcher.add(item('b', 1)), batcher.add(item('b', 2))];
    await gate.waitForFlights(2);
    expect(gate.flights).toEqual([
      [item('a', 1), item('a', 2)],
      [item('b', 1), item('b', 2)],
    ]);
    gate.release(0);
    await gate.waitForFlights(3);
    expect(gate.flights[2]).toEqual([item('a', 3), item('a', 4)]);
    gate.releaseAll();
    await Promise.all([added, ...later]);
  });

  it('lets what waited for its key’s flight leave when that lands, without waiting for company', async () => {
    const gate = createGate();
    const batcher = createBatcher({ maxWaitMs: 60_000, maxRows: 2, flush: gate.flush });
    const first = addAll(batcher, [item('a', 1), item('a', 2)]);
    await gate.waitForFlights(1);
    const parked = batcher.add(item('a', 3));
    gate.releaseAll();
    await expect(parked).resolves.toBe('a:3');
    await first;
  });

  it('has at most maxInFlight under way and lets batches grow meanwhile', async () => {
    const gate = createGate();
    const batcher = createBatcher({ maxWaitMs: 0, maxInFlight: 2, maxRows: 10, flush: gate.flush });
    const first = batcher.add(item('a', 1));
    await gate.waitForFlights(1);
    const second = batcher.add(item('b', 1));
    await gate.waitForFlights(2);
    // A full batch would leave within add(), were there a free place.
    const waiting = Array.from({ length: 10 }, (_, n) => batcher.add(item(`w${n}`, n)));
    expect(gate.flights).toHaveLength(2);
    expect(batcher.queued).toBe(10);
    gate.release(1);
    await gate.waitForFlights(3);
    expect(gate.flights[2]).toHaveLength(10);
    gate.releaseAll();
    await Promise.all([first, second, ...waiting]);
  });

  it('isolates a poisoned item: only its own promise rejects', async () => {
    const stats: FlushStats[] = [];
    const flights: Item[][] = [];
    const record = recordInto(flights);
    const batcher = createBatcher({
      flush: async (items) => {
        const outcomes = await record(items);
        if (items.some(({ n }) => n === 13)) throw new Error('poison');
        return outcomes;
      },
      onFlush: (flush) => stats.push(flush),
    });
    const results = await Promise.allSettled(
      [item('a', 1), item('a', 13), item('a', 2), item('b', 1)].map(batcher.add.bind(batcher)),
    );
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
    expect(flights.slice(1)).toEqual([[item('a', 1)], [item('a', 13)], [item('a', 2)], [item('b', 1)]]);
    expect(stats).toMatchObject([{ rows: 4, failedRows: 1, isolated: true, queued: 0 }]);
  });

  it('fails all at once, without trying each, when the error is surely no item’s', async () => {
    let flushes = 0;
    const batcher = createBatcher({
      isIsolatable: (error) => !String(error).includes('unreachable'),
      flush: async (items) => {
        flushes += 1;
        throw new Error(flushes === 1 && items.length === 5 ? 'some row' : 'unreachable');
      },
    });
    const results = await Promise.allSettled([1, 2, 3, 4, 5].map((n) => batcher.add(item(`k${n}`, n))));
    expect(results.map(({ status }) => status)).toEqual(Array(5).fill('rejected'));
    expect(flushes).toBe(2);
  });

  it('stops trying one by one after three in a row that others hold up', async () => {
    const tried: string[] = [];
    const batcher = createBatcher({
      isHeldUp: (error) => String(error).includes('held'),
      flush: async ([first, ...others]) => {
        if (others.length > 0) throw new Error('held');
        tried.push(first!.key);
        // The third is free: what is held up after it counts anew.
        if (first!.key === 'k3') return [succeed(first!)];
        throw new Error('held');
      },
    });
    const results = await Promise.allSettled([1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => batcher.add(item(`k${n}`, n))));
    expect(tried).toEqual(['k1', 'k2', 'k3', 'k4', 'k5', 'k6']);
    expect(results.map(({ status }) => status === 'fulfilled')).toEqual(
      [1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => n === 3),
    );
  });

  it('rejects the items of a flush that answers for another number of items, and goes on', async () => {
    let broken = true;
    const batcher = createBatcher({ flush: async (items) => (broken ? [] : items.map(succeed)) });
    await expect(batcher.add(item('a', 1))).rejects.toThrow('test: 0 outcomes for 1 items');
    broken = false;
    await expect(batcher.add(item('a', 2))).resolves.toBe('a:2');
  });

  it('refuses at once over maxQueued, and takes items again when there is room', async () => {
    const gate = createGate();
    const batcher = createBatcher({ maxWaitMs: 0, maxRows: 1, maxInFlight: 1, maxQueued: 2, flush: gate.flush });
    const accepted = [1, 2, 3].map((n) => batcher.add(item(`k${n}`, n)));
    await expect(batcher.add(item('k4', 4))).rejects.toBeInstanceOf(QueueFullError);
    gate.release(0);
    await gate.waitForFlights(2);
    accepted.push(batcher.add(item('k5', 5)));
    gate.releaseAll();
    await expect(Promise.all(accepted)).resolves.toHaveLength(4);
  });

  it('drains on close, parked items included, without waiting for the timer, and refuses new ones', async () => {
    const gate = createGate();
    const batcher = createBatcher({ maxWaitMs: 60_000, maxRows: 2, flush: gate.flush });
    const added = [item('a', 1), item('a', 2), item('a', 3), item('b', 1)].map((entry) => batcher.add(entry));
    let closed = false;
    const closing = batcher.close().then(() => {
      closed = true;
    });
    await expect(batcher.add(item('c', 1))).rejects.toBeInstanceOf(BatcherClosedError);
    expect(closed).toBe(false);
    gate.releaseAll();
    await expect(Promise.all(added)).resolves.toEqual(['a:1', 'a:2', 'a:3', 'b:1']);
    await closing;
    await expect(batcher.close()).resolves.toBeUndefined();
  });

  it('does not wait for company on close', async () => {
    const batcher = createBatcher({ maxWaitMs: 60_000 });
    const added = batcher.add(item('a', 1));
    await batcher.close();
    await expect(added).resolves.toBe('a:1');
  });

  it('closes at once when it is empty', async () => {
    await expect(createBatcher({}).close()).resolves.toBeUndefined();
  });

  it('holds all its rules under load: order per key, one flight per key, limits, nothing lost', async () => {
    const flyingKeys = new Set<string>();
    const lastSeen = new Map<string, number>();
    const broken: string[] = [];
    let flights = 0;
    const batcher = createBatcher({
      maxRows: 50,
      maxInFlight: 3,
      maxQueued: 100_000,
      flush: async (items) => {
        flights += 1;
        const keys = new Set(items.map(({ key }) => key));
        if (flights > 3) broken.push('too many flights');
        if (items.length > 50) broken.push('too many rows');
        for (const key of keys) if (flyingKeys.has(key)) broken.push(`${key} in two flights`);
        for (const key of keys) flyingKeys.add(key);
        for (const { key, n } of items) {
          if (n !== (lastSeen.get(key) ?? -1) + 1) broken.push(`${key} out of order`);
          lastSeen.set(key, n);
        }
        await new Promise((resolve) => setTimeout(resolve, items.length % 3));
        for (const key of keys) flyingKeys.delete(key);
        flights -= 1;
        return items.map(succeed);
      },
    });
    const added: Promise<string>[] = [];
    for (let n = 0; n < 4_000; n += 1) {
      // One key gets half of everything; the others come and go.
      added.push(batcher.add(item('hot', n)), batcher.add(item(`k${n % 400}`, Math.floor(n / 400))));
      if (n % 200 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await expect(Promise.all(added)).resolves.toHaveLength(8_000);
    expect(broken).toEqual([]);
  });

  it('lets groups take turns: a quiet one leaves with the next flight, whatever a loud one has queued before it', async () => {
    const gate = createGate();
    const batcher = createBatcher({ maxRows: 10, maxInFlight: 1, groupOf: ({ key }) => key[0]!, flush: gate.flush });
    const added = Array.from({ length: 100 }, (_, n) => batcher.add(item(`loud${n}`, n)));
    added.push(batcher.add(item('quiet1', 1)), batcher.add(item('quiet2', 1)));
    gate.release(0);
    await gate.waitForFlights(2);
    expect(gate.flights[1]!.map(({ key }) => key[0]).join('')).toBe('llllllllqq');
    gate.releaseAll();
    await Promise.all(added);
  });

  it('keeps room for others when one group floods', async () => {
    const gate = createGate();
    const batcher = createBatcher({
      maxRows: 1,
      maxInFlight: 1,
      maxQueued: 10,
      groupOf: ({ key }) => key[0]!,
      flush: gate.flush,
    });
    const results = Array.from({ length: 30 }, (_, n) => batcher.add(item(`loud${n}`, n)));
    const settled = Promise.allSettled(results);
    const quiet = [batcher.add(item('quiet1', 1)), batcher.add(item('quiet2', 1))];
    gate.releaseAll();
    const taken = (await settled).filter(({ status }) => status === 'fulfilled');
    // One flies, and half of what may wait does.
    expect(taken).toHaveLength(6);
    await expect(Promise.all(quiet)).resolves.toEqual(['quiet1:1', 'quiet2:1']);
  });

  it('bounds what it holds by bytes, those in flight included, and flights too', async () => {
    const gate = createGate();
    const batcher = createBatcher({
      maxInFlight: 1,
      maxWaitMs: 0,
      maxHeldBytes: 100,
      maxFlightBytes: 50,
      bytesOf: ({ n }) => n,
      flush: gate.flush,
    });
    const taken = [item('a', 40), item('b', 30), item('c', 30)].map((entry) => batcher.add(entry));
    await expect(batcher.add(item('d', 1))).rejects.toBeInstanceOf(QueueFullError);
    await gate.waitForFlights(1);
    expect(gate.flights[0]!.map(({ key }) => key)).toEqual(['a', 'b']);
    expect([batcher.heldBytes, batcher.queued]).toEqual([100, 1]);
    gate.releaseAll();
    await Promise.all(taken);
    expect(batcher.heldBytes).toBe(0);
    // What is larger than all there may be would else be refused for ever.
    await expect(batcher.add(item('e', 1_000))).resolves.toBe('e:1000');
  });

  it('sends what comes in one turn of the event loop together, without a timer, when nothing is to be waited for', async () => {
    const flights: Item[][] = [];
    const batcher = createBatcher({ maxWaitMs: 0, flush: recordInto(flights) });
    const added = addAll(batcher, [item('a', 1), item('b', 1)]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(flights).toEqual([[item('a', 1), item('b', 1)]]);
    await added;
  });

  it('keeps order and fairness for any arrivals of any groups', async () => {
    const arrival = fc.record({ group: fc.nat(4), lane: fc.nat(3), count: fc.integer({ min: 1, max: 12 }) });
    const property = async (arrivals: { group: number; lane: number; count: number }[], maxRows: number) => {
      const broken: string[] = [];
      const waiting = new Map<string, number>();
      const seen = new Map<string, number>();
      const flying = new Set<string>();
      const groupOf = ({ key }: Item): string => key.split('/')[0]!;
      const batcher = createBatcher({
        maxRows,
        maxInFlight: 2,
        maxWaitMs: 0,
        groupOf,
        flush: async (items) => {
          const keys = new Set(items.map(({ key }) => key));
          // Of what may leave, each group gets its even share, or all that it has.
          const ready = new Map<string, number>();
          for (const [key, rows] of waiting) {
            if (rows > 0 && !flying.has(key)) {
              ready.set(key.split('/')[0]!, (ready.get(key.split('/')[0]!) ?? 0) + rows);
            }
          }
          for (const [group, rows] of ready) {
            const got = items.filter((entry) => groupOf(entry) === group).length;
            if (ready.size <= maxRows && got < Math.min(rows, Math.floor(maxRows / ready.size)))
              broken.push(`${group}: ${got}`);
          }
          for (const { key, n } of items) {
            if (n !== (seen.get(key) ?? -1) + 1) broken.push(`${key} out of order`);
            seen.set(key, n);
            waiting.set(key, waiting.get(key)! - 1);
          }
          for (const key of keys) {
            if (flying.has(key)) broken.push(`${key} in two flights`);
            flying.add(key);
          }
          await new Promise((resolve) => setImmediate(resolve));
          for (const key of keys) flying.delete(key);
          return items.map(succeed);
        },
      });
      const numbers = new Map<string, number>();
      const added: Promise<string>[] = [];
      for (const { group, lane, count } of arrivals) {
        const key = `${group}/${lane}`;
        for (let step = 0; step < count; step += 1) {
          const n = numbers.get(key) ?? 0;
          numbers.set(key, n + 1);
          waiting.set(key, (waiting.get(key) ?? 0) + 1);
          added.push(batcher.add(item(key, n)));
        }
        if (count % 5 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all(added);
      expect(broken).toEqual([]);
      expect([batcher.queued, batcher.heldBytes]).toEqual([0, 0]);
    };
    await fc.assert(fc.asyncProperty(fc.array(arrival, { maxLength: 60 }), fc.integer({ min: 1, max: 20 }), property));
  });
});

function createBatcher(options: Options) {
  return createMicroBatcher<Item, string>({
    name: 'test',
    keyOf: ({ key }) => key,
    flush: async (items) => items.map(succeed),
    ...options,
  });
}

function item(key: string, n: number): Item {
  return { key, n };
}

function succeed({ key, n }: Item): Outcome<string> {
  return { ok: true, value: `${key}:${n}` };
}

function addAll(batcher: ReturnType<typeof createBatcher>, items: Item[]): Promise<string[]> {
  return Promise.all(items.map((entry) => batcher.add(entry)));
}

function recordInto(flights: Item[][]) {
  return async (items: Item[]): Promise<Outcome<string>[]> => {
    flights.push(items);
    return items.map(succeed);
  };
}

/** A flush that lands only when the test says so. */
function createGate() {
  const flights: Item[][] = [];
  const landings: (() => void)[] = [];
  let open = false;
  return {
    flights,
    async flush(items: Item[]): Promise<Outcome<string>[]> {
      flights.push(items);
      if (!open) await new Promise<void>((resolve) => landings.push(resolve));
      return items.map(succeed);
    },
    release(flight: number) {
      landings[flight]!();
    },
    releaseAll() {
      open = true;
      for (const land of landings) land();
    },
    async waitForFlights(count: number) {
      await expect.poll(() => flights.length, { interval: 1 }).toBeGreaterThanOrEqual(count);
    },
  };
}
