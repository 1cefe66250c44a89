/*
 * Collects single items into batches, so that one transaction serves hundreds of them.
 *
 * Items queue in lanes, one lane a key. A lane is ready (in a linked list, oldest first), flying (its items, or the
 * first of them, are in a flight), or gone. A flight takes whole lanes off the front until it has maxRows; what comes for a
 * flying lane waits in it, and the lane goes to the end of the list when its flight lands. Thus a key is in at most one flight and
 * its items keep their order, without looking at any item twice.
 *
 * A flight starts when maxRows are ready, or maxWaitMs after the first became ready, if fewer than maxInFlight are under
 * way. While all are under way, ready items wait for the next landing: batches grow with the load. There is one timer for
 * all items. It is not cleared when a full batch leaves early, so the next item may leave before its maxWaitMs; maxWaitMs is an
 * upper bound, and re-arming a timer a thousand times a second would cost more than the smaller batch.
 *
 * When a flush throws, its items are flushed again one by one, so that a poisoned one fails alone. The first try may have
 * taken effect (a commit whose answer was lost), hence a flush must be idempotent.
 */
export function createMicroBatcher<Item, Result>(
  options: MicroBatcherOptions<Item, Result>,
): MicroBatcher<Item, Result> {
  return new Batcher(options);
}

export interface MicroBatcher<Item, Result> {
  /** Resolves with the item's result; rejects with its error, with QueueFullError or with BatcherClosedError. */
  add(item: Item): Promise<Result>;
  /** Refuses new items, flushes the queued ones without waiting for company, resolves when the last has landed. */
  close(): Promise<void>;
  /** Items that wait for a flight. */
  readonly queued: number;
}

export interface MicroBatcherOptions<Item, Result> {
  /** Named in errors and statistics. */
  readonly name: string;
  keyOf(item: Item): string;
  /** Must be idempotent and return one outcome per item, in order. */
  flush(items: Item[]): Promise<Outcome<Result>[]>;
  readonly maxRows?: number;
  readonly maxWaitMs?: number;
  readonly maxInFlight?: number;
  /** Items waiting, not counting those in flight. */
  readonly maxQueued?: number;
  /**
   * Whether a flush that threw this error is worth repeating item by item; yes unless said otherwise. Say no when the
   * fault is surely no item's (the database is unreachable): then all fail at once instead of after hundreds of timeouts.
   */
  isIsolatable?(error: unknown): boolean;
  /** Called after each flight; must not throw. */
  onFlush?(stats: FlushStats): void;
}

export type Outcome<Result> =
  { readonly ok: true; readonly value: Result } | { readonly ok: false; readonly error: Error };

export interface FlushStats {
  readonly name: string;
  readonly rows: number;
  readonly failedRows: number;
  readonly durationMs: number;
  /** The flush threw and its items were flushed one by one. */
  readonly isolated: boolean;
  /** Items that wait, after this flight. */
  readonly queued: number;
}

export class QueueFullError extends Error {
  override readonly name = 'QueueFullError';

  constructor(batcherName: string, maxQueued: number) {
    super(`${batcherName}: ${maxQueued} items are waiting already`);
  }
}

export class BatcherClosedError extends Error {
  override readonly name = 'BatcherClosedError';

  constructor(batcherName: string) {
    super(`${batcherName}: closed, takes no more items`);
  }
}

interface Entry<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: Error) => void;
}

/** The entries from `head` on wait; those before it have left. */
interface Lane<Item, Result> {
  readonly key: string;
  entries: Entry<Item, Result>[];
  head: number;
  flying: boolean;
  next: Lane<Item, Result> | undefined;
}

class Batcher<Item, Result> implements MicroBatcher<Item, Result> {
  readonly #options: MicroBatcherOptions<Item, Result>;
  readonly #maxRows: number;
  readonly #maxWaitMs: number;
  readonly #maxInFlight: number;
  readonly #maxQueued: number;

  readonly #lanes = new Map<string, Lane<Item, Result>>();
  #firstReady: Lane<Item, Result> | undefined;
  #lastReady: Lane<Item, Result> | undefined;
  #readyRows = 0;
  #queuedRows = 0;
  #flights = 0;

  #timer: NodeJS.Timeout | undefined;
  /** Something ready has waited long enough: the next flight need not be full. */
  #due = false;
  #drained: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;

  constructor(options: MicroBatcherOptions<Item, Result>) {
    this.#options = options;
    this.#maxRows = options.maxRows ?? 500;
    this.#maxWaitMs = options.maxWaitMs ?? 2;
    this.#maxInFlight = options.maxInFlight ?? 4;
    this.#maxQueued = options.maxQueued ?? 20_000;
  }

  get queued(): number {
    return this.#queuedRows;
  }

