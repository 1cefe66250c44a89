/** One variant of the actors that do nothing, at the highest rate the engine keeps up with. */
import { fork, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client, Connection, WithStartWorkflowOperation } from '@temporalio/client';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, type WorkerOptions } from '@temporalio/worker';
import { nodeArguments } from '../../ops/processes.ts';
import type { WorkflowSandbox } from '../../platform/config.ts';
import { newId } from '../../platform/id.ts';
import type { CeilingWorkerMessage, CeilingWorkerOptions } from './ceiling-worker.ts';
import { messageSignal, messageUpdate, type CeilingInput, type CeilingMessage } from './ceiling-workflows.ts';
import type { Engine } from './engine.ts';
import { median } from './figures.ts';
import { startCpuMeter } from './process-cpu.ts';

/** Steps of a nudge and what they are; how the actor is told. */
export const ceilingVariants = {
  'one-local': { steps: 1, kind: 'local', delivery: 'update-with-start' },
  'three-local': { steps: 3, kind: 'local', delivery: 'update-with-start' },
  'one-local-signals': { steps: 1, kind: 'local', delivery: 'signal-with-start' },
  'three-local-signals': { steps: 3, kind: 'local', delivery: 'signal-with-start' },
  'three-regular': { steps: 3, kind: 'regular', delivery: 'signal-with-start' },
} as const satisfies Record<string, { steps: number; kind: CeilingInput['kind']; delivery: Delivery }>;

export type CeilingVariant = keyof typeof ceilingVariants;
/** Without start: a conversation's first message of a contact starts it all the same. */
export type Delivery = 'update-with-start' | 'update' | 'signal-with-start' | 'signal';

export interface CeilingOptions {
  readonly variant: CeilingVariant;
  readonly warmUpSeconds?: number;
  /** Conversations under way at a time: enough that the engine never waits for us. */
  readonly inFlight?: number;
  /** How many a contact has, one after the other, before another contact comes. */
  readonly conversationsPerContact?: number;
  readonly sandbox?: WorkflowSandbox;
  readonly delivery?: Delivery;
  readonly maxMessages?: number;
  readonly fairnessKeys?: number;
  readonly client?: 'grpc-js' | 'native';
  /** Of the worker's connection and of a native client's; none unless told otherwise, since no network is crossed. */
  readonly compression?: 'gzip';
  readonly worker?: Partial<WorkerOptions>;
}

export interface CeilingFigures {
  readonly conversationsPerSecond: number;
  /** From the nudge's sending until its steps are done, at this rate. */
  readonly openedMs: number;
  /** CPU, per conversation. Empty where the system does not tell. */
  readonly cpuMs: readonly { readonly name: string; readonly perConversation: number }[];
}

/** One variant by itself. */
export async function measureCeiling(
  engine: Engine,
  options: CeilingOptions & { readonly seconds: number; readonly note?: (line: string) => void },
): Promise<CeilingFigures> {
  options.note?.(`the engine alone: ${options.variant}`);
  const ceiling = await startCeiling(engine, options);
  try {
    return await ceiling.run(options.seconds);
  } finally {
    await ceiling.stop();
  }
}

export interface Ceiling {
  /** Loads the engine for a while. Others that have been started idle meanwhile, so that several can take turns. */
  run(seconds: number): Promise<CeilingFigures>;
  stop(): Promise<void>;
}

