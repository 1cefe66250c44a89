import { request as httpRequest, type IncomingMessage } from 'node:http';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { recordEvents } from '../../store/events.ts';
import { MAX_STREAMS_PER_KEY } from '../../api/stream-places.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

let api: WorkspaceApi;
let url: string;

beforeAll(async () => {
  api = await startWorkspaceApi();
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
});

afterAll(() => api.stop());

interface Seen {
  id: number;
  type: string;
  conversationId: string;
}

async function openStream(key: string, { query = '', lastEventId }: { query?: string; lastEventId?: number } = {}) {
  const response = await fetch(`${url}/v1/events${query}`, {
    headers: {
      authorization: `Bearer ${key}`,
      accept: 'text/event-stream',
      ...(lastEventId === undefined ? {} : { 'last-event-id': String(lastEventId) }),
    },
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  return {
    response,
    leave: () => reader.cancel(),
    /** Reads until so many events came, or to the end. */
    async read(count: number): Promise<Seen[]> {
      for (;;) {
        const seen = [...text.matchAll(/^id: (\d+)\ndata: (.*)$/gm)].map((match) => {
          const event = JSON.parse(match[2]!) as Seen;
          expect(String(event.id)).toBe(match[1]);
          return event;
        });
        if (seen.length >= count) return seen;
        const { value, done } = await reader.read();
        if (done) return seen;
        text += value;
      }
    },
  };
}

test('the feed reads page by page, and goes on from the last cursor when something new comes', async () => {
  const workspace = await api.workspace();
  const { conversationId, contactId } = await workspace.open();
  const first = await workspace.get('/events?limit=2');
  expect(first.body['items']).toHaveLength(2);
  expect(first.body['nextCursor']).toBe(String(first.body['items'][1].id));
  const second = await workspace.get(`/events?after=${first.body['nextCursor']}`);
  const all: Seen[] = [...first.body['items'], ...second.body['items']];
  expect(all.map(({ id }) => id)).toEqual(all.map(({ id }) => id).toSorted((a, b) => a - b));
  expect(all.map(({ type }) => type)).toContain('conversation.waiting');
  const opened = all.find(({ type }) => type === 'conversation.opened');
  expect(opened).toMatchObject({ conversationId, contactId, at: expect.stringMatching(/Z$/) });

  const nothing = await workspace.get(`/events?after=${second.body['nextCursor']}`);
  expect(nothing.body).toEqual({ items: [], nextCursor: second.body['nextCursor'] });
  await workspace.post(`/conversations/${conversationId}/close`, {});
  const news = await workspace.get(`/events?after=${nothing.body['nextCursor']}`);
  expect(news.body['items']).toMatchObject([{ type: 'conversation.close_requested', conversationId }]);
});

test('a workspace that has no events has a cursor to go on from', async () => {
  const workspace = await api.workspace();
  expect((await workspace.get('/events')).body).toEqual({ items: [], nextCursor: '0' });
});

test('a malformed cursor is refused', async () => {
  const workspace = await api.workspace();
  expect(await workspace.get('/events?after=yesterday')).toMatchObject({
    status: 400,
    body: { errors: [{ field: 'after' }] },
  });
  const headers = { authorization: `Bearer ${workspace.keys.agent}`, accept: 'text/event-stream' };
  const response = await fetch(`${url}/v1/events`, { headers: { ...headers, 'last-event-id': 'x' } });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ errors: [{ field: 'Last-Event-ID' }] });
});

