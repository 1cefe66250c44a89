/** Another company's system that enrichment asks: a real HTTP server on this machine. */
import { startRecordingServer, type RecordedRequest, type ServerAnswer } from '../support/recording-server.ts';

export interface EnrichmentServer {
  readonly host: string;
  readonly url: string;
  /** What was asked, in order. */
  readonly requests: readonly EnrichmentRequest[];
  /** From now on, `path` (without its query) is answered so, first by the first and then always by the last. */
  answer(path: string, ...answers: ServerAnswer[]): void;
  /** Lets requests to `/slow` be answered. */
  release(): void;
  close(): Promise<void>;
}

interface EnrichmentRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: RecordedRequest['headers'];
  readonly idempotencyKey: unknown;
  readonly body: Record<string, unknown>;
}

/** `/broken` says 500, `/text` is no JSON, `/large` is too long, `/away` leads elsewhere, `/slow` waits; any other path tells of a customer. */
export async function startEnrichmentServer(): Promise<EnrichmentServer> {
  const answers = new Map<string, ServerAnswer[]>([
    ['/broken', [{ status: 500, text: 'no' }]],
    ['/text', [{ status: 200, text: 'hello' }]],
    ['/large', [{ status: 200, json: { filler: 'x'.repeat(70_000) } }]],
    ['/away', [{ status: 302, headers: { location: '/customer' } }]],
    ['/slow', ['hold']],
  ]);
  let isReleasing = false;
  const server = await startRecordingServer(({ path }) => {
    const own = isReleasing ? undefined : answers.get(path.replace(/\?.*$/, ''));
    if (own === undefined) return customer;
    return own.length > 1 ? own.shift()! : own[0]!;
  });
  return {
    host: server.host,
    url: server.url,
    get requests() {
      return server.requests.map(enrichmentRequestOf);
    },
    answer: (path, ...given) => void answers.set(path, given),
    release() {
      isReleasing = true;
      server.release();
      isReleasing = false;
    },
    close: () => server.close(),
  };
}

const customer: ServerAnswer = { status: 200, json: { customer: { tier: 'gold', orders: 3 } } };

function enrichmentRequestOf({ method, path, headers, body }: RecordedRequest): EnrichmentRequest {
  const json = JSON.parse(body || '{}') as Record<string, unknown>;
  return { method, path, headers, idempotencyKey: headers['idempotency-key'], body: json };
}
