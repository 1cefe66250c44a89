import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

let api: WorkspaceApi;

beforeAll(async () => {
  api = await startWorkspaceApi();
});

afterAll(() => api.stop());

async function prepare() {
  const workspace = await api.workspace();
  const { admin } = workspace.keys;
  const sales = (await workspace.post('/teams', { name: 'Sales' }, admin)).body['id'] as string;
  const document = {
    enrichment: [
      {
        kind: 'ask',
        field: 'purpose',
        text: 'What is it about?',
        choices: [
          { value: 'sales', label: 'Buying' },
          { value: 'support', label: 'Help' },
        ],
        timeoutSeconds: 60,
      },
    ],
    routing: {
      branches: [{ name: 'Sales', when: "fields.purpose == 'sales'", teamId: sales, priority: 10 }],
      otherwise: { teamId: workspace.defaultTeamId },
    },
  };
  async function create(changes: object = {}) {
    const { status, body } = await workspace.post('/flows', { name: 'Main', document, ...changes }, admin);
    expect(status, JSON.stringify(body)).toBe(201);
    return body['id'] as string;
  }
  const attempt = (id: string, body: object = {}) =>
    workspace.post(`/flows/${id}/try`, { message: { text: 'Hello' }, ...body }, admin);
  return { workspace, admin, sales, document, create, attempt };
}

test('a try tells the path, the messages, the team, and who would get it and why', async () => {
  const { workspace, sales, create, attempt } = await prepare();
  const agentId = await workspace.addAgent(2);
  const id = await create();
  const tried = await attempt(id, { answers: ['buying'] });
  expect(tried).toMatchObject({
    status: 200,
    body: {
      trigger: { matched: true, earlierFlow: null },
      steps: [
        { position: 0, kind: 'ask', outcome: 'asked', asked: { text: 'What is it about?' } },
        { outcome: 'answered', answer: ['buying'], fieldsSet: { purpose: 'sales' } },
      ],
      fields: { purpose: 'sales' },
      messages: [{ text: 'What is it about?', choices: [{ value: 'sales', label: 'Buying' }, {}] }],
      route: {
        kind: 'team',
        branch: 'Sales',
        teamId: sales,
        teamName: 'Sales',
        priority: 10,
        evaluated: [{ name: 'Sales', value: true, values: { 'fields.purpose': 'sales' } }],
      },
      assignment: { outcome: 'waiting', agentId: null, summary: expect.stringContaining('no agents') },
    },
  });
  expect((await attempt(id, { answers: ['Help'] })).body).toMatchObject({
    route: { branch: null, teamName: 'Default' },
    assignment: { outcome: 'assigned', agentId, agentName: 'Ada', summary: expect.stringMatching(/^Ada chosen: /) },
  });
});

test('every share of a split can be tried', async () => {
  const { workspace, sales, create, attempt } = await prepare();
  const split = [
    { percent: 80, teamId: workspace.defaultTeamId },
    { percent: 20, teamId: sales },
  ];
  const id = await create({ document: { enrichment: [], routing: { branches: [], otherwise: { split } } } });
  for (const [share, teamName] of [
    [79, 'Default'],
    [80, 'Sales'],
  ]) {
    expect((await attempt(id, { share })).body).toMatchObject({ route: { share, teamName } });
  }
  expect(await attempt(id, { share: 100 })).toMatchObject({ status: 400, body: { errors: [{ field: '/share' }] } });
});

test('a try tells what is hardly meant about the flow', async () => {
  const { workspace, create, attempt, document } = await prepare();
  const { routing } = document;
  const branches = [{ ...routing.branches[0]!, when: "fields.purpose == 'slaes'" }];
  const id = await create({ document: { ...document, routing: { ...routing, branches } } });
  const messagesOf = async (flowId: string) =>
    (await attempt(flowId)).body['hints'].map(({ message }: { message: string }) => message);
  const misspelt = 'Branch “Sales”: `fields.purpose` is never "slaes"; it can be "sales", "support".';
  expect(await messagesOf(id)).toEqual(expect.arrayContaining([misspelt, expect.stringMatching(/no channel has/)]));
  expect(await messagesOf(await create({ name: 'Other' }))).not.toContain(misspelt);
  expect((await workspace.get('/conversations')).body['items']).toEqual([]);
});

