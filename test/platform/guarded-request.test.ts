import dns from 'node:dns';
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type LookupFunction } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import {
  GuardedRequestError,
  ownHeaders,
  requestGuarded,
  type GuardedRequest,
} from '../../platform/guarded-request.ts';
import { OWN_HEADERS } from '../../routing/flow-http-faults.ts';

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
  readonly remotePort: number;
}

const seen: Seen[] = [];
/** What the server does with each path; `/` answers `hello`. */
const answers: Readonly<Record<string, (response: ServerResponse) => void>> = {
  '/': (response) => response.end('hello'),
  '/away': (response) => response.writeHead(302, { location: '/' }).end('see there'),
  '/unchanged': (response) => response.writeHead(304).end(),
  '/packed': (response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('hello')),
  '/packed-error': (response) => response.writeHead(503, { 'content-encoding': 'gzip' }).end(gzipSync('hello')),
  '/unpacked': (response) => response.writeHead(200, { 'content-encoding': 'Identity' }).end('hello'),
  '/large': (response) => response.end('x'.repeat(1_001)),
  '/full': (response) => response.end('x'.repeat(1_000)),
  '/large-error': (response) => response.writeHead(500).end('x'.repeat(5_000)),
  '/busy': (response) => response.writeHead(429, { 'retry-after': '7' }).end('later'),
  '/endless': (response) => {
    const timer = setInterval(() => response.write('x'.repeat(200)), 1);
    response.on('close', () => clearInterval(timer));
  },
  '/drip': (response) => {
    const timer = setInterval(() => response.write('x'), 20);
    response.on('close', () => clearInterval(timer));
  },
  '/silent': () => undefined,
  '/half': (response) => {
    response.writeHead(200, { 'content-length': '10' }).write('half');
    setTimeout(() => response.destroy(), 10);
  },
};

let server: Server;
let port: number;

beforeAll(async () => {
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method = '', url = '', headers, socket } = request;
      const body = Buffer.concat(chunks).toString();
      seen.push({ method, url, headers, body, remotePort: socket.remotePort ?? 0 });
      (answers[new URL(url, 'http://x').pathname] ?? answers['/']!)(response);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ({ port } = server.address() as AddressInfo);
});
beforeEach(() => void seen.splice(0));
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const loopback = ['127.0.0.0/8'];

const ask = (request: Partial<GuardedRequest> = {}) =>
  requestGuarded({
    url: `http://127.0.0.1:${port}/`,
    method: 'GET',
    headers: {},
    timeoutMs: 5_000,
    maxBytes: 1_000,
    allowedHosts: null,
    privateCidrs: loopback,
    privateCidrsSetting: 'OUTBOUND_PRIVATE_CIDRS',
    ...request,
  });

const failureOf = async (request: Partial<GuardedRequest>): Promise<GuardedRequestError> => {
  const error: unknown = await ask(request).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(GuardedRequestError);
  return error as GuardedRequestError;
};

type LookupEnd = Parameters<LookupFunction>[2];

/** A resolver that always gives these. */
const resolvesTo = (...addresses: string[]): LookupFunction => {
  const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  return (_name, _options, callback) => setImmediate(() => callback(null, found));
};

test('status, headers and body come back; what was given is sent, and identity is asked for', async () => {
  const answer = await ask({
    method: 'POST',
    url: `http://127.0.0.1:${port}/?a=b`,
    headers: { 'X-One': 'é' },
    body: 'grüße',
  });
  expect(answer).toMatchObject({ status: 200, body: Buffer.from('hello') });
  expect(seen).toMatchObject([
    {
      method: 'POST',
      url: '/?a=b',
      body: 'grüße',
      headers: { 'accept-encoding': 'identity', 'content-length': '7', 'x-one': 'é', host: `127.0.0.1:${port}` },
    },
  ]);
  expect(await ask({ url: `http://127.0.0.1:${port}/busy` })).toMatchObject({
    status: 429,
    headers: { 'retry-after': '7' },
    body: Buffer.from('later'),
  });
});

test('a connection is used again', async () => {
  const privateCidrs = ['127.0.0.1/32'];
  await ask({ privateCidrs });
  await ask({ privateCidrs });
  expect(new Set(seen.map(({ remotePort }) => remotePort)).size).toBe(1);
});

