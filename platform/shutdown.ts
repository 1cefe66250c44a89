import type { Logger } from './logger.ts';

/**
 * Graceful close. SIGINT, SIGTERM or `close` abort the signal, then run the closers one after the other, the newest first,
 * so that each part closes before what it stands on. A second signal exits at once, unless it is
 * the first one's echo: a terminal signals the whole process group, and npm passes its own copy on.
 *
 * What may go wrong: a closer throws (logged, the others still run, exit code 1); one hangs (the process exits with 1
 * at the deadline, and the log names it); a part comes up while the process is already closing (its closer runs at once);
 * something forgotten keeps the event loop alive after all closers are done (the process exits all the same, 2 s later).
 */
export function createShutdown(logger: Logger, options: ShutdownOptions = {}): Shutdown {
  const { deadlineMs = 25_000, lingerMs = 2_000, echoMs = 500, host = process } = options;
  const controller = new AbortController();
  const closers: Closer[] = [];
  let phase: 'running' | 'closing' | 'closed' = 'running';
  let signalledAt = -Infinity;
  let closing: Closer | undefined;
  let resolveDone: () => void;
  const done = new Promise<void>((resolve) => {
    resolveDone = resolve;
  });

  function close(reason: string): Promise<void> {
    if (phase !== 'running') return done;
    phase = 'closing';
    logger.info({ reason }, 'closing');
    const deadline = setTimeout(() => {
      logger.error({ deadlineMs, closer: closing?.name }, 'closing took too long, exiting');
      host.exit(1);
    }, deadlineMs);
    controller.abort(new Error(`closing: ${reason}`));
    void runClosers().then(() => {
      clearTimeout(deadline);
      phase = 'closed';
      host.off('SIGINT', onSigint);
      host.off('SIGTERM', onSigterm);
      logger.info({ reason }, 'closed');
      setTimeout(() => {
        logger.warn('something kept the process alive after closing, exiting');
        host.exit(host.exitCode ?? 0);
      }, lingerMs).unref();
      resolveDone();
    });
    return done;
  }

  async function runClosers(): Promise<void> {
    for (closing = closers.pop(); closing !== undefined; closing = closers.pop()) await runCloser(closing);
  }

  async function runCloser({ name, fn }: Closer): Promise<void> {
    try {
      await fn();
      logger.debug({ closer: name }, 'closed one part');
    } catch (error) {
      host.exitCode = 1;
      logger.error({ err: error, closer: name }, 'could not close one part');
    }
  }

  function onClose(name: string, fn: Closer['fn']): void {
    if (phase === 'closed') void runCloser({ name, fn });
    else closers.push({ name, fn });
  }

  function receive(signalName: 'SIGINT' | 'SIGTERM', exitCode: number): void {
    const isEcho = performance.now() - signalledAt < echoMs;
    if (phase === 'running') {
      signalledAt = performance.now();
      void close(signalName);
      return;
    }
    if (isEcho) return;
    logger.warn({ signal: signalName, closer: closing?.name }, 'second signal, exiting at once');
    host.exit(exitCode);
  }

  const onSigint = () => receive('SIGINT', 130);
  const onSigterm = () => receive('SIGTERM', 143);
  host.on('SIGINT', onSigint);
  host.on('SIGTERM', onSigterm);
  return { signal: controller.signal, onClose, close, done };
}

export interface Shutdown {
  /** Aborted when closing begins: loops and waits end by it. */
  readonly signal: AbortSignal;
  onClose(name: string, fn: () => void | Promise<void>): void;
  /** Begins to close (once) and resolves when all is closed; never rejects. */
  close(reason: string): Promise<void>;
  readonly done: Promise<void>;
}

export interface ShutdownOptions {
  /** For all closers together; below the 30 s that container platforms grant before SIGKILL. */
  readonly deadlineMs?: number;
  readonly lingerMs?: number;
  /** How soon after the first a second signal still counts as the same. */
  readonly echoMs?: number;
  /** Where signals come from and where to exit; tests pass their own. */
  readonly host?: ShutdownHost;
}

export interface ShutdownHost {
  on(signal: 'SIGINT' | 'SIGTERM', listener: () => void): unknown;
  off(signal: 'SIGINT' | 'SIGTERM', listener: () => void): unknown;
  exit(code: number | string): void;
  exitCode?: number | string | null | undefined;
}

interface Closer {
  readonly name: string;
  readonly fn: () => void | Promise<void>;
}
