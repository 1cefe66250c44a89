import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createTestWorkspace, startApi, type ApiUnderTest } from './bare-api.ts';

let database: TestDatabase;
let api: ApiUnderTest;

beforeAll(async () => {
  database = await createTestDatabase();
  api = await startApi(database.pool);
});
afterAll(async () => {
  await api.close();
  await database.drop();
});

/** A flow with an address in each of the places where one may stand. */
const documentWith = (query: string, teamId: string) => ({
  enrichment: [
    { kind: 'http', url: `https://crm.example/a${query}`, timeoutMs: 1000, fields: { tier: '/tier' } },
    { kind: 'set', field: 'question', value: 'Is https://crm.example/?a=b meant?' },
  ],
  routing: {
    branches: [{ name: 'One', when: 'true', teamId, webhookUrl: `https://hooks.example/b${query}` }],
    otherwise: {
      teamId,
      rings: [{ afterSeconds: 9, fallback: 'wait', webhookUrl: `https://hooks.example/c${query}` }],
    },
  },
});

test('what stands in the query of a flow’s addresses is for admins', async () => {
  const { keys, defaultTeamId } = await createTestWorkspace(database.pool);
  const call = (method: 'GET' | 'POST' | 'PATCH', url: string, body?: unknown) =>
    api.call(method, url, { key: keys.admin, body });
  const document = documentWith('?key={{contact.id}}-s3cret', defaultTeamId);
  // Only the address of a step may hold `{{…}}`.
  document.routing = documentWith('?key=s3cret', defaultTeamId).routing;
  const { body: flow } = await call('POST', '/v1/flows', { name: 'Main', document });
  expect((await call('POST', `/v1/flows/${flow.id}/publish`)).status).toBe(201);
  const changed = documentWith('?key=other-s3cret', defaultTeamId);
  changed.routing.branches.push({ ...changed.routing.branches[0]!, name: 'Two' });
  await call('PATCH', `/v1/flows/${flow.id}`, { document: changed });

  for (const [path, read] of [
    [`/v1/flows/${flow.id}`, (body: any) => body.document],
    ['/v1/flows', (body: any) => body.items[0].document],
    [`/v1/flows/${flow.id}/versions`, (body: any) => body.items[0].document],
    [`/v1/flows/${flow.id}/versions/1`, (body: any) => body.document],
  ] as const) {
    const whole = read((await api.call('GET', path, { key: keys.admin })).body);
    const cut = read((await api.call('GET', path, { key: keys.agent })).body);
    expect(whole, path).toMatchObject(path.includes('versions') ? document : changed);
    expect(JSON.stringify(cut), path).not.toContain('s3cret');
    expect(cut.enrichment, path).toEqual(
      whole.enrichment.with(0, { ...whole.enrichment[0], url: 'https://crm.example/a' }),
    );
    expect(cut.routing.branches[0], path).toEqual({
      ...whole.routing.branches[0],
      webhookUrl: 'https://hooks.example/b',
    });
    expect(cut.routing.otherwise.rings[0].webhookUrl, path).toBe('https://hooks.example/c');
  }
  const diff = `/v1/flows/${flow.id}/diff`;
  expect(JSON.stringify((await api.call('GET', diff, { key: keys.admin })).body)).toContain('other-s3cret');
  const forAgents = await api.call('GET', diff, { key: keys.agent });
  expect(forAgents.body.changes.length).toBeGreaterThan(0);
  expect(JSON.stringify(forAgents.body)).not.toContain('s3cret');
});
