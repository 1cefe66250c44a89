/** How actors of every form have their activities done. */
import { proxyActivities, proxyLocalActivities, type RetryPolicy } from '@temporalio/workflow';
import { defectFailureType, type NetworkActivities, type StepActivities, type WakingActivities } from './contract.ts';

const retry = (initialInterval: '100ms' | '500ms'): RetryPolicy => ({
  initialInterval,
  backoffCoefficient: 2,
  maximumInterval: '10s',
  nonRetryableErrorTypes: [defectFailureType],
});

// A local activity runs inside the workflow task: a waking costs one round trip to the server. Without a limit of attempts: while
// PostgreSQL is away there is nothing better to do than to try again.
export const local = proxyLocalActivities<StepActivities & WakingActivities>({
  startToCloseTimeout: '30s',
  retry: retry('100ms'),
});

// A conversation must not wait for another system for long: what that does not tell in time is left out, by the activity itself. The
// attempts are for our own database and for workers that close or die; three of them were over 1.5 s into a restart of PostgreSQL.
export const network = proxyActivities<NetworkActivities>({
  startToCloseTimeout: '60s',
  scheduleToCloseTimeout: '3m',
  // A worker that was killed is noticed after this.
  heartbeatTimeout: '10s',
  retry: retry('500ms'),
});
