/** Another company's system that enrichment asks: a real HTTP server on this machine. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface EnrichmentServer {
  readonly host: string;
  readonly url: string;
  /** What was asked, in order. */
  readonly requests: {
    readonly path: string;
    readonly idempotencyKey: unknown;
    readonly body: Record<string, unknown>;
  }[];
  /** Lets requests to `/slow` be answered. */
  release(): void;
  close(): Promise<void>;
}

/** `/customer` answers, `/broken` says 500, `/text` is no JSON, `/large` never ends, `/away` leads elsewhere, `/slow` waits. */
export async function startEnrichmentServer(): Promise<EnrichmentServer> {
  const requests: EnrichmentServer['requests'] = [];
  const waiting: (() => void)[] = [];
  const server = createServer((request, response) => {
    void readJson(request).then((body) => {
      requests.push({ path: request.url!, idempotencyKey: request.headers['idempotency-key'], body });
      const answer = () => reply(request.url!, response);
      if (request.url === '/slow') waiting.push(answer);
      else answer();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const release = () => waiting.splice(0).forEach((answer) => answer());
  return {
    host,
    url: `http://${host}`,
    requests,
    release,
    async close() {
      release();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function reply(path: string, response: ServerResponse): void {
  if (path === '/broken') return void response.writeHead(500).end('no');
  if (path === '/text') return void response.end('hello');
  if (path === '/away') return void response.writeHead(302, { location: '/customer' }).end();
  if (path === '/large') return void response.end(JSON.stringify({ filler: 'x'.repeat(70_000) }));
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ customer: { tier: 'gold', orders: 3 } }));
}

async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as Record<string, unknown>;
}