test.each([
  '127.0.0.1',
  '127.1',
  '2130706433',
  '0x7f000001',
  '0x7f.1',
  '0177.0.0.1',
  '0',
  '0.0.0.0',
  '[::1]',
  '[::]',
  '[::ffff:127.0.0.1]',
  '[0:0:0:0:0:ffff:7f00:1]',
  '[64:ff9b::7f00:1]',
  '[2002:7f00:1::]',
  '①②⑦.⓪.⓪.①',
  '169.254.169.254',
  'localhost',
  'LOCALHOST',
])('%s is refused where no private address is allowed, and nothing is sent', async (host) => {
  const error = await failureOf({ url: `http://${host}:${port}/`, privateCidrs: [] });
  const verb = host.toLowerCase() === 'localhost' ? 'resolves to' : 'is';
  const reason = `${verb} a private address that OUTBOUND_PRIVATE_CIDRS does not have`;
  expect(error).toMatchObject({ kind: 'refused', reason });
  expect(seen).toEqual([]);
});

test('a name among the allowed hosts is refused all the same when it leads inside; an address written as such is not', async () => {
  const named = { url: `http://localhost:${port}/`, allowedHosts: new Set([`localhost:${port}`]) };
  expect(await failureOf({ ...named, privateCidrs: [], privateCidrsSetting: 'PRIVATE_CIDRS_ALLOWED' })).toMatchObject({
    reason: 'resolves to a private address that PRIVATE_CIDRS_ALLOWED does not have',
  });
  expect(await ask({ ...named, privateCidrs: ['127.0.0.0/8', '::1/128'] })).toMatchObject({ status: 200 });
  expect(await ask({ allowedHosts: new Set([`127.0.0.1:${port}`]), privateCidrs: [] })).toMatchObject({ status: 200 });
  // The URL's spelling is made the usual one before it is compared.
  const odd = { url: `http://0x7f.1:${port}/`, privateCidrs: [] };
  expect(await ask({ ...odd, allowedHosts: new Set([`127.0.0.1:${port}`]) })).toMatchObject({ status: 200 });
});

test.each([
  [['crm.example'], 'http://crm.example/', true],
  [['crm.example'], 'https://CRM.example:443/x', true],
  [['crm.example:443'], 'https://crm.example/', true],
  [['crm.example:443'], 'http://crm.example/', false],
  [['crm.example'], 'http://crm.example:8080/', false],
  [['crm.example'], 'http://crm.example.evil.example/', false],
  [['crm.example'], 'http://evil-crm.example/', false],
  [['crm.example'], 'http://crm.example./', false],
  [[], 'http://crm.example/', false],
])('with %j allowed, %s may be asked: %s', async (hosts, url, allowed) => {
  // What may be asked goes on to the name, which leads inside.
  const error = await failureOf({
    url,
    allowedHosts: new Set(hosts),
    privateCidrs: [],
    lookup: resolvesTo('10.0.0.1'),
  });
  expect(error.reason).toMatch(allowed ? /^resolves to a private address/ : /^is not among ENRICHMENT_ALLOWED_HOSTS$/);
});

test('a name that comes to mean an inner address is refused at the very connection', async () => {
  const turns = ['203.0.114.1', '127.0.0.1'];
  const lookup: LookupFunction = (_name, _options, callback) =>
    setImmediate(() => callback(null, [{ address: turns.shift() ?? '127.0.0.1', family: 4 }]));
  const request = { url: `http://rebinding.example:${port}/`, privateCidrs: [], lookup };
  // What a check beforehand would have seen.
  lookup('rebinding.example', { all: true }, () => undefined);
  await new Promise((resolve) => setImmediate(resolve));
  expect(turns).toEqual(['127.0.0.1']);
  const reason = 'resolves to a private address that OUTBOUND_PRIVATE_CIDRS does not have';
  expect(await failureOf(request)).toMatchObject({ kind: 'refused', reason });
  expect(seen).toEqual([]);
});

