/**
 * Where the actors' code runs. `guarded` is the SDK's own sandbox, untouched. `lean` is the same sandbox in the same kind of thread,
 * without two things that together cost more than the actors' own work:
 * - the stack trace that is captured for every promise made in workflow code, for the query `__stack_trace` alone;
 * - the V8 timeout around every call into the sandbox, for which Node.js starts and joins a thread per call, several per activation.
 * The SDK (1.24, the newest) has no option for either: `debugMode` only makes the timeout endless, so its thread is started all the same,
 * and moves the workflows into the main thread.
 *
 * Measured on two cores, a conversation of two wakings and five local activities that do nothing: guarded 32.7 CPU-ms in the worker's
 * process, 14.7 of them in the workflows' thread; lean 21.8 and 5.2. `debugMode` without traces and timeouts: 19.8, which saves the messages
 * between the threads, but 11 of them in the main thread, which has the relay and the activities to serve and could watch nothing.
 *
 * One more thing is spared: after each activation, the message to the thread that asks for calls to sinks, such as log lines, when it has said
 * that there are none. A conversation of two wakings with one empty activity each then costs the worker 10.2 CPU-ms for 11.7 (medians of three turns).
 * Rejected: activations and completions as bytes in place of structured clones: 11.5, and 0.3 more in either thread than without. A V8 context for
 * each workflow (`reuseV8Context: false`): V8's threads take 4.3 in place of 3.0, and the process 100 MB more. Exchanging only the globals that
 * differ when the thread turns to another workflow: 9.95, too little for a copy of the SDK's innermost script.
 *
 * The lean sandbox uses the SDK's own seams: a worker says how its workflows are run (`createWorkflowCreator`, protected static), and a
 * thread is told its timeout when it starts. What may go wrong:
 * - Another release of the SDK works differently inside: lean then is not tried but for the releases it was proved with, and a thread
 *   that does not find what it expects ends at its start. Either way a warning is logged and the worker runs guarded, never half.
 * - A workflow never returns: nothing interrupts it. A watch (see workflow-sandbox-watch.ts) notices, names it and ends its thread, upon
 *   which the SDK ends the worker. A guarded one takes its place in this process: the workflow, which the server gives out again, then
 *   fails its own tasks only, as the SDK has it. Ending the process instead would hand the workflow to the next lean worker, and so on.
 */
import { createRequire } from 'node:module';
import { Worker as Thread } from 'node:worker_threads';
import { Worker, type WorkerOptions } from '@temporalio/worker';
import type { CompiledWorkerOptions } from '@temporalio/worker/lib/worker-options.js';
import type { Workflow, WorkflowCreateOptions, WorkflowCreator } from '@temporalio/worker/lib/workflow/interface.js';
import { ThreadedVMWorkflowCreator, WorkerThreadClient } from '@temporalio/worker/lib/workflow/threaded-vm.js';
import type { WorkflowBundleWithSourceMapAndFilename } from '@temporalio/worker/lib/workflow/workflow-worker-thread/input.js';
import type { WorkflowSandbox } from '../platform/config.ts';
import type { Logger } from '../platform/logger.ts';
import { createPulse, watchThread } from './workflow-sandbox-watch.ts';

/**
 * Releases of the SDK with which the tests of the lean sandbox have passed. Another one runs guarded: to allow it, run
 * `npx vitest run test/worker/workflow-sandbox.test.ts` with it and add it here.
 */
const provenSdkVersions: readonly string[] = ['1.24.0'];

/**
 * A running worker. `ended` resolves after `stop`, and rejects when the worker cannot go on. Rejects itself where `Worker.create` does.
 */
export async function startSandboxedWorker(
  options: WorkerOptions,
  { sandbox, ...lean }: LeanSandboxOptions & { readonly sandbox: WorkflowSandbox },
): Promise<SandboxedWorker> {
  let stuck = false;
  let stopping = false;
  let giveUp: (error: Error) => void;
  const overdue = new Promise<never>((_, reject) => (giveUp = reject));
  const onStuck = (): void => {
    stuck = true;
    lean.onStuck?.();
    // Seen to take a moment, but nothing promises it: the SDK may wait for what the thread that ended will never answer.
    const endedLate = (): void => giveUp(new Error('the worker whose workflow is stuck does not end'));
    setTimeout(endedLate, endWithinMs).unref();
  };
  let worker = await workersWithSandbox(sandbox, { ...lean, onStuck }).create(options);
  async function run(): Promise<void> {
    let ended = false;
    try {
      const running = worker.run().finally(() => (ended = true));
      return await Promise.race([running, overdue]);
    } catch (error) {
      if (!stuck || !ended || stopping) throw error;
    }
    lean.logger.warn('running guarded from here on; restart this process when the workflow is mended');
    worker = await Worker.create(options);
    const running = worker.run();
    if (stopping) worker.shutdown();
    await running;
  }
  return {
    ended: run(),
    stop() {
      stopping = true;
      if (worker.getState() === 'RUNNING') worker.shutdown();
    },
  };
}

