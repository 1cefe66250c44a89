import { expect, test } from 'vitest';
import { createEventStreams, type EventStreamOptions } from '../../api/event-streams.ts';
import type { EventFeed, EventRow } from '../../store/events.ts';

/** A feed in memory that counts what it is asked. */
function createFeed() {
  const events: { workspaceId: string; id: number }[] = [];
  const asked = { safeId: 0, reads: 0 };
  let broken = false;
  const readEventsUpTo: EventFeed['readEventsUpTo'] = async (workspaceId, after, upTo, limit) => {
    asked.reads += 1;
    return events
      .filter((event) => event.workspaceId === workspaceId && event.id > after && event.id <= upTo)
      .slice(0, limit) as unknown as EventRow[];
  };
  const feed: EventFeed = {
    lastId: async () => events.length,
    safeId: async () => {
      asked.safeId += 1;
      if (broken) throw new Error('the database is away');
      return events.length;
    },
    readEventsUpTo,
    readEvents: (workspaceId, after, limit) => readEventsUpTo(workspaceId, after, events.length, limit),
  };
  return {
    feed,
    asked,
    add: (workspaceId: string, count = 1) => {
      for (let n = 0; n < count; n += 1) events.push({ workspaceId, id: events.length + 1 });
    },
    setBroken: (value: boolean) => {
      broken = value;
    },
  };
}

const start = (feed: EventFeed, options: Partial<EventStreamOptions> = {}) =>
  createEventStreams({
    feed,
    formatEvent: (event) => `${event.id};`,
    onPollError: () => {},
    pollMs: 2,
    maxPageRows: 3,
    ...options,
  });

/** The text of a stream until it holds what is expected, without the line that tells the place. */
async function readUntil(stream: AsyncGenerator<string>, expected: string): Promise<string> {
  let text = '';
  while (!text.endsWith(expected)) {
    const { value, done } = await stream.next();
    if (done === true) throw new Error(`ended after ${text}`);
    if (!value.startsWith('retry:')) text += value;
  }
  return text;
}

test('a listener gets what was before, page by page, and then what comes', async () => {
  const { feed, add } = createFeed();
  add('w', 7);
  const ending = new AbortController();
  const stream = start(feed).listen('w', 2, ending.signal);
  expect((await stream.next()).value).toBe('retry: 2000\nid: 2\n\n');
  expect(await readUntil(stream, '7;')).toBe('3;4;5;6;7;');
  add('other', 2);
  add('w');
  expect(await readUntil(stream, '10;')).toBe('10;');
  ending.abort();
  expect(await stream.next()).toEqual({ value: undefined, done: true });
});

test('without a cursor only what happens from now on comes', async () => {
  const { feed, add } = createFeed();
  add('w', 3);
  const ending = new AbortController();
  const stream = start(feed).listen('w', null, ending.signal);
  expect((await stream.next()).value).toBe('retry: 2000\nid: 3\n\n');
  add('w');
  expect(await readUntil(stream, '4;')).toBe('4;');
  ending.abort();
  await stream.return();
});

test('listeners at the same place share a read, and those of a quiet workspace still get heartbeats', async () => {
  const { feed, add, asked } = createFeed();
  const streams = start(feed, { heartbeatMs: 300 });
  const listen = (workspaceId: string) => streams.listen(workspaceId, 0, new AbortController().signal);
  const listeners = Array.from({ length: 20 }, () => listen('w'));
  const quiet = listen('quiet');
  await Promise.all([...listeners, quiet].map((listener) => listener.next()));
  const heard = readUntil(quiet, ': heartbeat\n\n');
  add('w', 2);
  expect(await Promise.all(listeners.map((listener) => readUntil(listener, '2;')))).toEqual(
    listeners.map(() => '1;2;'),
  );
  // One read for the twenty; one for the quiet workspace.
  expect(asked.reads).toBeLessThanOrEqual(2);
  const busy = setInterval(() => add('w'), 1);
  expect(await heard).toBe(': heartbeat\n\n');
  clearInterval(busy);
  await streams.close();
  expect(await quiet.next()).toEqual({ value: undefined, done: true });
});

test('nobody is asked for news while nobody listens', async () => {
  const { feed, asked } = createFeed();
  const ending = new AbortController();
  const streams = start(feed);
  expect(asked.safeId).toBe(0);
  const stream = streams.listen('w', 0, ending.signal);
  await stream.next();
  const next = stream.next();
  ending.abort();
  await next;
  await streams.close();
  const askedThen = asked.safeId;
  expect(askedThen).toBeGreaterThan(0);
  await expect(streams.close()).resolves.toBeUndefined();
  expect(asked.safeId).toBe(askedThen);
});

test('listeners outlast a database that is away', async () => {
  const { feed, add, setBroken } = createFeed();
  let failures = 0;
  const ending = new AbortController();
  const streams = start(feed, {
    onPollError: () => {
      failures += 1;
      add('w');
      setBroken(false);
    },
  });
  setBroken(true);
  const stream = streams.listen('w', 0, ending.signal);
  expect(await readUntil(stream, '1;')).toBe('1;');
  expect(failures).toBe(1);
  ending.abort();
  await stream.return();
});
