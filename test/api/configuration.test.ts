import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

let api: WorkspaceApi;

beforeAll(async () => {
  api = await startWorkspaceApi();
});

afterAll(() => api.stop());

test('agents are made, changed and listed by an admin, and read by agents', async () => {
  const workspace = await api.workspace();
  const { admin } = workspace.keys;
  const body = { name: 'Ada', capacity: 3, teamIds: [workspace.defaultTeamId], skills: { german: 4 } };
  const created = await workspace.post('/agents', body, admin);
  expect(created).toMatchObject({ status: 201, body: { ...body, load: 0, presence: 'offline', heartbeatAt: null } });
  const path = `/agents/${created.body['id']}`;
  expect(await workspace.patch(path, { capacity: 5, teamIds: [] })).toMatchObject({
    status: 200,
    body: { name: 'Ada', capacity: 5, teamIds: [], skills: { german: 4 } },
  });
  expect((await workspace.get(path)).body).toMatchObject({ capacity: 5 });
  expect((await workspace.get('/agents')).body).toMatchObject({
    items: [{ id: created.body['id'] }],
    nextCursor: null,
  });
  expect(await workspace.post('/agents', body)).toMatchObject({ status: 403 });
  expect(await workspace.patch(path, { name: 'Bo' }, workspace.keys.agent)).toMatchObject({ status: 403 });
  const stranger = await api.workspace();
  expect(await stranger.get(path)).toMatchObject({ status: 404 });
  expect(await stranger.patch(path, { name: 'Bo' })).toMatchObject({ status: 404 });
});

test('a fault in an agent is named', async () => {
  const workspace = await api.workspace();
  const { admin } = workspace.keys;
  for (const [body, status, field] of [
    [{ capacity: 1 }, 400, '/name'],
    [{ name: '', capacity: 1 }, 400, '/name'],
    [{ name: 'A\0', capacity: 1 }, 400, '/name'],
    [{ name: 'Ada', capacity: -1 }, 400, '/capacity'],
    [{ name: 'Ada', capacity: 1, skills: { german: 'much' } }, 400, '/skills/german'],
    [{ name: 'Ada', capacity: 1, color: 'red' }, 400, '/color'],
    [{ name: 'Ada', capacity: 1, teamIds: [workspace.defaultTeamId, newId()] }, 422, '/teamIds/1'],
  ] as const) {
    expect(await workspace.post('/agents', body, admin)).toMatchObject({ status, body: { errors: [{ field }] } });
  }
});

test('a key that is bound to an agent sets only its own presence', async () => {
  const workspace = await api.workspace();
  const own = await workspace.addAgent();
  const other = await workspace.addAgent();
  const key = await workspace.keyOf(own);
  expect(await workspace.put(`/agents/${own}/presence`, { status: 'away' }, key)).toMatchObject({
    status: 200,
    body: { presence: 'away' },
  });
  expect(await workspace.put(`/agents/${other}/presence`, { status: 'away' }, key)).toMatchObject({ status: 403 });
  expect(await workspace.post(`/agents/${other}/heartbeat`, undefined, key)).toMatchObject({ status: 403 });
  expect(await workspace.put(`/agents/${newId()}/presence`, { status: 'away' })).toMatchObject({ status: 404 });
  expect(await workspace.put(`/agents/${own}/presence`, { status: 'asleep' })).toMatchObject({ status: 400 });
});

test('a heartbeat is noted for an agent that is online', async () => {
  const workspace = await api.workspace();
  const agentId = await workspace.addAgent();
  expect(await workspace.post(`/agents/${agentId}/heartbeat`)).toMatchObject({
    status: 200,
    body: { presence: 'online', heartbeatAt: expect.stringMatching(/Z$/) },
  });
});

test('an agent who comes online gets what waits', async () => {
  const workspace = await api.workspace();
  const { conversationId } = await workspace.open();
  expect((await workspace.get(`/conversations/${conversationId}`)).body).toMatchObject({ state: 'waiting' });
  const agentId = await workspace.addAgent();
  expect((await workspace.get(`/conversations/${conversationId}`)).body).toMatchObject({ state: 'assigned', agentId });
});

