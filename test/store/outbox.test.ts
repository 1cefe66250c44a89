import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { deleteRows, enqueueNudges, postponeRows, readDueRows, shardCount, shardOf } from '../../store/outbox.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';

let database: TestDatabase;
const workspaceId = newId();
const everyShard = Array.from({ length: shardCount }, (_, shard) => shard);

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

const enqueue = (contactId: string, closeConversationId: string | null = null) =>
  enqueueNudges(database.pool, [{ workspaceId, contactId, closeConversationId }]);

const readDue = (contactId: string, options: { shards?: readonly number[]; busy?: readonly string[] } = {}) =>
  readDueRows(database.pool, {
    shards: options.shards ?? everyShard,
    nudges: { busyIds: options.busy ?? [], maxRowsPerShard: 1_000 },
    wakes: { busyIds: [], maxRowsPerShard: 1_000 },
  }).then((rows) => rows.filter((row) => row.contactId === contactId));

test('rows come in the order of writing, only to the holder of their shard, and not while their contact is being told', async () => {
  const contactId = newId();
  const conversationId = newId();
  await enqueue(contactId);
  await enqueue(contactId, conversationId);
  const rows = await readDue(contactId);
  expect(rows.map((row) => row.closeConversationId)).toEqual([null, conversationId]);
  expect(await readDue(contactId, { shards: [shardOf(contactId)] })).toEqual(rows);
  expect(await readDue(contactId, { shards: everyShard.filter((shard) => shard !== shardOf(contactId)) })).toEqual([]);
  expect(await readDue(contactId, { busy: [contactId] })).toEqual([]);
});

test('wakes are read beside nudges, each with its own limit, and not while their conversation is being woken', async () => {
  const [contactId, conversationId] = [newId(), newId()];
  await enqueue(contactId);
  const wake = `INSERT INTO outbox (shard, workspace_id, contact_id, wake_conversation_id) VALUES ($1, $2, $3, $4)`;
  await database.pool.query(wake, [shardOf(contactId), workspaceId, contactId, conversationId]);
  await enqueue(contactId, newId());
  const all = await readDue(contactId);
  expect(all.map((row) => row.wakeConversationId)).toEqual([null, conversationId, null]);
  expect(await readDue(contactId, { busy: [contactId] })).toEqual([all[1]]);
  const read = (options: { maxNudges?: number; maxWakes?: number; waking?: readonly string[] }) =>
    readDueRows(database.pool, {
      shards: [shardOf(contactId)],
      nudges: { busyIds: [], maxRowsPerShard: options.maxNudges ?? 1_000 },
      wakes: { busyIds: options.waking ?? [], maxRowsPerShard: options.maxWakes ?? 1_000 },
    }).then((rows) => rows.filter((row) => row.contactId === contactId));
  expect(await read({ maxNudges: 0 })).toEqual([all[1]]);
  expect(await read({ maxWakes: 0 })).toEqual([all[0], all[2]]);
  expect(await read({ waking: [conversationId] })).toEqual([all[0], all[2]]);
});

test('deleting is by id: a row written meanwhile is still to be sent', async () => {
  const contactId = newId();
  await enqueue(contactId);
  const rows = await readDue(contactId);
  await enqueue(contactId);
  await deleteRows(
    database.pool,
    rows.map((row) => row.id),
  );
  expect(await readDue(contactId)).toHaveLength(1);
});

test('a row that is put off comes back later, each time after twice the time, a minute at most', async () => {
  const contactId = newId();
  await enqueue(contactId);
  const [{ id } = { id: 0 }] = await readDue(contactId);
  const delaysMs: number[] = [];
  for (let attempt = 0; attempt < 15; attempt += 1) {
    await postponeRows(database.pool, [id]);
    const { rows } = await database.pool.query<{ ms: number }>(
      'SELECT extract(epoch FROM due_at - now())::float8 * 1000 AS ms FROM outbox WHERE id = $1',
      [id],
    );
    delaysMs.push(rows[0]!.ms);
  }
  // Read a moment after it was written, hence a little less.
  const expected = [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, ...Array<number>(6).fill(60_000)];
  delaysMs.forEach((ms, i) => expect(ms).toBeGreaterThan(expected[i]! - 150));
  delaysMs.forEach((ms, i) => expect(ms).toBeLessThanOrEqual(expected[i]!));
  expect(await readDue(contactId)).toEqual([]);
});

test('a row that was put off is due again when its time has come', async () => {
  const contactId = newId();
  await enqueue(contactId);
  const [row] = await readDue(contactId);
  await postponeRows(database.pool, [row!.id]);
  const [again] = await eventually('due again', async () => {
    const rows = await readDue(contactId);
    return rows.length > 0 && rows;
  });
  expect(again).toEqual({ ...row, attempts: 1 });
});

test('contacts spread over all shards', () => {
  const shards = new Set(Array.from({ length: 500 }, () => shardOf(newId())));
  expect([...shards].toSorted((a, b) => a - b)).toEqual(everyShard);
});
