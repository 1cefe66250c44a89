import type { Metrics } from '../platform/metrics.ts';

export type ActivityMetrics = ReturnType<typeof createActivityMetrics>;

export const createActivityMetrics = (metrics: Metrics) => ({
  opened: metrics.counter('conversations_opened_total', 'Conversations opened for contacts by this process.'),
  closed: metrics.counter('conversations_closed_total', 'Conversations closed by this process.'),
  fellBack: metrics.counter(
    'conversations_fell_back_total',
    'Conversations sent to the default team because their flow failed.',
  ),
  enrichmentFailures: metrics.counter(
    'enrichment_failures_total',
    'Enrichment steps that could not find out what they should.',
  ),
  conditionErrors: metrics.counter(
    'flow_condition_errors_total',
    'Conditions of flows that could not be decided and counted as false.',
    ['where'],
  ),
  durationSeconds: metrics.histogram(
    'activity_duration_seconds',
    'Time one attempt of an activity took.',
    ['activity', 'outcome'],
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
  ),
  batchConversations: metrics.histogram(
    'step_batch_conversations',
    'Conversations whose step one batch carried out together.',
    ['step'],
    [1, 2, 5, 10, 20, 50, 100],
  ),
  retries: metrics.counter('activity_retries_total', 'Attempts of activities after the first.', ['activity']),
});
