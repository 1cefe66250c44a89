import type { FastifyInstance, InjectOptions } from 'fastify';
import { pino } from 'pino';
import type pg from 'pg';
import { buildApp } from '../../api/app.ts';
import { createIngest } from '../../api/ingest.ts';
import { createKeyCache } from '../../api/key-cache.ts';
import { loadConfig } from '../../platform/config.ts';
import type { Logger } from '../../platform/logger.ts';
import { createMetrics, type Metrics } from '../../platform/metrics.ts';
import { createPool } from '../../platform/pool.ts';
import { createEventFeed } from '../../store/events.ts';
import { findKey } from '../../store/keys.ts';
import { createWorkspace, type NewWorkspace } from '../../store/workspaces.ts';

export interface ApiUnderTest {
  readonly app: FastifyInstance;
  readonly metrics: Metrics;
  /** Sends one request; `key` goes into the Authorization header. */
  call(method: 'GET' | 'POST' | 'PATCH' | 'PUT', url: string, options?: CallOptions): Promise<Answer>;
  close(): Promise<void>;
}

export interface CallOptions {
  readonly key?: string;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  // Tests look at whatever an answer holds.
  readonly body: any;
}

/** The whole app over a real pool, without a socket. The pool stays the caller's. */
export async function startApi(
  pool: pg.Pool,
  env: Record<string, string> = {},
  logger: Logger = pino({ level: 'silent' }),
): Promise<ApiUnderTest> {
  const metrics = createMetrics({ component: 'api' });
  const ingest = createIngest(pool, metrics);
  const app = await buildApp({
    config: loadConfig(env),
    pool,
    logger,
    metrics,
    ingest,
    feed: createEventFeed(pool),
    keys: createKeyCache({ findKey: (id) => findKey(pool, id) }),
  });
  return {
    app,
    metrics,
    async call(method, url, { key, body, headers = {} } = {}) {
      const authorization = key === undefined ? {} : { authorization: `Bearer ${key}` };
      const request: InjectOptions = { method, url, headers: { ...authorization, ...headers } };
      if (body !== undefined) request.payload = body as NonNullable<InjectOptions['payload']>;
      const answer = await app.inject(request);
      const isJson = String(answer.headers['content-type']).includes('json');
      return { status: answer.statusCode, headers: answer.headers, body: isJson ? answer.json() : answer.body };
    },
    async close() {
      await app.close();
      await ingest.close();
    },
  };
}

/** A pool that reaches nothing: for what must answer without a database, and for what happens when it is away. */
export function createUnreachablePool(): pg.Pool {
  return createPool(loadConfig({ DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' }), { applicationName: 'test' });
}

export function createTestWorkspace(pool: pg.Pool): Promise<NewWorkspace> {
  return createWorkspace(pool, { name: 'Test' });
}
