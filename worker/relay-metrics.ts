import type { Metrics } from '../platform/metrics.ts';

export type RelayMetrics = ReturnType<typeof createRelayMetrics>;

export const createRelayMetrics = (metrics: Metrics) => ({
  shards: metrics.gauge('relay_shards', 'Shards of the outbox that this process holds.'),
  delivered: metrics.counter('relay_delivered_total', 'Outbox rows whose actor was told.'),
  failed: metrics.counter('relay_failures_total', 'Deliveries that failed and will be repeated.'),
});
