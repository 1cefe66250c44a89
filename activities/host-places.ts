/**
 * How many requests of one workspace to one host are under way in this process. An enrichment that waits for a slow system keeps one of the
 * worker's places for activities, which all workspaces share: without a bound, one such system takes them all, and the flows of workspaces
 * whose systems are well fall back. Those beyond the bound wait, for a quick system serves a burst in no time; where its pace says
 * that the turn would not come in time, they do not even begin to.
 */

/** `maxUnderWay` is for each key. */
export function createHostPlaces(maxUnderWay: number): HostPlaces {
  const hosts = new Map<string, Host>();

  function take(key: string, host: Host): () => void {
    const startedAt = performance.now();
    return () => {
      host.meanMs += (performance.now() - startedAt - host.meanMs) / meanOver;
      const [next] = host.waiting;
      if (next !== undefined) return next(true);
      host.underWay -= 1;
      if (host.underWay === 0) hosts.delete(key);
    };
  }

  return {
    async enter(key, { waitMs, signal }) {
      const host = hosts.get(key) ?? { underWay: 0, waiting: new Set(), meanMs: 0 };
      hosts.set(key, host);
      if (host.underWay < maxUnderWay) {
        host.underWay += 1;
        return take(key, host);
      }
      const turnsBefore = Math.floor(host.waiting.size / maxUnderWay);
      if (turnsBefore * host.meanMs > waitMs) return null;
      return (await waitForPlace(host, { waitMs, signal })) ? take(key, host) : null;
    },
  };
}

export interface HostPlaces {
  /** Resolves with what gives the place back, to be called once; with null if there was none for `waitMs`, would be none, or `signal` aborted. */
  enter(key: string, wait: { readonly waitMs: number; readonly signal: AbortSignal }): Promise<(() => void) | null>;
}

interface Host {
  underWay: number;
  /** In the order of their coming; each is told that a place is now its own. */
  readonly waiting: Set<(hasPlace: boolean) => void>;
  /** How long requests took of late. */
  meanMs: number;
}

/** Requests. Fewer, and a single one that was slow would turn away a burst; more, and a system that became slow is known too late. */
const meanOver = 8;

function waitForPlace(host: Host, { waitMs, signal }: { waitMs: number; signal: AbortSignal }): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const end = (hasPlace: boolean): void => {
      host.waiting.delete(end);
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
      resolve(hasPlace);
    };
    const giveUp = (): void => end(false);
    const timer = setTimeout(giveUp, Math.max(0, waitMs));
    signal.addEventListener('abort', giveUp, { once: true });
    host.waiting.add(end);
  });
}
