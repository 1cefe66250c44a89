import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

/**
 * A registry of its own (so that tests and processes do not share one), with Node's own metrics: CPU, heap, garbage
 * collection, event loop lag. Every name begins with `switchyard_`; a caller may leave that away.
 */
export function createMetrics({ component, defaultLabels = {} }: MetricsOptions): Metrics {
  const registry = new Registry();
  registry.setDefaultLabels({ component, ...defaultLabels });
  collectDefaultMetrics({ register: registry, prefix });
  const registers = [registry];
  return {
    registry,
    counter: (name, help, labelNames = []) => new Counter({ name: addPrefix(name), help, labelNames, registers }),
    gauge: (name, help, labelNames = [], collect) =>
      new Gauge({ name: addPrefix(name), help, labelNames, registers, ...(collect === undefined ? {} : { collect }) }),
    histogram: (name, help, labelNames = [], buckets) =>
      new Histogram({
        name: addPrefix(name),
        help,
        labelNames,
        registers,
        ...(buckets === undefined ? {} : { buckets: [...buckets] }),
      }),
  };
}

export interface MetricsOptions {
  /** `api` or `worker`; becomes a label of every metric. */
  readonly component: string;
  readonly defaultLabels?: Readonly<Record<string, string>>;
}

export interface Metrics {
  readonly registry: Registry;
  counter<L extends string = never>(name: string, help: string, labels?: readonly L[]): Counter<L>;
  /** `collect` runs before each scrape and may set the value (`this` is the gauge). */
  gauge<L extends string = never>(
    name: string,
    help: string,
    labels?: readonly L[],
    collect?: (this: Gauge<L>) => void | Promise<void>,
  ): Gauge<L>;
  /** Durations are in seconds, as Prometheus has it. */
  histogram<L extends string = never>(
    name: string,
    help: string,
    labels?: readonly L[],
    buckets?: readonly number[],
  ): Histogram<L>;
}

const prefix = 'switchyard_';

function addPrefix(name: string): string {
  return name.startsWith(prefix) ? name : prefix + name;
}
