import { connect } from 'node:net';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createUnreachablePool, startApi, type ApiUnderTest } from './bare-api.ts';

// None of this needs a database; that it is away shows that nothing here asks it first.
let pool: pg.Pool;
let api: ApiUnderTest;

beforeAll(async () => {
  pool = createUnreachablePool();
  api = await startApi(pool);
});

afterAll(async () => {
  await api.close();
  await pool.end();
});

const someKey = `sy_${'a'.repeat(20)}_${'s'.repeat(43)}`;

describe('errors', () => {
  test('an unknown route answers 404 as a problem', async () => {
    const answer = await api.call('GET', '/v1/nothing');
    expect(answer.status).toBe(404);
    expect(answer.headers['content-type']).toContain('application/problem+json');
    expect(answer.body).toMatchObject({ type: 'urn:switchyard:problem:not_found', status: 404, retryable: false });
  });

  test('an address that cannot be decoded answers 404', async () => {
    expect((await api.call('GET', '/v1/messages/%zz')).status).toBe(404);
  });

  test('no key answers 401 with the challenge, before the body is looked at', async () => {
    const headers = { 'content-type': 'application/json' };
    const answer = await api.call('POST', '/v1/messages', { body: '{', headers });
    expect(answer.status).toBe(401);
    expect(answer.headers['www-authenticate']).toBe('Bearer');
  });

  test('what is no key of ours answers 401 without a database', async () => {
    expect((await api.call('GET', '/v1/channels', { key: 'secret' })).status).toBe(401);
  });

  test('a key that cannot be checked answers 503, not 401', async () => {
    const answer = await api.call('GET', '/v1/channels', { key: someKey });
    expect(answer.status).toBe(503);
    expect(answer.headers['retry-after']).toBe('1');
    expect(answer.body).toMatchObject({ type: 'urn:switchyard:problem:unavailable', retryable: true });
  });

  test('what is no HTTP answers a problem too', async () => {
    const { port } = new URL(await api.app.listen({ host: '127.0.0.1', port: 0 }));
    const socket = connect(Number(port), '127.0.0.1').setEncoding('utf8');
    socket.write('nonsense\r\n\r\n');
    let text = '';
    for await (const chunk of socket) text += String(chunk);
    expect(text).toMatch(/^HTTP\/1\.1 400 Bad Request\r\nContent-Type: application\/problem\+json/);
    expect(text).toContain('urn:switchyard:problem:bad_http');
  });
});

describe('health', () => {
  test('the process lives without its database, but is not ready', async () => {
    expect(await api.call('GET', '/healthz')).toMatchObject({ status: 200, body: { status: 'ok' } });
    const answer = await api.call('GET', '/readyz');
    expect(answer.status).toBe(503);
    expect(answer.body).toMatchObject({
      type: 'urn:switchyard:problem:not_ready',
      detail: 'PostgreSQL cannot be reached.',
      checks: [{ name: 'PostgreSQL takes writes', ok: false }],
    });
  });
});

