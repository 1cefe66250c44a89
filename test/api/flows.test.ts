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
  const documentOf = (priority: number) => ({
    routing: { branches: [], otherwise: { teamId: workspace.defaultTeamId, priority } },
  });
  async function create(name: string) {
    const { status, body } = await workspace.post('/flows', { name, document: documentOf(0) }, admin);
    expect(status).toBe(201);
    return body['id'] as string;
  }
  const act = (path: string, body?: object) => workspace.post(`/flows/${path}`, body, admin);
  const names = async (query = '') =>
    (await workspace.get(`/flows${query}`)).body['items'].map((flow: any) => flow.name);
  return { workspace, admin, documentOf, create, act, names };
}

test('the order of flows is set whole, and shown in lists page by page', async () => {
  const { workspace, admin, create, names } = await prepare();
  const [first, second, third] = [await create('First'), await create('Second'), await create('Third')];
  expect((await workspace.get(`/flows/${third}`)).body).toMatchObject({ position: 3, archivedAt: null });
  const ordered = await workspace.put('/flows/order', { flowIds: [third, first, second] }, admin);
  expect(ordered).toMatchObject({
    status: 200,
    body: {
      items: [
        { id: third, position: 1 },
        { id: first, position: 2 },
        { id: second, position: 3 },
      ],
    },
  });
  expect(await names()).toEqual(['Third', 'First', 'Second']);
  const page = await workspace.get('/flows?limit=2');
  expect(page.body['items']).toMatchObject([{ id: third }, { id: first }]);
  const next = await workspace.get(`/flows?limit=2&cursor=${page.body['nextCursor']}`);
  expect(next.body).toMatchObject({ items: [{ id: second, position: 3 }], nextCursor: null });
  expect(await workspace.put('/flows/order', { flowIds: [] })).toMatchObject({ status: 403 });
});

test('an order that lacks, doubles or invents a flow names each, and changes nothing', async () => {
  const { workspace, admin, create, names } = await prepare();
  const [first, second] = [await create('First'), await create('Second')];
  const stranger = newId();
  expect(await workspace.put('/flows/order', { flowIds: [second, stranger, second] }, admin)).toMatchObject({
    status: 422,
    body: {
      type: 'urn:switchyard:problem:flow_order',
      errors: [
        { field: '/flowIds/1', message: 'is no flow of this workspace, or an archived one' },
        { field: '/flowIds/2', message: 'is named before' },
        { field: '/flowIds', message: `lacks the flow ${first} (First)` },
      ],
    },
  });
  expect(await names()).toEqual(['First', 'Second']);
});

test('a flow is unpublished, archived and restored; an archived one refuses changes with 409', async () => {
  const { workspace, create, act, names } = await prepare();
  const id = await create('Support');
  await act(`${id}/publish`);
  expect(await act(`${id}/unpublish`)).toMatchObject({ status: 200, body: { publishedNumber: null, position: 1 } });
  await act(`${id}/publish`);
  expect(await act(`${id}/archive`)).toMatchObject({
    status: 200,
    body: { publishedVersionId: null, position: null, archivedAt: expect.stringMatching(/Z$/) },
  });
  expect(await names()).toEqual([]);
  expect(await names('?archived=true')).toEqual(['Support']);
  expect((await workspace.get(`/flows/${id}`)).body).toMatchObject({ name: 'Support' });
  const archived = { status: 409, body: { type: 'urn:switchyard:problem:conflict.archived' } };
  expect(await workspace.patch(`/flows/${id}`, { name: 'Other' })).toMatchObject(archived);
  for (const [path, body] of [['publish'], ['unpublish'], ['rollback', { number: 1 }]] as const) {
    expect(await act(`${id}/${path}`, body), path).toMatchObject(archived);
  }
  expect(await act(`${id}/restore`)).toMatchObject({
    status: 200,
    body: { archivedAt: null, publishedNumber: null, position: 1 },
  });
  expect(await act(`${id}/publish`)).toMatchObject({ status: 201, body: { number: 3 } });
});

