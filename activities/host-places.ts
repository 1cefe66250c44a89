/**
 * How many requests of one workspace to one host are under way in this process. An enrichment that waits for a slow system keeps one of the
 * worker's places for activities, which all workspaces share: without a bound, one such system takes them all, and the flows of workspaces
 * whose systems are well fall back. Those beyond the bound wait, for a quick system serves a burst in no time; where its pace, as far as it
 * is known by then, says that the turn would not come in time, they do not even begin to.
 */

/** `maxUnderWay` is for each key. */
export function createHostPlaces(maxUnderWay: number): HostPlaces {
  const hosts = new Map<string, Host>();

  /** @returns what gives the place back: to the one who has waited longest, if anybody does */
  function take(key: string, host: Host): () => void {
    const turn = { startedAt: performance.now() };
    host.underWay.add(turn);
    return () => {
      host.underWay.delete(turn);
      host.meanMs += (performance.now() - turn.startedAt - host.meanMs) / meanOver;
      const [next] = host.waiting;
      if (next !== undefined) next(take(key, host));
      else if (host.underWay.size === 0) hosts.delete(key);
    };
  }

  return {
    async enter(key, { waitMs, signal }) {
      const host = hosts.get(key) ?? { underWay: new Set(), waiting: new Set(), meanMs: 0 };
      hosts.set(key, host);
      if (host.underWay.size < maxUnderWay) return take(key, host);
      const turnsBefore = Math.floor(host.waiting.size / maxUnderWay);
      return turnsBefore * paceOf(host) > waitMs ? null : waitForPlace(host, { waitMs, signal });
    },
  };
}

export interface HostPlaces {
  /** Resolves with what gives the place back, to be called once; with null if there was none for `waitMs`, would be none, or `signal` aborted. */
  enter(key: string, wait: { readonly waitMs: number; readonly signal: AbortSignal }): Promise<(() => void) | null>;
}

interface Host {
  /** The oldest first. */
  readonly underWay: Set<{ readonly startedAt: number }>;
  /** In the order of their coming; each is told when it has a place. */
  readonly waiting: Set<(leave: (() => void) | null) => void>;
  /** How long requests took of late. */
  meanMs: number;
}

/** Requests. Fewer, and a single one that was slow would turn away a burst; more, and a system that became slow is known too late. */
const meanOver = 8;

/** How long a turn takes, as far as it is known: a system that hangs is known before its requests have ended. */
function paceOf({ underWay, meanMs }: Host): number {
  const [oldest] = underWay;
  return Math.max(meanMs, oldest === undefined ? 0 : performance.now() - oldest.startedAt);
}

function waitForPlace(
  host: Host,
  { waitMs, signal }: { waitMs: number; signal: AbortSignal },
): Promise<(() => void) | null> {
  if (signal.aborted) return Promise.resolve(null);
  return new Promise((resolve) => {
    const end = (leave: (() => void) | null): void => {
      host.waiting.delete(end);
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
      resolve(leave);
    };
    const giveUp = (): void => end(null);
    const timer = setTimeout(giveUp, Math.max(0, waitMs));
    signal.addEventListener('abort', giveUp, { once: true });
    host.waiting.add(end);
  });
}
