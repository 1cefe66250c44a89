import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { answerStep } from '../../activities/step-answers.ts';
import { startRecordingServer, type ServerAnswer } from '../support/recording-server.ts';
import { startEnrichmentServer, type EnrichmentServer } from './enrichment-server.ts';
import { conversationId, createRequest, someFacts, type RequestOptions } from './step-requests.ts';
import { newId } from '../../platform/id.ts';
import type { HttpStep } from '../../routing/step-schemas.ts';

let server: EnrichmentServer;
beforeEach(async () => void (server = await startEnrichmentServer()));
afterEach(() => server.close());

const fields = { tier: '/customer/tier', orders: '/customer/orders' };

function ask(step: Partial<HttpStep> = {}, { network, ...request }: RequestOptions = {}) {
  return answerStep(
    { kind: 'http', url: `${server.url}/customer`, timeoutMs: 5_000, fields, ...step },
    createRequest({ ...request, network: { allowedHosts: new Set([server.host]), ...network } }),
  );
}

const status = (code: number, headers: Record<string, string> = {}): ServerAnswer => ({
  status: code,
  headers,
  text: '{}',
});
const says = (json: unknown): ServerAnswer => ({ status: 200, json });

const ownKey: unknown = expect.stringMatching(new RegExp(`^${conversationId}/3/[0-9a-f]{16}$`));

test('without more, the conversation is posted as ever, with a key by which a repetition is told', async () => {
  expect(await ask()).toEqual({ fields: { tier: 'gold', orders: 3 }, failures: [] });
  expect(server.requests).toMatchObject([
    {
      method: 'POST',
      path: '/customer',
      idempotencyKey: ownKey,
      headers: { accept: 'application/json', 'content-type': 'application/json' },
    },
  ]);
  expect(server.requests[0]!.body).toEqual({
    conversationId,
    contact: someFacts.contact,
    channel: someFacts.channel,
    text: 'Hello there',
    fields: { known: true },
  });
});

test('address, headers and body are filled in; in the address each value is encoded, in the body it stays a text', async () => {
  const text = 'a/b?c=d&e#f "g" {{fields.known}} %2e';
  await ask(
    {
      url: `${server.url}/customer/{{message.text}}/x?name={{contact.name}}&none={{contact.attributes.none}}`,
      headers: { 'X-Plan': 'the {{contact.attributes.plan}} one', 'Content-Type': 'application/vnd.crm+json' },
      body: { note: 'wrote: {{message.text}}', list: ['{{fields.known}}', 7, null], deep: { '{{x}}': true } },
    },
    { text },
  );
  expect(server.requests).toMatchObject([
    {
      path: `/customer/${encodeURIComponent(text)}/x?name=${encodeURIComponent('Ada & Söhne')}&none=`,
      headers: { 'x-plan': 'the gold one', 'content-type': 'application/vnd.crm+json' },
    },
  ]);
  expect(server.requests[0]!.body).toEqual({
    note: `wrote: ${text}`,
    list: ['true', 7, null],
    deep: { '{{x}}': true },
  });
});

test('a GET has no body, and a key like others', async () => {
  expect(await ask({ method: 'GET' })).toMatchObject({ fields: { tier: 'gold' } });
  expect(server.requests).toMatchObject([{ method: 'GET', idempotencyKey: ownKey, body: {} }]);
  expect(server.requests[0]!.headers).not.toHaveProperty('content-type');
});

test.each(['..', '.'])('a contact who writes %j does not lead the request elsewhere', async (text) => {
  const answer = await ask({ url: `${server.url}/customer/{{message.text}}/orders` }, { text });
  expect(answer).toEqual({ fields: {}, failures: ['the address of the step is none'] });
  expect(server.requests).toEqual([]);
});

test.each(['two\r\nx-evil: 1', 'a\nb', 'snow ☃', 'nul\0'.replace('\0', '\u0001')])(
  'a header that %j would break is not sent, and nothing else is',
  async (text) => {
    const answer = await ask({ headers: { 'x-text': '{{message.text}}' } }, { text });
    expect(answer).toEqual({ fields: {}, failures: [expect.stringMatching(/cannot be sent the header x-text/)] });
    expect(answer.failures[0]).not.toContain(text);
    expect(server.requests).toEqual([]);
  },
);

test.each([{ host: 'inner.example' }, { 'Content-Length': '3' }, { 'Transfer-Encoding': 'chunked' }])(
  'a flow cannot say %j',
  async (headers) => {
    expect((await ask({ headers })).failures).toEqual([expect.stringContaining('cannot be sent the header')]);
    expect(server.requests).toEqual([]);
  },
);

