import { readFileSync } from 'node:fs';
import { Client, Connection } from '@temporalio/client';
import type { NativeConnection } from '@temporalio/worker';
import { ConfigError } from './config.ts';
import type { Config, VariableName } from './config.ts';

/**
 * A client of the Temporal server. Lazy unless asked otherwise: the process starts, and goes on, while the server is
 * away; the first call connects. With `lazy: false` the promise rejects when the server does not answer within 10 s.
 */
export function createTemporalClient(config: TemporalConfig, options?: { lazy?: true }): TemporalClient;
export function createTemporalClient(config: TemporalConfig, options: { lazy: false }): Promise<TemporalClient>;
export function createTemporalClient(
  config: TemporalConfig,
  { lazy = true }: { lazy?: boolean } = {},
): TemporalClient | Promise<TemporalClient> {
  // gRPC's own limit of two minutes would leave the outbox waiting long after the server is back.
  const channelArgs = { 'grpc.max_reconnect_backoff_ms': 2_000 };
  const options = { ...createTemporalConnectionOptions(config), channelArgs };
  const build = (connection: Connection): TemporalClient => ({
    connection,
    client: new Client({ connection, namespace: config.temporalNamespace }),
  });
  return lazy ? build(Connection.lazy(options)) : Connection.connect(options).then(build);
}

/**
 * The worker's connection. Rejects when the server does not answer. The worker package is loaded only here, because
 * it brings a native library that a process which merely calls Temporal should not pay for.
 */
export async function connectTemporalWorker(config: TemporalConfig): Promise<NativeConnection> {
  const worker = await import('@temporalio/worker');
  return worker.NativeConnection.connect({
    ...createTemporalConnectionOptions(config),
    // The SDK's default is gzip. Histories are short and the server is near, so it buys nothing, and it costs 1.11 × the CPU time a conversation
    // (1.06–1.12, noise 1.04): `npm run bench -- engine-settings --engine server --only gzip --runs 3`.
    grpcCompression: { codec: 'none' },
  });
}

/** What client and worker connect with. An API key or any TLS detail implies TLS. Reads the certificate files. */
export function createTemporalConnectionOptions(config: TemporalConfig): TemporalConnectionOptions {
  const tls = createTlsOptions(config);
  return {
    address: config.temporalAddress,
    ...(tls === undefined ? {} : { tls }),
    ...(config.temporalApiKey === undefined ? {} : { apiKey: config.temporalApiKey }),
    // A server behind an API gateway tells the namespace from this header, not from the message.
    ...(config.temporalApiKey === undefined ? {} : { metadata: { 'temporal-namespace': config.temporalNamespace } }),
  };
}

export interface TemporalClient {
  readonly client: Client;
  readonly connection: Connection;
}

export interface TemporalConnectionOptions {
  readonly address: string;
  readonly tls?: TlsOptions | false;
  readonly apiKey?: string;
  readonly metadata?: Record<string, string>;
}

export type TemporalConfig = Pick<
  Config,
  | 'temporalAddress'
  | 'temporalNamespace'
  | 'temporalApiKey'
  | 'temporalTls'
  | 'temporalTlsClientCertPath'
  | 'temporalTlsClientKeyPath'
  | 'temporalTlsServerCaCertPath'
  | 'temporalTlsServerName'
>;

interface TlsOptions {
  serverNameOverride?: string;
  serverRootCACertificate?: Uint8Array;
  clientCertPair?: { crt: Uint8Array; key: Uint8Array };
}

function createTlsOptions(config: TemporalConfig): TlsOptions | false | undefined {
  // Said aloud, so that the SDK does not turn TLS on again because of an API key.
  if (config.temporalTls === false) return false;
  const tls: TlsOptions = {};
  if (config.temporalTlsServerName !== undefined) tls.serverNameOverride = config.temporalTlsServerName;
  if (config.temporalTlsServerCaCertPath !== undefined) {
    tls.serverRootCACertificate = readPem('TEMPORAL_TLS_SERVER_CA_CERT_PATH', config.temporalTlsServerCaCertPath);
  }
  const { temporalTlsClientCertPath: certPath, temporalTlsClientKeyPath: keyPath } = config;
  if (certPath !== undefined && keyPath !== undefined) {
    tls.clientCertPair = {
      crt: readPem('TEMPORAL_TLS_CLIENT_CERT_PATH', certPath),
      key: readPem('TEMPORAL_TLS_CLIENT_KEY_PATH', keyPath),
    };
  }
  const implied = config.temporalTls === true || config.temporalApiKey !== undefined || Object.keys(tls).length > 0;
  return implied ? tls : undefined;
}

function readPem(variable: VariableName, path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    const reason = error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason';
    throw new ConfigError([{ variable, mend: `names a file that cannot be read (${reason})` }]);
  }
}