/** Starts the worker of a variant. Closed loop: so many conversations are under way all the time, and the next begins when one is closed. */
export async function startCeiling(engine: Engine, options: CeilingOptions): Promise<Ceiling> {
  const { warmUpSeconds = 8, inFlight = 60 } = options;
  const actors = await startActors(engine, options);
  const places: Place[] = Array.from({ length: inFlight }, () => ({ contact: '', left: 0 }));

  async function run(seconds: number): Promise<CeilingFigures> {
    const stopping = new AbortController();
    const tally: Tally = { closed: 0, openedMs: [] };
    const loops = Promise.all(places.map((place) => converse(place, { actors, tally, stopping: stopping.signal })));
    const ended = actors.ended.then(() => Promise.reject(new Error('the worker of the actors ended')));
    const measuring = delay(warmUpSeconds * 1_000).then(() => takeWindow({ engine, actors, tally, seconds }));
    // The loops end by themselves only when one fails.
    const figures = await Promise.race([measuring, ended, loops.then(() => measuring)]);
    stopping.abort();
    await Promise.race([loops, ended]);
    return figures;
  }

  return { run, stop: actors.stop };
}

interface Tally {
  closed: number;
  openedMs: number[];
}

type Actors = Awaited<ReturnType<typeof startActors>>;

async function takeWindow(request: {
  engine: Engine;
  actors: Actors;
  tally: Tally;
  seconds: number;
}): Promise<CeilingFigures> {
  const { engine, actors, tally, seconds } = request;
  const readCpu = startCpuMeter([
    { name: 'worker', pids: [actors.pid], byThread: true },
    ...engine.processes.map(({ name, pid }) => ({ name, pids: [pid] })),
  ]);
  const clientStart = process.cpuUsage();
  const startedAt = performance.now();
  Object.assign(tally, { closed: 0, openedMs: [] });
  await delay(seconds * 1_000);
  // On a machine that is busy with other things a short window may see nothing; one conversation is a figure.
  while (tally.closed === 0 && performance.now() - startedAt < mostSeconds * 1_000) await delay(20);
  const elapsedMs = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(clientStart);
  const cpu = readCpu();
  const { closed, openedMs } = tally;
  if (closed === 0) throw new Error('not one conversation was closed');
  return {
    conversationsPerSecond: (closed * 1_000) / elapsedMs,
    openedMs: median(openedMs),
    cpuMs: [...cpu, ...(cpu.length === 0 ? [] : [{ name: 'client', cpuMs: (user + system) / 1_000 }])].map(
      ({ name, cpuMs }) => ({ name, perConversation: cpuMs / closed }),
    ),
  };
}

const mostSeconds = 30;

/** How long an agent has a conversation: so that the close finds the actor at rest, as it does in earnest. */
const heldMs = 50;

/** Where one of those under way at a time is; the next run goes on from there. */
interface Place {
  contact: string;
  /** Conversations that the contact has still to have. */
  left: number;
}

async function converse(
  place: Place,
  { actors, tally, stopping }: { actors: Actors; tally: Tally; stopping: AbortSignal },
): Promise<void> {
  while (!stopping.aborted) {
    const first = place.left === 0;
    if (first) {
      // The very first one has any number, so that starts are spread over time.
      const all = actors.conversationsPerContact;
      place.left = place.contact === '' ? Math.ceil(Math.random() * all) : all;
      place.contact = actors.nextContact();
    }
    const startedAt = performance.now();
    await actors.tell(place.contact, {}, first);
    tally.openedMs.push(performance.now() - startedAt);
    await delay(heldMs);
    await actors.tell(place.contact, { closeConversationId: newId() }, false);
    tally.closed += 1;
    place.left -= 1;
  }
}

