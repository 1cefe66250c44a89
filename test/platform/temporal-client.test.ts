import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { loadConfig } from '../../platform/config.ts';
import {
  connectTemporalWorker,
  createTemporalClient,
  createTemporalConnectionOptions,
} from '../../platform/temporal-client.ts';

describe('createTemporalConnectionOptions', () => {
  it('is plain text without TLS settings', () => {
    expect(connectWith({})).toEqual({ address: '127.0.0.1:7233' });
  });

  it('takes an API key to imply TLS, and names the namespace beside it', () => {
    expect(connectWith({ TEMPORAL_API_KEY: 'key', TEMPORAL_NAMESPACE: 'house.acct' })).toEqual({
      address: '127.0.0.1:7233',
      apiKey: 'key',
      metadata: { 'temporal-namespace': 'house.acct' },
      tls: {},
    });
  });

  it('leaves TLS off when that is said, API key or not', () => {
    expect(connectWith({ TEMPORAL_API_KEY: 'key', TEMPORAL_TLS: 'false' })).toMatchObject({ tls: false });
  });

  it('turns TLS on when that is said', () => {
    expect(connectWith({ TEMPORAL_TLS: 'true' })).toMatchObject({ tls: {} });
  });

  it('reads the certificates', () => {
    const folder = mkdtempSync(join(tmpdir(), 'switchyard-tls-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    for (const name of ['cert', 'key', 'ca']) writeFileSync(join(folder, name), `the ${name}`);
    const options = connectWith({
      TEMPORAL_TLS_CLIENT_CERT_PATH: join(folder, 'cert'),
      TEMPORAL_TLS_CLIENT_KEY_PATH: join(folder, 'key'),
      TEMPORAL_TLS_SERVER_CA_CERT_PATH: join(folder, 'ca'),
      TEMPORAL_TLS_SERVER_NAME: 'temporal.example',
    });
    expect(options.tls).toEqual({
      clientCertPair: { crt: Buffer.from('the cert'), key: Buffer.from('the key') },
      serverRootCACertificate: Buffer.from('the ca'),
      serverNameOverride: 'temporal.example',
    });
  });

  it('names the variable whose file cannot be read', () => {
    expect(() => connectWith({ TEMPORAL_TLS_SERVER_CA_CERT_PATH: '/nowhere/ca.pem' })).toThrow(
      'TEMPORAL_TLS_SERVER_CA_CERT_PATH: names a file that cannot be read (ENOENT)',
    );
  });
});

describe('createTemporalClient', () => {
  it('starts while the server is away, and uses the namespace', async () => {
    const { client, connection } = createTemporalClient(
      loadConfig({ TEMPORAL_ADDRESS: '127.0.0.1:1', TEMPORAL_NAMESPACE: 'house' }),
      { lazy: true },
    );
    expect(client.options.namespace).toBe('house');
    await connection.close();
  });
});

describe('connectTemporalWorker', () => {
  it('does not compress, wherever the server is', async () => {
    const { port, calls } = await startRecorder();
    // Not named as loopback is: to whoever goes by the name, this is another machine.
    const connection = await connectTemporalWorker(loadConfig({ TEMPORAL_ADDRESS: `0.0.0.0:${port}` }));
    await connection.close();
    expect(calls.map((headers) => headers[':path'])).toContain(
      '/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo',
    );
    for (const headers of calls) expect(headers).not.toHaveProperty('grpc-encoding');
  });
});

/** Keeps the headers of each call, and answers with an empty message. */
async function startRecorder(): Promise<{ port: number; calls: IncomingHttpHeaders[] }> {
  const calls: IncomingHttpHeaders[] = [];
  const server = createServer().on('stream', (stream, headers) => {
    calls.push(headers);
    stream.respond({ 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    // Not compressed, and of no bytes.
    stream.end(Buffer.alloc(5));
  });
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return { port: (server.address() as AddressInfo).port, calls };
}

function connectWith(env: Record<string, string>) {
  return createTemporalConnectionOptions(loadConfig(env));
}
