import { describe, expect, it } from 'vitest';
import { createMetrics } from '../../platform/metrics.ts';

describe('createMetrics', () => {
  it('prefixes every name once', async () => {
    const metrics = createMetrics({ component: 'api' });
    metrics.counter('accepted_total', 'Accepted.');
    metrics.gauge('switchyard_depth', 'Depth.');
    metrics.histogram('flush_seconds', 'Flush.', ['batcher'], [0.1, 1]).observe({ batcher: 'ingest' }, 0.5);
    const names = metrics.registry.getMetricsAsArray().map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining(['switchyard_accepted_total', 'switchyard_depth', 'switchyard_flush_seconds']),
    );
    expect(names.filter((name) => !/^switchyard_(?!switchyard_)/.test(name))).toEqual([]);
    expect(await metrics.registry.metrics()).toMatch(
      /^switchyard_flush_seconds_bucket\{le="1",component="api",batcher="ingest"\} 1$/m,
    );
  });

  it('has Node’s own metrics: event loop, heap, garbage collection', () => {
    const { registry } = createMetrics({ component: 'api' });
    for (const name of ['eventloop_lag_p99_seconds', 'heap_size_used_bytes', 'gc_duration_seconds']) {
      expect(registry.getSingleMetric(`switchyard_nodejs_${name}`), name).toBeDefined();
    }
  });

  it('shares nothing between two registries', () => {
    const first = createMetrics({ component: 'api' });
    const second = createMetrics({ component: 'worker' });
    expect(first.counter('x_total', 'X.')).not.toBe(second.counter('x_total', 'X.'));
  });

  it('collects a gauge anew for each scrape', async () => {
    const { registry, gauge } = createMetrics({ component: 'api' });
    let depth = 0;
    gauge('depth', 'Depth.', [], function () {
      this.set((depth += 1));
    });
    expect(await registry.metrics()).toContain('switchyard_depth{component="api"} 1');
    expect(await registry.metrics()).toContain('switchyard_depth{component="api"} 2');
  });
});