test('an older version is looked at, compared, and made live again', async () => {
  const { workspace, documentOf, create, act } = await prepare();
  const id = await create('Support');
  await act(`${id}/publish`);
  await workspace.patch(`/flows/${id}`, { document: documentOf(5) });
  await act(`${id}/publish`);
  expect(await workspace.get(`/flows/${id}/versions/1`)).toMatchObject({
    status: 200,
    body: { flowId: id, number: 1, document: documentOf(0) },
  });
  const changed = { kind: 'changed', path: '/routing/otherwise/priority' };
  expect(await workspace.get(`/flows/${id}/diff?from=1&to=2`)).toMatchObject({
    status: 200,
    body: { changes: [{ ...changed, from: 0, to: 5 }] },
  });
  expect((await workspace.get(`/flows/${id}/diff`)).body).toEqual({ changes: [] });

  expect(await act(`${id}/rollback`, { number: 1 })).toMatchObject({
    status: 200,
    body: { number: 1, document: documentOf(0), hints: expect.any(Array) },
  });
  expect((await workspace.get(`/flows/${id}`)).body).toMatchObject({ publishedNumber: 1, document: documentOf(5) });
  expect((await workspace.get(`/flows/${id}/diff`)).body['changes']).toMatchObject([{ ...changed, from: 0, to: 5 }]);
  expect((await workspace.get(`/flows/${id}/versions`)).body['items']).toHaveLength(2);

  expect(await act(`${id}/rollback`, { number: 3 })).toMatchObject({
    status: 422,
    body: { errors: [{ field: '/number' }] },
  });
  expect(await act(`${id}/rollback`, { number: 0 })).toMatchObject({
    status: 400,
    body: { errors: [{ field: '/number' }] },
  });
  expect(await workspace.get(`/flows/${id}/versions/3`)).toMatchObject({ status: 404 });
  expect(await workspace.get(`/flows/${id}/diff?from=3`)).toMatchObject({
    status: 422,
    body: { errors: [{ field: 'from' }] },
  });
  expect(await workspace.get(`/flows/${id}/diff?to=old`)).toMatchObject({
    status: 400,
    body: { errors: [{ field: 'to' }] },
  });
  await act(`${id}/unpublish`);
  expect(await workspace.get(`/flows/${id}/diff`)).toMatchObject({
    status: 422,
    body: { errors: [{ field: 'from' }] },
  });
});

test('publishing tells what is hardly meant', async () => {
  const { workspace, create, act } = await prepare();
  const [first, second] = [await create('First'), await create('Second')];
  expect(await act(`${first}/publish`)).toMatchObject({
    status: 201,
    body: { hints: [{ message: expect.stringContaining('has no agents') }] },
  });
  await workspace.addAgent();
  const published = await act(`${second}/publish`);
  expect(published.body['hints']).toEqual([{ message: expect.stringMatching(/^It never runs: the flow “First”/) }]);
});

test('a document is checked without being stored, by whoever may read', async () => {
  const { workspace, documentOf, names } = await prepare();
  expect(await workspace.post('/flows/validate', { document: documentOf(1) })).toMatchObject({
    status: 200,
    body: { valid: true, faults: [], document: { ...documentOf(1), enrichment: [] } },
  });
  const document = {
    enrichment: [{ kind: 'guess' }],
    routing: { branches: [], otherwise: { teamId: newId(), priority: 101 } },
  };
  const { status, body } = await workspace.post('/flows/validate', { document });
  expect(status).toBe(200);
  expect(body).toMatchObject({ valid: false, document: null });
  expect(body['faults'].map(({ path }: { path: string }) => path).toSorted()).toEqual([
    '/document/enrichment/0/kind',
    '/document/routing/otherwise/priority',
    '/document/routing/otherwise/teamId',
  ]);
  for (const fault of body['faults']) {
    expect(fault).toMatchObject({ message: expect.any(String), mend: expect.any(String) });
  }
  expect(await names()).toEqual([]);
});

test('a fault of a condition is told with its place in the document and in the text, whoever asks', async () => {
  const { workspace, admin, documentOf, create, act } = await prepare();
  const { routing } = documentOf(1);
  const document = {
    enrichment: [{ kind: 'set', when: "contact.nam == 'Ada'", field: 'tier', value: 'gold' }],
    routing: {
      branches: [
        { ...routing.otherwise, name: 'Misspelt', when: "fields.tier == 'gold' && fields.purpos == 'sales'" },
        { ...routing.otherwise, name: 'Unreadable', when: "fields.tier = 'gold'" },
        { ...routing.otherwise, name: 'Compared', when: "  team.waiting > 'many'" },
      ],
      otherwise: routing.otherwise,
    },
  };
  const mend = "Correct the expression; an example is fields.purpose == 'billing'.";
  const faults = [
    {
      path: '/document/enrichment/0/when',
      message: 'contact has no member "nam"; it has id, name, attributes (at character 8)',
      mend: 'Name one of these; what your system sends about a contact is in contact.attributes.',
    },
    {
      path: '/document/routing/branches/0/when',
      message: 'fields has no member "purpos"; it has tier (at character 32)',
      mend: 'Name one of these, or set it by a step before this.',
    },
    {
      path: '/document/routing/branches/1/when',
      message: expect.stringMatching(/^syntax error: found = .*\(at character 13\)$/),
      mend,
    },
    {
      path: '/document/routing/branches/2/when',
      message: '> cannot take a whole number and text (at character 16)',
      mend,
    },
  ];
  const validated = await workspace.post('/flows/validate', { document });
  expect(validated).toMatchObject({ status: 200, body: { valid: false, faults } });

  const refused = {
    status: 422,
    body: {
      type: 'urn:switchyard:problem:invalid_flow',
      errors: faults.map(({ path, ...told }) => ({ field: path, ...told })),
    },
  };
  expect(await workspace.post('/flows', { name: 'Faulty', document }, admin)).toMatchObject(refused);
  const id = await create('Support');
  expect(await workspace.patch(`/flows/${id}`, { document })).toMatchObject(refused);
  // A draft of a time when less was found.
  await api.pool.query('UPDATE flows SET draft = $3 WHERE workspace_id = $1 AND id = $2', [
    workspace.workspaceId,
    id,
    JSON.stringify({ trigger: {}, ...document }),
  ]);
  expect(await act(`${id}/publish`)).toMatchObject(refused);
  expect((await workspace.get(`/flows/${id}`)).body).toMatchObject({ publishedNumber: null });
});

