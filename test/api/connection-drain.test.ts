import { once } from 'node:events';
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { createUnreachablePool, startApi } from './bare-api.ts';

test('a connection that never sends a request does not hold a closing server', async () => {
  const pool = createUnreachablePool();
  const api = await startApi(pool);
  const { port } = new URL(await api.app.listen({ host: '127.0.0.1', port: 0 }));
  const socket = connect(Number(port), '127.0.0.1').on('error', () => undefined);
  await Promise.all([once(socket, 'connect'), once(api.app.server, 'connection')]);
  const ended = once(socket.resume(), 'close');
  const startedMs = performance.now();
  await api.close();
  expect(performance.now() - startedMs).toBeLessThan(8_000);
  await ended;
  await pool.end();
});

test('a request under way is answered before the server is closed', async () => {
  const pool = createUnreachablePool();
  const api = await startApi(pool);
  const url = await api.app.listen({ host: '127.0.0.1', port: 0 });
  const arrived = once(api.app.server, 'request');
  // Asks the database, so that it takes a moment.
  const answer = fetch(`${url}/readyz`);
  await arrived;
  const closed = api.close();
  expect((await answer).status).toBe(503);
  expect(await (await answer).json()).toMatchObject({ type: 'urn:switchyard:problem:not_ready' });
  await closed;
  await pool.end();
});
