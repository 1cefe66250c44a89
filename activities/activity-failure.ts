import { ApplicationFailure, activityInfo } from '@temporalio/activity';
import { isDatabaseUnavailable } from '../platform/pool.ts';
import { defectFailureType, type NetworkActivities, type StepActivities } from '../workflows/contract.ts';
import type { ActivityMetrics } from './activity-metrics.ts';

/**
 * Measures each attempt and turns whatever is thrown into a typed failure. Its text is a code, never the original message: a
 * failure is stored in the workflow's history, and PostgreSQL puts values of rows into its messages.
 */
export function guardActivity<Activities extends StepActivities & NetworkActivities>(
  activities: Activities,
  metrics: ActivityMetrics,
): Activities {
  const guarded = Object.entries(activities).map(([name, run]) => [
    name,
    async (...args: readonly unknown[]): Promise<unknown> => {
      if (activityInfo().attempt > 1) metrics.retries.inc({ activity: name });
      const stop = metrics.durationSeconds.startTimer({ activity: name });
      try {
        const result = await (run as (...args: readonly unknown[]) => Promise<unknown>)(...args);
        stop({ outcome: 'ok' });
        return result;
      } catch (error) {
        const failure = toFailure(name, error);
        stop({ outcome: failure.nonRetryable ? 'defect' : 'retryable' });
        throw failure;
      }
    },
  ]);
  return Object.fromEntries(guarded) as Activities;
}

/**
 * Worth another attempt: the database away, starting, stopping, out of connections or too busy, and lost races. Everything else is a
 * defect, which repeating would only repeat.
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