  add(item: Item): Promise<Result> {
    if (this.#drained !== undefined) return Promise.reject(new BatcherClosedError(this.#options.name));
    if (this.#queuedRows >= this.#maxQueued) {
      return Promise.reject(new QueueFullError(this.#options.name, this.#maxQueued));
    }
    return new Promise((resolve, reject) => {
      this.#enqueue(this.#options.keyOf(item), { item, resolve, reject });
    });
  }

  close(): Promise<void> {
    if (this.#drained === undefined) {
      let resolveDrained = () => {};
      const promise = new Promise<void>((resolve) => {
        resolveDrained = resolve;
      });
      this.#drained = { promise, resolve: resolveDrained };
      clearTimeout(this.#timer);
      this.#pump();
    }
    return this.#drained.promise;
  }

  #enqueue(key: string, entry: Entry<Item, Result>): void {
    this.#queuedRows += 1;
    const lane = this.#lanes.get(key);
    if (lane === undefined) {
      const created = { key, entries: [entry], head: 0, flying: false, next: undefined };
      this.#lanes.set(key, created);
      this.#makeReady(created);
    } else {
      lane.entries.push(entry);
      if (!lane.flying) this.#readyRows += 1;
    }
    if (this.#readyRows >= this.#maxRows) this.#pump();
    else if (this.#readyRows > 0 && this.#timer === undefined && !this.#due) this.#startTimer();
  }

  #startTimer(): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#readyRows === 0) return;
      this.#due = true;
      this.#pump();
    }, this.#maxWaitMs);
  }

  #makeReady(lane: Lane<Item, Result>): void {
    this.#readyRows += lane.entries.length - lane.head;
    if (this.#lastReady === undefined) this.#firstReady = lane;
    else this.#lastReady.next = lane;
    this.#lastReady = lane;
  }

  /** Starts all flights that may start now. */
  #pump(): void {
    while (this.#readyRows > 0 && this.#flights < this.#maxInFlight) {
      if (this.#readyRows < this.#maxRows && !this.#due && this.#drained === undefined) {
        // What is left over from a full batch has the timer that ran when it came, or needs one.
        if (this.#timer === undefined) this.#startTimer();
        break;
      }
      void this.#fly();
    }
    if (this.#readyRows === 0) this.#due = false;
    if (this.#queuedRows === 0 && this.#flights === 0) this.#drained?.resolve();
  }

  /** Never rejects: whatever goes wrong belongs to the items' promises. */
  async #fly(): Promise<void> {
    this.#flights += 1;
    const { lanes, entries } = this.#takeReady();
    const startedMs = performance.now();
    let outcomes: Outcome<Result>[];
    let isolated = false;
    try {
      outcomes = await this.#flush(entries);
    } catch (error) {
      isolated = entries.length > 1 && this.#isIsolatable(error);
      outcomes = isolated ? await this.#flushSingly(entries) : failAll(entries.length, error);
    }
    const failedRows = settle(entries, outcomes);
    this.#flights -= 1;
    this.#land(lanes);
    const { name, onFlush } = this.#options;
    if (onFlush !== undefined) {
      const durationMs = performance.now() - startedMs;
      onFlush({ name, rows: entries.length, failedRows, durationMs, isolated, queued: this.#queuedRows });
    }
    this.#pump();
  }

  #takeReady(): { lanes: Lane<Item, Result>[]; entries: Entry<Item, Result>[] } {
    const lanes: Lane<Item, Result>[] = [];
    const entries: Entry<Item, Result>[] = [];
    while (this.#firstReady !== undefined && entries.length < this.#maxRows) {
      const lane = this.#firstReady;
      this.#firstReady = lane.next;
      if (lane.next === undefined) this.#lastReady = undefined;
      lane.next = undefined;
      lane.flying = true;
      lanes.push(lane);
      this.#readyRows -= lane.entries.length - lane.head;
      const end = Math.min(lane.entries.length, lane.head + this.#maxRows - entries.length);
      for (; lane.head < end; lane.head += 1) entries.push(lane.entries[lane.head]!);
      // Drops what has left once it is the larger half: a constant cost per item, however long a busy lane lives.
      if (lane.head * 2 > lane.entries.length) {
        lane.entries = lane.entries.slice(lane.head);
        lane.head = 0;
      }
    }
    this.#queuedRows -= entries.length;
    return { lanes, entries };
  }

  #land(lanes: Lane<Item, Result>[]): void {
    for (const lane of lanes) {
      lane.flying = false;
      if (lane.entries.length === 0) {
        this.#lanes.delete(lane.key);
      } else {
        this.#makeReady(lane);
        // They have waited for a whole flight; they shall not wait for company too.
        this.#due = true;
      }
    }
  }

  async #flush(entries: Entry<Item, Result>[]): Promise<Outcome<Result>[]> {
    const outcomes = await this.#options.flush(entries.map((entry) => entry.item));
    if (outcomes.length === entries.length) return outcomes;
    throw new Error(`${this.#options.name}: ${outcomes.length} outcomes for ${entries.length} items`);
  }

  /** One after the other: the flight keeps its one place, and items of one key keep their order. */
  async #flushSingly(entries: Entry<Item, Result>[]): Promise<Outcome<Result>[]> {
    const outcomes: Outcome<Result>[] = [];
    for (const entry of entries) {
      try {
        outcomes.push(...(await this.#flush([entry])));
      } catch (error) {
        if (!this.#isIsolatable(error)) return [...outcomes, ...failAll(entries.length - outcomes.length, error)];
        outcomes.push({ ok: false, error: asError(error) });
      }
    }
    return outcomes;
  }

  #isIsolatable(error: unknown): boolean {
    return this.#options.isIsolatable?.(error) ?? true;
  }
}

/** Returns how many failed. */
function settle<Item, Result>(entries: Entry<Item, Result>[], outcomes: Outcome<Result>[]): number {
  let failedRows = 0;
  for (const [index, entry] of entries.entries()) {
    const outcome = outcomes[index]!;
    if (outcome.ok) {
      entry.resolve(outcome.value);
    } else {
      failedRows += 1;
      entry.reject(outcome.error);
    }
  }
  return failedRows;
}

function failAll(count: number, error: unknown): { readonly ok: false; readonly error: Error }[] {
  return Array.from({ length: count }, () => ({ ok: false, error: asError(error) }));
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
