import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createChannel } from '../../store/channels.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { createTestWorkspace, startApi, type Answer, type ApiUnderTest } from './bare-api.ts';

let database: TestDatabase;
let api: ApiUnderTest;

beforeAll(async () => {
  database = await createTestDatabase();
  api = await startApi(database.pool);
});

afterAll(async () => {
  await api?.close();
  await database?.drop();
});

test('a flood while the database is held is refused with 503 before memory grows; what was answered 202 is there', async () => {
  const { pool } = database;
  const [flooding, quiet] = [await furnish(), await furnish()];
  const holder = await pool.connect();
  let flood: Promise<Answer>[] = [];
  let ofQuiet: Promise<Answer> | undefined;
  try {
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE');
    flood = Array.from({ length: 14 }, () =>
      api.call('POST', '/v1/messages/batch', {
        key: flooding.key,
        body: { messages: Array.from({ length: 100 }, createLongMessage) },
      }),
    );
    // The last batches find no room at all, and are answered while the others wait.
    const refused = await Promise.race(flood);
    expectRefusal(refused);
    const single = await api.call('POST', '/v1/messages', { key: flooding.key, body: createLongMessage() });
    expectRefusal(single);
    // Half of 64 MiB, for a workspace that floods alone.
    expect(await readHeldMiB()).toBeGreaterThan(28);
    expect(await readHeldMiB()).toBeLessThan(33);
    const before = await readHeldMiB();
    ofQuiet = api.call('POST', '/v1/messages', { key: quiet.key, body: createLongMessage() });
    await eventually('the quiet workspace is let in', async () => (await readHeldMiB()) > before);
  } finally {
    await holder.query('ROLLBACK');
    holder.release();
  }
  expect((await ofQuiet).status).toBe(202);

  const answers = await Promise.all(flood);
  const results = answers.flatMap(({ status, body }) => (status === 202 ? body.results : []));
  const stored = results.filter((result: { messageId?: string }) => result.messageId !== undefined);
  expect(stored.length).toBeGreaterThan(800);
  const { rows } = await pool.query('SELECT id FROM messages WHERE workspace_id = $1', [flooding.workspaceId]);
  expect(rows.map(({ id }) => id).toSorted()).toEqual(
    stored.map(({ messageId }: { messageId: string }) => messageId).toSorted(),
  );
  for (const answer of answers.filter(({ status }) => status !== 202)) expectRefusal(answer);
  expect(await readHeldMiB()).toBe(0);
});

async function furnish(): Promise<{ workspaceId: string; key: string }> {
  const { workspaceId, keys } = await createTestWorkspace(database.pool);
  await createChannel(database.pool, { workspaceId, key: 'chat', name: 'Chat' });
  return { workspaceId, key: keys.ingest };
}

function expectRefusal({ status, headers, body }: Answer): void {
  expect([status, headers['retry-after'], body.type]).toEqual([503, '1', 'urn:switchyard:problem:overloaded']);
}

async function readHeldMiB(): Promise<number> {
  const page = await api.metrics.registry.metrics();
  return Number(/^\S*ingest_held_bytes(?:\{[^}]*\})? (\d\S*)$/m.exec(page)?.[1]) / 1024 / 1024;
}

const createLongMessage = () => ({
  channel: 'chat',
  externalId: newId(),
  contact: { externalId: newId() },
  text: 'x'.repeat(16_000),
});
