import { afterAll, beforeAll, expect, test } from 'vitest';
import type pg from 'pg';
import { newId } from '../../platform/id.ts';
import { withTransaction } from '../../platform/pool.ts';
import { createEventFeed, recordEvents, type EventFeed, type NewEvent } from '../../store/events.ts';
import { createTestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterAll(() => database.drop());

const event = (place: number): NewEvent => ({
  type: 'conversation.opened',
  conversationId: newId(),
  contactId: newId(),
  data: { place },
});

const placesOf = (rows: readonly { data: Readonly<Record<string, unknown>> }[]): unknown[] =>
  rows.map((row) => row.data['place']);

/** Transactions of other databases hold the feed back as well, since transaction ids are the server's; other tests share it. */
async function waitUntilRead(feed: EventFeed, workspaceId: string, places: readonly number[]): Promise<void> {
  await eventually(`the feed has ${places.join(', ')}`, async () => {
    expect(placesOf(await feed.readEvents(workspaceId, 0, 10))).toEqual(places);
    return true;
  });
}

test('events of one write keep their order, and a cursor reads on where it stands', async () => {
  const workspaceId = newId();
  const feed = createEventFeed(database.pool, { maxWaitMs: 20_000 });
  await withTransaction(database.pool, (tx) => recordEvents(tx, workspaceId, [event(1), event(2), event(3)]));
  const first = await feed.readEvents(workspaceId, 0, 2);
  expect(placesOf(first)).toEqual([1, 2]);
  const rest = await feed.readEvents(workspaceId, first[1]!.id, 2);
  expect(placesOf(rest)).toEqual([3]);
  expect(rest[0]).toMatchObject({ type: 'conversation.opened', data: { place: 3 } });
  expect(rest[0]!.at).toBeInstanceOf(Date);
});

test('another workspace sees nothing of it', async () => {
  const feed = createEventFeed(database.pool);
  await withTransaction(database.pool, (tx) => recordEvents(tx, newId(), [event(1)]));
  expect(await feed.readEvents(newId(), 0, 10)).toEqual([]);
});

test('what is committed before the call is in the answer', async () => {
  const workspaceId = newId();
  const feed = createEventFeed(database.pool, { maxWaitMs: 20_000 });
  for (let place = 1; place <= 20; place += 1) {
    // Another caller samples at the same time: its sample may be older than this write.
    const other = feed.safeId();
    await withTransaction(database.pool, (tx) => recordEvents(tx, workspaceId, [event(place)]));
    expect(await feed.readEvents(workspaceId, 0, 100)).toHaveLength(place);
    await other;
  }
});

test('a writer with a later transaction id but an earlier event id is not passed over', async () => {
  const workspaceId = newId();
  const feed = createEventFeed(database.pool, { maxWaitMs: 50 });
  await withClients(2, async ([early, late]) => {
    await early.query('BEGIN');
    await early.query('SELECT pg_current_xact_id()');
    await late.query('BEGIN');
    await recordEvents(late, workspaceId, [event(1)]);
    await recordEvents(early, workspaceId, [event(2)]);
    await early.query('COMMIT');
    expect(await feed.readEvents(workspaceId, 0, 10)).toEqual([]);
    await late.query('COMMIT');
    await waitUntilRead(feed, workspaceId, [1, 2]);
  });
});

test('a transaction that stays open holds back only what is not yet final', async () => {
  const workspaceId = newId();
  const feed = createEventFeed(database.pool, { maxWaitMs: 50 });
  await withTransaction(database.pool, (tx) => recordEvents(tx, workspaceId, [event(1)]));
  await waitUntilRead(feed, workspaceId, [1]);
  await withClients(1, async ([open]) => {
    await open.query('BEGIN');
    await recordEvents(open, workspaceId, [event(2)]);
    await withTransaction(database.pool, (tx) => recordEvents(tx, workspaceId, [event(3)]));
    expect(placesOf(await feed.readEvents(workspaceId, 0, 10))).toEqual([1]);
    await open.query('ROLLBACK');
  });
  await waitUntilRead(feed, workspaceId, [1, 3]);
});

test('a reader that follows concurrent writers sees every event once, in order', async () => {
  const workspaceId = newId();
  const feed = createEventFeed(database.pool, { maxWaitMs: 20_000 });
  const writers = 8;
  const writesEach = 25;
  let writing = true;
  const written = Promise.all(
    Array.from({ length: writers }, async (_, writer) => {
      for (let n = 0; n < writesEach; n += 1) {
        await withTransaction(database.pool, async (tx) => {
          await recordEvents(tx, workspaceId, [event(writer * 1000 + n)]);
          await tx.query('SELECT pg_sleep($1)', [Math.random() * 0.01]);
        });
      }
    }),
  ).finally(() => {
    writing = false;
  });
  const seen: { id: number; place: unknown }[] = [];
  for (let last = false; ;) {
    const rows = await feed.readEvents(workspaceId, seen.at(-1)?.id ?? 0, 10);
    seen.push(...rows.map((row) => ({ id: row.id, place: row.data['place'] })));
    if (rows.length === 0 && last) break;
    last = !writing;
  }
  await written;
  expect(new Set(seen.map(({ place }) => place)).size).toBe(writers * writesEach);
  expect(seen).toHaveLength(writers * writesEach);
  const ids = seen.map(({ id }) => id);
  expect(ids).toEqual(ids.toSorted((a, b) => a - b));
});

async function withClients<const N extends 1 | 2>(
  count: N,
  use: (clients: N extends 1 ? [pg.PoolClient] : [pg.PoolClient, pg.PoolClient]) => Promise<void>,
): Promise<void> {
  const clients = await Promise.all(Array.from({ length: count }, () => database.pool.connect()));
  try {
    await use(clients as never);
  } finally {
    for (const client of clients) client.release(true);
  }
}
