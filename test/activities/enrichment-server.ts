/** Another company's system that enrichment asks: a real HTTP server on this machine. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface EnrichmentServer {
  readonly host: string;
  readonly url: string;
  /** What was asked, in order. */
  readonly requests: {
    readonly method: string;
    readonly path: string;
    readonly headers: Readonly<Record<string, unknown>>;
    readonly idempotencyKey: unknown;
    readonly body: Record<string, unknown>;
  }[];
  /** From now on, `path` (without its query) is answered so, first by the first and then always by the last. */
  answer(path: string, ...answers: ((response: ServerResponse) => void)[]): void;
  /** Lets requests to `/slow` be answered. */
  release(): void;
  close(): Promise<void>;
}

/** `/customer` answers, `/broken` says 500, `/text` is no JSON, `/large` never ends, `/away` leads elsewhere, `/slow` waits. */
export async function startEnrichmentServer(): Promise<EnrichmentServer> {
  const requests: EnrichmentServer['requests'] = [];
  const waiting: (() => void)[] = [];
  const answers = new Map<string, ((response: ServerResponse) => void)[]>();
  const server = createServer((request, response) => {
    void readJson(request).then((body) => {
      const { method = '', url = '', headers } = request;
      requests.push({ method, path: url, headers, idempotencyKey: headers['idempotency-key'], body });
      const own = answers.get(url.replace(/\?.*$/, ''));
      const answer = () =>
        own === undefined ? reply(url, response) : (own.length > 1 ? own.shift() : own[0])!(response);
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
    answer: (path, ...given) => void answers.set(path, given),
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
  return JSON.parse(Buffer.concat(chunks).toString('utf8') || '{}') as Record<string, unknown>;
}
