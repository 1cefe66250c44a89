import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createAgent } from '../../store/agents.ts';
import type { NewWorkspace } from '../../store/workspaces.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createTestWorkspace, startApi, type Answer, type ApiUnderTest } from './bare-api.ts';

let database: TestDatabase;
let api: ApiUnderTest;
let workspace: NewWorkspace;

beforeAll(async () => {
  database = await createTestDatabase();
  api = await startApi(database.pool);
  workspace = await createTestWorkspace(database.pool);
});

afterAll(async () => {
  await api.close();
  await database.drop();
});

function create(body: unknown): Promise<Answer> {
  return api.call('POST', '/v1/keys', { key: workspace.keys.admin, body });
}

test('a new key is shown once, works at once, and only its hash is stored', async () => {
  const answer = await create({ scope: 'agent', name: 'Desk' });
  expect(answer.status).toBe(201);
  expect(answer.headers['cache-control']).toBe('no-store');
  const { key, ...view } = answer.body;
  expect(key).toMatch(/^sy_[0-9a-f]{20}_[A-Za-z0-9_-]{43}$/);
  expect(view).toMatchObject({ scope: 'agent', name: 'Desk', agentId: null, revokedAt: null });

  const read = await api.call('GET', `/v1/keys/${view.id}`, { key });
  expect(read.body).toEqual(view);
  const { rows } = await database.pool.query(
    'SELECT keys::text AS row, encode(secret_hash, $2) AS hash FROM keys WHERE id = $1',
    [view.id, 'hex'],
  );
  expect(rows[0].row).not.toContain(key.slice(-43));
  expect(rows[0].hash).toHaveLength(64);
});

test('a key may be bound to an agent of the workspace, and to no other', async () => {
  const { workspaceId } = workspace;
  const outcome = await createAgent(database.pool, { workspaceId, name: 'Ann', capacity: 1, teamIds: [], skills: {} });
  const agentId = outcome.kind === 'created' ? outcome.agent.id : '';
  expect(await create({ scope: 'agent', name: 'Ann', agentId })).toMatchObject({ status: 201, body: { agentId } });
  const unknown = await create({ scope: 'agent', name: 'Ann', agentId: newId() });
  expect(unknown).toMatchObject({ status: 422, body: { errors: [{ field: '/agentId' }] } });
  const misplaced = await create({ scope: 'admin', name: 'Ann', agentId });
  expect(misplaced).toMatchObject({ status: 400, body: { errors: [{ field: '/agentId' }] } });
});

test('no key has the scope of the operator', async () => {
  const answer = await create({ scope: 'metrics', name: 'Prometheus' });
  expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: '/scope' }] } });
});

test('a revoked key is refused, stays revoked, and other keys go on', async () => {
  const { body } = await create({ scope: 'admin', name: 'Lost' });
  const change = (patch: unknown) =>
    api.call('PATCH', `/v1/keys/${body.id}`, { key: workspace.keys.admin, body: patch });
  const revoked = await change({ revoked: true });
  expect(revoked).toMatchObject({ status: 200, body: { name: 'Lost', revokedAt: expect.any(String) } });
  expect((await api.call('GET', '/v1/keys', { key: body.key })).status).toBe(401);
  expect((await change({ revoked: false })).status).toBe(400);
  const renamed = await change({ name: 'Found', revoked: true });
  expect(renamed.body).toMatchObject({ name: 'Found', revokedAt: revoked.body.revokedAt });
});

test('keys are listed page by page, without secrets', async () => {
  const own = await createTestWorkspace(database.pool);
  const seen: { id: string; scope: string }[] = [];
  for (let cursor: string | null = ''; cursor !== null;) {
    const query: string = cursor === '' ? 'limit=2' : `limit=2&cursor=${cursor}`;
    const { status, body } = await api.call('GET', `/v1/keys?${query}`, { key: own.keys.agent });
    expect(status).toBe(200);
    seen.push(...body.items);
    cursor = body.nextCursor;
  }
  expect(seen.map((key) => key.scope).sort()).toEqual(['admin', 'agent', 'ingest']);
  expect(JSON.stringify(seen)).not.toMatch(/secret|hash|sy_/);
});

test('agents may read keys, not make them; ingest keys neither', async () => {
  const body = { scope: 'admin', name: 'Mine' };
  expect((await api.call('POST', '/v1/keys', { key: workspace.keys.agent, body })).status).toBe(403);
  expect((await api.call('GET', '/v1/keys', { key: workspace.keys.ingest })).status).toBe(403);
});

test('a key of another workspace answers 404', async () => {
  const other = await createTestWorkspace(database.pool);
  const id = other.keys.admin.split('_')[1];
  for (const target of [id, 'x', newId()]) {
    expect((await api.call('GET', `/v1/keys/${target}`, { key: workspace.keys.admin })).status).toBe(404);
    const answer = await api.call('PATCH', `/v1/keys/${target}`, {
      key: workspace.keys.admin,
      body: { revoked: true },
    });
    expect(answer.status).toBe(404);
  }
  expect((await api.call('GET', '/v1/keys', { key: other.keys.admin })).status).toBe(200);
});