test('of several addresses only those that may be reached are tried', async () => {
  const url = `http://several.example:${port}/`;
  const lookup = resolvesTo('10.0.0.1', '::1', '127.0.0.1', '192.168.0.1');
  expect(await ask({ url, lookup })).toMatchObject({ status: 200 });
  expect(await failureOf({ url, lookup, privateCidrs: ['172.16.0.0/12'] })).toMatchObject({ kind: 'refused' });
  expect(await failureOf({ url: 'http://none.example/', lookup: resolvesTo() })).toMatchObject({ kind: 'refused' });
});

test('a connection made where inner addresses are allowed is not there for those who may not reach them', async () => {
  const url = `http://localhost:${port}/`;
  await ask({ url, privateCidrs: ['127.0.0.0/8', '::1/128'] });
  expect(await failureOf({ url, privateCidrs: [] })).toMatchObject({ kind: 'refused' });
  expect(seen).toHaveLength(1);
});

test.each([
  ['/away', 'unusable', /302: a redirect/],
  ['/unchanged', 'unusable', /304: a redirect/],
  ['/packed', 'unusable', /packed/],
  ['/large', 'unusable', /more than 1000 bytes/],
  ['/endless', 'unusable', /more than 1000 bytes/],
  ['/half', 'failed', /closed the connection/],
] as const)('%s is an error: %s', async (path, kind, reason) => {
  const error = await failureOf({ url: `http://127.0.0.1:${port}${path}` });
  expect(error).toMatchObject({ kind, reason: expect.stringMatching(reason) });
  expect(seen).toHaveLength(1);
});

test('what fits exactly comes whole; where only the status matters, the rest is cut', async () => {
  const lengthOf = async (path: string, cutBody = false) => {
    const { status, body } = await ask({ url: `http://127.0.0.1:${port}${path}`, cutBody });
    return [status, body.length];
  };
  expect(await lengthOf('/full')).toEqual([200, 1_000]);
  expect(await lengthOf('/unpacked')).toEqual([200, 5]);
  expect(await lengthOf('/large-error')).toEqual([500, 1_000]);
  expect(await lengthOf('/endless', true)).toEqual([200, 1_000]);
  expect(await lengthOf('/packed', true)).toEqual([200, 0]);
  expect(await lengthOf('/packed-error')).toEqual([503, 0]);
  // What was left unread does not stand before the next answer.
  expect((await ask()).body.toString()).toBe('hello');
});

test.each(['/silent', '/drip'])('%s ends at the time limit', async (path) => {
  const startedAt = performance.now();
  const error = await failureOf({ url: `http://127.0.0.1:${port}${path}`, timeoutMs: 150 });
  expect(error).toMatchObject({ kind: 'timeout', reason: 'gave no answer in time' });
  expect(performance.now() - startedAt).toBeLessThan(8_000);
});

test('a name that is never resolved ends at the time limit, too', async () => {
  const error = await failureOf({ url: 'http://slow.example/', timeoutMs: 100, lookup: () => undefined });
  expect(error.kind).toBe('timeout');
  expect(await failureOf({ timeoutMs: 0, url: `http://127.0.0.1:${port}/silent` })).toMatchObject({ kind: 'timeout' });
});

test('new names are looked up two at a time, and who waits for a turn ends at the time limit', async () => {
  const underWay: (() => void)[] = [];
  const lookup = vi.spyOn(dns, 'lookup').mockImplementation(((_name: string, _options: object, callback: LookupEnd) => {
    underWay.push(() => callback(Object.assign(new Error('none'), { code: 'ENOTFOUND' }), [], 0));
  }) as unknown as typeof dns.lookup);
  try {
    const asked = ['one', 'two', 'three', 'four'].map((name) =>
      failureOf({ url: `http://${name}.example/`, timeoutMs: 100 }),
    );
    expect((await Promise.all(asked)).map(({ kind }) => kind)).toEqual(['timeout', 'timeout', 'timeout', 'timeout']);
    expect(lookup.mock.calls.map(([name]) => name)).toEqual(['one.example', 'two.example']);
    const later = failureOf({ url: 'http://later.example/', timeoutMs: 5_000 });
    underWay.splice(0).forEach((end) => end());
    await expect.poll(() => lookup.mock.calls.length).toBe(3);
    underWay.splice(0).forEach((end) => end());
    expect(await later).toMatchObject({ kind: 'failed', reason: 'has no address' });
  } finally {
    lookup.mockRestore();
  }
});

