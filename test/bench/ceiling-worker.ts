/**
 * The worker of the actors that do nothing, in a process of its own: `fork` it with the options as JSON. Says `ready`, and then by batches
 * for whom a waking's last step was done. Ends when its parent lets go of it.
 */
import { DefaultLogger, NativeConnection, Runtime, type Worker, type WorkerOptions } from '@temporalio/worker';
import { connectTemporalWorker } from '../../platform/temporal-client.ts';
import { loadConfig, type WorkflowSandbox } from '../../platform/config.ts';
import { createLogger } from '../../platform/logger.ts';
import { workersWithSandbox } from '../../worker/workflow-sandbox.ts';
import type { CeilingActivities } from './ceiling-workflows.ts';

export interface CeilingWorkerOptions {
  readonly address: string;
  readonly namespace: string;
  readonly taskQueue: string;
  /** The bundle of ceiling-workflows.ts. */
  readonly bundlePath: string;
  readonly sandbox: WorkflowSandbox;
  /** What to change from what worker/main.ts has. */
  readonly worker?: Partial<WorkerOptions>;
  readonly compression?: 'gzip';
}

export type CeilingWorkerMessage = { readonly ready: true } | { readonly done: readonly string[] };

Runtime.install({ logger: new DefaultLogger('ERROR') });
const options = JSON.parse(process.argv[2]!) as CeilingWorkerOptions;
const send = (message: CeilingWorkerMessage): void => {
  // Nobody is there to be told any more when that fails.
  if (process.connected) process.send!(message, undefined, undefined, () => undefined);
};
const worker = await createWorker(options);
// Also what a killed parent comes down to.
process.once('disconnect', () => worker.shutdown());
const running = worker.run();
send({ ready: true });
await running;
process.exit(0);

async function createWorker({
  address,
  namespace,
  taskQueue,
  bundlePath,
  sandbox,
  worker: tuning,
  compression,
}: CeilingWorkerOptions): Promise<Worker> {
  const config = loadConfig({ TEMPORAL_ADDRESS: address, TEMPORAL_NAMESPACE: namespace, LOG_LEVEL: 'warn' });
  const connection = await (compression === undefined
    ? connectTemporalWorker(config)
    : NativeConnection.connect({ address, grpcCompression: { codec: compression } }));
  return workersWithSandbox(sandbox, { logger: createLogger(config, 'ceiling') }).create({
    connection,
    namespace,
    taskQueue,
    workflowBundle: { codePath: bundlePath },
    activities: createActivities(),
    // As worker/main.ts has it.
    maxCachedWorkflows: 2_000,
    maxConcurrentWorkflowTaskExecutions: 40,
    maxConcurrentLocalActivityExecutions: 40,
    maxConcurrentActivityTaskExecutions: 100,
    ...tuning,
  });
}

function createActivities(): CeilingActivities {
  let done: string[] = [];
  const flush = (): void => {
    send({ done });
    done = [];
  };
  return {
    async step({ contactId, last }) {
      if (last && done.push(contactId) === 1) setTimeout(flush, 5);
      return { kind: 'open' };
    },
  };
}
