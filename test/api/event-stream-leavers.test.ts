import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { MAX_STREAMS_PER_KEY } from '../../api/stream-places.ts';
import { eventually } from '../support/eventually.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

test('clients that leave while their key is looked up keep no places, and a closing server does not wait for them', async () => {
  const { api, key, port } = await prepare();
  let arrived = 0;
  api.app.server.on('request', () => (arrived += 1));
  const holder = await api.pool.connect();
  await holder.query('BEGIN');
  await holder.query('LOCK TABLE keys IN ACCESS EXCLUSIVE MODE');
  const sockets = await Promise.all(Array.from({ length: MAX_STREAMS_PER_KEY }, () => requestStreams(port, key, 1)));
  await eventually('all requests have arrived', () => arrived === MAX_STREAMS_PER_KEY);
  for (const socket of sockets) socket.destroy();
  await eventually('the server knows that they left', async () => (await countConnections(api)) === 0);
  await holder.query('ROLLBACK');
  holder.release();

  // It shares their lookup or comes after it, so that all of them were let in before.
  const next = await requestStreams(port, key, 1);
  expect(await readHead(next)).toContain('HTTP/1.1 200 OK');
  expect(await countStreams(api)).toBe(1);
  next.destroy();
  await api.stop();
});

test('streams that were asked for on one connection leave with it, also those whose turn never came', async () => {
  const { api, key, port } = await prepare();
  const socket = await requestStreams(port, key, 3);
  await eventually('all have places', async () => (await countStreams(api)) === 3);
  socket.destroy();
  await eventually('all places are free', async () => (await countStreams(api)) === 0);
  await api.stop();
});

async function prepare() {
  const api = await startWorkspaceApi();
  const url = await api.app.listen({ host: '127.0.0.1', port: 0 });
  const { keys } = await api.workspace();
  return { api, key: keys.agent, port: Number(new URL(url).port) };
}

/** Sends so many requests at once on a connection of their own, and waits for no answer. */
async function requestStreams(port: number, key: string, count: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  const head = ['GET /v1/events HTTP/1.1', 'Host: test', `Authorization: Bearer ${key}`, 'Accept: text/event-stream'];
  socket.write(`${head.join('\r\n')}\r\n\r\n`.repeat(count));
  return socket;
}

async function readHead(socket: Socket): Promise<string> {
  const [chunk] = await once(socket, 'data');
  return String(chunk);
}

async function countStreams({ metrics }: WorkspaceApi): Promise<number> {
  const page = await metrics.registry.metrics();
  return Number(/^switchyard_event_streams_open(?:\{[^}]*\})? (\d+)$/m.exec(page)?.[1]);
}

function countConnections({ app }: WorkspaceApi): Promise<number> {
  return new Promise((resolve, reject) =>
    app.server.getConnections((error: Error | null, count: number) =>
      error === null ? resolve(count) : reject(error),
    ),
  );
}
