import type pg from 'pg';
import type { Logger } from '../platform/logger.ts';
import { isConnectionFailure } from '../platform/pool.ts';
import {
  finishReview,
  isLastRound,
  readReviews,
  reviewGraceMs,
  reviewPage,
  type Review,
} from '../store/review-clocks.ts';

export interface ClockReviews {
  /** One page of each. @returns whether some have further pages */
  advance(signal: AbortSignal): Promise<boolean>;
}

const maxReviews = 20;

/** Where the reviews of changed rules stand. Lost with the process: the next one begins anew. */
export function createClockReviews({
  pool,
  logger,
  countSkipped,
}: {
  pool: pg.Pool;
  logger: Logger;
  countSkipped: (count: number) => void;
}): ClockReviews {
  const rounds = new Map<string, ReviewRound>();

  async function advance(signal: AbortSignal): Promise<boolean> {
    const reviews = await readReviews(pool, { maxRows: maxReviews });
    const keys = new Set(reviews.map(keyOf));
    for (const key of rounds.keys()) if (!keys.has(key)) rounds.delete(key);
    let hasMore = false;
    for (const review of reviews) {
      if (signal.aborted) return false;
      hasMore = (await advanceOne(review)) || hasMore;
    }
    return hasMore;
  }

  async function advanceOne(review: Review): Promise<boolean> {
    const known = rounds.get(keyOf(review));
    if (known !== undefined && performance.now() < known.resumeAt) return false;
    const round = known === undefined || known.after === null ? { after: null, isLast: isLastRound(review) } : known;
    const { workspaceId } = review;
    try {
      const { after, skipped } = await reviewPage(pool, review, round.after);
      const pauseMs = after === null ? reviewGraceMs : 0;
      rounds.set(keyOf(review), { ...round, after, resumeAt: performance.now() + pauseMs });
      for (const { conversationId, error } of skipped) {
        logger.error({ err: error, workspaceId, conversationId }, 'changed rules could not be applied to a clock');
      }
      countSkipped(skipped.length);
      if (after === null && round.isLast) await finishReview(pool, review);
      return after !== null;
    } catch (error) {
      if (isConnectionFailure(error)) throw error;
      logger.error({ err: error, workspaceId }, 'changed rules could not be applied to clocks; trying again');
      rounds.set(keyOf(review), { ...round, resumeAt: performance.now() + reviewGraceMs });
      return false;
    }
  }

  return { advance };
}

interface ReviewRound {
  /** Null: at its beginning, or at its end. */
  readonly after: string | null;
  readonly isLast: boolean;
  readonly resumeAt: number;
}

const keyOf = ({ workspaceId, teamId, reviewAt }: Review): string => `${workspaceId}/${teamId}/${reviewAt}`;
