import { setTimeout as delay } from 'node:timers/promises';
import { ApplicationFailure } from '@temporalio/activity';
import {
  GuardedRequestError,
  requestGuarded,
  type GuardedRequest,
  type GuardedResponse,
} from '../platform/guarded-request.ts';
import { readRetryAfterMs } from '../platform/retry-after.ts';
import { createHostPlaces } from './host-places.ts';

const firstPauseMs = 200;
const maxPauseMs = 3_000;
/**
 * Of one workspace to one host. With those that wait for a slow system (host-places.ts), once it is known to be one, they hold 60 of the worker's 100
 * places for activities (worker/main.ts). A system that answers within 100 ms still gets 200 requests a second.
 */
const maxUnderWay = 20;
const places = createHostPlaces(maxUnderWay);

/**
 * Asks until there is an answer that another attempt would not change: connections that fail, 429 and 5xx are tried again, after pauses that grow
 * and vary, so that a system that comes back is not met by everybody at once. One that was slow is not asked again: it had its time.
 * Throws only when this worker closes.
 */
export async function requestWithRetries(
  request: Omit<GuardedRequest, 'signal'>,
  limits: RetryLimits,
): Promise<RetriedAnswer> {
  const { retries, deadline, cancelled } = limits;
  for (let attempt = 1; ; attempt += 1) {
    const answer = await attemptInPlace(request, limits);
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
  /** Whose request it is: each workspace has a share of its own at every host. */
  readonly workspaceId: string;
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

/** Waits for a place as long as the request itself may take. Pauses between attempts hold none. */
async function attemptInPlace(
  request: Omit<GuardedRequest, 'signal'>,
  { workspaceId, deadline, cancelled: signal }: RetryLimits,
): Promise<Attempt> {
  const timeLeftMs = (): number => Math.min(request.timeoutMs, deadline - Date.now());
  const key = `${workspaceId} ${new URL(request.url).host}`;
  const leave = await places.enter(key, { waitMs: timeLeftMs(), signal });
  if (leave === null) {
    const reason = `is busy: ${maxUnderWay} requests of this workspace are under way there`;
    return { kind: 'failed', error: new GuardedRequestError('timeout', reason) };
  }
  try {
    return await attemptRequest({ ...request, timeoutMs: timeLeftMs(), signal });
  } finally {
    leave();
  }
}

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
  const askedMs = answer.kind === 'failed' ? null : readRetryAfterMs(answer.response.headers['retry-after']);
  return Math.max(pauseMs, askedMs ?? 0);
}

const closingFailure = (): ApplicationFailure => ApplicationFailure.retryable('the worker is closing', 'Unavailable');
