/**
 * What a part of the system costs in CPU, from Linux's /proc: a process with all its descendants, those included that have ended and
 * were waited for (PostgreSQL forks one a connection). Where there is no /proc nothing is known, and the tables leave the column out.
 *
 * The kernel counts in ticks of 10 ms: over a second or more of one process that is exact enough, for a single request it is nothing.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type pg from 'pg';

/** A part of the system, as one or several processes. */
export interface Component {
  readonly name: string;
  readonly pids: readonly number[];
  /** Told apart by thread: main, workflow, Temporal core. For our worker. */
  readonly byThread?: boolean;
}

export interface ComponentCpu {
  readonly name: string;
  readonly cpuMs: number;
}

/** @returns reads what each has used since; nothing where the system does not tell. */
export function startCpuMeter(components: readonly Component[]): () => readonly ComponentCpu[] {
  const before = components.map(readComponent);
  return () =>
    components.flatMap((component, index) => {
      const [start, end] = [before[index]!, readComponent(component)];
      if (start === null || end === null) return [];
      const total = { name: component.name, cpuMs: end.totalMs - start.totalMs };
      return component.byThread === true ? [total, ...splitByThread(component.name, start, end)] : [total];
    });
}

/** CPU time of a process and all its descendants so far, or null where that is not told. */
export function readCpuMs(pid: number): number | null {
  if (process.platform !== 'linux') return null;
  const children = readChildren();
  const addUp = (root: number): number => {
    const own = readStat(`/proc/${root}/stat`);
    if (own === null) return 0;
    const below = children.get(root) ?? [];
    return own.cpuMs + own.reapedMs + below.reduce((sum, child) => sum + addUp(child), 0);
  };
  return addUp(pid);
}

/** Resident memory of a process and all its descendants. What PostgreSQL's share counts once: shared pages are told apart by the kernel. */
export function readMemoryMiB(pid: number): number | null {
  if (process.platform !== 'linux') return null;
  const children = readChildren();
  const addUp = (root: number): number =>
    readProportionalKiB(root) + (children.get(root) ?? []).reduce((sum, child) => sum + addUp(child), 0);
  return addUp(pid) / 1_024;
}

/** PostgreSQL's first process, where it runs on this machine and under this kernel's eyes. */
export async function findPostmaster(pool: pg.Pool): Promise<number | null> {
  const { rows } = await pool.query<{ pid: number; local: boolean }>(
    'SELECT pg_backend_pid() AS pid, inet_server_addr() = inet_client_addr() AS local',
  );
  const [backend] = rows;
  if (backend === undefined || !backend.local) return null;
  const parent = readParentPid(backend.pid);
  return parent !== null && readProcessName(parent)?.startsWith('postgres') === true ? parent : null;
}

function readParentPid(pid: number): number | null {
  return process.platform === 'linux' ? (readStat(`/proc/${pid}/stat`)?.parent ?? null) : null;
}

function readProcessName(pid: number): string | null {
  return process.platform === 'linux' ? (readStat(`/proc/${pid}/stat`)?.name ?? null) : null;
}

interface Reading {
  readonly totalMs: number;
  readonly threads: readonly ThreadReading[];
}

interface ThreadReading {
  readonly key: string;
  readonly isMain: boolean;
  readonly name: string;
  readonly cpuMs: number;
}

function readComponent({ pids, byThread }: Component): Reading | null {
  const totals = pids.map(readCpuMs);
  if (totals.includes(null)) return null;
  return {
    totalMs: totals.reduce<number>((sum, ms) => sum + ms!, 0),
    threads: byThread === true ? pids.flatMap(readThreads) : [],
  };
}

/**
 * Node.js 20 calls all its threads `node`. The first is the process's main thread; of the others the one that was busiest is the one
 * that runs the actors, since V8's own are four that share what they have to do. Temporal's core names its threads itself.
 */
function splitByThread(component: string, start: Reading, end: Reading): ComponentCpu[] {
  const before = new Map(start.threads.map(({ key, cpuMs }) => [key, cpuMs]));
  const used = end.threads.map((thread) => ({ ...thread, cpuMs: thread.cpuMs - (before.get(thread.key) ?? 0) }));
  const others = used.filter(({ isMain, name }) => !isMain && name === 'node');
  const workflow = others.toSorted((left, right) => right.cpuMs - left.cpuMs)[0];
  const add = (threads: readonly ThreadReading[]) => threads.reduce((sum, { cpuMs }) => sum + cpuMs, 0);
  const main = add(used.filter(({ isMain }) => isMain));
  const core = add(used.filter(({ isMain, name }) => !isMain && name !== 'node'));
  // Among them what threads did that have ended since, such as V8's watchdogs.
  const rest = end.totalMs - start.totalMs - main - core - (workflow?.cpuMs ?? 0);
  return [
    { name: `${component}: main thread`, cpuMs: main },
    { name: `${component}: workflow thread`, cpuMs: workflow?.cpuMs ?? 0 },
    { name: `${component}: Temporal core`, cpuMs: core },
    { name: `${component}: V8, libuv and ended threads`, cpuMs: Math.max(0, rest) },
  ];
}

function readThreads(pid: number): ThreadReading[] {
  return listNumbers(`/proc/${pid}/task`).flatMap((tid) => {
    const stat = readStat(`/proc/${pid}/task/${tid}/stat`);
    return stat === null ? [] : [{ key: `${pid} ${tid}`, isMain: tid === pid, name: stat.name, cpuMs: stat.cpuMs }];
  });
}

const tickMs = 10;

/** proc_pid_stat(5); null when it has just ended. */
function readStat(path: string): { name: string; parent: number; cpuMs: number; reapedMs: number } | null {
  const text = readText(path);
  if (text === null) return null;
  // The name stands in brackets and may hold blanks and brackets itself.
  const nameEnd = text.lastIndexOf(')');
  const fields = text.slice(nameEnd + 2).split(' ');
  const ticks = (field: number) => Number(fields[field - 3]);
  return {
    name: text.slice(text.indexOf('(') + 1, nameEnd),
    parent: ticks(4),
    cpuMs: (ticks(14) + ticks(15)) * tickMs,
    reapedMs: (ticks(16) + ticks(17)) * tickMs,
  };
}

function readChildren(): Map<number, number[]> {
  const children = new Map<number, number[]>();
  for (const pid of listNumbers('/proc')) {
    const stat = readStat(`/proc/${pid}/stat`);
    if (stat === null) continue;
    const siblings = children.get(stat.parent);
    if (siblings === undefined) children.set(stat.parent, [pid]);
    else siblings.push(pid);
  }
  return children;
}

/** Pages shared with others count by their share of them (Pss); where that is not told, in full. */
function readProportionalKiB(pid: number): number {
  const rollup = readText(`/proc/${pid}/smaps_rollup`) ?? '';
  const text = /^Pss:\s+(\d+)/m.exec(rollup) ?? /^VmRSS:\s+(\d+)/m.exec(readText(`/proc/${pid}/status`) ?? '');
  return Number(text?.[1] ?? 0);
}

function listNumbers(folder: string): number[] {
  try {
    return readdirSync(folder)
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return [];
  }
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return null;
  }
}
