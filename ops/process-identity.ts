import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * What tells a process from a later one that got the same pid: the boot and the start time. `null` when no such process runs
 * (a zombie counts as gone). We never signal a process whose identity is not the recorded one.
 */
export function readProcessIdentity(pid: number): string | null {
  return process.platform === 'linux' ? readLinuxIdentity(pid) : readIdentityFromPs(pid);
}

export interface ProcessRecord {
  name: string;
  pid: number;
  identity: string;
  /** Sent one after the other, each with its own wait; SIGKILL to the whole process group comes last. */
  stopSignals: NodeJS.Signals[];
  stopTimeoutMs: number;
}

/** Ends a process of ours and what it started. Returns whether it was still there. */
export async function endProcess(record: ProcessRecord): Promise<boolean> {
  if (!isRunning(record)) return false;
  for (const stopSignal of record.stopSignals) {
    sendSignal(record.pid, stopSignal);
    if (await waitUntilGone(record, record.stopTimeoutMs)) return true;
  }
  // Every process of ours leads its own group (spawned detached), so this reaches its children too.
  sendSignal(-record.pid, 'SIGKILL');
  await waitUntilGone(record, 5_000);
  return true;
}

export function isRunning(record: Pick<ProcessRecord, 'pid' | 'identity'>): boolean {
  return readProcessIdentity(record.pid) === record.identity;
}

/** Signals a process, or a group when the pid is negative; one that is gone already is fine. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function waitUntilGone(record: ProcessRecord, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (isRunning(record)) {
    if (Date.now() > deadline) return false;
    await sleep(20);
  }
  return true;
}

function readLinuxIdentity(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the program's name in brackets and may hold blanks and brackets itself.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return null;
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()}/${fields[19]}`;
  } catch {
    return null;
  }
}

function readIdentityFromPs(pid: number): string | null {
  try {
    const line = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
    const [stat, ...started] = line.split(/\s+/);
    return started.length === 0 || stat?.startsWith('Z') ? null : started.join(' ');
  } catch {
    return null;
  }
}