test('a stream without a cursor tells only what happens from now on, of its workspace', async () => {
  const workspace = await api.workspace();
  await workspace.open();
  const stream = await openStream(workspace.keys.agent);
  expect(stream.response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  await (await api.workspace()).open();
  const { conversationId } = await workspace.open();
  const events = await stream.read(3);
  expect(new Set(events.map((event) => event.conversationId ?? conversationId))).toEqual(new Set([conversationId]));
  await stream.leave();
});

test('a stream goes on after Last-Event-ID, which counts more than the address', async () => {
  const workspace = await api.workspace();
  await workspace.open();
  const all: Seen[] = (await workspace.get('/events')).body['items'];
  const fromStart = await openStream(workspace.keys.agent, { query: '?after=0' });
  expect(await fromStart.read(all.length)).toEqual(all);
  const resumed = await openStream(workspace.keys.agent, { query: '?after=0', lastEventId: all[1]!.id });
  expect(await resumed.read(all.length - 2)).toEqual(all.slice(2));
  await fromStart.leave();
  await resumed.leave();
});

test('a key may have so many streams open, and one more when another has ended', async () => {
  const workspace = await api.workspace();
  const headers = { authorization: `Bearer ${workspace.keys.agent}`, accept: 'text/event-stream' };
  const streams = await Promise.all(
    Array.from({ length: MAX_STREAMS_PER_KEY }, () => openSocket(url, workspace.keys.agent)),
  );
  const refused = await fetch(`${url}/v1/events`, { headers });
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '5']);
  expect(await refused.json()).toMatchObject({ type: 'urn:switchyard:problem:too_many_streams', retryable: true });
  // Another key has places of its own.
  const ofOther = await openStream((await api.workspace()).keys.agent);
  await ofOther.leave();

  streams[0]!.destroy();
  await vi.waitFor(async () => {
    const next = await fetch(`${url}/v1/events`, { headers });
    await next.body?.cancel();
    expect(next.status).toBe(200);
  }, 20_000);
  for (const stream of streams) stream.destroy();
});

test('a stream gives its connection back when the client leaves', async () => {
  const workspace = await api.workspace();
  const before = await countConnections();
  const streams = await Promise.all(Array.from({ length: 5 }, () => openSocket(url, workspace.keys.agent)));
  for (const stream of streams) stream.destroy();
  await vi.waitFor(async () => expect(await countConnections()).toBeLessThanOrEqual(before), { timeout: 20_000 });
});

test('a stream ends within seconds after its key was revoked', async () => {
  const workspace = await api.workspace();
  const { body } = await workspace.post('/keys', { scope: 'agent', name: 'Feed' }, workspace.keys.admin);
  const stream = await openStream(body.key);
  await workspace.patch(`/keys/${body.id}`, { revoked: true });
  const revokedAt = performance.now();
  await stream.read(Infinity);
  expect(performance.now() - revokedAt).toBeLessThan(20_000);
});

test('closing the server ends streams, also one that nobody reads', async () => {
  const other = await startWorkspaceApi();
  const address = await other.app.listen({ host: '127.0.0.1', port: 0 });
  const workspace = await other.workspace();
  const big = {
    type: 'message.sent',
    conversationId: null,
    contactId: null,
    data: { text: 'x'.repeat(100_000) },
  } as const;
  for (let n = 0; n < 20; n += 1) {
    await recordEvents(
      other.pool,
      workspace.workspaceId,
      Array.from({ length: 10 }, () => big),
    );
  }
  const unread = await openSocket(address, workspace.keys.agent, '?after=0');
  unread.on('error', () => {});
  const read = await openSocket(address, workspace.keys.agent);
  const ended = new Promise((resolve) => read.on('end', resolve));
  read.resume();
  const startedAt = performance.now();
  await other.app.close();
  expect(performance.now() - startedAt).toBeLessThan(8_000);
  await ended;
  unread.destroy();
  await other.stop();
});

/** A stream on a connection of its own, which nobody reads yet. */
function openSocket(address: string, key: string, query = ''): Promise<IncomingMessage> {
  const headers = { authorization: `Bearer ${key}`, accept: 'text/event-stream' };
  return new Promise((resolve, reject) => {
    httpRequest(`${address}/v1/events${query}`, { headers, agent: false }, resolve).on('error', reject).end();
  });
}

function countConnections(): Promise<number> {
  return new Promise((resolve, reject) =>
    api.app.server.getConnections((error: Error | null, count: number) =>
      error === null ? resolve(count) : reject(error),
    ),
  );
}
