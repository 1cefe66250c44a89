/** The plain variant (plain.ts) as a process that takes the place of worker/main.ts: the same variables, and the same `/readyz`. */
import { readConfig } from '../../platform/config.ts';
import { createLogger } from '../../platform/logger.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { startMetricsServer } from '../../platform/metrics-server.ts';
import { createPool } from '../../platform/pool.ts';
import { createShutdown } from '../../platform/shutdown.ts';
import { connectTemporalWorker, createTemporalClient } from '../../platform/temporal-client.ts';
import { startPlainWorker } from './plain.ts';

const config = readConfig({ required: ['DATABASE_URL'] });
const logger = createLogger(config, 'plain-worker');
const shutdown = createShutdown(logger);
const metrics = createMetrics({ component: 'worker' });
const pool = createPool(config, { applicationName: 'switchyard-plain', logger });
shutdown.onClose('database pool', () => pool.end());
let ready = false;
const metricsServer = await startMetricsServer({
  registry: metrics.registry,
  host: config.metricsHost,
  port: config.workerMetricsPort,
  metricsKey: config.metricsKey,
  isReady: () => ready,
  logger,
});
shutdown.onClose('metrics server', () => metricsServer.close());
const { client, connection: clientConnection } = createTemporalClient(config);
shutdown.onClose('Temporal client', () => clientConnection.close());
const connection = await connectTemporalWorker(config);
shutdown.onClose('Temporal worker connection', () => connection.close());
const worker = await startPlainWorker({
  pool,
  client,
  connection,
  namespace: config.temporalNamespace,
  taskQueue: config.temporalTaskQueue,
  sandbox: config.workflowSandbox,
  logger,
});
shutdown.onClose('plain worker', async () => {
  worker.stop();
  await worker.running;
});
worker.running.catch((error: unknown) => {
  logger.fatal({ err: error }, 'the plain worker failed');
  process.exitCode = 1;
  void shutdown.close('worker failed');
});
ready = true;
