import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { maxCloseCategories } from '../../store/close-categories.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

let api: WorkspaceApi;

beforeAll(async () => {
  api = await startWorkspaceApi();
});

afterAll(() => api.stop());

type Workspace = Awaited<ReturnType<WorkspaceApi['workspace']>>;

const make = ({ post, keys }: Workspace, name: unknown) => post('/close-categories', { name }, keys.admin);

async function remove(key: string, id: string): Promise<{ status: number; text: string }> {
  const headers = { authorization: `Bearer ${key}` };
  const answer = await api.app.inject({ method: 'DELETE', url: `/v1/close-categories/${id}`, headers });
  return { status: answer.statusCode, text: answer.body };
}

test('categories are made and removed by an admin, and listed in the order in which they were made', async () => {
  const workspace = await api.workspace();
  const ids: string[] = [];
  for (const name of ['Refund', 'Complaint', 'x'.repeat(200)]) {
    const made = await make(workspace, name);
    expect(made).toMatchObject({ status: 201, body: { name, createdAt: expect.stringMatching(/Z$/) } });
    ids.push(made.body['id']);
  }
  const page = (await workspace.get('/close-categories?limit=2')).body;
  expect(page).toMatchObject({ items: [{ name: 'Refund' }, { name: 'Complaint' }] });
  expect((await workspace.get(`/close-categories?cursor=${page['nextCursor']}`)).body).toMatchObject({
    items: [{ id: ids[2] }],
    nextCursor: null,
  });
  expect(await remove(workspace.keys.admin, ids[0]!)).toEqual({ status: 204, text: '' });
  expect(await remove(workspace.keys.admin, ids[0]!)).toMatchObject({ status: 404 });
  expect((await workspace.get('/close-categories')).body['items']).toMatchObject([{ id: ids[1] }, { id: ids[2] }]);
  expect(await workspace.post('/close-categories', { name: 'Praise' })).toMatchObject({ status: 403 });
  expect(await remove(workspace.keys.agent, ids[1]!)).toMatchObject({ status: 403 });
});

test('a name is taken once in a workspace, and is free again when its category is gone', async () => {
  const workspace = await api.workspace();
  const { body } = await make(workspace, 'Refund');
  expect(await make(workspace, 'Refund')).toMatchObject({
    status: 409,
    body: { type: 'urn:switchyard:problem:conflict.name_taken', errors: [{ field: '/name' }] },
  });
  expect(await make(workspace, 'REFUND')).toMatchObject({
    status: 409,
    body: { errors: [{ field: '/name', message: 'There is a category named Refund already.' }] },
  });
  expect(await make(await api.workspace(), 'Refund')).toMatchObject({ status: 201 });
  await remove(workspace.keys.admin, body['id']);
  expect(await make(workspace, 'Refund')).toMatchObject({ status: 201 });
});

test.each([[undefined], [''], ['x'.repeat(201)], [7], ['A\0']])('%j is no name of a category', async (name) => {
  const workspace = await api.workspace();
  expect(await make(workspace, name)).toMatchObject({ status: 400, body: { errors: [{ field: '/name' }] } });
});

test('another workspace neither sees nor removes a category', async () => {
  const workspace = await api.workspace();
  const stranger = await api.workspace();
  const { body } = await make(workspace, 'Refund');
  expect((await stranger.get('/close-categories')).body['items']).toEqual([]);
  for (const id of [body['id'], newId(), 'x']) {
    expect(await remove(stranger.keys.admin, id)).toMatchObject({ status: 404 });
  }
  expect((await workspace.get('/close-categories')).body['items']).toHaveLength(1);
});

test('a workspace has at most so many categories, also when several make the last one at once', async () => {
  const workspace = await api.workspace();
  await api.pool.query(
    `INSERT INTO close_categories (workspace_id, id, name)
     SELECT $1, gen_random_uuid(), 'Category ' || n FROM generate_series(1, $2) n`,
    [workspace.workspaceId, maxCloseCategories - 1],
  );
  const answers = await Promise.all(Array.from({ length: 5 }, (_, index) => make(workspace, `Last ${index}`)));
  expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
  const refused = answers.find(({ status }) => status !== 201)!;
  expect(refused.body['detail']).toContain(`${maxCloseCategories}`);
  expect(refused.body['errors']).toMatchObject([{ field: '/name', mend: 'Delete a category first.' }]);
  // A name that is taken says so, full or not.
  expect(await make(workspace, 'Category 1')).toMatchObject({ status: 409 });
});
