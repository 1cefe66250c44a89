import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import {
  deleteRows,
  enqueueNudges,
  maxQueues,
  postponeRows,
  readDueRows,
  shardCount,
  shardOf,
  shardSql,
  type DueRows,
  type OutboxRow,
} from '../../store/outbox.ts';
import type { Queryable } from '../../platform/pool.ts';
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
    nudges: { busyIds: options.busy ?? [], heldRowIds: [], maxRowsPerQueue: 1_000, afterWorkspaceId: null },
    wakes: { busyIds: [], maxRowsPerShard: 1_000 },
  }).then((due) => rowsOf(due, contactId));

const rowsOf = ({ nudges, wakes }: DueRows, contactId: string): OutboxRow[] =>
  [...nudges, ...wakes].filter((row) => row.contactId === contactId).toSorted((a, b) => a.id - b.id);

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

test('a statement finds the same shard for a contact as the relay', async () => {
  const ids = Array.from({ length: 200 }, () => newId());
  const { rows } = await database.pool.query<{ id: string; shard: number }>(
    `SELECT id, ${shardSql('id')} AS shard FROM unnest($1::uuid[]) AS id`,
    [ids],
  );
  expect(rows).toEqual(ids.map((id) => ({ id, shard: shardOf(id) })));
  expect(new Set(rows.map(({ shard }) => shard)).size).toBe(shardCount);
});

test('rows that the relay has at hand are left out, and no others of their contact', async () => {
  const contactId = newId();
  await enqueue(contactId);
  const [first] = await readDue(contactId);
  await enqueue(contactId, newId());
  const both = await readDue(contactId);
  const { nudges } = await readDueRows(database.pool, {
    shards: everyShard,
    nudges: { busyIds: [], heldRowIds: [first!.id], maxRowsPerQueue: 1_000, afterWorkspaceId: null },
    wakes: { busyIds: [], maxRowsPerShard: 0 },
  });
  expect(nudges.filter((row) => row.contactId === contactId)).toEqual([both[1]]);
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
      nudges: { busyIds: [], heldRowIds: [], maxRowsPerQueue: options.maxNudges ?? 1_000, afterWorkspaceId: null },
      wakes: { busyIds: options.waking ?? [], maxRowsPerShard: options.maxWakes ?? 1_000 },
    }).then((due) => rowsOf(due, contactId));
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
  const tookMs: number[] = [];
  for (let attempt = 0; attempt < 15; attempt += 1) {
    const startedAt = performance.now();
    await postponeRows(database.pool, [id]);
    const { rows } = await database.pool.query<{ ms: number }>(
      'SELECT extract(epoch FROM due_at - now())::float8 * 1000 AS ms FROM outbox WHERE id = $1',
      [id],
    );
    delaysMs.push(rows[0]!.ms);
    tookMs.push(performance.now() - startedAt);
  }
  // Read a moment after it was written, hence a little less.
  const expected = [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, ...Array<number>(6).fill(60_000)];
  delaysMs.forEach((ms, i) => expect(ms).toBeGreaterThan(expected[i]! - tookMs[i]! - 5));
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

/** Queues of equal length, in a database of their own. */
async function fillQueues(
  workspaces: number,
  rowsEach: number,
): Promise<{ other: TestDatabase; workspaceIds: string[] }> {
  const other = await createTestDatabase();
  const workspaceIds = Array.from({ length: workspaces }, () => newId());
  await other.pool.query(
    `INSERT INTO outbox (shard, workspace_id, contact_id)
     SELECT n % 16, w, gen_random_uuid() FROM unnest($1::uuid[]) AS w CROSS JOIN generate_series(1, $2::int) AS n`,
    [workspaceIds, rowsEach],
  );
  await other.pool.query('ANALYZE outbox');
  return { other, workspaceIds };
}

test('however long the queue of one workspace is, the others are read beside it', async () => {
  const { other, workspaceIds } = await fillQueues(1, 20_000);
  try {
    const quiet = newId();
    await enqueueNudges(other.pool, [{ workspaceId: quiet, contactId: newId(), closeConversationId: null }]);
    const { nudges, afterWorkspaceId } = await readDueRows(other.pool, {
      shards: everyShard,
      nudges: { busyIds: [], heldRowIds: [], maxRowsPerQueue: 3, afterWorkspaceId: null },
      wakes: { busyIds: [], maxRowsPerShard: 0 },
    });
    expect(nudges.filter((row) => row.workspaceId === quiet)).toHaveLength(1);
    expect(nudges.filter((row) => row.workspaceId === workspaceIds[0])).toHaveLength(3 * shardCount);
    expect(afterWorkspaceId).toBeNull();
  } finally {
    await other.drop();
  }
});

test('more queues than one reading takes are all seen, a part at a time, and then from the beginning', async () => {
  const { other, workspaceIds } = await fillQueues(Math.ceil((maxQueues * 3) / shardCount), shardCount);
  try {
    const seen = new Set<number>();
    let afterWorkspaceId: string | null = null;
    let readings = 0;
    do {
      const due = await readDueRows(other.pool, {
        shards: everyShard,
        nudges: { busyIds: [], heldRowIds: [], maxRowsPerQueue: 1, afterWorkspaceId },
        wakes: { busyIds: [], maxRowsPerShard: 0 },
      });
      expect(due.nudges.length).toBeLessThanOrEqual(maxQueues);
      for (const row of due.nudges) seen.add(row.id);
      ({ afterWorkspaceId } = due);
      readings += 1;
    } while (afterWorkspaceId !== null && readings < 20);
    expect(seen.size).toBe(workspaceIds.length * shardCount);
    expect(readings).toBeLessThanOrEqual(6);
  } finally {
    await other.drop();
  }
});

test.for(['force_custom_plan', 'force_generic_plan'])(
  'a drained shard beside a long outbox is read without walking over what stands in the others (%s)',
  async (mode) => {
    const { other } = await fillQueues(3, 10_000);
    const client = await other.pool.connect();
    try {
      await client.query('DELETE FROM outbox WHERE shard = 5');
      await client.query('VACUUM ANALYZE outbox');
      await client.query(`SET plan_cache_mode = ${mode}`);
      let plan = '';
      const explaining = {
        async query({ text, values }: { text: string; values: unknown[] }) {
          const { rows } = await client.query(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${text}`, values);
          plan = JSON.stringify(rows[0]['QUERY PLAN']);
          return { rows: [] };
        },
      } as unknown as Queryable;
      const read = async (shards: readonly number[]): Promise<number> => {
        await readDueRows(explaining, {
          shards,
          nudges: { busyIds: [newId()], heldRowIds: [], maxRowsPerQueue: 16, afterWorkspaceId: null },
          wakes: { busyIds: [newId()], maxRowsPerShard: 2 },
        });
        expect(plan).not.toContain('"Seq Scan","Parallel Aware":false,"Async Capable":false,"Relation Name":"outbox"');
        expect(plan).not.toContain('outbox_pkey');
        const [{ Plan }] = JSON.parse(plan) as [{ Plan: Record<string, number> }];
        return Plan['Shared Hit Blocks']! + Plan['Shared Read Blocks']!;
      };
      expect(await read([5])).toBeLessThan(20);
      expect(await read(everyShard)).toBeLessThan(2_000);
    } finally {
      client.release(true);
      await other.drop();
    }
  },
);

test('contacts spread over all shards', () => {
  const shards = new Set(Array.from({ length: 500 }, () => shardOf(newId())));
  expect([...shards].toSorted((a, b) => a - b)).toEqual(everyShard);
});
