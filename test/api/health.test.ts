import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../platform/config.ts';
import { createPool } from '../../platform/pool.ts';
import { createChannel } from '../../store/channels.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createTestWorkspace, startApi } from './bare-api.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterAll(() => database.drop());

test('an API whose database takes writes is ready', async () => {
  const api = await startApi(database.pool);
  expect(await api.call('GET', '/readyz')).toMatchObject({
    status: 200,
    body: { status: 'ready', checks: [{ name: 'PostgreSQL takes writes', ok: true }] },
  });
  await api.close();
});

test('on a read-only database the API is not ready, and messages are refused for a while', async () => {
  const { workspaceId, keys } = await createTestWorkspace(database.pool);
  await createChannel(database.pool, { workspaceId, key: 'chat', name: 'Chat' });
  const url = new URL(database.url);
  url.searchParams.set('options', '-c default_transaction_read_only=on');
  const pool = createPool(loadConfig({ DATABASE_URL: url.href }), { applicationName: 'test' });
  const api = await startApi(pool);
  expect(await api.call('GET', '/readyz')).toMatchObject({
    status: 503,
    body: { type: 'urn:switchyard:problem:not_ready', detail: 'PostgreSQL is read-only.' },
  });
  const body = { channel: 'chat', externalId: '1', contact: { externalId: '1' }, text: 'Hello' };
  const answer = await api.call('POST', '/v1/messages', { key: keys.ingest, body });
  expect(answer).toMatchObject({
    status: 503,
    headers: { 'retry-after': '1' },
    body: { type: 'urn:switchyard:problem:unavailable', retryable: true },
  });
  await api.close();
  await pool.end();
});
