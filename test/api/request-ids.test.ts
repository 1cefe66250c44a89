import { Writable } from 'node:stream';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createChannel } from '../../store/channels.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createTestWorkspace, createUnreachablePool, startApi, type ApiUnderTest } from './bare-api.ts';

let database: TestDatabase;
let api: ApiUnderTest;
const lines: Record<string, unknown>[] = [];
const log = new Writable({
  write(line, _encoding, done) {
    lines.push(JSON.parse(String(line)));
    done();
  },
});

beforeAll(async () => {
  database = await createTestDatabase();
  api = await startApi(database.pool, {}, pino(log));
});

afterAll(async () => {
  await api?.close();
  await database?.drop();
});

async function prepareWorkspace() {
  const workspace = await createTestWorkspace(database.pool);
  await createChannel(database.pool, { workspaceId: workspace.workspaceId, key: 'chat', name: 'Chat' });
  return workspace;
}

const createMessage = (text: string) => ({
  channel: 'chat',
  externalId: newId(),
  contact: { externalId: newId() },
  text,
});

test('what fails here names its request, in the answer and in the log with the cause; other answers do not', async () => {
  const { workspaceId, keys } = await prepareWorkspace();
  await database.pool.query(`ALTER TABLE messages ADD CONSTRAINT fails CHECK (text <> 'single') NOT VALID`);
  const answer = await api.call('POST', '/v1/messages', { key: keys.ingest, body: createMessage('single') });
  expect(answer).toMatchObject({ status: 500, body: { type: 'urn:switchyard:problem:internal' } });
  const { requestId } = answer.body;
  expect(requestId).toMatch(/^[0-9a-f]{12}-[0-9a-z]+$/);
  expect(lines.filter((line) => line['requestId'] === requestId)).toEqual([
    expect.objectContaining({ workspaceId, problem: 'internal', err: expect.objectContaining({ code: '23514' }) }),
  ]);
  const unknown = await api.call('GET', `/v1/messages/${newId()}`, { key: keys.agent });
  expect(unknown.status).toBe(404);
  expect(unknown.body).not.toHaveProperty('requestId');
});

test('messages of a batch that fail here name its request, and the log tells the cause once', async () => {
  const { keys } = await prepareWorkspace();
  await database.pool.query(`ALTER TABLE messages ADD CONSTRAINT fails_too CHECK (text <> 'batched') NOT VALID`);
  const messages = ['batched', 'Hello', 'batched'].map(createMessage);
  const { status, body } = await api.call('POST', '/v1/messages/batch', { key: keys.ingest, body: { messages } });
  expect(status).toBe(202);
  const [first, stored, last] = body.results;
  expect(first.error).toMatchObject({ status: 500, requestId: expect.stringMatching(/^[0-9a-f]{12}-/) });
  expect(last.error.requestId).toBe(first.error.requestId);
  expect(stored).toMatchObject({ duplicate: false });
  const told = lines.filter((line) => line['requestId'] === first.error.requestId);
  expect(told).toEqual([expect.objectContaining({ err: expect.objectContaining({ code: '23514' }) })]);
});

test('two processes never give the same id', async () => {
  const pool = createUnreachablePool();
  const others = await Promise.all([startApi(pool), startApi(pool)]);
  const ids = new Set<string>();
  for (const { call } of [...others, ...others]) {
    const { status, body } = await call('GET', '/readyz');
    expect(status).toBe(503);
    ids.add(body.requestId);
  }
  expect(ids.size).toBe(4);
  expect(new Set([...ids].map((id) => id.split('-')[0])).size).toBe(2);
  for (const other of others) await other.close();
  await pool.end();
});
