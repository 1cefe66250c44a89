import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { endProcess, isRunning, readProcessIdentity, sendSignal, type ProcessRecord } from './process-identity.ts';
import { readJson, removeFile, writeJson } from './state-files.ts';

/*
 * Child processes that never outlive us. Each leads its own process group, so that Ctrl-C in a terminal reaches only the launcher,
 * which then stops them in order: last started, first stopped. Three nets below that, for when the launcher itself is killed:
 * the guard (guard.ts) holds the other end of a pipe and stops everything when it closes; the registry file names every process by
 * pid and start time, so the next start ends what the guard could not; PostgreSQL's own pid file covers the moment between the
 * spawn and the record (embedded-postgres.ts).
 */

export type Log = (line: string) => void;

export interface ProcessRequest {
  name: string;
  command: string;
  args: string[];
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  user?: { uid: number; gid: number } | null;
  /** Output is appended to this file; without it, it goes line by line to `onLine`. */
  logFile?: string;
  onLine?: Log;
  stopSignals?: NodeJS.Signals[];
  stopTimeoutMs?: number;
  /** A tool that ends by itself: its end is not reported as a failure. */
  endsByItself?: boolean;
}

export interface ManagedProcess {
  name: string;
  pid: number;
  /** Resolves when it has ended, as `exit code 1` or `SIGKILL`; never rejects. */
  exited: Promise<{ code: number | null; reason: string }>;
  hasExited(): boolean;
  /** The last lines of its output. */
  readTail(maxLines?: number): string;
  stop(): Promise<void>;
}

export interface ProcessRegistry {
  start(request: ProcessRequest): ManagedProcess;
  /** Called for each process that ends although nobody asked it to. */
  onUnexpectedExit(listener: (child: ManagedProcess, reason: string) => void): void;
  /** Stops all, last started first; from then on nothing can be started. */
  stopAll(onStopping?: (name: string, stopped: Promise<void>) => void): Promise<void>;
}

interface RegistryFile {
  owner: { pid: number; identity: string };
  processes: ProcessRecord[];
}

/**
 * Opens the registry kept in `file`, after ending what a killed owner left behind.
 * Throws when its owner is still alive.
 */
export async function openProcessRegistry({ file, log }: { file: string; log: Log }): Promise<ProcessRegistry> {
  await endLeftovers(file, log);
  const self: RegistryFile = { owner: { pid: process.pid, identity: requireIdentity(process.pid) }, processes: [] };
  const running: { child: ManagedProcess; record: ProcessRecord; stopping: boolean }[] = [];
  const listeners: ((child: ManagedProcess, reason: string) => void)[] = [];
  const guard = startGuard();
  let closed = false;
  writeJson(file, self);

  function forget(record: ProcessRecord): void {
    self.processes = self.processes.filter((other) => other !== record);
    guard.tell({ remove: record.pid });
    if (!closed || self.processes.length > 0) writeJson(file, self);
  }

  function start(request: ProcessRequest): ManagedProcess {
    if (closed) throw new Error(`${request.name} is not started: everything is being stopped`);
    const child = startProcess(request);
    const record = createRecord(child, request);
    self.processes.push(record);
    guard.tell({ add: record });
    writeJson(file, self);
    const entry = { child, record, stopping: false };
    running.push(entry);
    void child.exited.then(({ reason }) => {
      running.splice(running.indexOf(entry), 1);
      forget(record);
      if (!entry.stopping && !closed && !request.endsByItself) listeners.forEach((listener) => listener(child, reason));
    });
    const stop = child.stop;
    child.stop = () => {
      entry.stopping = true;
      return stop();
    };
    return child;
  }

  async function stopAll(onStopping?: (name: string, stopped: Promise<void>) => void): Promise<void> {
    closed = true;
    for (const { child } of running.toReversed()) {
      const stopped = child.stop();
      onStopping?.(child.name, stopped);
      await stopped;
    }
    await guard.release();
    removeFile(file);
  }

  return { start, stopAll, onUnexpectedExit: (listener) => listeners.push(listener) };
}

