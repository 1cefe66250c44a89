import type { Metrics } from '../platform/metrics.ts';

export type RelayMetrics = ReturnType<typeof createRelayMetrics>;

/** Wakes have counters of their own: whether Temporal is away shows in the others. */
export const createRelayMetrics = (metrics: Metrics) => ({
  shards: metrics.gauge('relay_shards', 'Shards of the outbox that this process holds.'),
  delivered: metrics.counter('relay_delivered_total', 'Outbox rows whose actor was told.'),
  told: metrics.counter(
    'relay_calls_total',
    'Calls by which actors were told: by update, or by signal where an update was not taken.',
    ['by'],
  ),
  woken: metrics.counter('relay_wakes_total', 'Outbox rows whose quiet conversation was woken.'),
  wakeFailures: metrics.counter('relay_wake_failures_total', 'Wakings that failed and will be repeated.'),
  failed: metrics.counter('relay_failures_total', 'Deliveries that failed and will be repeated.'),
});
