/**
 * The lean sandbox bears what the SDK's own bears. Where both behave alike, each guarantee is tested with both; the tests of
 * `lean` are what `provenSdkVersions` refers to.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { WorkflowFailedError, type Client, type Connection, type WorkflowHandle } from '@temporalio/client';
import {
  Worker,
  bundleWorkflowCode,
  type NativeConnection,
  type WorkerOptions,
  type WorkflowBundle,
} from '@temporalio/worker';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { loadConfig, type WorkflowSandbox } from '../../platform/config.ts';
import type { Logger } from '../../platform/logger.ts';
import { connectTemporalWorker, createTemporalClient } from '../../platform/temporal-client.ts';
import { startSandboxedWorker, workersWithSandbox, type LeanSandboxOptions } from '../../worker/workflow-sandbox.ts';
import { eventually } from '../support/eventually.ts';
import { installTemporalRuntime } from '../workflows/temporal-runtime.ts';

const config = loadConfig({ TEMPORAL_ADDRESS: inject('temporalAddress') });
const sandboxes = ['lean', 'guarded'] as const;

let bundle: WorkflowBundle;
let client: Client;
let clientConnection: Connection;
let connection: NativeConnection;
const cleanups: (() => Promise<void>)[] = [];

beforeAll(async () => {
  installTemporalRuntime();
  ({ client, connection: clientConnection } = createTemporalClient(config));
  const ignore = (): void => undefined;
  const logger = { log: ignore, trace: ignore, debug: ignore, info: ignore, warn: ignore, error: ignore };
  [connection, bundle] = await Promise.all([
    connectTemporalWorker(config),
    bundleWorkflowCode({ workflowsPath: fileURLToPath(new URL('sandbox-workflows.ts', import.meta.url)), logger }),
  ]);
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});
afterAll(async () => {
  await connection.close();
  await clientConnection.close();
});

describe.each(sandboxes)('%s', (sandbox) => {
  test('a workflow waits, is told, and ends', async () => {
    const { start } = await startWorker(sandbox);
    const handle = await start('patient');
    await handle.signal('goOn');
    expect(await handle.result()).toBe('went on');
  });

  test('a failure keeps message and type, and its stack names file and line of the source', async () => {
    const { start } = await startWorker(sandbox);
    const failure = await (await start('failing')).result().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(WorkflowFailedError);
    const { cause } = failure as WorkflowFailedError;
    expect(cause).toMatchObject({ message: 'the deepest reason', type: 'Deep' });
    for (const text of ['throw ApplicationFailure', 'await deeper()']) {
      expect(cause!.stack).toMatch(new RegExp(`/test/worker/sandbox-workflows\\.ts:${lineOf(text)}:\\d+\\)`));
    }
  });

  test('a defect fails the task alone, says where, and leaves the others be', async () => {
    const { start } = await startWorker(sandbox);
    const [bystander, handle] = [await start('patient'), await start('defective')];
    const failure = await taskFailure(handle);
    expect(failure.message).toContain("Cannot read properties of undefined (reading 'field')");
    expect(failure.stackTrace).toMatch(new RegExp(`sandbox-workflows\\.ts:${lineOf('nothing.field)')}:\\d+`));
    await bystander.signal('goOn');
    expect(await bystander.result()).toBe('went on');
  });

  test('a rejection that nobody awaits fails the task of its own workflow alone', async () => {
    const { start } = await startWorker(sandbox);
    const [bystander, handle] = [await start('patient'), await start('careless')];
    expect((await taskFailure(handle)).message).toContain('nobody awaits this');
    await bystander.signal('goOn');
    expect(await bystander.result()).toBe('went on');
  });

  test('lines of the log arrive from where they are written, in their order, each once', async () => {
    const written: string[] = [];
    const write = { fn: (_: unknown, message: string) => void written.push(message) };
    const sinks = { defaultWorkerLogger: { trace: write, debug: write, info: write, warn: write, error: write } };
    const { start } = await startWorker(sandbox, {}, { sinks });
    const handle = await start('talkative');
    for (let told = 0; told <= 3; told += 1) {
      // What is asked comes after what was told before: each signal thus has an activation of its own.
      expect(await handle.query('told')).toBe(told);
      await handle.signal('goOn');
    }
    expect((await taskFailure(handle)).message).toBe('fails the task');
    const expected = ['Workflow started', 'begins', 'told 1', 'asked after the first', 'told 3', 'about to fail'];
    await eventually('the last line arrives', () => written.length >= expected.length);
    expect(written.slice(0, expected.length)).toEqual(expected);
  });

  test('what a workflow makes global is there for itself again, and for no other', async () => {
    const { start } = await startWorker(sandbox);
    const handles: WorkflowHandle[] = [];
    // Answered after what went before: it has been its turn, and now it is another's.
    const hadItsTurn = (handle: WorkflowHandle) => handle.query('__temporal_workflow_metadata');
    for (const name of ['a', 'b', 'c']) {
      const handle = await start('settling', [name]);
      await hadItsTurn(handle);
      handles.push(handle);
    }
    for (let told = 0; told < 3; told += 1) {
      for (const handle of handles) {
        await handle.signal('goOn');
        await hadItsTurn(handle);
      }
    }
    const found = await Promise.all(handles.map((handle) => handle.result() as Promise<string[]>));
    const expected = (name: string) => [
      'undefined undefined undefined function function function',
      ...[0, 1, 2].map((told) => `${name} ${told} ${name} ${name}${name} string string undefined`),
    ];
    expect(found).toEqual(['a', 'b', 'c'].map(expected));
  });

  test('the histories of the actors replay', async () => {
    const { workers } = createWorkers(sandbox);
    const folder = new URL('../histories/', import.meta.url);
    const names = readdirSync(folder).filter((name) => name.endsWith('.json'));
    expect(names.length).toBeGreaterThan(0);
    const histories = names.map((name) => ({
      workflowId: 'contact/replayed/replayed',
      history: JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as unknown,
    }));
    const options = { workflowBundle: { codePath: inject('workflowBundlePath') }, debugMode: false };
    const faults: unknown[] = [];
    let replayed = 0;
    for await (const { error } of workers.runReplayHistories(options, histories)) {
      replayed += 1;
      if (error !== undefined) faults.push(error);
    }
    expect({ replayed, faults }).toEqual({ replayed: names.length, faults: [] });
  });
});

test('lean: a query for stacks says that there are none; guarded: it tells them', async () => {
  const [lean, guarded] = [await startWorker('lean'), await startWorker('guarded')];
  const handle = await lean.start('patient');
  await expect(handle.query('__stack_trace')).rejects.toThrow('stack traces are not enabled on this worker');
  expect(await (await guarded.start('patient')).query('__stack_trace')).toContain('sandbox-workflows.ts');
  // Nor has the failed query harmed it.
  await handle.signal('goOn');
  expect(await handle.result()).toBe('went on');
});

test('lean: a workflow that never returns is named, and ends its worker in time', async () => {
  let stuck = 0;
  const { start, lines, running } = await startWorker('lean', { stuckAfterMs: 2_000, onStuck: () => (stuck += 1) });
  const handle = await start('endless');
  await start('patient');
  // Its first task, which returns, must be over: else the signal comes along with the start.
  await eventually('the first task is done', async () => (await handle.describe()).historyLength >= 4);
  const toldAt = performance.now();
  await handle.signal('goOn');
  await expect(running).rejects.toThrow('Workflow Worker Thread exited');
  // Counted from the last beat, which may have been half a second before.
  expect(performance.now() - toldAt).toBeGreaterThan(1_400);
  expect(performance.now() - toldAt).toBeLessThan(30_000);
  expect(stuck).toBe(1);
  expect(lines.filter(({ level }) => level === 'fatal')).toEqual([
    {
      level: 'fatal',
      message: 'a workflow does not return: ending its thread',
      bindings: expect.objectContaining({
        workflowType: 'endless',
        workflowId: handle.workflowId,
        runId: (await handle.describe()).runId,
      }) as unknown,
    },
  ]);
});

test('lean: after it, a guarded worker takes over, in which that workflow fails alone', async () => {
  const { logger, lines } = createLog();
  const taskQueue = `sandbox-${randomBytes(6).toString('hex')}`;
  const worker = await startSandboxedWorker(
    { connection, taskQueue, workflowBundle: bundle },
    { sandbox: 'lean', logger, stuckAfterMs: 2_000 },
  );
  cleanups.push(async () => {
    worker.stop();
    await worker.ended;
  });
  const start = startOn(taskQueue);
  const [handle, bystander] = [await start('endless'), await start('patient')];
  await eventually('the first tasks are done', async () => {
    const { historyLength } = await handle.describe();
    return historyLength >= 4 && (await bystander.describe()).historyLength >= 4;
  });
  await handle.signal('goOn');
  await eventually('the guarded worker takes over', () =>
    lines.some(({ bindings }) => /guarded/.test(String(bindings))),
  );
  await bystander.signal('goOn');
  expect(await bystander.result()).toBe('went on');
  await eventually('the workflow that sticks fails its own task', async () => {
    const { events = [] } = (await handle.fetchHistory()) as { events?: TaskEvent[] };
    const failures = events.map((event) => event.workflowTaskFailedEventAttributes?.failure?.message);
    return failures.some((message) => /Script execution timed out after 5000ms/.test(message ?? ''));
  });
  expect(lines.map(({ level }) => level)).toEqual(['fatal', 'warn']);
});

test('guarded: is the class of the SDK itself', () => {
  expect(createWorkers('guarded').workers).toBe(Worker);
});

test('lean: another release of the SDK runs guarded, and a warning says so', () => {
  const { workers, lines } = createWorkers('lean', { sdkVersion: '1.99.0' });
  expect(workers).toBe(Worker);
  expect(lines).toEqual([
    {
      level: 'warn',
      message: 'the lean workflow sandbox is not proved with this release of the SDK: running guarded',
      bindings: expect.objectContaining({ sdkVersion: '1.99.0' }) as unknown,
    },
  ]);
});

test('lean: a thread that cannot start leads to guarded, and a warning says so', async () => {
  const entry = new URL('no-such-thread.mjs', import.meta.url);
  const { start, lines } = await startWorker('lean', { threadEntry: entry });
  expect(lines.map(({ level, message }) => [level, message])).toEqual([
    ['warn', 'the lean workflow sandbox does not start: running guarded'],
  ]);
  expect(await (await start('patient')).query('__stack_trace')).toContain('sandbox-workflows.ts');
});

interface Line {
  readonly level: string;
  readonly bindings: unknown;
  readonly message: string;
}

function createLog(): { logger: Logger; lines: Line[] } {
  const lines: Line[] = [];
  const write = (level: string) => (bindings: unknown, message: string) =>
    void lines.push({ level, bindings, message });
  const logger = Object.fromEntries(['fatal', 'error', 'warn', 'info'].map((level) => [level, write(level)]));
  return { logger: logger as unknown as Logger, lines };
}

function createWorkers(sandbox: WorkflowSandbox, options: Partial<LeanSandboxOptions> = {}) {
  const { logger, lines } = createLog();
  return { workers: workersWithSandbox(sandbox, { ...options, logger }), lines };
}

async function startWorker(
  sandbox: WorkflowSandbox,
  options: Partial<LeanSandboxOptions> = {},
  workerOptions: Partial<WorkerOptions> = {},
) {
  const { workers, lines } = createWorkers(sandbox, options);
  const taskQueue = `sandbox-${randomBytes(6).toString('hex')}`;
  const worker = await workers.create({ connection, taskQueue, workflowBundle: bundle, ...workerOptions });
  const running = worker.run();
  running.catch(() => undefined);
  cleanups.push(async () => {
    if (worker.getState() === 'RUNNING') worker.shutdown();
    await running.catch(() => undefined);
  });
  return { start: startOn(taskQueue), lines, running };
}

const startOn =
  (taskQueue: string) =>
  async (type: string, args: unknown[] = []): Promise<WorkflowHandle> => {
    const workflowId = `${type}-${randomBytes(6).toString('hex')}`;
    await client.workflow.start(type, { taskQueue, workflowId, args });
    const handle = client.workflow.getHandle(workflowId);
    cleanups.push(async () => void (await Promise.allSettled([handle.terminate('the test is over')])));
    return handle;
  };

interface TaskEvent {
  readonly workflowTaskFailedEventAttributes?: {
    readonly failure?: { message: string; stackTrace: string } | null;
  } | null;
}

/** What the first failed workflow task of the run says. */
const taskFailure = (handle: WorkflowHandle) =>
  eventually('a workflow task fails', async () => {
    const { events } = (await handle.fetchHistory()) as { events?: TaskEvent[] };
    return events?.find((event) => event.workflowTaskFailedEventAttributes != null)?.workflowTaskFailedEventAttributes
      ?.failure as { message: string; stackTrace: string } | undefined;
  });

const source = readFileSync(new URL('sandbox-workflows.ts', import.meta.url), 'utf8').split('\n');

const lineOf = (text: string): number => 1 + source.findIndex((line) => line.includes(text));
