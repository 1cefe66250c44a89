import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import type { NewWorkspace } from '../../store/workspaces.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createTestWorkspace, startApi, type ApiUnderTest } from './bare-api.ts';

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

const asAdmin = (body?: unknown) => ({ key: workspace.keys.admin, body });

test('a channel is made, read and renamed; its key stays', async () => {
  const created = await api.call('POST', '/v1/channels', asAdmin({ key: 'chat', name: 'Chat' }));
  expect(created).toMatchObject({ status: 201, body: { key: 'chat', name: 'Chat' } });
  const { outboundSecret: _, ...viewed } = created.body;
  const url = `/v1/channels/${created.body.id}`;
  expect(await api.call('GET', url, { key: workspace.keys.agent })).toMatchObject({ status: 200, body: viewed });
  expect(await api.call('PATCH', url, asAdmin({ name: 'Web chat' }))).toMatchObject({
    status: 200,
    body: { ...created.body, name: 'Web chat' },
  });
  const answer = await api.call('PATCH', url, asAdmin({ key: 'other' }));
  expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: '/key' }] } });
});

test('a key that is taken answers 409, within the workspace only', async () => {
  const body = { key: 'taken', name: 'One' };
  expect((await api.call('POST', '/v1/channels', asAdmin(body))).status).toBe(201);
  expect(await api.call('POST', '/v1/channels', asAdmin(body))).toMatchObject({
    status: 409,
    body: { type: 'urn:switchyard:problem:conflict.key_taken', errors: [{ field: '/key' }] },
  });
  const other = await createTestWorkspace(database.pool);
  expect((await api.call('POST', '/v1/channels', { key: other.keys.admin, body })).status).toBe(201);
});

test('channels are listed in the order in which they were made, page by page', async () => {
  const { keys } = await createTestWorkspace(database.pool);
  const made: string[] = [];
  for (const key of ['c', 'a', 'b']) {
    made.push((await api.call('POST', '/v1/channels', { key: keys.admin, body: { key, name: key } })).body.id);
  }
  const first = await api.call('GET', '/v1/channels?limit=2', { key: keys.agent });
  const second = await api.call('GET', `/v1/channels?limit=2&cursor=${first.body.nextCursor}`, { key: keys.agent });
  expect([...first.body.items, ...second.body.items].map((channel) => channel.id)).toEqual(made);
  expect(second.body.nextCursor).toBeNull();
});

test.each([
  ['limit=0', 'limit'],
  ['limit=101', 'limit'],
  ['limit=many', 'limit'],
  ['limit=1&limit=2', 'limit'],
  ['cursor=nonsense', 'cursor'],
  ['sort=name', 'sort'],
])('a list asked with %s answers 400 and names it', async (query, field) => {
  const answer = await api.call('GET', `/v1/channels?${query}`, asAdmin());
  expect(answer).toMatchObject({ status: 400, body: { errors: [{ field }] } });
});

test('another workspace does not see a channel', async () => {
  const { body } = await api.call('POST', '/v1/channels', asAdmin({ key: 'own', name: 'Own' }));
  const { keys } = await createTestWorkspace(database.pool);
  for (const id of [body.id, newId(), 'x']) {
    expect((await api.call('GET', `/v1/channels/${id}`, { key: keys.admin })).status).toBe(404);
    const patch = { key: keys.admin, body: { name: 'Stolen' } };
    expect((await api.call('PATCH', `/v1/channels/${id}`, patch)).status).toBe(404);
  }
});

test('agents may read channels, not make them', async () => {
  const answer = await api.call('POST', '/v1/channels', { key: workspace.keys.agent, body: { key: 'x', name: 'X' } });
  expect(answer.status).toBe(403);
});

test('the secret is shown by the call that makes it, and by no other', async () => {
  const outboundUrl = 'https://chat.example.com/out?x=1';
  const created = await api.call('POST', '/v1/channels', asAdmin({ key: 'told', name: 'Told', outboundUrl }));
  expect(created).toMatchObject({
    status: 201,
    body: { outboundUrl, outboundSecret: expect.stringMatching(/^whsec_[\w+/]{43}=$/) },
  });
  const url = `/v1/channels/${created.body.id}`;
  const read = await api.call('GET', url, { key: workspace.keys.admin });
  expect(read.body).toEqual({ ...created.body, outboundSecret: undefined });
  const moved = await api.call('PATCH', url, asAdmin({ outboundUrl: 'http://chat.example.com' }));
  expect(moved.body).toMatchObject({ outboundUrl: 'http://chat.example.com', outboundSecret: null });
  const removed = await api.call('PATCH', url, asAdmin({ outboundUrl: null }));
  expect(removed.body).toMatchObject({ outboundUrl: null, outboundSecret: null });
  const rotated = await api.call('POST', `${url}/rotate-secret`, asAdmin());
  expect(rotated).toMatchObject({ status: 200, body: { outboundSecret: expect.stringMatching(/^whsec_/) } });
  expect(rotated.body.outboundSecret).not.toBe(created.body.outboundSecret);
});

