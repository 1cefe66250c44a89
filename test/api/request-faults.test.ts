import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

/** How faults of requests are told to people: each field once, what is wrong with it, and what to send instead. */

let api: WorkspaceApi;
let workspace: Awaited<ReturnType<WorkspaceApi['workspace']>>;

beforeAll(async () => {
  api = await startWorkspaceApi();
  workspace = await api.workspace();
});

afterAll(() => api.stop());

async function faultsOf(method: 'post' | 'put' | 'patch', path: string, body: object) {
  const answer = await workspace[method](path, body, workspace.keys.admin);
  expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 400 });
  const faults: { field: string; message: string; mend: string }[] = answer.body['errors'];
  return Object.fromEntries(faults.map(({ field, message, mend }) => [field, `${message} | ${mend}`]));
}

test('every fault of an agent is worded for people', async () => {
  const body = {
    name: ' Ada',
    capacity: 1.5,
    teamIds: Array.from({ length: 2 }, () => 'x'),
    skills: { '': 1, german: 'much', ' ': 2, latin: 9 },
    channelLimits: null,
    color: 'red',
  };
  expect(await faultsOf('post', '/agents', body)).toEqual({
    '/name': 'is blank, or begins or ends with a blank | Send a name without blanks at its ends.',
    '/capacity': 'must be a whole number | Send a whole number from 0 to 10000.',
    '/teamIds': 'holds the same entry twice, at 0 and 1 | Send each entry once.',
    '/teamIds/0': 'is no id | Send an id as this API gave it out.',
    '/teamIds/1': 'is no id | Send an id as this API gave it out.',
    '/skills/': 'is a name that is empty | Send a name of 1 to 100 characters.',
    '/skills/ ': 'is a name that is blank, or begins or ends with a blank | Send a name without blanks at its ends.',
    '/skills/german': 'must be a whole number | Send a whole number from 1 to 5.',
    '/skills/latin': 'is more than 5 | Send a whole number from 1 to 5.',
    '/channelLimits': 'must be an object | Send an object of at most 100 members.',
    '/color': 'is not known here | Remove it, or check its spelling.',
  });
  expect(await faultsOf('post', '/agents', {})).toEqual({
    '/name': 'is required | Send a name without blanks at its ends.',
    '/capacity': 'is required | Send a whole number from 0 to 10000.',
  });
});

test('every fault of a team is worded for people, and blames the field that is to be changed', async () => {
  const body = {
    name: '',
    strategy: null,
    slaSeconds: 'soon',
    affinity: 24,
    offer: { acceptSeconds: 4 },
    offline: { then: 'keep', graceSeconds: 5 },
    priorityList: 'all',
  };
  expect(await faultsOf('post', '/teams', body)).toEqual({
    '/name': 'is empty | Send a text of 1 to 200 characters.',
    '/strategy':
      'is not one of the allowed values | Send "round_robin", "least_loaded", "longest_idle", "most_skilled" or "priority_list".',
    '/slaSeconds': 'must be a whole number or null | Send a whole number from 1 to 604800 or null.',
    '/affinity': 'must be an object or null | Send an object or null.',
    '/offer/acceptSeconds': 'is less than 5 | Send a whole number from 5 to 3600.',
    '/offer/maxMissed': 'is required | Send a whole number from 1 to 100.',
    '/offline/graceSeconds': 'goes only with then: return | Leave it out.',
    '/priorityList': 'must be a list | Send a list of at most 1000 entries.',
  });
});

