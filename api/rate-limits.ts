/**
 * A token bucket for each key, in this process. Every request takes one token, a batch one for each of its messages: what is refused
 * was not even parsed (single requests) or not processed (batches, refused whole).
 *
 * Processes do not tell each other: with several of them a key may have as many times as much. A shared count would cost a round trip
 * a request, which is more than taking a message in costs. @fastify/rate-limit was left out because it counts requests in fixed windows (two
 * windows' worth may come at once), one a request, and a batch would count like a single message. The headers are those that it sends
 * with `enableDraftSpec`: one field a figure, which clients know; the later drafts of the IETF (one structured field) are not settled.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Config } from '../platform/config.ts';
import type { Metrics } from '../platform/metrics.ts';
import { problem } from './problems.ts';

/** After authentication, and before the body is read. Costs nothing where no limit is set. */
export function limitRates(
  app: FastifyInstance,
  { rateLimitPerSecond, rateLimitBurst }: Pick<Config, 'rateLimitPerSecond' | 'rateLimitBurst'>,
  metrics: Metrics,
): void {
  const refused = metrics.counter('rate_limited_total', 'Requests refused because their key had sent too many');
  if (rateLimitPerSecond === 0) {
    app.decorateRequest('takeTokens', () => undefined);
    return;
  }
  const buckets = createRateBuckets({ perSecond: rateLimitPerSecond, burst: rateLimitBurst });

  function answer(reply: FastifyReply, { isTaken, remaining, resetSeconds, retryAfterSeconds }: TokensTaken): void {
    reply.header('ratelimit-limit', rateLimitBurst);
    reply.header('ratelimit-remaining', remaining);
    reply.header('ratelimit-reset', resetSeconds);
    if (isTaken) return;
    refused.inc();
    const detail = `This key may send ${rateLimitPerSecond} a second, and ${rateLimitBurst} at once; a batch counts by its messages.`;
    throw problem('rate_limited', { detail, retryAfterSeconds });
  }

  app.decorateRequest('takeTokens', function (this: FastifyRequest, reply: FastifyReply, count: number) {
    answer(reply, buckets.takeInstead(this.principal.keyId, 1, count));
  });
  app.addHook('onRequest', (request, reply, done) => {
    if (request.routeOptions.config.scope !== undefined) answer(reply, buckets.take(request.principal.keyId, 1));
    done();
  });
}

declare module 'fastify' {
  interface FastifyRequest {
    /**
     * For a request that holds so many messages, in place of the one token that it took when it came. Throws the problem
     * `rate_limited`, and then the request has taken nothing, else its own repetitions would keep the bucket from ever holding it.
     */
    takeTokens(reply: FastifyReply, count: number): void;
  }
}

export interface RateBuckets {
  take(key: string, count: number): TokensTaken;
  /** Gives back what was taken before, and takes `count`: all of them or none. */
  takeInstead(key: string, before: number, count: number): TokensTaken;
}

export interface TokensTaken {
  readonly isTaken: boolean;
  /** Whole tokens that are left. */
  readonly remaining: number;
  /** Until the bucket is full again. */
  readonly resetSeconds: number;
  /** Until as many are there as were asked for; what exceeds the burst never is. */
  readonly retryAfterSeconds: number;
}

export interface RateBucketOptions {
  readonly perSecond: number;
  readonly burst: number;
  readonly maxKeys?: number;
  /** Milliseconds. */
  readonly now?: () => number;
}

export function createRateBuckets(options: RateBucketOptions): RateBuckets {
  const { perSecond, burst, maxKeys = 10_000, now = () => performance.now() } = options;
  const buckets = new Map<string, { tokens: number; at: number }>();

  function refill(key: string): { tokens: number; at: number } {
    const at = now();
    let bucket = buckets.get(key);
    if (bucket === undefined) {
      if (buckets.size >= maxKeys) forgetFull(at);
      bucket = { tokens: burst, at };
      buckets.set(key, bucket);
    } else {
      bucket.tokens = Math.min(burst, bucket.tokens + ((at - bucket.at) / 1000) * perSecond);
      bucket.at = at;
    }
    return bucket;
  }

  /** A full bucket is the same as none. Only keys that exist have one, so there are as many others as keys in use. */
  function forgetFull(at: number): void {
    for (const [key, { tokens, at: since }] of buckets) {
      if (tokens + ((at - since) / 1000) * perSecond >= burst) buckets.delete(key);
    }
  }

  function takeFrom(bucket: { tokens: number }, count: number): TokensTaken {
    const isTaken = bucket.tokens >= count;
    if (isTaken) bucket.tokens -= count;
    return {
      isTaken,
      remaining: Math.floor(bucket.tokens),
      resetSeconds: Math.ceil((burst - bucket.tokens) / perSecond),
      retryAfterSeconds: Math.max(1, Math.ceil((Math.min(count, burst) - bucket.tokens) / perSecond)),
    };
  }

  return {
    take: (key, count) => takeFrom(refill(key), count),
    takeInstead(key, before, count) {
      const bucket = refill(key);
      bucket.tokens = Math.min(burst, bucket.tokens + before);
      return takeFrom(bucket, count);
    },
  };
}