describe('the OpenAPI document', () => {
  interface Operation {
    tags?: string[];
    summary?: string;
    security?: unknown[];
    parameters?: { name: string; required?: boolean; schema: { default?: unknown } }[];
    requestBody?: {
      content: Record<
        string,
        { schema: { required?: string[]; properties?: Record<string, { default?: unknown } | undefined> } }
      >;
    };
    responses: Record<string, { content?: Record<string, unknown>; headers?: Record<string, unknown> }>;
  }

  test('every operation has a tag, a summary, its security and its errors', async () => {
    const { body } = await api.call('GET', '/openapi.json');
    expect(body.openapi).toBe('3.1.0');
    const known = body.tags.map((tag: { name: string }) => tag.name);
    for (const [path, item] of Object.entries<Record<string, Operation>>(body.paths)) {
      for (const [method, operation] of Object.entries(item)) {
        const name = `${method} ${path}`;
        expect(operation.summary, name).toBeTruthy();
        expect(
          operation.tags?.every((tag) => known.includes(tag)),
          name,
        ).toBe(true);
        const errors = Object.entries(operation.responses).filter(([status]) => Number(status) >= 400);
        expect(errors.length, name).toBeGreaterThan(0);
        for (const [, response] of errors)
          expect(Object.keys(response.content ?? {})).toEqual(['application/problem+json']);
        if (!path.startsWith('/v1/')) continue;
        expect(operation.security, name).toEqual([{ bearer: [] }]);
        const ofBody = method === 'get' ? [] : ['413', '415'];
        const expected = ['400', '401', '403', ...ofBody, '429', '500', '503'];
        expect(errors.map(([status]) => status)).toEqual(expect.arrayContaining(expected));
        const { 429: tooMany, 503: unavailable } = operation.responses;
        const rate = ['RateLimit-Limit', 'RateLimit-Remaining', 'RateLimit-Reset', 'Retry-After'];
        expect(Object.keys(tooMany?.headers ?? {}).toSorted(), name).toEqual(rate);
        expect(Object.keys(unavailable?.headers ?? {}), name).toEqual(['Retry-After']);
      }
    }
  });

  test('what is sent to others is in it, with what it holds', async () => {
    const { body } = await api.call('GET', '/openapi.json');
    expect(Object.keys(body.webhooks)).toEqual(['message.outbound', 'flow.routed', 'flow.nobody_available']);
    for (const { post } of Object.values<any>(body.webhooks)) {
      expect(post.requestBody.content['application/json'].schema.properties.data.required).toContain('conversationId');
    }
  });

  test('every call of the contract is in it', async () => {
    const { body } = await api.call('GET', '/openapi.json');
    const calls = Object.entries<object>(body.paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(calls).toEqual(expect.arrayContaining(contractCalls));
  });

  test('a batch is documented with its messages, although they are checked one by one', async () => {
    const { body } = await api.call('GET', '/openapi.json');
    const { schema } = body.paths['/v1/messages/batch'].post.requestBody.content['application/json'];
    expect(schema.properties.messages.items.required).toEqual(['channel', 'externalId', 'contact']);
  });

  test('what may be left out is not required: what has a default, wherever it stands', async () => {
    const { body } = await api.call('GET', '/openapi.json');
    const operations = Object.entries<Record<string, Operation>>(body.paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, operation]) => ({ name: `${method} ${path}`, operation })),
    );
    const defaults: string[] = [];
    for (const { name, operation } of operations) {
      for (const parameter of operation.parameters ?? []) {
        if (parameter.schema.default === undefined) continue;
        defaults.push(parameter.name);
        expect(parameter.required ?? false, `${name} ${parameter.name}`).toBe(false);
      }
      const schema = operation.requestBody?.content['application/json']?.schema;
      for (const member of schema?.required ?? []) {
        expect(schema?.properties?.[member]?.default, `${name} ${member}`).toBeUndefined();
      }
    }
    expect(defaults.filter((name) => name === 'limit').length).toBeGreaterThan(5);
    // A parameter of the path is required all the same.
    expect(body.paths['/v1/flows/{id}'].get.parameters).toMatchObject([{ name: 'id', required: true }]);
  });

  test('/docs shows it', async () => {
    expect((await api.call('GET', '/docs')).status).toBe(200);
  });
});

test('requests are measured by route template, never by address', async () => {
  await api.call('GET', '/v1/messages/01980a5e-7c1b-7d52-9a43-0f6f0f2f6b11');
  await api.call('GET', '/somewhere/else');
  const text = await api.metrics.registry.metrics();
  expect(text).toContain(
    'switchyard_http_request_duration_seconds_count{component="api",method="GET",route="/v1/messages/:id",status="4xx"}',
  );
  expect(text).toContain('route="unmatched"');
  expect(text).not.toContain('01980a5e');
  expect(text).not.toContain('somewhere');
});

const contractCalls = [
  'GET /v1/workspace',
  'PATCH /v1/workspace',
  'POST /v1/close-categories',
  'GET /v1/close-categories',
  'DELETE /v1/close-categories/{id}',
  'GET /v1/teams/{id}/queue',
  'GET /v1/conversations/{id}/position',
  'POST /v1/conversations/{id}/accept',
  'POST /v1/conversations/{id}/reject',
  'POST /v1/messages',
  'POST /v1/messages/batch',
  'GET /v1/messages/{id}',
  'GET /v1/contacts',
  'GET /v1/contacts/{id}',
  'GET /v1/conversations/{id}',
  'GET /v1/conversations',
  'GET /v1/conversations/{id}/messages',
  'GET /v1/conversations/{id}/decisions',
  'POST /v1/conversations/{id}/messages',
  'POST /v1/conversations/{id}/close',
  'POST /v1/conversations/{id}/assign',
  'POST /v1/conversations',
  ...['agents', 'teams', 'flows', 'channels', 'keys'].flatMap((resource) => [
    `POST /v1/${resource}`,
    `GET /v1/${resource}`,
    `GET /v1/${resource}/{id}`,
    `PATCH /v1/${resource}/{id}`,
  ]),
  'POST /v1/flows/{id}/publish',
  'PUT /v1/agents/{id}/presence',
  'POST /v1/agents/{id}/heartbeat',
  'GET /v1/events',
  'GET /healthz',
  'GET /readyz',
];
