import { ApplicationFailure, activityInfo } from '@temporalio/activity';
import { isDatabaseUnavailable } from '../platform/pool.ts';
import { defectFailureType } from '../workflows/contract.ts';
import type { ActivityMetrics } from './activity-metrics.ts';

/** Measures each attempt of each activity, and turns whatever one throws into a typed failure. */
export function guardActivities<Activities extends object>(
  activities: Activities,
  metrics: ActivityMetrics,
): Activities {
  const guarded = Object.entries(activities).map(([name, run]) => [
    name,
    (...args: readonly unknown[]): Promise<unknown> => {
      if (activityInfo().attempt > 1) metrics.retries.inc({ activity: name });
      return measureAttempt(metrics, name, () => (run as (...args: readonly unknown[]) => Promise<unknown>)(...args));
    },
  ]);
  return Object.fromEntries(guarded) as Activities;
}

/** One attempt of an activity, or of a step within one. Rejects with a typed failure only. */
export async function measureAttempt<Result>(
  metrics: ActivityMetrics,
  activity: string,
  run: () => Promise<Result>,
): Promise<Result> {
  const stop = metrics.durationSeconds.startTimer({ activity });
  try {
    const result = await run();
    stop({ outcome: 'ok' });
    return result;
  } catch (error) {
    const failure = toFailure(activity, error);
    stop({ outcome: failure.nonRetryable ? 'defect' : 'retryable' });
    throw failure;
  }
}

/**
 * Worth another attempt: the database away, starting, stopping, out of connections or too busy, and lost races. Everything else is a
 * defect, which repeating would only repeat. Its text is a code, never the original message: a failure is stored in the workflow's
 * history, and PostgreSQL puts values of rows into its messages.
 */
export function toFailure(activity: string, error: unknown): ApplicationFailure {
  if (error instanceof ApplicationFailure) return error;
  const code = (error as { code?: unknown }).code;
  const cause = typeof code === 'string' ? code : error instanceof Error ? error.name : typeof error;
  const retryable = isDatabaseUnavailable(error);
  return ApplicationFailure.create({
    message: `${activity} failed: ${cause}`,
    type: retryable ? 'Unavailable' : defectFailureType,
    nonRetryable: !retryable,
  });
}
