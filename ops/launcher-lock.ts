import { linkSync, renameSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isRunning, readProcessIdentity } from './process-identity.ts';
import { readJson, removeFile } from './state-files.ts';

/*
 * One launcher per state directory. The lock is a file naming its holder by pid and start time, put in place by link(2), which
 * fails when the name exists. A dead holder's lock is taken away by rename(2): of two that see it, one gets the file; should the
 * other have caught the winner's fresh lock instead, it puts it back.
 */

interface Holder {
  pid: number;
  identity: string;
  since: string;
}

export class LauncherRunsError extends Error {
  override name = 'LauncherRunsError';
}

/**
 * Takes the lock. A living holder gets `patienceMs` to end, since one that was just told to stop needs some seconds.
 * Throws LauncherRunsError after that.
 */
export async function takeLauncherLock(file: string, patienceMs = 3_000): Promise<{ release(): void }> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    if (tryLink(file)) return { release: () => releaseIfOurs(file) };
    const holder = readJson<Holder>(file);
    if (holder === null || !isRunning(holder)) takeAway(file, holder);
    else if (Date.now() > deadline) {
      throw new LauncherRunsError(
        `Switchyard already runs from this state directory: process ${holder.pid}, since ${holder.since}. ` +
          `Stop it (Ctrl-C there, or: kill ${holder.pid}), or start a second one with another SWITCHYARD_HOME.`,
      );
    }
    await sleep(50);
  }
}

function tryLink(file: string): boolean {
  const draft = `${file}.${process.pid}.tmp`;
  const self: Holder = {
    pid: process.pid,
    identity: readProcessIdentity(process.pid) ?? '',
    since: new Date().toISOString(),
  };
  writeFileSync(draft, JSON.stringify(self), { mode: 0o600 });
  try {
    linkSync(draft, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    removeFile(draft);
  }
}

function takeAway(file: string, seen: Holder | null): void {
  const aside = `${file}.${process.pid}.stale`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  const taken = readJson<Holder>(aside);
  if (taken !== null && taken.identity !== seen?.identity && isRunning(taken)) {
    try {
      linkSync(aside, file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
  removeFile(aside);
}

function releaseIfOurs(file: string): void {
  if (readJson<Holder>(file)?.pid === process.pid) removeFile(file);
}
