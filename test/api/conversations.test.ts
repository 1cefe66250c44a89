import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

let api: WorkspaceApi;

beforeAll(async () => {
  api = await startWorkspaceApi();
});

afterAll(() => api.stop());

test('a conversation shows where it stands, whom it belongs to and when that happened', async () => {
  const workspace = await api.workspace();
  const agentId = await workspace.addAgent();
  const { contactId, conversationId } = await workspace.open();
  const { status, body } = await workspace.get(`/conversations/${conversationId}`);
  expect(status).toBe(200);
  expect(body).toEqual({
    id: conversationId,
    contactId,
    state: 'assigned',
    source: 'contact',
    priority: 0,
    slaSeconds: null,
    teamId: workspace.defaultTeamId,
    agentId,
    flowVersionId: null,
    openedAt: expect.stringMatching(/^\d{4}-.*Z$/),
    routedAt: expect.stringMatching(/Z$/),
    assignedAt: expect.stringMatching(/Z$/),
    closedAt: null,
    closeRequestedAt: null,
    closing: null,
    fields: {},
    fieldSources: {},
    asking: null,
    fallbackReason: null,
    waitingSince: null,
    forced: false,
    channel: 'chat',
    units: 1,
    effectivePriority: null,
    skills: [],
    requirements: { skills: [], rings: [] },
    ring: 0,
    offer: null,
    preferredAgentId: null,
    quietSince: null,
  });
});

test('a conversation shows its own target, where its fields come from, and the question that waits for an answer', async () => {
  const workspace = await api.workspace();
  const { conversationId } = await workspace.open();
  const fieldSources = { tier: { type: 'string', step: 0, kind: 'classify', confidence: 0.9 } };
  await api.pool.query(
    `UPDATE conversations SET sla_seconds = 90, fields = '{"tier": "gold"}', field_sources = $2, state = 'enriching', flow_step = 1,
            question_count = 2, awaiting_after_sequence = 1, answer_until = '2100-01-01T00:00:00Z', answer_settle_seconds = 3
     WHERE id = $1`,
    [conversationId, JSON.stringify(fieldSources)],
  );
  const asking = { step: 1, question: 2, until: '2100-01-01T00:00:00.000Z' };
  const { body } = await workspace.get(`/conversations/${conversationId}`);
  expect(body).toMatchObject({ slaSeconds: 90, fields: { tier: 'gold' }, fieldSources, asking });
});

test('unknown ids, malformed ids and ids of another workspace answer 404 on every call', async () => {
  const workspace = await api.workspace();
  const other = await (await api.workspace()).open();
  const agentId = await workspace.addAgent();
  for (const id of [newId(), 'nonsense', other.conversationId]) {
    for (const path of ['', '/messages', '/decisions']) {
      expect(await workspace.get(`/conversations/${id}${path}`)).toMatchObject({ status: 404 });
    }
    expect(await workspace.post(`/conversations/${id}/messages`, { text: 'Hi', agentId })).toMatchObject({
      status: 404,
    });
    expect(await workspace.post(`/conversations/${id}/close`, {})).toMatchObject({ status: 404 });
    expect(await workspace.post(`/conversations/${id}/assign`, {})).toMatchObject({ status: 404 });
  }
  expect(await workspace.get(`/contacts/${other.contactId}`)).toMatchObject({ status: 404 });
});

test('the list filters by state, contact, team and agent, newest first, page by page', async () => {
  const workspace = await api.workspace();
  const agentId = await workspace.addAgent(2);
  const opened = [];
  for (let n = 0; n < 5; n += 1) opened.push(await workspace.open());
  const newestFirst = opened.map(({ conversationId }) => conversationId).toReversed();

  const idsOf = async (query: string): Promise<string[]> => {
    const ids: string[] = [];
    for (let cursor = ''; ;) {
      const { body } = await workspace.get(`/conversations?limit=2${query}${cursor}`);
      ids.push(...body['items'].map((item: { id: string }) => item.id));
      if (body['nextCursor'] === null) return ids;
      cursor = `&cursor=${body['nextCursor']}`;
    }
  };
  expect(await idsOf('')).toEqual(newestFirst);
  expect(await idsOf('&state=waiting')).toEqual(newestFirst.slice(0, 3));
  expect(await idsOf(`&agentId=${agentId}`)).toEqual(newestFirst.slice(3));
  expect(await idsOf(`&teamId=${workspace.defaultTeamId}&state=assigned`)).toEqual(newestFirst.slice(3));
  expect(await idsOf(`&contactId=${opened[0]!.contactId}`)).toEqual([opened[0]!.conversationId]);
  expect(await idsOf('&state=closed')).toEqual([]);
  expect(await workspace.get('/conversations?state=lost')).toMatchObject({ status: 400 });
  expect(await workspace.get('/conversations?limit=101')).toMatchObject({ status: 400 });
  expect(await workspace.get('/conversations?cursor=nonsense')).toMatchObject({ status: 400 });
});

