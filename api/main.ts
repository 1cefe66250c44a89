import { readConfig, type Config } from '../platform/config.ts';
import { describeTakenPort } from '../platform/listen-failure.ts';
import { createLogger } from '../platform/logger.ts';
import { startMetricsServer } from '../platform/metrics-server.ts';
import { createMetrics } from '../platform/metrics.ts';
import { measurePools } from '../platform/pool-metrics.ts';
import { createPool } from '../platform/pool.ts';
import { createShutdown } from '../platform/shutdown.ts';
import { observeAssignments } from '../store/assignment-metrics.ts';
import { createEventFeed } from '../store/events.ts';
import { findKey } from '../store/keys.ts';
import { buildApp } from './app.ts';
import { createIngest, createIngestPool } from './ingest.ts';
import { createKeyCache } from './key-cache.ts';

await startApi(readConfig({ required: ['DATABASE_URL'] }));

/** The API process: everything it is made of, closed in the reverse order of this text. */
async function startApi(config: Config): Promise<void> {
  const logger = createLogger(config, 'api');
  const shutdown = createShutdown(logger);
  try {
    const metrics = createMetrics({ component: 'api' });
    const pool = createPool(config, { applicationName: 'switchyard-api', logger });
    shutdown.onClose('database pool', () => pool.end());
    const ingestPool = createIngestPool(config, logger);
    shutdown.onClose('ingest database pool', () => ingestPool.end());
    measurePools({ main: pool, ingest: ingestPool }, metrics);
    observeAssignments(metrics, { maxTeams: config.metricsMaxTeams });

    const metricsServer = await startMetricsServer({
      registry: metrics.registry,
      host: config.metricsHost,
      port: config.apiMetricsPort,
      metricsKey: config.metricsKey,
      logger,
    });
    shutdown.onClose('metrics server', () => metricsServer.close());

    const ingest = createIngest(ingestPool, metrics);
    shutdown.onClose('ingest', () => ingest.close());

    const keys = createKeyCache({ findKey: (id) => findKey(pool, id) });
    const feed = createEventFeed(pool);
    const app = await buildApp({ config, pool, logger, metrics, ingest, feed, keys });
    // Closing the app lets the requests under way finish, so it comes before what they stand on.
    shutdown.onClose('http server', () => app.close());
    // Told to end meanwhile: what it would serve with is closed.
    if (shutdown.signal.aborted) return;
    const listenTextResolver = (address: string) => `listening at ${address}`;
    const url = await app.listen({ host: config.host, port: config.port, listenTextResolver });
    logger.info({ url, metricsUrl: metricsServer.url }, 'api ready');
  } catch (error) {
    const { port: PORT, apiMetricsPort: API_METRICS_PORT } = config;
    const taken = describeTakenPort(error, { PORT, API_METRICS_PORT });
    logger.fatal({ err: error }, taken ?? 'the API could not start');
    process.exitCode = 1;
    await shutdown.close('start failed');
  }
}
