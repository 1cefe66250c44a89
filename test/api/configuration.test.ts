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
    [{ name: 'Ada', capacity: 1, channelLimits: { chat: -1 } }, 400, '/channelLimits/chat'],
    [{ name: 'Ada', capacity: 1, channelLimits: { chat: 1001 } }, 400, '/channelLimits/chat'],
    [{ name: 'Ada', capacity: 1, channelLimits: { chat: null } }, 400, '/channelLimits/chat'],
    [{ name: 'Ada', capacity: 1, teamIds: [workspace.defaultTeamId, newId()] }, 422, '/teamIds/1'],
    [{ name: 'Ada', capacity: 1, channelLimits: { chat: 1, 'sms/eu': 1 } }, 422, '/channelLimits/sms~1eu'],
  ] as const) {
    expect(await workspace.post('/agents', body, admin)).toMatchObject({ status, body: { errors: [{ field }] } });
  }
});

test('every team and channel that an agent cannot have is named at once, and nothing is changed', async () => {
  const workspace = await api.workspace();
  const stranger = await api.workspace();
  const body = {
    name: 'Ada',
    capacity: 1,
    teamIds: [stranger.defaultTeamId, workspace.defaultTeamId, newId()],
    channelLimits: { chat: 1, phone: 2, mail: 3 },
  };
  const unknown = {
    status: 422,
    body: {
      type: 'urn:switchyard:problem:unknown_reference',
      errors: [
        { field: '/teamIds/0', mend: expect.stringContaining('/v1/teams') },
        { field: '/teamIds/2' },
        { field: '/channelLimits/phone', mend: expect.stringContaining('/v1/channels') },
        { field: '/channelLimits/mail' },
      ],
    },
  };
  expect(await workspace.post('/agents', body, workspace.keys.admin)).toMatchObject(unknown);
  expect((await workspace.get('/agents')).body['items']).toEqual([]);
  const agentId = await workspace.addAgent(2);
  expect(await workspace.patch(`/agents/${agentId}`, body)).toMatchObject(unknown);
  expect((await workspace.get(`/agents/${agentId}`)).body).toMatchObject({ capacity: 2, channelLimits: {} });
});

test('an agent takes from a channel up to its limit there; a higher one drains the queue', async () => {
  const workspace = await api.workspace();
  const agentId = await workspace.addAgent(5);
  const path = `/agents/${agentId}`;
  expect(await workspace.get(path)).toMatchObject({
    body: { channelLimits: {}, channelLoads: {}, lastAssignedAt: null, missedOffers: 0 },
  });
  expect(await workspace.patch(path, { channelLimits: { chat: 1 } })).toMatchObject({
    status: 200,
    body: { capacity: 5, channelLimits: { chat: 1 } },
  });
  const first = await workspace.open();
  const second = await workspace.open();
  expect((await workspace.get(`/conversations/${first.conversationId}`)).body).toMatchObject({ agentId });
  expect((await workspace.get(`/conversations/${second.conversationId}`)).body).toMatchObject({ state: 'waiting' });
  expect((await workspace.get(path)).body).toMatchObject({
    load: 1,
    channelLoads: { chat: 1 },
    lastAssignedAt: expect.stringMatching(/Z$/),
  });
  await workspace.patch(path, { name: 'Bo' });
  expect((await workspace.get(`/conversations/${second.conversationId}`)).body).toMatchObject({ state: 'waiting' });
  await workspace.patch(path, { channelLimits: {} });
  expect((await workspace.get(`/conversations/${second.conversationId}`)).body).toMatchObject({ agentId });
});

