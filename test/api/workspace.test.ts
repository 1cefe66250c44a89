import { afterAll, beforeAll, expect, test } from 'vitest';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

let api: WorkspaceApi;

beforeAll(async () => {
  api = await startWorkspaceApi();
});

afterAll(() => api.stop());

const defaults = { closeNotes: 'optional', inactivityMinutes: null, reopenMinutes: null, heartbeatExpirySeconds: 60 };

test('the rules of a workspace have defaults; a change replaces only what it names, and null switches a rule off', async () => {
  const workspace = await api.workspace();
  const { workspaceId: id, name } = workspace;
  expect(await workspace.get('/workspace')).toEqual({ status: 200, body: { id, name, ...defaults } });
  const rules = {
    closeNotes: 'both_required',
    inactivityMinutes: 30,
    reopenMinutes: 10_080,
    heartbeatExpirySeconds: 10,
  };
  expect(await workspace.patch('/workspace', rules)).toEqual({ status: 200, body: { id, name, ...rules } });
  expect((await workspace.patch('/workspace', { name: 'Acme', reopenMinutes: null })).body).toEqual({
    id,
    name: 'Acme',
    ...rules,
    reopenMinutes: null,
  });
  expect((await workspace.patch('/workspace', {})).body).toEqual((await workspace.get('/workspace')).body);
});

test('every fault in the rules of a workspace is named at once, and nothing is changed', async () => {
  const workspace = await api.workspace();
  const body = {
    name: '',
    closeNotes: 'sometimes',
    inactivityMinutes: 29,
    reopenMinutes: 0,
    heartbeatExpirySeconds: 9,
    color: 'red',
  };
  const refused = await workspace.patch('/workspace', body);
  expect(refused.status).toBe(400);
  const fields = refused.body['errors'].map(({ field }: { field: string }) => field);
  expect(fields.toSorted()).toEqual(
    Object.keys(body)
      .map((member) => `/${member}`)
      .toSorted(),
  );
  expect((await workspace.get('/workspace')).body).toMatchObject(defaults);
});

test.each([
  ['inactivityMinutes', 20_161],
  ['inactivityMinutes', 45.5],
  ['reopenMinutes', 10_081],
  ['heartbeatExpirySeconds', 3601],
  ['heartbeatExpirySeconds', null],
  ['closeNotes', 'required'],
])('%s of %j is refused', async (member, value) => {
  const workspace = await api.workspace();
  expect(await workspace.patch('/workspace', { [member]: value })).toMatchObject({
    status: 400,
    body: { errors: [{ field: `/${member}` }] },
  });
});

test('agents read the rules of their own workspace, and only an admin changes them', async () => {
  const workspace = await api.workspace();
  const stranger = await api.workspace();
  expect(await workspace.patch('/workspace', { reopenMinutes: 5 }, workspace.keys.agent)).toMatchObject({
    status: 403,
  });
  expect(await workspace.get('/workspace', workspace.keys.ingest)).toMatchObject({ status: 403 });
  await workspace.patch('/workspace', { reopenMinutes: 5 });
  expect((await stranger.get('/workspace')).body).toMatchObject({ id: stranger.workspaceId, ...defaults });
});

test('another time of inactivity has open conversations looked at again; nothing else has', async () => {
  const workspace = await api.workspace();
  const readReview = async (): Promise<Date | null> => {
    const { rows } = await api.pool.query<{ at: Date | null }>('SELECT review_at AS at FROM workspaces WHERE id = $1', [
      workspace.workspaceId,
    ]);
    return rows[0]!.at;
  };
  await workspace.patch('/workspace', { reopenMinutes: 5, closeNotes: 'off', inactivityMinutes: null });
  expect(await readReview()).toBeNull();
  await workspace.patch('/workspace', { inactivityMinutes: 60 });
  const first = await readReview();
  expect(first).not.toBeNull();
  await workspace.patch('/workspace', { inactivityMinutes: 60, heartbeatExpirySeconds: 30 });
  expect(await readReview()).toEqual(first);
  await workspace.patch('/workspace', { inactivityMinutes: null });
  expect(await readReview()).not.toEqual(first);
});
