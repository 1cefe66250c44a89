/**
 * The thread of the lean sandbox: what it changes, it changes before the SDK's own thread code is loaded, which does the rest. Throws,
 * and so ends the thread before it has taken any work, when the SDK is not made as expected.
 *
 * Plain JavaScript, copied by `npm run build`: tsx does not load TypeScript in threads on Node.js 20, and a test runner's loader ends at
 * its threads, too. Thus source, tests and production run the very same file.
 */
import { createRequire } from 'node:module';
import { workerData } from 'node:worker_threads';

const require = createRequire(import.meta.url);
const { BaseVMWorkflow, globalHandlers } = require('@temporalio/worker/lib/workflow/vm-shared');

captureNoPromises();
noteEachActivation(workerData.pulse);
await import('@temporalio/worker/lib/workflow/workflow-worker-thread.js');
beat(workerData.pulse);

/**
 * The SDK knows of runtimes without promise hooks: it then tells its workflows that no stacks are recorded, and the query for them
 * answers with an error that says so. It is led there by its own object of handlers. Making `v8.promiseHooks` unavailable instead would
 * take it from all code of the thread, and bring a warning on the console.
 */
function captureNoPromises() {
  const { setPromiseHook, promiseHookInstalled, installed } = globalHandlers ?? {};
  if (typeof setPromiseHook !== 'function' || promiseHookInstalled || installed) {
    throw new Error('the SDK installs its promise hook in another way than expected');
  }
  globalHandlers.setPromiseHook = () => undefined;
}

/** Beats as long as the event loop of this thread turns; the first time before any workflow comes, since the watch waits for that. */
function beat({ numbers }) {
  Atomics.add(numbers, 0, 1);
  setInterval(() => Atomics.add(numbers, 0, 1), 500).unref();
}

/**
 * Before each, for the watch: if a workflow never returns, it is the one that was turned to last. Costs under 1 µs of an activation's hundreds.
 * After each, for the main thread: whether there are calls to sinks to fetch (see LeanWorkflow). Where that cannot be told, it asks.
 */
function noteEachActivation({ numbers, note }) {
  const bytes = Buffer.from(note.buffer);
  const { activate } = BaseVMWorkflow.prototype;
  if (typeof activate !== 'function') throw new Error('the SDK activates workflows in another way than expected');
  BaseVMWorkflow.prototype.activate = async function (activation) {
    const { workflowType, workflowId, runId } = this.activator.info;
    Atomics.store(numbers, 1, bytes.write(`${workflowType}\n${workflowId}\n${runId}`));
    const completion = await activate.call(this, activation);
    return { completion, noSinkCalls: this.activator.sinkCalls?.length === 0 };
  };
}