/** Starts a process that no registry knows; fine for tools that end when their output pipe closes. */
export function startProcess(request: ProcessRequest): ManagedProcess {
  const { name, command, args, cwd, env, user, logFile } = request;
  const output = logFile === undefined ? 'pipe' : openLog(logFile);
  // What an earlier run wrote is not this one's tail.
  const logStart = logFile === undefined ? 0 : statSync(logFile).size;
  const child = spawn(command, args, {
    detached: true,
    stdio: ['ignore', output, output],
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env }),
    ...(user ? { uid: user.uid, gid: user.gid } : {}),
  });
  if (typeof output === 'number') closeSync(output);
  const recent: string[] = [];
  for (const stream of [child.stdout, child.stderr]) collectLines(stream, recent, request.onLine);

  let hasExited = false;
  const exited = new Promise<{ code: number | null; reason: string }>((resolve) => {
    child.once('error', (error) => resolve({ code: null, reason: error.message }));
    child.once(typeof output === 'number' ? 'exit' : 'close', (code, signal) =>
      resolve({ code, reason: signal ?? `exit code ${code}` }),
    );
  }).then((end) => {
    hasExited = true;
    return end;
  });
  const pid = child.pid ?? 0;
  // Without a pid the spawn failed; `exited` tells why.
  const record = pid === 0 ? null : createRecord({ name, pid }, request);
  return {
    name,
    pid,
    exited,
    hasExited: () => hasExited,
    readTail: (maxLines = 20) =>
      (logFile === undefined ? recent : readFileSync(logFile).subarray(logStart).toString('utf8').trimEnd().split('\n'))
        .slice(-maxLines)
        .join('\n'),
    stop: async () => {
      if (record === null || hasExited) return;
      await endProcess(record);
      await exited;
      // What it may have left in its group (a compiler's children); it led the group until a moment ago.
      sendSignalToGroup(pid);
    },
  };
}

/** The arguments for Node.js that run one of our entry files: TypeScript through tsx, built JavaScript as it is. */
export function nodeArguments(entry: string): string[] {
  if (!entry.endsWith('.ts')) return [entry];
  return ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href, entry];
}

async function endLeftovers(file: string, log: Log): Promise<void> {
  const left = readJson<RegistryFile>(file);
  if (left === null) return;
  if (left.owner.pid !== process.pid && isRunning(left.owner)) {
    throw new Error(`${file} is in use by process ${left.owner.pid}`);
  }
  for (const record of left.processes.toReversed()) {
    if (await endProcess(record)) log(`stopped ${record.name} (process ${record.pid}), left behind by a killed start`);
  }
  removeFile(file);
}

function createRecord(child: { name: string; pid: number }, request: ProcessRequest): ProcessRecord {
  return {
    name: child.name,
    pid: child.pid,
    identity: readProcessIdentity(child.pid) ?? 'gone',
    stopSignals: request.stopSignals ?? ['SIGTERM'],
    stopTimeoutMs: request.stopTimeoutMs ?? 10_000,
  };
}

function startGuard(): { tell(message: object): void; release(): Promise<void> } {
  const entry = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './guard.ts' : './guard.js', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, nodeArguments(entry), {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const gone = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  // A guard that died leaves the other nets; nothing to do about it here.
  child.stdin?.on('error', () => undefined);
  child.unref();
  (child.stdin as (NodeJS.WritableStream & { unref?: () => void }) | null)?.unref?.();
  return {
    tell: (message) => void child.stdin?.write(`${JSON.stringify(message)}\n`),
    release: async () => {
      child.ref();
      child.stdin?.end();
      await gone;
    },
  };
}

function sendSignalToGroup(pid: number): void {
  try {
    sendSignal(-pid, 'SIGKILL');
  } catch {
    // EPERM: members that changed their user and are on their way out (macOS says so for zombies, too).
  }
}

function requireIdentity(pid: number): string {
  const identity = readProcessIdentity(pid);
  if (identity === null) throw new Error(`cannot read the start time of process ${pid} (neither /proc nor ps answers)`);
  return identity;
}

function collectLines(stream: NodeJS.ReadableStream | null, recent: string[], onLine: Log | undefined): void {
  if (stream === null) return;
  createInterface({ input: stream }).on('line', (line) => {
    recent.push(line);
    if (recent.length > 200) recent.shift();
    onLine?.(line);
  });
}

/** Opens a log for appending; one that has grown beyond 10 MB is set aside first. */
function openLog(file: string): number {
  mkdirSync(dirname(file), { recursive: true });
  if (existsSync(file) && statSync(file).size > 10 * 1024 * 1024) renameSync(file, `${file}.1`);
  return openSync(file, 'a', 0o600);
}