test('a thread holds messages and replies in their order, page by page', async () => {
  const workspace = await api.workspace();
  const agentId = await workspace.addAgent();
  const { contact, conversationId } = await workspace.open(['one', 'two']);
  const reply = await workspace.post(`/conversations/${conversationId}/messages`, { text: 'three', agentId });
  expect(reply).toMatchObject({
    status: 201,
    body: { direction: 'outbound', text: 'three', sequence: 3, agentId, conversationId, channel: 'chat' },
  });
  await workspace.write('four', contact);

  const first = await workspace.get(`/conversations/${conversationId}/messages?limit=3`);
  expect(first.body['items'].map((item: { text: string }) => item.text)).toEqual(['one', 'two', 'three']);
  expect(first.body['items'][0]).toMatchObject({ direction: 'inbound', channel: 'chat', attachments: [] });
  const cursor = first.body['nextCursor'];
  const rest = await workspace.get(`/conversations/${conversationId}/messages?limit=3&cursor=${cursor}`);
  expect(rest.body).toMatchObject({ items: [{ text: 'four', sequence: 4 }], nextCursor: null });
});

test('a reply sent twice with one externalId is stored once', async () => {
  const workspace = await api.workspace();
  const agentId = await workspace.addAgent();
  const { conversationId } = await workspace.open();
  const body = { text: 'Hi', externalId: 'reply-1', agentId };
  const first = await workspace.post(`/conversations/${conversationId}/messages`, body);
  const second = await workspace.post(`/conversations/${conversationId}/messages`, body);
  expect(second).toEqual(first);
  expect((await workspace.get(`/conversations/${conversationId}/messages`)).body['items']).toHaveLength(2);
});

test('a reply needs an agent: the one of the key, or the one that the body names', async () => {
  const workspace = await api.workspace();
  const agentId = await workspace.addAgent();
  const { conversationId } = await workspace.open();
  const path = `/conversations/${conversationId}/messages`;
  expect(await workspace.post(path, { text: 'Hi' })).toMatchObject({
    status: 422,
    body: { type: 'urn:switchyard:problem:agent_required', errors: [{ field: '/agentId' }] },
  });
  expect(await workspace.post(path, { text: 'Hi', agentId: newId() })).toMatchObject({
    status: 422,
    body: { type: 'urn:switchyard:problem:unknown_reference', errors: [{ field: '/agentId' }] },
  });
  const key = await workspace.keyOf(agentId);
  expect(await workspace.post(path, { text: 'Hi' }, key)).toMatchObject({ status: 201, body: { agentId } });
  expect(await workspace.post(path, { text: 'Hi', agentId: newId() }, key)).toMatchObject({ status: 403 });
});

test('from the close request on, replies and assignments answer 409, and the first request stands', async () => {
  const workspace = await api.workspace();
  const agentId = await workspace.addAgent();
  const ref = await workspace.open();
  const path = `/conversations/${ref.conversationId}`;
  const first = await workspace.post(`${path}/close`, { category: 'solved', summary: 'Paid' });
  expect(first).toMatchObject({
    status: 202,
    body: { state: 'assigned', closing: { category: 'solved', summary: 'Paid' } },
  });
  expect(await workspace.post(`${path}/close`, { category: 'spam' })).toMatchObject({
    status: 202,
    body: { closing: { category: 'solved' } },
  });
  for (const [state, type] of [
    ['assigned', 'conflict.closing'],
    ['closed', 'conflict.closed'],
  ]) {
    if (state === 'closed') await workspace.close(ref);
    const expected = { status: 409, body: { type: `urn:switchyard:problem:${type}` } };
    expect(await workspace.post(`${path}/messages`, { text: 'Hi', agentId })).toMatchObject(expected);
    expect(await workspace.post(`${path}/assign`, { agentId })).toMatchObject(expected);
    expect((await workspace.get(path)).body).toMatchObject({ state });
  }
  // Without a body, as `curl -X POST` sends it.
  expect(await workspace.post(`${path}/close`)).toMatchObject({
    status: 202,
    body: { closing: { category: 'solved' } },
  });
});