test('a host that is not allowed is not asked, and a name that leads inside neither', async () => {
  const network = { allowedHosts: new Set(['crm.example']) };
  expect(await ask({}, { network })).toEqual({
    fields: {},
    failures: [`${server.host} is not among ENRICHMENT_ALLOWED_HOSTS`],
  });
  const localhost = server.host.replace('127.0.0.1', 'localhost');
  const url = `http://${localhost}/customer`;
  expect(await ask({ url }, { network: { allowedHosts: new Set([localhost]) } })).toEqual({
    fields: {},
    failures: [`${localhost} resolves to a private address that PRIVATE_CIDRS_ALLOWED does not have`],
  });
  expect(server.requests).toEqual([]);
  const inside = { allowedHosts: new Set([localhost]), privateCidrs: ['127.0.0.0/8', '::1/128'] };
  expect(await ask({ url }, { network: inside })).toMatchObject({ fields: { tier: 'gold' }, failures: [] });
});

test.each([
  ['an error of its own', [status(500), status(502)], 3],
  ['a request to come later', [status(429)], 2],
  ['a closed connection', ['hang up' as const], 2],
])('%s is asked again, with the same key', async (_, failures, requests) => {
  server.answer('/flaky', ...failures, says({ customer: { tier: 'gold', orders: 1 } }));
  expect(await ask({ url: `${server.url}/flaky` })).toEqual({ fields: { tier: 'gold', orders: 1 }, failures: [] });
  const [first] = server.requests;
  expect(first).toMatchObject({ idempotencyKey: ownKey });
  expect(server.requests.map(({ idempotencyKey }) => idempotencyKey)).toEqual(
    Array.from({ length: requests }, () => first!.idempotencyKey),
  );
});

test('what is asked is part of the key: only a repetition has the same', async () => {
  const keyOf = async (...asked: Parameters<typeof ask>) => {
    await ask(...asked);
    return server.requests.at(-1)!.idempotencyKey;
  };
  const first = await keyOf();
  expect(await keyOf({ headers: { 'x-attempt': 'second' } })).toBe(first);
  const others = [
    await keyOf({}, { text: 'Hello again' }),
    await keyOf({ url: `${server.url}/customer?a=b` }),
    await keyOf({ method: 'GET' }),
    await keyOf({ body: {} }),
    await keyOf({}, { position: 4 }),
  ];
  expect(new Set([first, ...others]).size).toBe(6);
});

const hold = (step: Partial<HttpStep>, request?: RequestOptions) =>
  ask({ url: `${server.url}/slow`, ...step }, request);
const busy = {
  fields: {},
  failures: [expect.stringMatching(/ is busy: 20 requests of this workspace are under way there$/)],
};

test('of one workspace 20 requests to a host are under way; who waits longer than a step may is told, other workspaces are not held up', async () => {
  const held = Array.from({ length: 20 }, () => hold({ timeoutMs: 10_000 }));
  await expect.poll(() => server.requests.length).toBe(20);
  expect(await ask({ timeoutMs: 50 })).toEqual(busy);
  expect(await ask({ timeoutMs: 10_000 }, { deadline: Date.now() + 50 })).toEqual(busy);
  expect(server.requests).toHaveLength(20);
  const conversation = { workspaceId: newId(), contactId: newId(), conversationId: newId() };
  expect(await ask({}, { conversation })).toMatchObject({ failures: [] });

  const waiting = Array.from({ length: 5 }, () => ask());
  server.release();
  expect(await Promise.all([...held, ...waiting])).toEqual(
    Array.from({ length: 25 }, () => ({ fields: { tier: 'gold', orders: 3 }, failures: [] })),
  );
});

test('a worker that closes leaves what waits for its turn to another', async () => {
  const held = Array.from({ length: 20 }, () => hold({ timeoutMs: 10_000 }));
  await expect.poll(() => server.requests.length).toBe(20);
  const closing = new AbortController();
  const waiting = ask({}, { cancelled: closing.signal }).catch((error: unknown) => error);
  closing.abort();
  expect(await waiting).toMatchObject({ type: 'Unavailable', nonRetryable: false });
  server.release();
  await Promise.all(held);
});

