import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import type { Logger } from './logger.ts';

/**
 * Serves `GET /metrics` to Prometheus on a port of its own, to loopback or to whoever holds the operator's key, and
 * `GET /healthz` and `/readyz` to anyone. Rejects when the port cannot be had.
 */
export async function startMetricsServer(options: MetricsServerOptions): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    answer(options, request, response).catch((error: unknown) => {
      options.logger?.error({ err: error }, 'could not answer a scrape');
      if (response.headersSent) response.destroy();
      else sendText(response, 500, 'could not collect the metrics\n');
    });
  });
  // A scrape is one small request: whoever dawdles over it is cut off instead of holding a socket.
  server.headersTimeout = 5_000;
  server.requestTimeout = 10_000;
  server.listen({ port: options.port, host: options.host });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${formatHost(options.host)}:${port}/metrics`,
    port,
    async close() {
      if (!server.listening) return;
      const closed = once(server, 'close');
      server.close();
      const deadline = setTimeout(() => server.closeAllConnections(), 1_000);
      await closed;
      clearTimeout(deadline);
    },
  };
}

/**
 * Who may read metrics: a peer on this machine, or a bearer of the operator's key. A loopback peer that forwards for
 * someone else (a reverse proxy) is not that someone, so it needs the key.
 */
export function mayReadMetrics({ remoteAddress, headers, metricsKey }: MetricsReader): boolean {
  const forwarded = headers.forwarded !== undefined || headers['x-forwarded-for'] !== undefined;
  if (!forwarded && isLoopback(remoteAddress)) return true;
  const presented = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1];
  return metricsKey !== undefined && presented !== undefined && equalInConstantTime(presented, metricsKey);
}

export interface MetricsServerOptions {
  readonly registry: Registry;
  readonly host: string;
  /** 0 means any free port. */
  readonly port: number;
  /** Without it only loopback may read. */
  readonly metricsKey?: string | undefined;
  /** More in Prometheus text format (Temporal's SDK metrics); when it fails, the page goes out without it. */
  readonly extraText?: () => Promise<string>;
  /** What `GET /readyz` says; without it the process counts as ready as soon as it answers. */
  readonly isReady?: () => boolean;
  readonly logger?: Logger;
}

export interface MetricsServer {
  /** The page to scrape, reachable from this machine. */
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

export interface MetricsReader {
  readonly remoteAddress: string | undefined;
  readonly headers: {
    readonly authorization?: string | undefined;
    readonly forwarded?: string | undefined;
    readonly 'x-forwarded-for'?: string | string[] | undefined;
  };
  readonly metricsKey?: string | undefined;
}

async function answer(
  options: MetricsServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = request.url?.split('?', 1)[0];
  const readable = request.method === 'GET' || request.method === 'HEAD';
  if (readable && path === '/healthz') return sendText(response, 200, '{"status":"ok"}\n', 'application/json');
  if (readable && path === '/readyz') {
    const isReady = options.isReady?.() ?? true;
    return sendText(
      response,
      isReady ? 200 : 503,
      `{"status":"${isReady ? 'ready' : 'starting'}"}\n`,
      'application/json',
    );
  }
  if (!readable || path !== '/metrics') return sendText(response, 404, 'not found; metrics are at GET /metrics\n');
  const { metricsKey } = options;
  if (!mayReadMetrics({ remoteAddress: request.socket.remoteAddress, headers: request.headers, metricsKey })) {
    response.setHeader('www-authenticate', 'Bearer');
    return sendText(response, 401, 'needs the metrics key as a bearer token\n');
  }
  const [own, extra] = await Promise.all([options.registry.metrics(), readExtraText(options)]);
  sendText(response, 200, joinPages(own, extra), options.registry.contentType);
}

async function readExtraText({ extraText, logger }: MetricsServerOptions): Promise<string> {
  try {
    return (await extraText?.()) ?? '';
  } catch (error) {
    logger?.warn({ err: error }, 'could not read the extra metrics');
    return '';
  }
}

function joinPages(own: string, extra: string): string {
  return extra === '' || own.endsWith('\n') ? own + extra : `${own}\n${extra}`;
}

function sendText(response: ServerResponse, status: number, body: string, contentType = 'text/plain; charset=utf-8') {
  response.writeHead(status, { 'content-type': contentType, 'cache-control': 'no-store' });
  response.end(body);
}

function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(::1|(::ffff:)?127\.\d+\.\d+\.\d+)$/i.test(address);
}

/** Digests have one length, so that neither time nor an exception tells how long the key is. */
function equalInConstantTime(presented: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(presented), digest(expected));
}

function formatHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}
