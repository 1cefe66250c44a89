/** The worker process: runs the actors and their activities, and the relay that tells them. Any number may run side by side. */
import { setTimeout as delay } from 'node:timers/promises';
import { Worker, type NativeConnection } from '@temporalio/worker';
import { createActivityMetrics } from '../activities/activity-metrics.ts';
import { createActivities } from '../activities/create-activities.ts';
import { readConfig, type Config } from '../platform/config.ts';
import { describeTakenPort } from '../platform/listen-failure.ts';
import { createLogger, type Logger } from '../platform/logger.ts';
import { createMetrics } from '../platform/metrics.ts';
import { startMetricsServer } from '../platform/metrics-server.ts';
import { measurePools } from '../platform/pool-metrics.ts';
import { createPool } from '../platform/pool.ts';
import { createShutdown, type Shutdown } from '../platform/shutdown.ts';
import { connectTemporalWorker, createTemporalClient } from '../platform/temporal-client.ts';
import { observeAssignments } from '../store/assignment-metrics.ts';
import { startClocks } from './clocks.ts';
import { startHouseTimer } from './house-timer.ts';
import { createRelayMetrics } from './relay-metrics.ts';
import { startRelay } from './relay.ts';
import { startRetirement } from './retirement.ts';
import { installTemporalMetrics } from './temporal-metrics.ts';
import { loadWorkflowBundle } from './workflow-bundle.ts';

/** About 110 conversations; replaying a longer history after a restart would cost more than starting anew. */
const maxHistoryEvents = 2_000;
const dayMs = 24 * 60 * 60 * 1_000;

await startWorker(readConfig({ required: ['DATABASE_URL'] }));

/** Everything the process is made of, closed in the reverse order of this text. */
async function startWorker(config: Config): Promise<void> {
  const logger = createLogger(config, 'worker');
  const shutdown = createShutdown(logger);
  try {
    const metrics = createMetrics({ component: 'worker' });
    observeAssignments(metrics, { maxTeams: config.metricsMaxTeams });
    const temporalMetrics = await installTemporalMetrics(logger);
    const pool = createPool(config, { applicationName: 'switchyard-worker', logger });
    shutdown.onClose('database pool', () => pool.end());
    measurePools({ main: pool }, metrics);

    let ready = false;
    const metricsServer = await startMetricsServer({
      registry: metrics.registry,
      host: config.metricsHost,
      port: config.workerMetricsPort,
      metricsKey: config.metricsKey,
      extraText: temporalMetrics,
      isReady: () => ready,
      logger,
    });
    shutdown.onClose('metrics server', () => metricsServer.close());

    const { client, connection: clientConnection } = createTemporalClient(config);
    shutdown.onClose('Temporal client', () => clientConnection.close());
    const workflowBundle = await loadWorkflowBundle(logger, {
      codePath: config.workflowBundlePath,
      cacheDir: config.switchyardHome,
    });
    const connection = await connectPatiently(config, shutdown, logger);
    if (connection === null) return;
    shutdown.onClose('Temporal worker connection', () => connection.close());
    if (shutdown.signal.aborted) return;
    const worker = await Worker.create({
      connection,
      namespace: config.temporalNamespace,
      taskQueue: config.temporalTaskQueue,
      workflowBundle,
      activities: createActivities({
        pool,
        metrics: createActivityMetrics(metrics),
        allowedHosts: new Set(config.enrichmentAllowedHosts),
      }),
      maxCachedWorkflows: 2_000,
      maxConcurrentWorkflowTaskExecutions: 40,
      maxConcurrentLocalActivityExecutions: 40,
      maxConcurrentActivityTaskExecutions: 100,
      shutdownGraceTime: '10s',
    });
    runWorker(worker, shutdown, logger);

    const { temporalTaskQueue: taskQueue } = config;
    const relay = startRelay({
      pool,
      client,
      taskQueue,
      maxHistoryEvents,
      logger,
      metrics: createRelayMetrics(metrics),
    });
    shutdown.onClose('relay', () => relay.stop());
    const houseTimer = startHouseTimer({ pool, metrics, logger, maxTeams: config.metricsMaxTeams });
    shutdown.onClose('house timer', () => houseTimer.stop());
    const clocks = startClocks({ pool, metrics, logger });
    shutdown.onClose('clocks', () => clocks.stop());
    const retirement = startRetirement({ pool, client, idleMs: config.actorIdleDays * dayMs, logger });
    shutdown.onClose('retirement', () => retirement.stop());
    ready = true;
    logger.info({ metricsUrl: metricsServer.url, taskQueue }, 'worker ready');
  } catch (error) {
    const taken = describeTakenPort(error, { WORKER_METRICS_PORT: config.workerMetricsPort });
    logger.fatal({ err: error }, taken ?? 'the worker could not start');
    process.exitCode = 1;
    await shutdown.close('start failed');
  }
}

/** Waits for a Temporal server that is away, so that the order of starting does not matter. Null when told to stop meanwhile. */
async function connectPatiently(config: Config, shutdown: Shutdown, logger: Logger): Promise<NativeConnection | null> {
  for (let told = false; !shutdown.signal.aborted;) {
    try {
      return await connectTemporalWorker(config);
    } catch (error) {
      if (!told) logger.warn({ err: error, address: config.temporalAddress }, 'waiting for the Temporal server');
      told = true;
      await delay(1_000, undefined, { signal: shutdown.signal }).catch(() => undefined);
    }
  }
  return null;
}

/** The Temporal worker ends by itself only when it cannot go on; then the process must, too, so that a new one is started. */
function runWorker(worker: Worker, shutdown: Shutdown, logger: Logger): void {
  const polling = worker.run().catch((error: unknown) => {
    logger.fatal({ err: error }, 'the Temporal worker failed');
    process.exitCode = 1;
    void shutdown.close('worker failed');
  });
  shutdown.onClose('Temporal worker', async () => {
    if (worker.getState() === 'RUNNING') worker.shutdown();
    await polling;
  });
}