test('after its retries a step fails, and tells how often it asked; what will not change is not asked again', async () => {
  server.answer('/down', status(503));
  server.answer('/unknown', status(404));
  expect((await ask({ url: `${server.url}/down`, retries: 1 })).failures).toEqual([
    `${server.host} answered 503, at attempt 2`,
  ]);
  expect((await ask({ url: `${server.url}/down`, retries: 0 })).failures).toEqual([`${server.host} answered 503`]);
  expect((await ask({ url: `${server.url}/unknown` })).failures).toEqual([`${server.host} answered 404`]);
  expect((await ask({ url: `${server.url}/away` })).failures).toEqual([expect.stringContaining('redirect')]);
  expect((await ask({ url: `${server.url}/text` })).failures).toEqual([`${server.host}: the answer is no JSON`]);
  expect((await ask({ url: `${server.url}/large` })).failures).toEqual([expect.stringContaining('65536 bytes')]);
  expect(server.requests.map(({ path }) => path)).toEqual([
    '/down',
    '/down',
    '/down',
    '/unknown',
    '/away',
    '/text',
    '/large',
  ]);
});

test('the pauses between attempts double: they are at least 100, 200 and 400 ms', async () => {
  const arrivals: number[] = [];
  const failing = await startRecordingServer(() => {
    arrivals.push(performance.now());
    return arrivals.length > 3 ? says({ customer: { tier: 'gold', orders: 1 } }) : status(500);
  });
  onTestFinished(() => failing.close());
  const network = { allowedHosts: new Set([failing.host]) };
  const step = { url: `${failing.url}/failing`, retries: 3 };
  expect(await ask(step, { network })).toEqual({ fields: { tier: 'gold', orders: 1 }, failures: [] });
  const pauses = arrivals.slice(1).map((at, place) => at - arrivals[place]!);
  expect(pauses).toHaveLength(3);
  // A timer may be a millisecond early.
  for (const [place, leastMs] of [100, 200, 400].entries()) expect(pauses[place]).toBeGreaterThan(leastMs - 2);
});

test('the pause that the other side asks for is kept, unless it is longer than there is time', async () => {
  const gold = says({ customer: { tier: 'gold', orders: 1 } });
  server.answer('/later', status(429, { 'retry-after': '1' }), gold);
  const startedAt = performance.now();
  expect(await ask({ url: `${server.url}/later` })).toMatchObject({ failures: [] });
  expect(performance.now() - startedAt).toBeGreaterThan(950);

  for (const after of ['3600', new Date(Date.now() + 3_600_000).toUTCString()]) {
    server.answer('/much-later', status(429, { 'retry-after': after }), gold);
    expect(await ask({ url: `${server.url}/much-later` })).toMatchObject({
      fields: {},
      failures: [`${server.host} answered 429`],
    });
  }
});

test('the flow’s deadline counts, whatever the step allows', async () => {
  const startedAt = performance.now();
  const answer = await ask({ url: `${server.url}/slow`, timeoutMs: 10_000 }, { deadline: Date.now() + 200 });
  expect(answer).toEqual({ fields: {}, failures: [`${server.host} gave no answer in time`] });
  expect(performance.now() - startedAt).toBeLessThan(8_000);
  expect(await ask({}, { deadline: Date.now() - 1 })).toMatchObject({ fields: {}, failures: [expect.any(String)] });
});

test.each([
  ['under way', '/slow'],
  ['between two attempts', '/busy'],
])('a worker that closes leaves a request %s to another', async (_, path) => {
  server.answer('/busy', status(429, { 'retry-after': '10' }));
  const closing = new AbortController();
  const asked = ask({ url: server.url + path }, { cancelled: closing.signal }).catch((error: unknown) => error);
  await expect.poll(() => server.requests.length).toBe(1);
  closing.abort();
  expect(await asked).toMatchObject({ type: 'Unavailable', nonRetryable: false });
  expect(server.requests).toHaveLength(1);
});

test('what the answer does not tell is named, and is no failure', async () => {
  expect(await ask({ fields: { tier: '/customer/tier', mood: '/customer/mood' } })).toEqual({
    fields: { tier: 'gold' },
    failures: [],
    remark: `${server.host} did not tell mood`,
  });
});

test('an address or a body that grew too long is not sent', async () => {
  const long = { facts: { fields: { a: 'ü'.repeat(1_000), b: 'ü'.repeat(1_000) } } };
  expect((await ask({ url: `${server.url}/c?a={{fields.a}}&b={{fields.b}}` }, long)).failures).toEqual([
    expect.stringContaining('8000 characters'),
  ]);
  expect((await ask({ body: Array.from({ length: 200 }, () => '{{fields.a}}') }, long)).failures).toEqual([
    expect.stringContaining('larger than'),
  ]);
  expect(server.requests).toEqual([]);
});

