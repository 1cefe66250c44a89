/**
 * The event feed as Server-Sent Events, for any number of listeners at the price of few queries: one poller a process, which
 * runs only while somebody listens, and one read a page for all listeners that stand at the same place.
 *
 * A listener is an async generator that is read only as fast as its socket drains, so a slow one holds at most one page and
 * falls behind by itself; it goes on from its own place, and nothing is dropped.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { EventFeed, EventRow } from '../store/events.ts';

export interface EventStreams {
  /**
   * The events after the cursor and those to come, as text of an event stream, until the signal is aborted.
   * @param after null: only what happens from now on.
   */
  listen(workspaceId: string, after: number | null, signal: AbortSignal): AsyncGenerator<string, void, undefined>;
  /** Ends all streams and resolves when the poller rests. */
  close(): Promise<void>;
}

export interface EventStreamOptions {
  readonly feed: EventFeed;
  readonly formatEvent: (event: EventRow) => string;
  readonly onPollError: (error: unknown) => void;
  readonly pollMs?: number;
  readonly heartbeatMs?: number;
  readonly maxPageRows?: number;
}

export function createEventStreams(options: EventStreamOptions): EventStreams {
  const { feed, formatEvent, onPollError, pollMs = 200, heartbeatMs = 15_000, maxPageRows = 100 } = options;
  let listeners = 0;
  let closed = false;
  let safeId = 0;
  let poller: Promise<void> | null = null;
  const sleepers = new Set<() => void>();
  const pages = new Map<string, Promise<EventRow[]>>();

  async function poll(): Promise<void> {
    while (listeners > 0 && !closed) {
      try {
        const newest = await feed.safeId();
        if (newest > safeId) {
          safeId = newest;
          pages.clear();
          for (const wake of sleepers) wake();
        }
      } catch (error) {
        // The listeners stay: once the database is back they go on where they stand.
        onPollError(error);
        await delay(pollMs * 4);
      }
      await delay(pollMs);
    }
    poller = null;
  }

  function readPage(workspaceId: string, position: number): Promise<EventRow[]> {
    const place = `${workspaceId} ${position}`;
    let page = pages.get(place);
    if (page === undefined) {
      page = feed.readEventsUpTo(workspaceId, position, safeId, maxPageRows);
      pages.set(place, page);
      // A full page is one of somebody who catches up and will not come here again; the others go when there is news.
      page.then(
        (events) => events.length === maxPageRows && pages.delete(place),
        () => pages.delete(place),
      );
    }
    return page;
  }

  function waitForNews(position: number, timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (safeId > position || signal.aborted || closed || timeoutMs <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', wake);
        sleepers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      signal.addEventListener('abort', wake);
      sleepers.add(wake);
    });
  }

  async function* listen(workspaceId: string, after: number | null, signal: AbortSignal) {
    listeners += 1;
    try {
      poller ??= poll();
      let position = after ?? (await feed.lastId());
      // Tells a client its place before anything happens, so that a reconnect misses nothing.
      yield `retry: 2000\nid: ${position}\n\n`;
      let lastWrite = performance.now();
      while (!signal.aborted && !closed) {
        const upTo = safeId;
        const events = upTo > position ? await readPage(workspaceId, position) : [];
        const last = events.at(-1);
        if (last !== undefined) {
          yield events.map(formatEvent).join('');
          lastWrite = performance.now();
        }
        // A page that is not full tells that there is nothing more up to the safe id.
        position = last !== undefined && events.length === maxPageRows ? last.id : Math.max(position, upTo);
        await waitForNews(position, lastWrite + heartbeatMs - performance.now(), signal);
        if (!signal.aborted && !closed && performance.now() - lastWrite >= heartbeatMs) {
          yield ': heartbeat\n\n';
          lastWrite = performance.now();
        }
      }
    } finally {
      listeners -= 1;
    }
  }

  return {
    listen,
    close: async () => {
      closed = true;
      for (const wake of sleepers) wake();
      await poller;
    },
  };
}