test('a signal ends a request under way, and keeps one from being sent', async () => {
  const controller = new AbortController();
  const sent = () => seen.filter(({ url }) => url === '/silent?cancelled').length;
  const url = `http://127.0.0.1:${port}/silent?cancelled`;
  const running = failureOf({ url, signal: controller.signal });
  await expect.poll(sent).toBe(1);
  controller.abort();
  expect(await running).toMatchObject({ kind: 'cancelled' });
  expect(await failureOf({ url, signal: controller.signal })).toMatchObject({ kind: 'cancelled' });
  expect(sent()).toBe(1);
});

test.each([
  ['ftp://127.0.0.1/', 'neither by http'],
  ['file:///etc/passwd', 'neither by http'],
  ['http://user:word@127.0.0.1/', 'without user and password'],
  ['http://127.0.0.1:99999/', 'the address is none'],
  ['nothing', 'the address is none'],
])('%s is refused', async (url, reason) => {
  expect(await failureOf({ url })).toMatchObject({ kind: 'refused', reason: expect.stringContaining(reason) });
});

test.each([
  [{ Host: 'inner.example' }],
  [{ 'content-length': '1' }],
  [{ 'Transfer-Encoding': 'chunked' }],
  [{ connection: 'upgrade' }],
  [{ 'accept-encoding': 'gzip' }],
  [{ 'proxy-authorization': 'x' }],
  [{ 'x-a': 'a\r\nx-b: b' }],
  [{ 'x-a': 'snow ☃' }],
  [{ 'x a': 'a' }],
])('the headers %j are refused without being told', async (headers) => {
  const error = await failureOf({ headers });
  expect(error).toMatchObject({ kind: 'refused', reason: expect.stringContaining('header') });
  for (const value of Object.values(headers)) expect(error.reason.includes(value) && value.length > 3).toBe(false);
  expect(seen).toEqual([]);
});

test('the headers that are refused here are those that no flow may have', () => {
  expect(String(ownHeaders)).toBe(String(OWN_HEADERS));
});

test('a closed port is told without its address', async () => {
  const closed = createTcpServer();
  closed.listen(0, '127.0.0.1');
  await once(closed, 'listening');
  const { port: closedPort } = closed.address() as AddressInfo;
  closed.close();
  await once(closed, 'close');
  const error = await failureOf({ url: `http://localhost:${closedPort}/`, privateCidrs: ['127.0.0.0/8', '::1'] });
  expect(error).toMatchObject({ kind: 'failed', reason: 'refused the connection' });
  expect(error.message).toBe(error.reason);
});

test('a request over a kept connection that was closed meanwhile is sent again, over a new one', async () => {
  let connections = 0;
  const waiting: (() => void)[] = [];
  const fickle = createTcpServer((socket) => {
    connections += 1;
    let requests = 0;
    socket.on('error', () => undefined);
    socket.on('data', () => {
      requests += 1;
      // The second request of a connection meets its end, as when an idle one times out just then.
      if (requests > 1) return void socket.resetAndDestroy();
      waiting.push(() => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'));
      if (connections >= 2) waiting.splice(0).forEach((answer) => answer());
    });
  });
  fickle.listen(0, '127.0.0.1');
  await once(fickle, 'listening');
  const url = `http://127.0.0.1:${(fickle.address() as AddressInfo).port}/`;
  // Two connections are kept, and both are stale.
  const first = await Promise.all([ask({ url }), ask({ url })]);
  expect(first.map(({ body }) => body.toString())).toEqual(['ok', 'ok']);
  expect((await ask({ url, method: 'POST', body: '{}' })).body.toString()).toBe('ok');
  expect(connections).toBe(3);
  fickle.close();
});

test('a server that does not speak TLS is told without its address', async () => {
  const plain = createTcpServer((socket) => socket.end('no TLS here\n'));
  plain.listen(0, '127.0.0.1');
  await once(plain, 'listening');
  const error = await failureOf({ url: `https://127.0.0.1:${(plain.address() as AddressInfo).port}/` });
  expect(error).toMatchObject({ kind: 'failed' });
  expect(error.reason).not.toContain('127.0.0.1');
  plain.close();
});