test('who a try names gets the conversation in earnest', async () => {
  const { workspace, create, attempt } = await prepare();
  const agents = [await workspace.addAgent(2), await workspace.addAgent(2), await workspace.addAgent(2)];
  const id = await create();
  for (let turn = 0; turn < 5; turn += 1) {
    const preview = (await attempt(id)).body['assignment'];
    const { conversationId } = await workspace.open();
    const { agentId } = (await workspace.get(`/conversations/${conversationId}`)).body as { agentId: string };
    expect(agents).toContain(agentId);
    expect(preview).toMatchObject({ outcome: 'assigned', agentId });
  }
});

test('a try with a team of offers tells an offer; a contact of the workspace is preferred as in earnest', async () => {
  const { workspace, create, attempt } = await prepare();
  const team = `/teams/${workspace.defaultTeamId}`;
  await workspace.patch(team, { affinity: { withinHours: 1, waitSeconds: 0 } });
  const [first] = [await workspace.addAgent(5), await workspace.addAgent(5)];
  const conversation = await workspace.open();
  const { agentId } = (await workspace.get(`/conversations/${conversation.conversationId}`)).body;
  expect(agentId).toBe(first);
  await workspace.post(`/conversations/${conversation.conversationId}/close`, {});
  await workspace.close(conversation);
  await workspace.patch(team, { offer: { acceptSeconds: 60, maxMissed: 1 } });
  const id = await create();
  expect((await attempt(id, { contact: { id: conversation.contactId } })).body['assignment']).toMatchObject({
    outcome: 'offered',
    agentId: first,
    summary: expect.stringContaining('preferred for this contact'),
  });
  expect((await attempt(id)).body['assignment'].agentId).not.toBe(first);
});

test('drafts, live and older versions and documents are tried alike', async () => {
  const { workspace, admin, document, create, attempt } = await prepare();
  const id = await create();
  await workspace.post(`/flows/${id}/publish`, undefined, admin);
  const close = { enrichment: [], routing: { branches: [], otherwise: { close: true, text: 'Bye' } } };
  expect(await workspace.patch(`/flows/${id}`, { document: close })).toMatchObject({ status: 200 });
  const closed = { route: { kind: 'close', text: 'Bye' }, messages: [{ text: 'Bye' }], assignment: null };
  expect((await attempt(id)).body).toMatchObject(closed);
  for (const version of ['live', 1])
    expect((await attempt(id, { version })).body.steps, String(version)).toHaveLength(2);
  const body = { message: { text: 'Hello' } };
  expect((await workspace.post('/flows/try', { ...body, document: close }, admin)).body).toMatchObject(closed);
  expect((await workspace.post('/flows/try', { ...body, document }, admin)).body).toMatchObject({
    trigger: { earlierFlow: 'Main' },
  });
  expect((await workspace.post('/flows/try', { ...body, document, name: 'Main' }, admin)).body).toMatchObject({
    trigger: { earlierFlow: null },
  });
});

test('a flow that is asked before and matches is named', async () => {
  const { workspace, admin, document, create, attempt } = await prepare();
  const onMail = { trigger: { condition: "channel.key == 'mail'" }, ...document };
  const first = await create({ name: 'Mail', document: onMail });
  const second = await create();
  await workspace.post('/channels', { key: 'mail', name: 'Mail' }, admin);
  const earlier = async (channel: string) => (await attempt(second, { channel })).body['trigger'].earlierFlow;
  expect(await earlier('mail')).toBeNull();
  await workspace.post(`/flows/${first}/publish`, undefined, admin);
  expect(await earlier('mail')).toBe('Mail');
  expect(await earlier('chat')).toBeNull();
  expect((await attempt(first, { channel: 'chat' })).body).toMatchObject({
    trigger: { matched: false, values: { 'channel.key': 'chat' } },
    route: null,
    assignment: null,
  });
});

