import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type pg from 'pg';
import { isWritable } from '../../store/readiness.ts';
import type { ApiDeps } from '../dependencies.ts';
import { problem } from '../problems.ts';
import { problemResponses } from '../schemas.ts';

const CHECK_TIMEOUT_MS = 1_000;
const CHECK_NAME = 'PostgreSQL takes writes';

export function healthRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  const checkDatabase = createDatabaseCheck(pool);
  return async (app) => {
    app.get(
      '/healthz',
      {
        schema: {
          tags: ['Health'],
          summary: 'Whether this process lives',
          response: { 200: Type.Object({ status: Type.Literal('ok') }), ...problemResponses(500) },
        },
      },
      () => ({ status: 'ok' as const }),
    );

    app.get(
      '/readyz',
      {
        schema: {
          tags: ['Health'],
          summary: 'Whether this process can take in messages',
          description:
            'Ready while PostgreSQL takes writes, whatever Temporal does: messages are stored and routed later.',
          response: {
            200: Type.Object({
              status: Type.Literal('ready'),
              checks: Type.Array(Type.Object({ name: Type.String(), ok: Type.Boolean() })),
            }),
            ...problemResponses(500, 503),
          },
        },
      },
      async () => {
        const reason = await checkDatabase();
        if (reason !== null) {
          throw problem('not_ready', { detail: reason, extra: { checks: [{ name: CHECK_NAME, ok: false }] } });
        }
        return { status: 'ready' as const, checks: [{ name: CHECK_NAME, ok: true }] };
      },
    );
  };
}

/** Returns why not, or null. Callers at the same time share one question: the route is open to everybody. */
function createDatabaseCheck(pool: pg.Pool): () => Promise<string | null> {
  let running: Promise<string | null> | null = null;
  let question: Promise<boolean> | null = null;

  async function check(): Promise<string | null> {
    // A question that is still unanswered from the last time is waited for, not asked again.
    question ??= isWritable(pool).finally(() => (question = null));
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<'timeout'>((resolve) => {
      timer = setTimeout(() => resolve('timeout'), CHECK_TIMEOUT_MS);
    });
    try {
      const answer = await Promise.race([question, timeout]);
      if (answer === 'timeout') return `PostgreSQL did not answer within ${CHECK_TIMEOUT_MS} ms.`;
      return answer ? null : 'PostgreSQL is read-only.';
    } catch {
      return 'PostgreSQL cannot be reached.';
    } finally {
      clearTimeout(timer);
    }
  }

  return () => (running ??= check().finally(() => (running = null)));
}