async function startActors(engine: Engine, options: CeilingOptions) {
  const { variant, sandbox = 'lean', conversationsPerContact = 20, maxMessages = 400, fairnessKeys = 0 } = options;
  const { steps, kind, delivery } = {
    ...ceilingVariants[variant],
    ...(options.delivery && { delivery: options.delivery }),
  };
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-bench-ceiling-'));
  const bundlePath = join(folder, 'workflows.js');
  await writeFile(bundlePath, await bundle());
  const taskQueue = `ceiling-${randomUUID()}`;
  const { address, namespace } = engine;
  const process = await startWorkerProcess({
    address,
    namespace,
    taskQueue,
    bundlePath,
    sandbox,
    worker: options.worker ?? {},
    ...(options.compression !== undefined && { compression: options.compression }),
  });
  const connection = await (options.client === 'native'
    ? connectNatively(address, options.compression)
    : Connection.connect({ address }));
  const { workflow } = new Client({ connection, namespace });
  const workspaceId = newId();
  let contacts = 0;

  /** Resolves when the steps of this waking are done and the server has answered. */
  async function tell(contactId: string, message: CeilingMessage, first: boolean): Promise<void> {
    const workflowId = `contact/${workspaceId}/${contactId}`;
    const done = process.waitForDone(contactId);
    const how = first && !delivery.endsWith('-with-start') ? (`${delivery}-with-start` as Delivery) : delivery;
    const input: CeilingInput = { workspaceId, contactId, steps, kind, maxMessages };
    const priority = fairnessKeys === 0 ? {} : { priority: { fairnessKey: `key-${contacts % fairnessKeys}` } };
    const start = { workflowId, taskQueue, args: [input], ...priority };
    switch (how) {
      case 'update-with-start':
        await workflow.executeUpdateWithStart(messageUpdate, {
          args: [message],
          startWorkflowOperation: new WithStartWorkflowOperation('ceilingActor', {
            ...start,
            workflowIdConflictPolicy: 'USE_EXISTING',
          }),
        });
        break;
      case 'update':
        await workflow.getHandle(workflowId).executeUpdate(messageUpdate, { args: [message] });
        break;
      case 'signal-with-start':
        await workflow.signalWithStart('ceilingActor', { ...start, signal: messageSignal, signalArgs: [message] });
        break;
      case 'signal':
        await workflow.getHandle(workflowId).signal(messageSignal, message);
        break;
    }
    await done;
  }

  return {
    pid: process.pid,
    ended: process.ended,
    conversationsPerContact,
    nextContact: () => {
      contacts += 1;
      return newId();
    },
    tell,
    async stop() {
      await process.stop();
      await connection.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

let isRuntimeInstalled = false;

function connectNatively(address: string, compression: CeilingOptions['compression']): Promise<NativeConnection> {
  // By itself it would end the process at SIGTERM, before what was started is stopped.
  if (!isRuntimeInstalled) Runtime.install({ logger: new DefaultLogger('ERROR'), shutdownSignals: [] });
  isRuntimeInstalled = true;
  return NativeConnection.connect({ address, grpcCompression: { codec: compression ?? 'none' } });
}

async function startWorkerProcess(options: CeilingWorkerOptions) {
  const entry = fileURLToPath(new URL('./ceiling-worker.ts', import.meta.url));
  const execArgv = nodeArguments(entry).slice(0, -1);
  const child: ChildProcess = fork(entry, [JSON.stringify(options)], { execArgv });
  const waiting = new Map<string, () => void>();
  child.on('message', (message: CeilingWorkerMessage) => {
    if (!('done' in message)) return;
    for (const contactId of message.done) {
      waiting.get(contactId)?.();
      waiting.delete(contactId);
    }
  });
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  const ready = new Promise<boolean>((resolve) => child.once('message', () => resolve(true)));
  if (!(await Promise.race([ready, ended]))) throw new Error('the worker of the actors does not start');
  return {
    pid: child.pid!,
    ended,
    waitForDone: (contactId: string) => new Promise<void>((resolve) => waiting.set(contactId, resolve)),
    async stop() {
      if (child.connected) child.disconnect();
      const patience = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await ended;
      clearTimeout(patience);
    },
  };
}

let bundled: Promise<string> | undefined;

/** Takes some seconds, once. */
function bundle(): Promise<string> {
  const quiet = () => undefined;
  const logger = { log: quiet, trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet };
  const workflowsPath = fileURLToPath(new URL('./ceiling-workflows.ts', import.meta.url));
  bundled ??= bundleWorkflowCode({ workflowsPath, logger }).then(({ code }) => code);
  return bundled;
}