const value = 'Bearer s3cret-0123456789';

test('a secret is sent to its own host', async () => {
  const secrets = { token: { host: server.host, value } };
  const answer = await ask({ headers: { Authorization: { secret: 'token' } } }, { secrets });
  expect(answer).toMatchObject({ fields: { tier: 'gold' }, failures: [] });
  expect(server.requests).toMatchObject([{ headers: { authorization: value } }]);
});

test.each([
  ['of another host', { token: { host: 'crm.example', value } }, 'the secret token is for another host than'],
  ['of another port', { token: { host: '127.0.0.1:1', value } }, 'the secret token is for another host than'],
  ['of the usual port', { token: { host: '127.0.0.1', value } }, 'the secret token is for another host than'],
  ['that is not there', {}, 'there is no secret token for'],
])('with a secret %s nothing is sent', async (_, secrets, reason) => {
  const answer = await ask({ headers: { Authorization: { secret: 'token' } } }, { secrets });
  expect(answer).toEqual({ fields: {}, failures: [`${reason} ${server.host}`] });
  expect(server.requests).toEqual([]);
});

test('another workspace’s secret is none', async () => {
  const conversation = { workspaceId: 'another', contactId: 'c', conversationId };
  const secrets = { token: { host: server.host, value } };
  const answer = await ask({ headers: { Authorization: { secret: 'token' } } }, { secrets, conversation });
  expect(answer.failures).toEqual([`there is no secret token for ${server.host}`]);
});

test.each(['crm.example', '192.0.2.7', '8.8.8.8', '[2001:db8::7]', '169.254.169.254'])(
  'by http, a secret does not go to %s',
  async (host) => {
    const request = { secrets: { token: { host, value } }, network: { allowedHosts: new Set([host]) } };
    const step = { url: `http://${host}/`, headers: { Authorization: { secret: 'token' } } };
    expect((await ask(step, request)).failures).toEqual([`${host}: the secret token is sent by https only`]);
  },
);

const basic = `Basic ${Buffer.from('switchyard:p4ss w0rd').toString('base64')}`;

test.each([
  ['the token alone', value, 's3cret-0123456789'],
  ['the token in other letters', value, 'TOKEN S3CRET-0123456789.'],
  ['one of two long words', 'Key first-word-of-it second-word-of-it', 'it was second-word-of-it'],
  ['what is encoded', basic, basic.slice('Basic '.length)],
  ['what was encoded', basic, 'you are switchyard:p4ss w0rd'],
  ['the password', basic, 'p4ss w0rd'],
])('an answer that repeats of a secret %s is not kept', async (_, secret, said) => {
  const secrets = { token: { host: server.host, value: secret } };
  server.answer('/parts', says({ customer: { tier: said, orders: 'Bearer of the Basic Key' } }));
  const echoed = await ask(
    { url: `${server.url}/parts`, headers: { Authorization: { secret: 'token' } } },
    { secrets },
  );
  expect(echoed).toEqual({
    fields: { orders: 'Bearer of the Basic Key' },
    failures: [`${server.host} repeated a secret in tier`],
  });
});

test('a secret is in no failure, and an answer that repeats it is not kept', async () => {
  const secrets = { token: { host: server.host, value } };
  const headers = { Authorization: { secret: 'token' } };
  server.answer('/echo', says({ customer: { tier: `You sent ${value}`, orders: 1 } }));
  const echoed = await ask({ url: `${server.url}/echo`, headers }, { secrets });
  expect(echoed).toEqual({ fields: { orders: 1 }, failures: [`${server.host} repeated a secret in tier`] });

  server.answer('/angry', { status: 401, text: `not ${value}` });
  for (const path of ['/angry', '/text', '/away', '/large']) {
    const { failures } = await ask({ url: server.url + path, headers }, { secrets });
    expect(failures).toHaveLength(1);
    expect(failures[0]).not.toContain('s3cret');
  }
  const faulty = { token: { host: server.host, value: `${value}\r\n` } };
  expect(JSON.stringify(await ask({ headers }, { secrets: faulty }))).not.toContain('s3cret');
});

test.each([{ url: undefined }, { headers: { a: null } }, { fields: null }])(
  'a step with %o, which no flow of this version has, fails by itself',
  async (members) => {
    const reason: unknown = expect.stringMatching(/^the step cannot be run: /);
    expect(await ask(members as object)).toEqual({ fields: {}, failures: [reason] });
  },
);