test('a person assigns to an agent, over the capacity only with force, and back to the queue', async () => {
  const workspace = await api.workspace();
  const first = await workspace.open();
  const second = await workspace.open();
  const { body: agent } = await workspace.post('/agents', { name: 'Bo', capacity: 1 }, workspace.keys.admin);
  const agentId: string = agent['id'];
  const assign = (conversationId: string, body?: object) =>
    workspace.post(`/conversations/${conversationId}/assign`, body);

  const note = { agentId, note: 'Knows the case' };
  expect(await assign(first.conversationId, note)).toMatchObject({ status: 200, body: { state: 'assigned', agentId } });
  expect(await assign(second.conversationId, { agentId })).toMatchObject({
    status: 409,
    body: { type: 'urn:switchyard:problem:conflict.no_room' },
  });
  expect(await assign(second.conversationId, { agentId, force: true })).toMatchObject({
    body: { agentId, forced: true },
  });
  expect((await workspace.get(`/agents/${agentId}`)).body).toMatchObject({ load: 2, capacity: 1 });

  expect(await assign(second.conversationId)).toMatchObject({
    status: 200,
    body: { state: 'waiting', agentId: null, teamId: workspace.defaultTeamId, forced: false },
  });
  expect((await workspace.get(`/agents/${agentId}`)).body).toMatchObject({ load: 1 });

  const decisions = await workspace.get(`/conversations/${first.conversationId}/decisions`);
  expect(decisions.body['items']).toMatchObject([
    { kind: 'routing', summary: expect.stringContaining('default team') },
    { kind: 'assignment', summary: expect.stringContaining('The conversation waits') },
    { kind: 'assignment', summary: 'A person assigned the conversation to Bo. Note: Knows the case' },
  ]);
});

test('an assignment that names what does not exist, or contradicts itself, changes nothing', async () => {
  const workspace = await api.workspace();
  const { conversationId } = await workspace.open();
  const agentId = newId();
  const path = `/conversations/${conversationId}/assign`;
  for (const [body, status, field] of [
    [{ agentId }, 422, '/agentId'],
    [{ teamId: newId() }, 422, '/teamId'],
    [{ agentId, teamId: workspace.defaultTeamId }, 400, '/teamId'],
    [{ force: true }, 400, '/force'],
    [{ agent: agentId }, 400, '/agent'],
  ] as const) {
    expect(await workspace.post(path, body)).toMatchObject({ status, body: { errors: [{ field }] } });
  }
  expect((await workspace.get(`/conversations/${conversationId}`)).body).toMatchObject({ state: 'waiting' });
});

test('an agent opens a conversation; a second one answers 409 with the id of the open one', async () => {
  const workspace = await api.workspace();
  const agentId = await workspace.addAgent();
  const { contactId } = await workspace.write('Hello');
  const body = { contactId, source: 'user', agentId };
  const opened = await workspace.post('/conversations', body);
  expect(opened).toMatchObject({ status: 201, body: { state: 'assigned', source: 'user', agentId, contactId } });
  expect(await workspace.post('/conversations', body)).toMatchObject({
    status: 409,
    body: { type: 'urn:switchyard:problem:conflict.already_open', conversationId: opened.body['id'] },
  });
  expect((await workspace.get(`/conversations/${opened.body['id']}/messages`)).body['items']).toHaveLength(1);
  expect(await workspace.post('/conversations', { contactId: newId() })).toMatchObject({
    status: 422,
    body: { errors: [{ field: '/contactId' }] },
  });
});

test('a contact shows its identities and its open conversation', async () => {
  const workspace = await api.workspace();
  const { contact, contactId, conversationId } = await workspace.open();
  expect(await workspace.get(`/contacts/${contactId}`)).toMatchObject({
    status: 200,
    body: {
      id: contactId,
      name: null,
      attributes: {},
      identities: [{ channel: 'chat', externalId: contact }],
      openConversationId: conversationId,
    },
  });
  const { contactId: newer } = await workspace.write('Hi');
  const page = await workspace.get('/contacts?limit=1');
  expect(page.body['items']).toMatchObject([{ id: newer, openConversationId: null }]);
  const rest = await workspace.get(`/contacts?limit=1&cursor=${page.body['nextCursor']}`);
  expect(rest.body).toMatchObject({ items: [{ id: contactId }], nextCursor: null });
});

test('an ingest key reads nothing', async () => {
  const workspace = await api.workspace();
  for (const path of ['/contacts', '/conversations', '/agents', '/teams', '/flows', '/events']) {
    expect(await workspace.get(path, workspace.keys.ingest)).toMatchObject({ status: 403 });
  }
});