test('what is described of the contact, the time and other systems decides', async () => {
  const { workspace, create, attempt } = await prepare();
  const document = {
    hours: { office: { timeZone: 'UTC', weekly: { monday: [{ from: '09:00', to: '17:00' }] } } },
    enrichment: [
      { kind: 'contact', fields: { stage: 'lifecycle', visits: 'conversationCount', tier: 'attributes/tier' } },
      { kind: 'http', url: 'https://crm.example.com', timeoutMs: 1000, fields: { debt: '/debt' } },
    ],
    routing: {
      branches: [{ name: 'Open', when: 'hours.office.open', teamId: workspace.defaultTeamId }],
      otherwise: { close: true },
    },
  };
  const id = await create({ document });
  const contact = { lifecycle: 'lead', attributes: { tier: 'gold' }, history: { conversationCount: 3 } };
  const monday = await attempt(id, { contact, at: '2026-11-23T10:00:00Z', responses: { 1: { debt: 5 } } });
  expect(monday.body).toMatchObject({
    fields: { stage: 'lead', visits: 3, tier: 'gold', debt: 5 },
    route: { branch: 'Open', evaluated: [{ values: { 'hours.office.open': true } }] },
  });
  const sunday = await attempt(id, { contact, at: '2026-11-22T10:00:00Z' });
  expect(sunday.body).toMatchObject({
    steps: [{ outcome: 'done' }, { outcome: 'failed', reason: expect.stringContaining('no response') }],
    route: { kind: 'close' },
  });
});

test('what a try names and is not there is refused by its place', async () => {
  const { workspace, admin, create, attempt } = await prepare();
  const id = await create();
  for (const [body, status, field] of [
    [{ version: 'live' }, 422, '/version'],
    [{ version: 9 }, 422, '/version'],
    [{ version: 'old' }, 400, '/version'],
    [{ channel: 'fax' }, 422, '/channel'],
    [{ contact: { id: newId() } }, 422, '/contact/id'],
    [{ contact: { age: 3 } }, 400, '/contact/age'],
    [{ contact: { attributes: { list: [1] } } }, 400, '/contact/attributes/list'],
    [{ message: {} }, 400, '/message/text'],
    [{ at: 'tomorrow' }, 400, '/at'],
    [{ answers: [1] }, 400, '/answers/0'],
    [{ answers: [Array.from({ length: 11 }, () => 'a')] }, 400, '/answers/0'],
  ] as const) {
    expect(await attempt(id, body), JSON.stringify(body)).toMatchObject({ status, body: { errors: [{ field }] } });
  }
  expect(await attempt(newId())).toMatchObject({ status: 404 });
  const stranger = await api.workspace();
  const request = { message: { text: 'Hello' } };
  expect(await stranger.post(`/flows/${id}/try`, request, stranger.keys.admin)).toMatchObject({ status: 404 });
  expect(await workspace.post(`/flows/${id}/try`, request)).toMatchObject({ status: 403 });
  expect(await workspace.post('/flows/try', { ...request, document: {} }, admin)).toMatchObject({
    status: 422,
    body: { type: 'urn:switchyard:problem:invalid_flow' },
  });
});

test('a response that no step takes is refused, with those that do', async () => {
  const { workspace, admin, create, attempt } = await prepare();
  const document = {
    enrichment: [
      { kind: 'set', field: 'a', value: 1 },
      { kind: 'http', url: 'https://crm.example.com', timeoutMs: 1000, fields: { tier: '/tier' } },
    ],
    routing: { branches: [], otherwise: { teamId: workspace.defaultTeamId } },
  };
  const id = await create({ document });
  for (const key of ['0', '00', '01', '2', '99', '100', 'a/b']) {
    const fault = {
      field: `/responses/${key.replace('/', '~1')}`,
      message: 'names no `http` or `classify` step',
      mend: 'Name a step by its position, counted from 0: 1.',
    };
    expect(await attempt(id, { responses: { 1: {}, [key]: {} } }), key).toMatchObject({
      status: 422,
      body: { type: 'urn:switchyard:problem:unknown_reference', errors: [fault] },
    });
  }
  expect(await attempt(id, { responses: { 1: { tier: 'gold' } } })).toMatchObject({
    body: { fields: { tier: 'gold' } },
  });
  const local = { ...document, enrichment: [] };
  const body = { message: { text: 'Hello' }, document: local, responses: { 0: {} } };
  expect(await workspace.post('/flows/try', body, admin)).toMatchObject({
    status: 422,
    body: { errors: [{ field: '/responses/0', mend: 'Remove it: the flow has no such step.' }] },
  });
});

