import { Runtime } from '@temporalio/worker';
import type { Logger } from '../platform/logger.ts';
import { findFreePort } from '../platform/ports.ts';

/**
 * Installs the Temporal runtime with its Prometheus exporter on a loopback port, and returns how to read it, so that the worker can
 * show both kinds of metrics on one page. Names carry their units, as Temporal's documented dashboards and alerts expect.
 */
export async function installTemporalMetrics(logger: Logger): Promise<() => Promise<string>> {
  const port = await findFreePort();
  Runtime.install({
    logger: {
      log: (_level, message) => logger.debug(message),
      trace: () => undefined,
      debug: () => undefined,
      info: (message) => logger.debug(message),
      warn: (message, meta) => logger.warn({ ...meta }, message),
      error: (message, meta) => logger.error({ ...meta }, message),
    },
    shutdownSignals: [],
    telemetryOptions: {
      metrics: {
        prometheus: {
          bindAddress: `127.0.0.1:${port}`,
          countersTotalSuffix: true,
          unitSuffix: true,
          useSecondsForDurations: true,
        },
      },
    },
  });
  return async () => {
    const response = await fetch(`http://127.0.0.1:${port}/metrics`, { signal: AbortSignal.timeout(2_000) });
    return response.text();
  };
}