test('a check tells of a valid document what is hardly meant, and of a faulty one its faults alone', async () => {
  const { workspace, documentOf } = await prepare();
  const choices = [{ value: 'sales', label: 'Sales' }];
  const ask = { kind: 'ask', field: 'purpose', text: 'What?', timeoutSeconds: 60, choices };
  const documentWith = (value: string) => {
    const { routing } = documentOf(1);
    const branches = [{ ...routing.otherwise, name: 'Sales', when: `fields.purpose == '${value}'` }];
    return { enrichment: [ask], routing: { ...routing, branches } };
  };
  const hintsOf = async (document: object) =>
    (await workspace.post('/flows/validate', { document })).body['hints'].map(
      ({ message }: { message: string }) => message,
    );
  const misspelt = 'Branch “Sales”: `fields.purpose` is never "sale"; it can be "sales".';
  expect(await hintsOf(documentWith('sale'))).toEqual(
    expect.arrayContaining([misspelt, expect.stringMatching(/no channel has an address/)]),
  );
  expect(await hintsOf(documentWith('sales'))).not.toContain(misspelt);
  const [{ id }] = (await workspace.get('/channels')).body['items'];
  await workspace.patch(`/channels/${id}`, { outboundUrl: 'https://chat.example.com/' });
  await workspace.post('/channels', { key: 'mail', name: 'Mail' }, workspace.keys.admin);
  expect(await hintsOf(documentWith('sales'))).toContainEqual(expect.stringContaining('the channel “mail” has no'));
  expect(await hintsOf({ enrichment: [{ kind: 'guess' }] })).toEqual([]);
});

test('the schema of the document is plain JSON Schema that knows every kind of step', async () => {
  const { workspace } = await prepare();
  const { status, body } = await workspace.get('/flows/schema');
  expect(status).toBe(200);
  expect(body).toMatchObject({ $schema: 'https://json-schema.org/draft/2020-12/schema', type: 'object' });
  expect(Object.keys(body)).not.toContain('~kind');
  const kinds = body['properties'].enrichment.items.anyOf.map((step: any) => step.properties.kind.const);
  expect(kinds).toEqual(['set', 'keywords', 'language', 'contact', 'ask', 'http', 'classify']);
  expect(body['required']).toEqual(['routing']);
});

test('flows of another workspace are unknown in every call', async () => {
  const { create } = await prepare();
  const id = await create('Mine');
  const { workspace, admin, act } = await prepare();
  for (const path of ['unpublish', 'archive', 'restore', 'publish']) {
    expect(await act(`${id}/${path}`), path).toMatchObject({ status: 404 });
  }
  expect(await act(`${id}/rollback`, { number: 1 })).toMatchObject({ status: 404 });
  expect(await workspace.get(`/flows/${id}/versions/1`)).toMatchObject({ status: 404 });
  expect(await workspace.get(`/flows/${id}/diff`)).toMatchObject({ status: 404 });
  expect(await workspace.put('/flows/order', { flowIds: [id] }, admin)).toMatchObject({ status: 422 });
});

test('only an admin changes what is live', async () => {
  const { workspace, create } = await prepare();
  const id = await create('Support');
  for (const path of ['unpublish', 'archive', 'restore', 'publish', 'rollback']) {
    expect(await workspace.post(`/flows/${id}/${path}`, { number: 1 }), path).toMatchObject({ status: 403 });
  }
});

test('a decision of a flow tells the flow’s name, as it is called now', async () => {
  const { workspace, create, act } = await prepare();
  const { conversationId } = await workspace.open();
  const id = await create('Support');
  const { body: version } = await act(`${id}/publish`);
  await workspace.patch(`/flows/${id}`, { name: 'Front desk' });
  const detail = { flowVersionId: version['id'], flowVersionNumber: 1, teamId: 't1', branch: 'A', evaluated: [] };
  await api.pool.query(
    `INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail) VALUES ($1, $2, $3, 'routing', $4)`,
    [workspace.workspaceId, newId(), conversationId, JSON.stringify(detail)],
  );
  const { body } = await workspace.get(`/conversations/${conversationId}/decisions`);
  const [opening, , routing] = body['items'];
  expect(opening).toMatchObject({ kind: 'routing', summary: expect.stringContaining('no published flow matches') });
  expect(opening.detail).not.toHaveProperty('flowName');
  expect(routing).toMatchObject({
    summary: 'The branch “A” of version 1 of the flow “Front desk” applied and chose team t1.',
    detail: { ...detail, flowName: 'Front desk' },
  });
});