test('teams are made, changed and listed by an admin; a name is taken once', async () => {
  const workspace = await api.workspace();
  const { admin } = workspace.keys;
  const created = await workspace.post('/teams', { name: 'Billing' }, admin);
  expect(created).toMatchObject({ status: 201, body: { name: 'Billing', strategy: 'round_robin', isDefault: false } });
  const path = `/teams/${created.body['id']}`;
  expect(await workspace.post('/teams', { name: 'Billing' }, admin)).toMatchObject({
    status: 409,
    body: { type: 'urn:switchyard:problem:conflict.name_taken', errors: [{ field: '/name' }] },
  });
  expect(await workspace.patch(path, { name: 'Default' })).toMatchObject({ status: 409 });
  expect(await workspace.patch(path, { strategy: 'least_loaded' })).toMatchObject({
    status: 200,
    body: { strategy: 'least_loaded' },
  });
  expect((await workspace.get(path)).body).toMatchObject({ name: 'Billing', strategy: 'least_loaded' });
  expect((await workspace.get('/teams?limit=1')).body).toMatchObject({ items: [{ isDefault: true }] });
  expect(await workspace.post('/teams', { name: 'Sales' })).toMatchObject({ status: 403 });
  expect(await (await api.workspace()).get(path)).toMatchObject({ status: 404 });
});

test('a flow is drafted, published and drafted again, and its versions stay', async () => {
  const workspace = await api.workspace();
  const { admin } = workspace.keys;
  const teamId = workspace.defaultTeamId;
  const document = { routing: { branches: [], otherwise: { teamId, priority: 1 } } };
  const created = await workspace.post('/flows', { name: 'Support', document }, admin);
  expect(created).toMatchObject({
    status: 201,
    body: { name: 'Support', description: '', publishedVersionId: null, publishedNumber: null },
  });
  expect(created.body['document']['enrichment']).toEqual([]);
  const path = `/flows/${created.body['id']}`;
  const published = await workspace.post(`${path}/publish`, undefined, admin);
  expect(published).toMatchObject({ status: 201, body: { flowId: created.body['id'], number: 1 } });

  const changed = { routing: { branches: [], otherwise: { teamId, priority: 2 } } };
  expect(await workspace.patch(path, { description: 'All', document: changed })).toMatchObject({
    status: 200,
    body: { description: 'All', publishedVersionId: published.body['id'], publishedNumber: 1 },
  });
  expect(await workspace.post(`${path}/publish`, {}, admin)).toMatchObject({ status: 201, body: { number: 2 } });
  const versions = await workspace.get(`${path}/versions?limit=1`);
  expect(versions.body['items']).toMatchObject([{ number: 2, document: changed }]);
  const older = await workspace.get(`${path}/versions?limit=1&cursor=${versions.body['nextCursor']}`);
  expect(older.body).toMatchObject({ items: [{ id: published.body['id'], number: 1, document }], nextCursor: null });
  expect((await workspace.get('/flows')).body).toMatchObject({ items: [{ publishedNumber: 2 }], nextCursor: null });
});

test('an invalid flow is refused with every fault, as a draft too', async () => {
  const workspace = await api.workspace();
  const { admin } = workspace.keys;
  const document = {
    enrichment: [{ kind: 'guess', field: 'purpose' }],
    routing: {
      branches: [{ name: 'A', when: 'fields.purpose ==', teamId: newId(), priority: 1 }],
      otherwise: { teamId: workspace.defaultTeamId, priority: 101 },
    },
  };
  const refused = await workspace.post('/flows', { name: 'Support', document }, admin);
  expect(refused).toMatchObject({ status: 422, body: { type: 'urn:switchyard:problem:invalid_flow' } });
  expect(refused.body['errors'].map(({ field }: { field: string }) => field).toSorted()).toEqual([
    '/document/enrichment/0/kind',
    '/document/routing/branches/0/teamId',
    '/document/routing/branches/0/when',
    '/document/routing/otherwise/priority',
  ]);
  expect((await workspace.get('/flows')).body['items']).toEqual([]);
});

test('flows are changed by an admin only, and unknown to another workspace', async () => {
  const workspace = await api.workspace();
  const stranger = await api.workspace();
  const document = { routing: { branches: [], otherwise: { teamId: workspace.defaultTeamId, priority: 0 } } };
  const { body } = await workspace.post('/flows', { name: 'Support', document }, workspace.keys.admin);
  const path = `/flows/${body['id']}`;
  expect(await workspace.post(`${path}/publish`)).toMatchObject({ status: 403 });
  expect(await workspace.patch(path, { name: 'Mine' }, workspace.keys.agent)).toMatchObject({ status: 403 });
  expect(await stranger.get(path)).toMatchObject({ status: 404 });
  expect(await stranger.get(`${path}/versions`)).toMatchObject({ status: 404 });
  expect(await stranger.patch(path, { name: 'Mine' })).toMatchObject({ status: 404 });
  expect(await stranger.post(`${path}/publish`, undefined, stranger.keys.admin)).toMatchObject({ status: 404 });
});