test('a channel that had none gets its secret with its first outbound URL', async () => {
  const created = await api.call('POST', '/v1/channels', asAdmin({ key: 'later', name: 'Later' }));
  expect(created.body).toMatchObject({ outboundUrl: null, outboundSecret: null });
  const told = await api.call(
    'PATCH',
    `/v1/channels/${created.body.id}`,
    asAdmin({ outboundUrl: 'https://chat.example.com' }),
  );
  expect(told.body.outboundSecret).toMatch(/^whsec_/);
  const renamed = await api.call('PATCH', `/v1/channels/${created.body.id}`, asAdmin({ name: 'Now' }));
  expect(renamed.body).toMatchObject({ outboundUrl: 'https://chat.example.com', outboundSecret: null });
});

test.each([
  'chat.example.com',
  'ftp://chat.example.com',
  'https://user:secret@chat.example.com/out',
  'https://chat.example.com/out#part',
  'https://chat.example.com:99999/out',
  'https:///out',
  'https://chat.example.com/a b',
  '',
  `https://chat.example.com/${'a'.repeat(2048)}`,
])('the outbound URL %s is refused', async (outboundUrl) => {
  const answer = await api.call('POST', '/v1/channels', asAdmin({ key: newId(), name: 'Bad', outboundUrl }));
  expect(answer).toMatchObject({
    status: 400,
    body: { errors: [{ field: '/outboundUrl', mend: expect.any(String) }] },
  });
});

test.each([
  'http://127.0.0.1/x',
  'http://[::1]/',
  'http://169.254.169.254/',
  'https://10.1.2.3:8443/',
  'http://0x7f.1/',
])('the private address %s is refused, and what to do about it is told', async (outboundUrl) => {
  const made = await api.call('POST', '/v1/channels', asAdmin({ key: newId(), name: 'Inside' }));
  const url = `/v1/channels/${made.body.id}`;
  for (const answer of [
    await api.call('POST', '/v1/channels', asAdmin({ key: newId(), name: 'Inside', outboundUrl })),
    await api.call('PATCH', url, asAdmin({ outboundUrl })),
  ]) {
    expect(answer).toMatchObject({
      status: 400,
      body: { errors: [{ field: '/outboundUrl', mend: expect.stringContaining('OUTBOUND_PRIVATE_CIDRS') }] },
    });
  }
  expect((await api.call('GET', url, asAdmin())).body.outboundUrl).toBeNull();
});

test('a private address that the operator allows is taken; what enrichment may reach does not count', async () => {
  const outboundUrl = 'http://10.1.2.3/x';
  const body = { key: newId(), name: 'Inside', outboundUrl };
  for (const [variable, status] of [
    ['PRIVATE_CIDRS_ALLOWED', 400],
    ['OUTBOUND_PRIVATE_CIDRS', 201],
  ] as const) {
    const opened = await startApi(database.pool, { [variable]: '10.0.0.0/8' });
    expect((await opened.call('POST', '/v1/channels', asAdmin(body))).status).toBe(status);
    await opened.close();
  }
});

test('what stands in the query of an outbound URL is for admins', async () => {
  const { keys } = await createTestWorkspace(database.pool);
  const outboundUrl = 'https://chat.example.com/out?key=s3cret';
  const made = await api.call('POST', '/v1/channels', { key: keys.admin, body: { key: 'q', name: 'Q', outboundUrl } });
  for (const [key, shown] of [
    [keys.admin, outboundUrl],
    [keys.agent, 'https://chat.example.com/out'],
  ] as const) {
    expect((await api.call('GET', `/v1/channels/${made.body.id}`, { key })).body.outboundUrl).toBe(shown);
    const { body } = await api.call('GET', '/v1/channels', { key });
    expect(body.items.map((channel: { outboundUrl: string }) => channel.outboundUrl)).toEqual([shown]);
  }
});

test('nobody but its admins rotates the secret of a channel', async () => {
  const { body } = await api.call('POST', '/v1/channels', asAdmin({ key: newId(), name: 'Own' }));
  const url = `/v1/channels/${body.id}/rotate-secret`;
  expect((await api.call('POST', url, { key: workspace.keys.agent })).status).toBe(403);
  const { keys } = await createTestWorkspace(database.pool);
  expect((await api.call('POST', url, { key: keys.admin })).status).toBe(404);
});
