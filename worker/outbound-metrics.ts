import type { Metrics } from '../platform/metrics.ts';

export type OutboundMetrics = ReturnType<typeof createOutboundMetrics>;

export function createOutboundMetrics(metrics: Metrics) {
  const deliveries = metrics.counter(
    'deliveries_total',
    'Requests to channels and webhooks: delivered, retried (failed and will be repeated) or failed (for good).',
    ['outcome'],
  );
  // Else the first one would be a series that begins at 1, of which no increase is seen.
  for (const outcome of ['delivered', 'retried', 'failed']) deliveries.inc({ outcome }, 0);
  const duration = metrics.histogram(
    'delivery_duration_seconds',
    'From the beginning of a request to a channel or webhook until its answer, or until it was given up.',
    [],
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  );
  return { deliveries, duration };
}
