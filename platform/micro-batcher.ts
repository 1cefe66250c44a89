/*
 * Collects single items into batches, so that one transaction serves hundreds of them.
 *
 * Items queue in lanes, one lane a key (ready-lanes.ts). A flight takes whole lanes until it has maxRows; what comes for a flying lane
 * waits in it, and the lane goes to the end of the list when its flight lands. Thus a key is in at most one flight and its items keep
 * their order, without looking at any item twice. Lanes of several groups (workspaces) take turns, so that one that floods delays no other.
 *
 * A flight starts when maxRows are ready, or maxWaitMs after the first became ready, if fewer than maxInFlight are under
 * way. While all are under way, ready items wait for the next landing: batches grow with the load. There is one timer for
 * all items. It is not cleared when a full batch leaves early, so the next item may leave before its maxWaitMs; maxWaitMs is an
 * upper bound, and re-arming a timer a thousand times a second would cost more than the smaller batch.
 *
 * What is held is bounded by count and by bytes. With groups, each may have as much as is still free: one that floods alone gets half,
 * two get a third each, and there is always room for one more (the dynamic threshold of shared-memory switches, Choudhury and
 * Hahne 1998). A fixed share would need to know how many groups there are.
 *
 * When a flush throws, its items are flushed again one by one, so that a poisoned one fails alone. The first try may have
 * taken effect (a commit whose answer was lost), hence a flush must be idempotent.
 */
import { ReadyLanes, type Flight } from './ready-lanes.ts';

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
  /** Of the items that wait or fly, as `bytesOf` has it. */
  readonly heldBytes: number;
}

export interface MicroBatcherOptions<Item, Result> {
  /** Named in errors and statistics. */
  readonly name: string;
  keyOf(item: Item): string;
  /** Who takes turns, such as the workspace. All items of a key are of one group. Without it there is one group, which may have all. */
  groupOf?(item: Item): string;
  /** What the item holds in memory, roughly. Asked once an item. */
  bytesOf?(item: Item): number;
  /** Must be idempotent and return one outcome per item, in order. */
  flush(items: Item[]): Promise<Outcome<Result>[]>;
  readonly maxRows?: number;
  /** A flight takes no more once it has this much. */
  readonly maxFlightBytes?: number;
  /** 0: no timer; what was added in one turn of the event loop leaves at its end. */
  readonly maxWaitMs?: number;
  readonly maxInFlight?: number;
  /** Items waiting, not counting those in flight. */
  readonly maxQueued?: number;
  /** Of the items that wait or fly. */
  readonly maxHeldBytes?: number;
  /**
   * Whether a flush that threw this error is worth repeating item by item; yes unless said otherwise. Say no when the
   * fault is surely no item's (the database is unreachable): then all fail at once instead of after hundreds of timeouts.
   */
  isIsolatable?(error: unknown): boolean;
  /**
   * Whether others hold what the item needs. While the items of a flight are flushed singly, three of these in a row end it, and the rest
   * fail alike: each of them waits as long as a lock is waited for, and a flight of hundreds would hold its place for minutes.
   */
  isHeldUp?(error: unknown): boolean;
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

  constructor(batcherName: string, { queued, heldBytes }: { readonly queued: number; readonly heldBytes: number }) {
    super(`${batcherName}: no room; ${queued} items wait, ${heldBytes} bytes are held`);
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
  readonly bytes: number;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: Error) => void;
}

class Batcher<Item, Result> implements MicroBatcher<Item, Result> {
  readonly #options: MicroBatcherOptions<Item, Result>;
  readonly #maxRows: number;
  readonly #maxWaitMs: number;
  readonly #maxInFlight: number;
  readonly #maxQueued: number;
  readonly #maxHeldBytes: number;
  readonly #maxFlightBytes: number;

  readonly #lanes = new ReadyLanes<Entry<Item, Result>>();
  #queuedRows = 0;
  #heldBytes = 0;
  #flights = 0;

  #timer: { clear(): void } | undefined;
  /** Something ready has waited long enough: the next flight need not be full. */
  #due = false;
  #drained: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;

  constructor(options: MicroBatcherOptions<Item, Result>) {
    this.#options = options;
    this.#maxRows = options.maxRows ?? 500;
    this.#maxWaitMs = options.maxWaitMs ?? 2;
    this.#maxInFlight = options.maxInFlight ?? 4;
    this.#maxQueued = options.maxQueued ?? 20_000;
    this.#maxHeldBytes = options.maxHeldBytes ?? Infinity;
    this.#maxFlightBytes = options.maxFlightBytes ?? Infinity;
  }