/** Longer than the grace that activities under way are given. */
const endWithinMs = 30_000;

export interface SandboxedWorker {
  readonly ended: Promise<void>;
  /** Begins to close: no new tasks; `ended` tells when those under way are done. */
  stop(): void;
}

/** The class of workers whose workflows run in that sandbox: for `create` and the replays. */
export function workersWithSandbox(sandbox: WorkflowSandbox, options: LeanSandboxOptions): typeof Worker {
  if (sandbox === 'guarded') return Worker;
  const { sdkVersion = installedSdkVersion() } = options;
  if (!provenSdkVersions.includes(sdkVersion)) {
    options.logger.warn(
      { sdkVersion, provenSdkVersions },
      'the lean workflow sandbox is not proved with this release of the SDK: running guarded',
    );
    return Worker;
  }
  return class LeanWorker extends Worker {
    protected static override async createWorkflowCreator(
      ...request: [WorkflowBundleWithSourceMapAndFilename, CompiledWorkerOptions, SdkLogger]
    ): Promise<WorkflowCreator> {
      // A debugger and, unless told otherwise, a replay want the workflows in their own thread.
      if (request[1].debugMode) return super.createWorkflowCreator(...request);
      try {
        return await createLeanCreator(request, options);
      } catch (error) {
        options.logger.warn({ err: error, sdkVersion }, 'the lean workflow sandbox does not start: running guarded');
        return super.createWorkflowCreator(...request);
      }
    }
  };
}

export interface LeanSandboxOptions {
  readonly logger: Logger;
  /** Told when a workflow has not returned for `stuckAfterMs`, before its thread is ended. */
  readonly onStuck?: () => void;
  /** Twice the SDK's own limit of 5 s: by then the server has given the task to another worker anyway. */
  readonly stuckAfterMs?: number;
  /** The installed one, and our thread, unless a test says otherwise. */
  readonly sdkVersion?: string;
  readonly threadEntry?: URL;
}

const leanThread = new URL('./workflow-sandbox-thread.mjs', import.meta.url);

type SdkLogger = ConstructorParameters<typeof WorkerThreadClient>[1];

async function createLeanCreator(
  [workflowBundle, compiled, sdkLogger]: [WorkflowBundleWithSourceMapAndFilename, CompiledWorkerOptions, SdkLogger],
  { logger, onStuck, stuckAfterMs = 10_000, threadEntry = leanThread }: LeanSandboxOptions,
): Promise<WorkflowCreator> {
  const { patchActivationCallback } = compiled;
  const clients = Array.from({ length: compiled.workflowThreadPoolSize }, () => {
    const pulse = createPulse();
    const thread = new Thread(threadEntry, { workerData: { pulse } });
    watchThread(thread, pulse, { logger, stuckAfterMs, onStuck: onStuck ?? (() => undefined) });
    return new WorkerThreadClient(thread, sdkLogger, patchActivationCallback);
  });
  await Promise.all(
    clients.map((client) =>
      client.send({
        type: 'init',
        workflowBundle,
        // Handed to vm.Script.runInContext as it is: without a number, Node.js starts no thread that watches the call.
        isolateExecutionTimeoutMs: undefined as unknown as number,
        reuseV8Context: compiled.reuseV8Context ?? true,
        registeredActivityNames: new Set(compiled.activities.keys()),
        hasPatchActivationCallback: patchActivationCallback !== undefined,
      }),
    ),
  );
  return new LeanCreator(clients);
}

class LeanCreator extends ThreadedVMWorkflowCreator {
  override async createWorkflow(options: WorkflowCreateOptions): Promise<Workflow> {
    return new LeanWorkflow(await super.createWorkflow(options));
  }
}

/** Asks the thread for the calls to sinks only when it has not said with the completion that there are none. */
class LeanWorkflow implements Workflow {
  private noSinkCalls = false;
  private readonly threaded: Workflow;

  constructor(threaded: Workflow) {
    this.threaded = threaded;
  }

  async activate(activation: Activation): Promise<Completion> {
    // An activation that fails in the thread answers nothing, and is asked.
    this.noSinkCalls = false;
    const answer = (await this.threaded.activate(activation)) as LeanAnswer;
    this.noSinkCalls = answer.noSinkCalls;
    return answer.completion;
  }

  getAndResetSinkCalls(): Promise<SinkCalls> {
    return this.noSinkCalls ? Promise.resolve([]) : this.threaded.getAndResetSinkCalls();
  }

  dispose(): Promise<void> {
    return this.threaded.dispose();
  }
}

type Activation = Parameters<Workflow['activate']>[0];
type Completion = Awaited<ReturnType<Workflow['activate']>>;
type SinkCalls = Awaited<ReturnType<Workflow['getAndResetSinkCalls']>>;

/** What workflow-sandbox-thread.mjs makes of a completion. */
interface LeanAnswer {
  readonly completion: Completion;
  readonly noSinkCalls: boolean;
}

function installedSdkVersion(): string {
  return (createRequire(import.meta.url)('@temporalio/worker/package.json') as { version: string }).version;
}