test('what is found before a step that must not fail is told with the default team that gets it', async () => {
  const { workspace, create, attempt } = await prepare();
  const http = { kind: 'http', url: 'https://crm.example.com', timeoutMs: 1000, onFailure: 'fallBack' };
  const document = {
    enrichment: [
      { kind: 'set', field: 'a', value: 'known' },
      { ...http, fields: { tier: '/tier', debt: '/debt' } },
      { kind: 'set', field: 'late', value: true },
    ],
    routing: { branches: [], otherwise: { close: true } },
  };
  const id = await create({ document });
  const { body } = await attempt(id);
  expect(body).toMatchObject({
    steps: [{ outcome: 'done' }, { outcome: 'failed', reason: expect.stringContaining('no response'), fieldsSet: {} }],
    fieldSources: { a: { step: 0, kind: 'set' } },
    route: { kind: 'default_team', teamId: workspace.defaultTeamId, reason: expect.stringMatching(/^step 2 failed: /) },
  });
  expect(body['fields']).toEqual({ a: 'known' });
  // What the response does not tell is no failure.
  expect((await attempt(id, { responses: { 1: { tier: 'gold' } } })).body).toMatchObject({
    steps: [{ outcome: 'done' }, { outcome: 'done', reason: expect.stringContaining('debt') }, { outcome: 'done' }],
    route: { kind: 'close' },
    fields: { a: 'known', tier: 'gold', late: true },
  });
});

test('a try changes nothing in the database, not even a sequence, whatever the flow would do', async () => {
  const { workspace, document, create, attempt } = await prepare();
  await workspace.addAgent(2);
  await workspace.open();
  const { admin } = workspace.keys;
  const [channel] = (await workspace.get('/channels')).body['items'];
  const outboundUrl = 'https://chat.example.com/';
  expect(await workspace.patch(`/channels/${channel.id}`, { outboundUrl })).toMatchObject({ status: 200 });
  const [ask] = document.enrichment;
  const http = { kind: 'http', url: 'https://crm.example.com/', timeoutMs: 1_000, fields: { tier: '/tier' } };
  const labels = [{ label: 'lamps' }, { label: 'bicycles' }];
  const classify = { kind: 'classify', field: 'topic', labels, otherwise: 'other', timeoutMs: 1_000 };
  const spoken = { text: 'One moment', webhookUrl: 'https://hooks.example.com/' };
  const asking = {
    enrichment: [ask, http, classify],
    routing: {
      branches: [{ name: 'Gold', when: "fields.tier == 'gold'", teamId: workspace.defaultTeamId, ...spoken }],
      otherwise: { close: true, ...spoken },
    },
  };
  const id = await create({ document: asking });
  await workspace.post(`/flows/${id}/publish`, undefined, admin);
  const before = await fingerprint();
  for (const [given, routed] of [
    [
      { answers: ['buying'], responses: { 1: { tier: 'gold' }, 2: { label: 'lamps' } } },
      { route: { kind: 'team', ...spoken }, assignment: { outcome: 'assigned' }, fields: { topic: 'lamps' } },
    ],
    [{}, { route: { kind: 'close', ...spoken }, steps: [{}, {}, { outcome: 'failed' }, { outcome: 'failed' }] }],
  ]) {
    expect(await attempt(id, given)).toMatchObject({ status: 200, body: routed });
    const unstored = { message: { text: 'Hello' }, document: asking, ...given };
    expect(await workspace.post('/flows/try', unstored, admin)).toMatchObject({ status: 200, body: routed });
  }
  expect(await fingerprint()).toEqual(before);
});

/** Each table by its rows and the transactions that wrote them, each sequence by where it stands. */
async function fingerprint(): Promise<Record<string, unknown>> {
  const { rows: tables } = await api.pool.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'public' AND c.relkind = 'r'`,
  );
  const found: Record<string, unknown> = {};
  for (const { name } of tables) {
    const { rows } = await api.pool.query(
      `SELECT count(*)::int AS rows, max(xmin::text::bigint)::text AS newest, max(xmax::text::bigint)::text AS locked FROM "${name}"`,
    );
    found[name] = rows[0];
  }
  const { rows: sequences } = await api.pool.query(
    'SELECT sequencename, last_value FROM pg_sequences ORDER BY sequencename',
  );
  return { ...found, sequences };
}
