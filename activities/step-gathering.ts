import { createMicroBatcher, type MicroBatcher, type Outcome } from '../platform/micro-batcher.ts';
import { isLockTimeout, mayBeOneRowsFault } from '../platform/pool.ts';
import { withAttempts } from '../store/database.ts';

interface Step {
  readonly workspaceId: string;
  readonly contactId: string;
}

export interface GatheringOptions<Item, Result> {
  readonly name: string;
  /** One result per item, in order. Can be repeated. */
  run(items: readonly Item[]): Promise<Result[]>;
  /** Told the size of each batch. */
  onBatch(rows: number): void;
  readonly maxInFlight?: number;
}

export type StepGathering<Item, Result> = Pick<MicroBatcher<Item, Result>, 'add'>;

/** Steps of one kind become batches; a contact is in one at a time, and workspaces take turns. */
export function gatherSteps<Item extends Step, Result>({
  name,
  run,
  onBatch,
  maxInFlight = 2,
}: GatheringOptions<Item, Result>): StepGathering<Item, Result> {
  return createMicroBatcher<Item, Result>({
    name,
    keyOf: ({ contactId }) => contactId,
    groupOf: ({ workspaceId }) => workspaceId,
    flush: (items) => runTogether(items, run),
    isIsolatable: mayBeOneRowsFault,
    onFlush: ({ rows }) => onBatch(rows),
    maxWaitMs: 0,
    maxRows: 100,
    maxInFlight,
  });
}

/** A queue for each group that has something to do, and one batch of it under way: a group that is held up holds up no other. */
export function gatherByGroup<Item extends Step, Result>(
  groupOf: (item: Item) => string,
  options: GatheringOptions<Item, Result>,
): StepGathering<Item, Result> {
  const groups = new Map<string, { readonly steps: StepGathering<Item, Result>; adding: number }>();
  return {
    async add(item) {
      const key = groupOf(item);
      const group = groups.get(key) ?? { steps: gatherSteps({ maxInFlight: 1, ...options }), adding: 0 };
      groups.set(key, group);
      group.adding += 1;
      try {
        return await group.steps.add(item);
      } finally {
        group.adding -= 1;
        if (group.adding === 0) groups.delete(key);
      }
    },
  };
}

/** Few attempts: the actor comes back, and whoever travels along would wait. What the batch waited for in vain, each looks at alone. */
async function runTogether<Item, Result>(
  items: readonly Item[],
  run: (items: readonly Item[]) => Promise<Result[]>,
): Promise<Outcome<Result>[]> {
  try {
    const results = await withAttempts(3, () => run(items));
    return results.map((value) => ({ ok: true, value }));
  } catch (error) {
    if (items.length === 1 || !isLockTimeout(error)) throw error;
    return runEach(items, run);
  }
}

/** One after the other. Where a second one waits in vain, it is what they all need that is held, and the rest need not try. */
async function runEach<Item, Result>(
  items: readonly Item[],
  run: (items: readonly Item[]) => Promise<Result[]>,
): Promise<Outcome<Result>[]> {
  const outcomes: Outcome<Result>[] = [];
  let timeouts = 0;
  for (const item of items) {
    try {
      const [value] = await withAttempts(1, () => run([item]));
      outcomes.push({ ok: true, value: value! });
    } catch (error) {
      const failed = { ok: false, error: error as Error } as const;
      outcomes.push(failed);
      if (isLockTimeout(error)) timeouts += 1;
      if (timeouts === 2) return [...outcomes, ...items.slice(outcomes.length).map(() => failed)];
    }
  }
  return outcomes;
}
