import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

let api: WorkspaceApi;
let workspace: Awaited<ReturnType<WorkspaceApi['workspace']>>;

beforeAll(async () => {
  api = await startWorkspaceApi();
});
beforeEach(async () => {
  workspace = await api.workspace();
});
afterAll(() => api?.stop());

const set = (closeNotes: string) => workspace.patch('/workspace', { closeNotes });
const addCategory = (name: string) => workspace.post('/close-categories', { name }, workspace.keys.admin);

async function openPath(): Promise<string> {
  const { conversationId } = await workspace.open();
  return `/conversations/${conversationId}`;
}

test('a close without the notes that the workspace requires is refused, naming each and what to send; with them it is taken', async () => {
  expect(await set('both_required')).toMatchObject({ status: 200, body: { closeNotes: 'both_required' } });
  const path = await openPath();
  const refused = await workspace.post(`${path}/close`);
  expect(refused).toMatchObject({
    status: 422,
    body: {
      type: 'urn:switchyard:problem:close_notes',
      retryable: false,
      errors: [
        { field: '/category', message: 'is required in this workspace', mend: expect.stringContaining('about') },
        { field: '/summary', message: 'is required in this workspace', mend: expect.stringContaining('sentence') },
      ],
    },
  });
  expect((await workspace.get(path)).body).toMatchObject({ closeRequestedAt: null, closing: null });
  const notes = { category: 'solved', summary: 'Paid back' };
  expect(await workspace.post(`${path}/close`, notes)).toMatchObject({ status: 202, body: { closing: notes } });
});

test('a summary alone is required of nobody: the category may be', async () => {
  await set('category_required');
  const path = await openPath();
  expect(await workspace.post(`${path}/close`, { summary: 'Paid back' })).toMatchObject({
    status: 422,
    body: { errors: [{ field: '/category' }] },
  });
  expect(await workspace.post(`${path}/close`, { category: 'solved' })).toMatchObject({ status: 202 });
});

test('where notes are off, a close that brings some is refused, naming each, and one without is taken', async () => {
  await set('off');
  const path = await openPath();
  expect(await workspace.post(`${path}/close`, { category: 'solved', summary: 'Paid back' })).toMatchObject({
    status: 422,
    body: {
      errors: [
        { field: '/category', message: 'is not wanted in this workspace', mend: 'Leave it out.' },
        { field: '/summary', message: 'is not wanted in this workspace', mend: 'Leave it out.' },
      ],
    },
  });
  expect(await workspace.post(`${path}/close`)).toMatchObject({ status: 202 });
});

test('once there are categories, a close that names another is refused, and told which there are', async () => {
  for (const name of ['refund', 'spam']) expect(await addCategory(name)).toMatchObject({ status: 201 });
  const path = await openPath();
  expect(await workspace.post(`${path}/close`, { category: 'refunds' })).toMatchObject({
    status: 422,
    body: {
      errors: [
        { field: '/category', message: 'is none of the close categories', mend: 'Use one of: "refund", "spam".' },
      ],
    },
  });
  await set('category_required');
  expect(await workspace.post(`${path}/close`)).toMatchObject({
    status: 422,
    body: { errors: [{ field: '/category', mend: 'Use one of: "refund", "spam".' }] },
  });
  expect(await workspace.post(`${path}/close`, { category: 'spam' })).toMatchObject({ status: 202 });
});

test('of more than twenty categories the refusal names twenty, and says where the others are listed', async () => {
  for (let i = 10; i < 33; i += 1) await addCategory(`c${i}`);
  const { body } = await workspace.post(`${await openPath()}/close`, { category: 'none of them' });
  const { mend } = body.errors[0];
  expect(mend).toContain('"c29", or one of 3 more that GET /v1/close-categories lists');
  expect(mend).not.toContain('"c30"');
});

test('a rule changed by API holds for the next close; one that changes nothing is answered as before', async () => {
  const ref = await workspace.open();
  const path = `/conversations/${ref.conversationId}`;
  expect(await workspace.post(`${path}/close`, { category: 'solved' })).toMatchObject({ status: 202 });
  await set('both_required');
  expect(await workspace.post(`${path}/close`)).toMatchObject({
    status: 202,
    body: { closing: { category: 'solved' } },
  });
  await workspace.close(ref);
  expect(await workspace.post(`${path}/close`)).toMatchObject({ status: 202, body: { state: 'closed' } });
  expect(await workspace.post(`${await openPath()}/close`)).toMatchObject({ status: 422 });
});