  get queued(): number {
    return this.#queuedRows;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  add(item: Item): Promise<Result> {
    const { name, keyOf, groupOf, bytesOf } = this.#options;
    if (this.#drained !== undefined) return Promise.reject(new BatcherClosedError(name));
    const group = groupOf?.(item);
    const bytes = bytesOf?.(item) ?? 0;
    if (!this.#hasRoom(group, bytes)) return Promise.reject(new QueueFullError(name, this));
    return new Promise((resolve, reject) => {
      this.#enqueue(keyOf(item), group ?? '', { item, bytes, resolve, reject });
    });
  }

  /** An item that is larger than all there may be is let in when nothing else is held, else it would never be. */
  #hasRoom(group: string | undefined, bytes: number): boolean {
    const freeRows = this.#maxQueued - this.#queuedRows;
    const freeBytes = this.#maxHeldBytes - this.#heldBytes;
    if (freeRows <= 0 || (bytes > freeBytes && this.#heldBytes > 0)) return false;
    if (group === undefined) return true;
    return this.#lanes.queuedOf(group) < freeRows && this.#lanes.bytesOf(group) < freeBytes;
  }

  close(): Promise<void> {
    if (this.#drained === undefined) {
      let resolveDrained = () => {};
      const promise = new Promise<void>((resolve) => {
        resolveDrained = resolve;
      });
      this.#drained = { promise, resolve: resolveDrained };
      this.#timer?.clear();
      this.#timer = undefined;
      this.#pump();
    }
    return this.#drained.promise;
  }

  #enqueue(key: string, group: string, entry: Entry<Item, Result>): void {
    this.#queuedRows += 1;
    this.#heldBytes += entry.bytes;
    this.#lanes.add(key, group, entry);
    const { readyRows } = this.#lanes;
    if (readyRows >= this.#maxRows) this.#pump();
    else if (readyRows > 0 && this.#timer === undefined && !this.#due) this.#startTimer();
  }

  #startTimer(): void {
    const elapse = (): void => {
      this.#timer = undefined;
      if (this.#lanes.readyRows === 0) return;
      this.#due = true;
      this.#pump();
    };
    // setTimeout takes a millisecond at least.
    if (this.#maxWaitMs === 0) {
      const immediate = setImmediate(elapse);
      this.#timer = { clear: () => clearImmediate(immediate) };
    } else {
      const timeout = setTimeout(elapse, this.#maxWaitMs);
      this.#timer = { clear: () => clearTimeout(timeout) };
    }
  }

  /** Starts all flights that may start now. */
  #pump(): void {
    while (this.#lanes.readyRows > 0 && this.#flights < this.#maxInFlight) {
      if (this.#lanes.readyRows < this.#maxRows && !this.#due && this.#drained === undefined) {
        // What is left over from a full batch has the timer that ran when it came, or needs one.
        if (this.#timer === undefined) this.#startTimer();
        break;
      }
      void this.#fly();
    }
    if (this.#lanes.readyRows === 0) this.#due = false;
    if (this.#queuedRows === 0 && this.#flights === 0) this.#drained?.resolve();
  }

  /** Never rejects: whatever goes wrong belongs to the items' promises. */
  async #fly(): Promise<void> {
    this.#flights += 1;
    const flight = this.#lanes.take(this.#maxRows, this.#maxFlightBytes);
    const { entries } = flight;
    this.#queuedRows -= entries.length;
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
    this.#land(flight);
    const { name, onFlush } = this.#options;
    if (onFlush !== undefined) {
      const durationMs = performance.now() - startedMs;
      onFlush({ name, rows: entries.length, failedRows, durationMs, isolated, queued: this.#queuedRows });
    }
    this.#pump();
  }

  #land(flight: Flight<Entry<Item, Result>>): void {
    this.#heldBytes -= flight.bytes;
    // They have waited for a whole flight; they shall not wait for company too.
    if (this.#lanes.land(flight)) this.#due = true;
  }

  async #flush(entries: Entry<Item, Result>[]): Promise<Outcome<Result>[]> {
    const outcomes = await this.#options.flush(entries.map((entry) => entry.item));
    if (outcomes.length === entries.length) return outcomes;
    throw new Error(`${this.#options.name}: ${outcomes.length} outcomes for ${entries.length} items`);
  }

  /** One after the other: the flight keeps its one place, and items of one key keep their order. */
  async #flushSingly(entries: Entry<Item, Result>[]): Promise<Outcome<Result>[]> {
    const outcomes: Outcome<Result>[] = [];
    let heldUp = 0;
    for (const entry of entries) {
      try {
        outcomes.push(...(await this.#flush([entry])));
        heldUp = 0;
      } catch (error) {
        heldUp = this.#options.isHeldUp?.(error) === true ? heldUp + 1 : 0;
        if (heldUp === maxHeldUpInRow || !this.#isIsolatable(error)) {
          return [...outcomes, ...failAll(entries.length - outcomes.length, error)];
        }
        outcomes.push({ ok: false, error: asError(error) });
      }
    }
    return outcomes;
  }

  #isIsolatable(error: unknown): boolean {
    return this.#options.isIsolatable?.(error) ?? true;
  }
}

const maxHeldUpInRow = 3;

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
