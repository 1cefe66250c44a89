/** The worker process: runs the actors and their activities, the relay that tells them, and what tells channels and webhooks. Any number may run side by side. */
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from '@temporalio/client';
import type { NativeConnection } from '@temporalio/worker';
import { createActivityMetrics } from '../activities/activity-metrics.ts';
import { createActivities } from '../activities/create-activities.ts';
import { createNetworkAccess } from '../activities/network-access.ts';
import { createStepPool } from '../activities/step-batches.ts';
import { readConfig, type Config } from '../platform/config.ts';
import { describeTakenPort } from '../platform/listen-failure.ts';
import { createLogger, type Logger } from '../platform/logger.ts';
import { createMetrics } from '../platform/metrics.ts';
import { startMetricsServer } from '../platform/metrics-server.ts';
import { measurePools } from '../platform/pool-metrics.ts';
import { createPool } from '../platform/pool.ts';
import { createShutdown, type Shutdown } from '../platform/shutdown.ts';
import { connectTemporalWorker } from '../platform/temporal-client.ts';
import { observeAssignments } from '../store/assignment-metrics.ts';
import { actorBuildId } from '../workflows/contract.ts';
import { startClocks } from './clocks.ts';
import { startHouseTimer } from './house-timer.ts';
import { createOutboundMetrics } from './outbound-metrics.ts';
import { startOutbound } from './outbound.ts';
import { createRelayMetrics } from './relay-metrics.ts';
import { startRelay } from './relay.ts';
import { startRetirement } from './retirement.ts';
import { installTemporalMetrics } from './temporal-metrics.ts';
import { loadWorkflowBundle } from './workflow-bundle.ts';
import { startSandboxedWorker, type SandboxedWorker } from './workflow-sandbox.ts';

/**
 * About 25 wakings, of six events each. A run that is not in the cache is replayed when it is woken, which costs the worker 0.4 CPU-ms for each
 * event: with 500 events 200 ms, and most contacts of a large house are not in the cache. The server keeps every update of a run in the state
 * that it writes at each waking: 0.016 CPU-ms for each one before it. Against both stands a new run, about 12 ms once.
 */
const maxHistoryEvents = 150;
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
    const pool = createPool(config, { applicationName: 'switchyard-worker', hasGenericPlans: true, logger });
    shutdown.onClose('database pool', () => pool.end());
    const stepPool = createStepPool(config, logger);
    shutdown.onClose('database pool of the steps', () => stepPool.end());
    measurePools({ main: pool, steps: stepPool }, metrics);

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

    const workflowBundle = await loadWorkflowBundle(logger, {
      codePath: config.workflowBundlePath,
      cacheDir: config.switchyardHome,
    });
    const connection = await connectPatiently(config, shutdown, logger);
    if (connection === null) return;
    shutdown.onClose('Temporal connection', () => connection.close());
    // The worker's own connection, not the client's of grpc-js: the same calls cost a quarter less CPU time.
    const client = new Client({ connection, namespace: config.temporalNamespace });
    if (shutdown.signal.aborted) return;
    const stuck = metrics.counter('workflows_stuck_total', 'Workflows that did not return and ended their thread.');
    const worker = await startSandboxedWorker(
      {
        connection,
        namespace: config.temporalNamespace,
        taskQueue: config.temporalTaskQueue,
        buildId: actorBuildId,
        workflowBundle,
        activities: createActivities({
          pool,
          stepPool,
          metrics: createActivityMetrics(metrics),
          network: createNetworkAccess(config, logger),
        }),
        // 165 MB when full. An actor that is not among them is replayed: 15 CPU-ms more a waking at 15 events, 53 at 111.
        maxCachedWorkflows: 2_000,
        maxConcurrentWorkflowTaskExecutions: 40,
        maxConcurrentLocalActivityExecutions: 40,
        maxConcurrentActivityTaskExecutions: 100,
        shutdownGraceTime: '10s',
      },
      { sandbox: config.workflowSandbox, logger, onStuck: () => stuck.inc() },
    );
    endWithWorker(worker, shutdown, logger);

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
    const outbound = startOutbound({
      pool,
      logger,
      metrics: createOutboundMetrics(metrics),
      privateCidrs: config.outboundPrivateCidrs,
    });
    shutdown.onClose('outbound', () => outbound.stop());
    const houseTimer = startHouseTimer({
      pool,
      metrics,
      logger,
      maxTeams: config.metricsMaxTeams,
      messageRetentionDays: config.messageRetentionDays,
    });
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
function endWithWorker(worker: SandboxedWorker, shutdown: Shutdown, logger: Logger): void {
  const ended = worker.ended.catch((error: unknown) => {
    logger.fatal({ err: error }, 'the Temporal worker failed');
    process.exitCode = 1;
    void shutdown.close('worker failed');
  });
  shutdown.onClose('Temporal worker', async () => {
    worker.stop();
    await ended;
  });
}