test('what has a form of its own is told by its form, whatever the field is for', async () => {
  const { conversationId } = await workspace.open();
  const path = `/conversations/${conversationId}`;
  const noId = { '/agentId': 'is no id | Send an id as this API gave it out.' };
  for (const verb of ['accept', 'reject']) {
    expect(await faultsOf('post', `${path}/${verb}`, { agentId: 'Ada' })).toEqual(noId);
  }
  expect(await faultsOf('post', `${path}/messages`, { text: 'Hello', agentId: 'Ada' })).toEqual(noId);
  expect(await faultsOf('post', '/channels', { key: 'a b', name: 'Chat' })).toEqual({
    '/key': 'is no key of a channel | Send letters, digits and . _ : -, beginning with a letter or digit.',
  });
  const message = {
    channel: 'chat',
    externalId: 'm-1',
    contact: { externalId: 'c-1', attributes: { vip: [] } },
    attachments: [{ url: 'ftp://x' }],
    sentAt: 'today',
  };
  expect(await faultsOf('post', '/messages', message)).toEqual({
    '/contact/attributes/vip':
      'must be a text, a number, true, false or null | Send a text of at most 1024 characters, a number, true, false or null.',
    '/attachments/0/url': 'is no web address | Send an http or https address.',
    '/sentAt': 'is no point in time | Send a date and time with an offset, such as 2026-03-01T09:30:00Z.',
  });
});

const unstorable = 'contains U+0000 or a lone surrogate, which cannot be stored | Remove it.';

test('text that cannot be stored is told beside all other faults', async () => {
  expect(await faultsOf('post', '/agents', { name: 'A\0', capacity: -1, 'b\0': 1 })).toEqual({
    '/name': unstorable,
    '/capacity': 'is less than 0 | Send a whole number from 0 to 10000.',
    '/b\ufffd': expect.stringMatching(/^contains U\+0000|^is not known here/),
  });
  const messages = [{ channel: 'a\0', externalId: 7 }];
  const { status, body } = await workspace.post('/messages/batch', { messages }, workspace.keys.admin);
  expect(status).toBe(202);
  const fields = body['results'][0].error.errors.map(({ field }: { field: string }) => field);
  expect(fields.toSorted()).toEqual(['/channel', '/contact', '/externalId']);
});

test('a body that is too deep is refused for that alone', async () => {
  let deep: unknown[] = [];
  for (let depth = 0; depth < 100; depth += 1) deep = [deep];
  const faults = await faultsOf('post', '/agents', { teamIds: [deep, deep] });
  expect(new Set(Object.values(faults))).toEqual(new Set(['is nested deeper than 32 levels | Send a flatter value.']));
});

test('every contradiction of an assignment is told at once', async () => {
  const { conversationId } = await workspace.open();
  const body = { agentId: newId(), teamId: workspace.defaultTeamId, force: true };
  expect(await faultsOf('post', `/conversations/${conversationId}/assign`, body)).toEqual({
    '/teamId': 'cannot stand beside agentId | Name the agent or the team.',
    '/force': 'cannot stand beside teamId | Leave it out, or name only an agent.',
  });
});

test('what a request names and the workspace does not have is told with where to find it', async () => {
  const { conversationId } = await workspace.open();
  const answer = await workspace.post(`/conversations/${conversationId}/assign`, { agentId: newId() });
  expect(answer).toMatchObject({
    status: 422,
    body: { errors: [{ field: '/agentId', mend: 'Use the id of an agent of this workspace.' }] },
  });
});

test.each([' ', 'Billing ', '\tBilling', '\u00a0', 'Bil\nling\n'])('%j names nothing', async (name) => {
  const { admin } = workspace.keys;
  for (const [path, body] of [
    ['/teams', { name }],
    ['/agents', { name, capacity: 1 }],
    ['/channels', { key: 'billing', name }],
    ['/keys', { scope: 'agent', name }],
    ['/close-categories', { name }],
  ] as const) {
    const refused = { status: 400, body: { errors: [{ field: '/name' }] } };
    expect(await workspace.post(path, body, admin), path).toMatchObject(refused);
  }
  expect(await workspace.patch('/workspace', { name })).toMatchObject({ status: 400 });
});

test('a heartbeat takes no body, or an empty one', async () => {
  const path = `/agents/${await workspace.addAgent()}/heartbeat`;
  expect(await workspace.post(path)).toMatchObject({ status: 200 });
  expect(await workspace.post(path, {})).toMatchObject({ status: 200 });
  expect(await workspace.post(path, { status: 'online' })).toMatchObject({
    status: 400,
    body: { errors: [{ field: '/status' }] },
  });
});
