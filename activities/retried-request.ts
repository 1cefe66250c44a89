import { setTimeout as delay } from 'node:timers/promises';
import { ApplicationFailure } from '@temporalio/activity';
import {
  GuardedRequestError,
  requestGuarded,
  type GuardedRequest,
  type GuardedResponse,
} from '../platform/guarded-request.ts';

const firstPauseMs = 200;
const maxPauseMs = 3_000;

/**
 * Asks until there is an answer that another attempt would not change: connections that fail, 429 and 5xx are tried again, after pauses that grow
 * and vary, so that a system that comes back is not met by everybody at once. One that was slow is not asked again: it had its time.
 * Throws only when this worker closes.
 */
export async function requestWithRetries(
  request: Omit<GuardedRequest, 'signal'>,
  { retries, deadline, cancelled }: RetryLimits,
): Promise<RetriedAnswer> {
  for (let attempt = 1; ; attempt += 1) {
    const timeoutMs = Math.min(request.timeoutMs, deadline - Date.now());
    const answer = await attemptRequest({ ...request, timeoutMs, signal: cancelled });
    if (cancelled.aborted) throw closingFailure();
    const isLast = attempt > retries || !isWorthAnotherAttempt(answer);
    const pauseMs = isLast ? 0 : pauseBefore(attempt, answer);
    if (isLast || Date.now() + pauseMs >= deadline) {
      const attempts = attempt === 1 ? '' : `, at attempt ${attempt}`;
      return answer.kind === 'failed'
        ? { kind: 'failed', reason: answer.error.reason + attempts }
        : { ...answer, attempts };
    }
    await delay(pauseMs, undefined, { signal: cancelled }).catch(() => {
      throw closingFailure();
    });
  }
}

interface RetryLimits {
  readonly retries: number;
  /** Milliseconds since the epoch, for all attempts. */
  readonly deadline: number;
  /** Aborts when this worker closes. */
  readonly cancelled: AbortSignal;
}

export type RetriedAnswer =
  /** Any status but a redirect. `attempts` is for the end of a message, empty for one. */
  | { readonly kind: 'answered'; readonly response: GuardedResponse; readonly attempts: string }
  /** Fit to stand behind the name of whoever was asked. */
  | { readonly kind: 'failed'; readonly reason: string };

type Attempt =
  | { readonly kind: 'answered'; readonly response: GuardedResponse }
  | { readonly kind: 'failed'; readonly error: GuardedRequestError };

async function attemptRequest(request: GuardedRequest): Promise<Attempt> {
  try {
    return { kind: 'answered', response: await requestGuarded(request) };
  } catch (error) {
    if (!(error instanceof GuardedRequestError)) throw error;
    return { kind: 'failed', error };
  }
}

function isWorthAnotherAttempt(attempt: Attempt): boolean {
  if (attempt.kind === 'failed') return attempt.error.kind === 'failed';
  const { status } = attempt.response;
  return status === 429 || status >= 500;
}

/** At least what the other side asks for. Half of a pause is left to chance. */
function pauseBefore(attempt: number, answer: Attempt): number {
  const longest = Math.min(maxPauseMs, firstPauseMs * 2 ** (attempt - 1));
  const pauseMs = (longest * (1 + Math.random())) / 2;
  return answer.kind === 'failed' ? pauseMs : Math.max(pauseMs, retryAfterMs(answer.response));
}

/** Seconds, or a date. */
function retryAfterMs({ headers }: GuardedResponse): number {
  const text = headers['retry-after']?.trim() ?? '';
  if (/^\d+$/.test(text)) return Number(text) * 1_000;
  const at = Date.parse(text);
  return Number.isNaN(at) ? 0 : Math.max(0, at - Date.now());
}

const closingFailure = (): ApplicationFailure => ApplicationFailure.retryable('the worker is closing', 'Unavailable');
