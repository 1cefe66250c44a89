/**
 * Notices that a workflow never returns, for less than a call costs: no watching thread, no timer per call. The sandbox's thread beats
 * twice a second by a timer, into memory that it shares with the main thread, and notes there which workflow it turns to. While
 * a workflow keeps the thread, no timer of it fires; the main thread looks once a second and counts the looks between which nothing beat.
 *
 * Looks are counted, not time: a process that was suspended, or whose main thread was busy, finds one look missed, not many.
 */
import type { Worker as Thread } from 'node:worker_threads';
import type { Logger } from '../platform/logger.ts';

/** Shared with the thread, which writes it (workflow-sandbox-thread.mjs). */
export interface Pulse {
  /** [0] counts beats, two a second; [1] is the length of the note in bytes. */
  readonly numbers: Int32Array;
  /** The workflow turned to last: type, id and run id, one a line. */
  readonly note: Uint8Array;
}

/** What is longer is cut off. */
const maxNoteBytes = 1_024;
const lookEveryMs = 1_000;

export function createPulse(): Pulse {
  return {
    numbers: new Int32Array(new SharedArrayBuffer(8)),
    note: new Uint8Array(new SharedArrayBuffer(maxNoteBytes)),
  };
}

/** In the main thread: ends a thread that has not beaten for `stuckAfterMs`, having said which workflow it had turned to last. */
export function watchThread(
  thread: Thread,
  { numbers, note }: Pulse,
  { logger, stuckAfterMs, onStuck }: { logger: Logger; stuckAfterMs: number; onStuck: () => void },
): void {
  let seen = -1;
  let missed = 0;
  const looking = setInterval(() => {
    const beats = Atomics.load(numbers, 0);
    // Nothing is expected before the first beat: the thread is still loading its code.
    missed = beats === seen && beats !== 0 ? missed + 1 : 0;
    seen = beats;
    if (missed * lookEveryMs < stuckAfterMs) return;
    clearInterval(looking);
    const [workflowType, workflowId, runId] = Buffer.from(note.slice(0, Atomics.load(numbers, 1)))
      .toString()
      .split('\n');
    logger.fatal(
      { workflowType, workflowId, runId, stuckMs: missed * lookEveryMs, runbook: 'ops/runbooks/workflow-stuck.md' },
      'a workflow does not return: ending its thread',
    );
    onStuck();
    void thread.terminate();
  }, lookEveryMs);
  looking.unref();
  thread.once('exit', () => clearInterval(looking));
}
