import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { loadConfig } from '../../platform/config.ts';
import { createTemporalClient, createTemporalConnectionOptions } from '../../platform/temporal-client.ts';

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

function connectWith(env: Record<string, string>) {
  return createTemporalConnectionOptions(loadConfig(env));
}