test('a conversation costs what its channel said when it began', async () => {
  const workspace = await api.workspace();
  const { items } = (await workspace.get('/channels')).body;
  expect(items).toMatchObject([{ key: 'chat', units: 1 }]);
  const path = `/channels/${items[0].id}`;
  const before = await workspace.open();
  expect(await workspace.patch(path, { units: 5 })).toMatchObject({ status: 200, body: { name: 'Chat', units: 5 } });
  const after = await workspace.open();
  const agentId = await workspace.addAgent(6);
  for (const [{ conversationId }, units] of [
    [before, 1],
    [after, 5],
  ] as const) {
    expect((await workspace.get(`/conversations/${conversationId}`)).body).toMatchObject({ units, agentId });
  }
  expect((await workspace.get(`/agents/${agentId}`)).body).toMatchObject({ load: 6, channelLoads: { chat: 2 } });
  const { admin } = workspace.keys;
  const phone = { key: 'phone', name: 'Phone', units: 100 };
  expect(await workspace.post('/channels', phone, admin)).toMatchObject({ status: 201, body: phone });
  for (const units of [0, 101, 1.5, '5', null]) {
    const refused = { status: 400, body: { errors: [{ field: '/units' }] } };
    expect(await workspace.patch(path, { units })).toMatchObject(refused);
    expect(await workspace.post('/channels', { key: 'x', name: 'X', units }, admin)).toMatchObject(refused);
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

const rulesOff = {
  priorityList: [],
  agingPointsPerMinute: 0,
  slaSeconds: null,
  affinity: null,
  offer: null,
  offline: { then: 'keep' },
  silenceMinutes: null,
  quietMinutes: null,
};

test('a team’s rules are off until set; a change replaces only what it names, and null switches a rule off', async () => {
  const workspace = await api.workspace();
  const { admin } = workspace.keys;
  expect((await workspace.post('/teams', { name: 'Plain' }, admin)).body).toMatchObject(rulesOff);
  const rules = {
    strategy: 'priority_list',
    priorityList: [await workspace.addAgent(), await workspace.addAgent()],
    agingPointsPerMinute: 0.5,
    slaSeconds: 120,
    affinity: { withinHours: 24, waitSeconds: 30 },
    offer: { acceptSeconds: 20, maxMissed: 3 },
    offline: { then: 'return', graceSeconds: 60 },
    silenceMinutes: 15,
    quietMinutes: 60,
  };
  const created = await workspace.post('/teams', { name: 'Sales', ...rules }, admin);
  expect(created).toMatchObject({ status: 201, body: { name: 'Sales', ...rules } });
  const path = `/teams/${created.body['id']}`;

  const changed = await workspace.patch(path, { offer: { acceptSeconds: 30, maxMissed: 1 }, slaSeconds: null });
  const now = { ...rules, slaSeconds: null, offer: { acceptSeconds: 30, maxMissed: 1 } };
  expect(changed).toMatchObject({ status: 200, body: { name: 'Sales', ...now } });
  expect(changed.body['version']).toBeGreaterThan(created.body['version']);
  expect((await workspace.patch(path, { offline: { then: 'return' } })).body['offline']).toEqual({
    then: 'return',
    graceSeconds: 0,
  });
  expect((await workspace.patch(path, rulesOff)).body).toMatchObject({ name: 'Sales', ...rulesOff });
  expect((await workspace.patch(path, {})).body).toMatchObject({ strategy: 'priority_list', ...rulesOff });
  expect((await workspace.get('/teams')).body['items'][2]).toMatchObject({ name: 'Sales', ...rulesOff });
});

test('every fault in a team’s rules is named at once, and nothing is changed', async () => {
  const workspace = await api.workspace();
  const { admin } = workspace.keys;
  const id = newId();
  const body = {
    name: 'Sales',
    strategy: 'by_mood',
    priorityList: [id, id],
    agingPointsPerMinute: 100.5,
    slaSeconds: 0,
    affinity: { withinHours: 8761 },
    offer: { acceptSeconds: 4, maxMissed: 101, patience: 1 },
    offline: { then: 'keep', graceSeconds: 5 },
    silenceMinutes: 0,
    quietMinutes: 1.5,
  };
  const refused = await workspace.post('/teams', body, admin);
  expect(refused.status).toBe(400);
  const fields = [
    '/affinity/waitSeconds',
    '/affinity/withinHours',
    '/agingPointsPerMinute',
    '/offer/acceptSeconds',
    '/offer/maxMissed',
    '/offer/patience',
    '/offline/graceSeconds',
    '/priorityList',
    '/quietMinutes',
    '/silenceMinutes',
    '/slaSeconds',
    '/strategy',
  ];
  const fieldsOf = ({ errors }: Record<string, any>): string[] => errors.map(({ field }: { field: string }) => field);
  expect(fieldsOf(refused.body).toSorted()).toEqual(fields);
  const before = (await workspace.get(`/teams/${workspace.defaultTeamId}`)).body;
  const { name: _, ...rules } = body;
  const again = await workspace.patch(`/teams/${workspace.defaultTeamId}`, rules);
  expect(fieldsOf(again.body).toSorted()).toEqual(fields);
  expect((await workspace.get(`/teams/${workspace.defaultTeamId}`)).body).toEqual(before);
});

test('rules of absurd size are refused, and the largest sensible ones are taken', async () => {
  const workspace = await api.workspace();
  const path = `/teams/${workspace.defaultTeamId}`;
  for (const [member, taken, absurd] of [
    ['agingPointsPerMinute', [0, 100], [-1, 101, '1', null]],
    ['slaSeconds', [1, 604_800], [0, 604_801, 1.5]],
    ['silenceMinutes', [1, 10_080], [0, 10_081]],
    ['quietMinutes', [1, 10_080], [0, 10_081]],
    [
      'affinity',
      [
        { withinHours: 1, waitSeconds: 0 },
        { withinHours: 8760, waitSeconds: 3600 },
      ],
      [{ withinHours: 0, waitSeconds: 0 }, { withinHours: 1, waitSeconds: 3601 }, {}, 24],
    ],
    [
      'offer',
      [
        { acceptSeconds: 5, maxMissed: 1 },
        { acceptSeconds: 3600, maxMissed: 100 },
      ],
      [{ acceptSeconds: 3601, maxMissed: 1 }, { acceptSeconds: 5, maxMissed: 0 }, { acceptSeconds: 5 }, true],
    ],
    [
      'offline',
      [{ then: 'keep' }, { then: 'return', graceSeconds: 0 }, { then: 'return', graceSeconds: 86_400 }],
      [{ then: 'return', graceSeconds: 86_401 }, { then: 'leave' }, { graceSeconds: 5 }, null],
    ],
    ['priorityList', [[]], [Array.from({ length: 1001 }, () => newId()), ['Ada'], null]],
  ] as const) {
    for (const value of taken) {
      expect(await workspace.patch(path, { [member]: value })).toMatchObject({
        status: 200,
        body: { [member]: value },
      });
    }
    for (const value of absurd) {
      const answer = await workspace.patch(path, { [member]: value });
      expect(answer).toMatchObject({ status: 400, body: { type: 'urn:switchyard:problem:invalid_request' } });
      for (const { field } of answer.body['errors']) expect(field).toMatch(new RegExp(`^/${member}`));
    }
  }
});

test('a priority list takes agents of the workspace only, and names all others by their place', async () => {
  const workspace = await api.workspace();
  const stranger = await api.workspace();
  const known = await workspace.addAgent();
  const priorityList = [newId(), known, await stranger.addAgent()];
  const unknown = { status: 422, body: { errors: [{ field: '/priorityList/0' }, { field: '/priorityList/2' }] } };
  const path = `/teams/${workspace.defaultTeamId}`;
  expect(await workspace.patch(path, { name: 'Front', priorityList })).toMatchObject(unknown);
  expect(await workspace.post('/teams', { name: 'Sales', priorityList }, workspace.keys.admin)).toMatchObject(unknown);
  expect((await workspace.get('/teams')).body['items']).toMatchObject([{ name: 'Default', priorityList: [] }]);
  expect(await stranger.patch(path, { slaSeconds: 5 })).toMatchObject({ status: 404 });
  expect(await workspace.patch(path, { slaSeconds: 5 }, workspace.keys.agent)).toMatchObject({ status: 403 });
});

test('a waiting conversation shows what it asks for, what it costs and the priority that its wait has given it', async () => {
  const workspace = await api.workspace();
  const { conversationId } = await workspace.open();
  const path = `/conversations/${conversationId}`;
  expect((await workspace.get(path)).body).toMatchObject({
    channel: 'chat',
    units: 1,
    priority: 0,
    effectivePriority: 0,
    skills: [],
    requirements: { skills: [], rings: [] },
    ring: 0,
    offer: null,
    preferredAgentId: null,
    quietSince: null,
    closing: null,
  });
  await api.pool.query(`UPDATE conversations SET waiting_since = now() - interval '10 min' WHERE id = $1`, [
    conversationId,
  ]);
  await workspace.patch(`/teams/${workspace.defaultTeamId}`, { agingPointsPerMinute: 2.5 });
  expect((await workspace.get(path)).body).toMatchObject({ priority: 0, effectivePriority: 25 });
  await workspace.patch(`/teams/${workspace.defaultTeamId}`, { agingPointsPerMinute: 50 });
  expect((await workspace.get('/conversations?state=waiting')).body['items']).toMatchObject([
    { effectivePriority: 100 },
  ]);
  await workspace.addAgent();
  expect((await workspace.get(path)).body).toMatchObject({ state: 'assigned', effectivePriority: null });
});

test('a conversation shows whom it is offered to and until when; its units are held there', async () => {
  const workspace = await api.workspace();
  const path = `/teams/${workspace.defaultTeamId}`;
  await workspace.patch(path, { offer: { acceptSeconds: 600, maxMissed: 3 } });
  const agentId = await workspace.addAgent();
  const { conversationId } = await workspace.open();
  expect((await workspace.get(`/conversations/${conversationId}`)).body).toMatchObject({
    state: 'waiting',
    agentId: null,
    offer: { agentId, expiresAt: expect.stringMatching(/Z$/) },
  });
  expect((await workspace.get(`/agents/${agentId}`)).body).toMatchObject({ load: 1, channelLoads: { chat: 1 } });
  // Offers already made stay; the next conversation is assigned at once.
  expect(await workspace.patch(path, { offer: null })).toMatchObject({ status: 200, body: { offer: null } });
  const other = await workspace.addAgent();
  const { conversationId: next } = await workspace.open();
  expect((await workspace.get(`/conversations/${next}`)).body).toMatchObject({ agentId: other, offer: null });
  expect((await workspace.get(`/conversations/${conversationId}`)).body).toMatchObject({ offer: { agentId } });
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
