import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { MAX_STREAMS_PER_KEY } from '../../api/stream-places.ts';
import { eventually } from '../support/eventually.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

type Workspace = Awaited<ReturnType<WorkspaceApi['workspace']>>;

let api: WorkspaceApi;
let url: string;

beforeAll(async () => {
  api = await startWorkspaceApi();
  url = await api.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(() => api.stop());

/** What the description of `GET /v1/events` promises. */
const places = 1_000;

test('a process with all its event streams open refuses one more with 503, serves everything else, and gives a freed place again', async () => {
  const workspaces = await Promise.all(Array.from({ length: places / MAX_STREAMS_PER_KEY }, () => api.workspace()));
  const streams: IncomingMessage[] = [];
  // One key after the other: the system queues only so many connections that nobody has accepted yet.
  for (const { keys } of workspaces) {
    streams.push(...(await Promise.all(Array.from({ length: MAX_STREAMS_PER_KEY }, () => openStream(keys.agent)))));
  }
  expect(streams.filter(({ statusCode }) => statusCode === 200)).toHaveLength(places);

  const late = await api.workspace();
  const refused = await openStream(late.keys.agent);
  expect([refused.statusCode, refused.headers['retry-after']]).toEqual([503, '5']);
  expect(JSON.parse(await readText(refused))).toMatchObject({
    type: 'urn:switchyard:problem:streams_full',
    retryable: true,
  });

  await expectServed(late);
  // Those who have a place are told as ever.
  const { conversationId } = await workspaces[0]!.open();
  await Promise.all([streams[0]!, streams[99]!].map((stream) => readUntil(stream, conversationId)));

  streams[500]!.destroy();
  const next = await eventually('the freed place is given again', async () => {
    const stream = await openStream(late.keys.agent);
    if (stream.statusCode === 200) return stream;
    stream.destroy();
    return undefined;
  });
  // One place, not more: those who were refused have left nothing behind, and taken nothing.
  const another = await openStream(late.keys.agent);
  expect(another.statusCode).toBe(503);
  for (const stream of [...streams, next, another]) stream.destroy();
});

/** On a connection of its own, which is there when the answer's head has come. */
function openStream(key: string): Promise<IncomingMessage> {
  const headers = { authorization: `Bearer ${key}`, accept: 'text/event-stream' };
  return new Promise((resolve, reject) => {
    httpRequest(`${url}/v1/events?after=0`, { headers, agent: false }, resolve).on('error', reject).end();
  });
}

async function readText(message: IncomingMessage): Promise<string> {
  let text = '';
  message.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  await once(message, 'end');
  return text;
}

async function readUntil(stream: IncomingMessage, expected: string): Promise<void> {
  let text = '';
  stream.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  await eventually(`the stream tells ${expected}`, () => text.includes(expected));
}

/** Messages, lists, the feed page by page, and the probes. */
async function expectServed({ keys }: Workspace): Promise<void> {
  const call = async (key: string, path: string, body?: unknown): Promise<number> => {
    const response = await fetch(url + path, {
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    });
    await response.text();
    return response.status;
  };
  const message = { channel: 'chat', externalId: newId(), contact: { externalId: newId() }, text: 'Hello' };
  expect(await call(keys.ingest, '/v1/messages', message)).toBe(202);
  for (const path of ['/v1/conversations', '/v1/events', '/healthz', '/readyz']) {
    expect(await call(keys.agent, path), path).toBe(200);
  }
}
