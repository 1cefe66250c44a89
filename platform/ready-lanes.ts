/**
 * What waits in a micro-batcher, in lanes by key and the lanes in groups, and the choice of what the next flight takes.
 *
 * A lane is ready (in its group's linked list, oldest first), flying, or gone. While no more is ready than a flight takes, everything
 * goes. Else the flight's room is shared out evenly: groups that have less than their share leave the rest to the others, and whoever got something
 * goes to the end of the round. So a group never gets less than maxRows / groups of a flight, whatever the others send, and one of more groups
 * than a flight has rows waits for at most groups / maxRows flights.
 */
export class ReadyLanes<Entry extends { readonly bytes: number }> {
  readonly #lanes = new Map<string, Lane<Entry>>();
  readonly #groups = new Map<string, Group<Entry>>();
  /** Groups with a ready lane, by turn. A set keeps the order of adding, and deletes in constant time. */
  readonly #round = new Set<Group<Entry>>();
  #readyRows = 0;

  get readyRows(): number {
    return this.#readyRows;
  }

  /** How many rows wait in the group. */
  queuedOf(group: string): number {
    return this.#groups.get(group)?.queuedRows ?? 0;
  }

  /** How many bytes the group holds, those in flight included. */
  bytesOf(group: string): number {
    return this.#groups.get(group)?.heldBytes ?? 0;
  }

  add(key: string, groupKey: string, entry: Entry): void {
    const lane = this.#lanes.get(key);
    if (lane === undefined) {
      const group = this.#enterGroup(groupKey);
      const created = { key, group, entries: [entry], head: 0, heldBytes: 0, isFlying: false, next: undefined };
      this.#lanes.set(key, created);
      count(group, entry);
      this.#makeReady(created);
      return;
    }
    lane.entries.push(entry);
    count(lane.group, entry);
    if (!lane.isFlying) {
      lane.group.readyRows += 1;
      this.#readyRows += 1;
    }
  }

  /** At most `maxRows` entries, and no more once they have `maxBytes`; whole lanes as far as there is room. */
  take(maxRows: number, maxBytes: number): Flight<Entry> {
    const flight: Flight<Entry> = { lanes: [], entries: [], bytes: 0 };
    for (const [group, rows] of this.#share(maxRows)) {
      if (flight.bytes >= maxBytes) break;
      this.#takeFrom(group, rows, { flight, maxBytes });
      this.#round.delete(group);
      if (group.firstReady !== undefined) this.#round.add(group);
    }
    return flight;
  }

  /** Whether something waited for its lane to land. */
  land({ lanes }: Flight<Entry>): boolean {
    let hasMore = false;
    for (const lane of lanes) {
      const { group } = lane;
      lane.isFlying = false;
      group.heldBytes -= lane.heldBytes;
      lane.heldBytes = 0;
      if (lane.head < lane.entries.length) {
        this.#makeReady(lane);
        hasMore = true;
      } else {
        this.#lanes.delete(lane.key);
        group.lanes -= 1;
        if (group.lanes === 0) this.#groups.delete(group.key);
      }
    }
    return hasMore;
  }

  #enterGroup(key: string): Group<Entry> {
    let group = this.#groups.get(key);
    if (group === undefined) {
      group = { key, lanes: 0, queuedRows: 0, readyRows: 0, heldBytes: 0, firstReady: undefined, lastReady: undefined };
      this.#groups.set(key, group);
    }
    group.lanes += 1;
    return group;
  }

  #makeReady(lane: Lane<Entry>): void {
    const { group } = lane;
    const rows = lane.entries.length - lane.head;
    this.#readyRows += rows;
    group.readyRows += rows;
    if (group.lastReady === undefined) {
      group.firstReady = lane;
      this.#round.add(group);
    } else {
      group.lastReady.next = lane;
    }
    group.lastReady = lane;
  }

  /** How many rows each group may send, in the order of the round. */
  #share(maxRows: number): Iterable<readonly [Group<Entry>, number]> {
    if (this.#readyRows <= maxRows || this.#round.size === 1) {
      return Array.from(this.#round, (group) => [group, Math.min(group.readyRows, maxRows)] as const);
    }
    const shares = new Map<Group<Entry>, number>();
    for (const group of this.#round) {
      shares.set(group, 0);
      if (shares.size === maxRows) break;
    }
    let open = [...shares.keys()];
    for (let room = maxRows; room > 0 && open.length > 0;) {
      const share = Math.max(1, Math.floor(room / open.length));
      for (const group of open) {
        const had = shares.get(group)!;
        const rows = Math.min(share, room, group.readyRows - had);
        shares.set(group, had + rows);
        room -= rows;
      }
      open = open.filter((group) => shares.get(group)! < group.readyRows);
    }
    return shares;
  }

  #takeFrom(
    group: Group<Entry>,
    maxRows: number,
    { flight, maxBytes }: { readonly flight: Flight<Entry>; readonly maxBytes: number },
  ): void {
    const { entries } = flight;
    const end = entries.length + maxRows;
    while (group.firstReady !== undefined && entries.length < end && flight.bytes < maxBytes) {
      const lane = group.firstReady;
      group.firstReady = lane.next;
      if (lane.next === undefined) group.lastReady = undefined;
      lane.next = undefined;
      lane.isFlying = true;
      flight.lanes.push(lane);
      const ready = lane.entries.length - lane.head;
      this.#readyRows -= ready;
      group.readyRows -= ready;
      const before = lane.head;
      for (; lane.head < lane.entries.length && entries.length < end && flight.bytes < maxBytes; lane.head += 1) {
        const entry = lane.entries[lane.head]!;
        entries.push(entry);
        flight.bytes += entry.bytes;
        lane.heldBytes += entry.bytes;
      }
      group.queuedRows -= lane.head - before;
      // Drops what has left once it is the larger half: a constant cost per item, however long a busy lane lives.
      if (lane.head * 2 > lane.entries.length) {
        lane.entries = lane.entries.slice(lane.head);
        lane.head = 0;
      }
    }
  }
}

export interface Flight<Entry extends { readonly bytes: number }> {
  readonly lanes: Lane<Entry>[];
  readonly entries: Entry[];
  bytes: number;
}

/** The entries from `head` on wait; those before it have left. */
interface Lane<Entry> {
  readonly key: string;
  readonly group: Group<Entry>;
  entries: Entry[];
  head: number;
  /** Of what is in flight. */
  heldBytes: number;
  isFlying: boolean;
  next: Lane<Entry> | undefined;
}

interface Group<Entry> {
  readonly key: string;
  /** Ready or flying: with the last of them the group goes. */
  lanes: number;
  queuedRows: number;
  readyRows: number;
  heldBytes: number;
  firstReady: Lane<Entry> | undefined;
  lastReady: Lane<Entry> | undefined;
}

function count<Entry extends { readonly bytes: number }>(group: Group<Entry>, { bytes }: Entry): void {
  group.queuedRows += 1;
  group.heldBytes += bytes;
}
