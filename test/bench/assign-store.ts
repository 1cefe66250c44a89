/** What the store does for an assignment, timed: only the transactions of the store count, never what sets the scene for them. */
import { assignRouted } from '../../store/assignment.ts';
import { executeClose } from '../../store/closing.ts';
import { maxRelaxed, relaxDue } from '../../store/ring-clocks.ts';
import { updateTeam } from '../../store/teams.ts';
import { plainConversation } from './assign-population.ts';
import type { AssignStage } from './assign-stage.ts';
import type pg from 'pg';

export interface Sample {
  /** Time of each transaction. */
  readonly times: readonly number[];
  /** How long the transactions took together, side by side where several ran at once. */
  readonly elapsedMs: number;
  /** Conversations that got an agent, or a place in the queue. */
  readonly done: number;
}

/** Closes conversations; each close gives its agent the next one that waits, in the same transaction. */
export async function measureDrains(stage: AssignStage, pool: pg.Pool, budgetMs: number): Promise<Sample> {
  return repeat(budgetMs, async () => {
    const picked = await stage.requestCloses(Math.min(50, Math.ceil(stage.population.agents.length / 2)));
    const timed = await runOnAll(pool, picked, ({ key }) => executeClose(pool, key));
    return { ...timed, done: await stage.refill(picked.map(({ agentId }) => agentId)) };
  });
}

/** New conversations for whom an agent has room. */
export async function measureArrivalsWithRoom(stage: AssignStage, pool: pg.Pool, budgetMs: number): Promise<Sample> {
  return repeat(budgetMs, async () => {
    const rooms = await stage.makeRoom(Math.min(50, Math.ceil(stage.population.agents.length / 2)));
    const keys = await stage.insertRouted(rooms.map(({ teamId }) => plainConversation(teamId, 'chat')));
    const timed = await runOnAll(pool, keys, (key) => assignRouted(pool, key));
    // Any agent of these teams may have got it who had room: they are all among those.
    const got = await stage.rememberHeld(rooms.map(({ agentId }) => agentId));
    return { ...timed, done: got.length };
  });
}

/** New conversations for whom nobody has room. */
export async function measureArrivalsThatWait(stage: AssignStage, pool: pg.Pool, budgetMs: number): Promise<Sample> {
  const { waiting } = stage.population;
  let from = 0;
  return repeat(budgetMs, async () => {
    const likes = Array.from({ length: Math.min(50, waiting.length) }, () => waiting[from++ % waiting.length]!);
    const rows = likes.map(({ teamId, channel, priority, requirements, passedOver }) => {
      return { ...plainConversation(teamId, channel), priority, requirements, passedOver };
    });
    const keys = await stage.insertRouted(rows);
    const timed = await runOnAll(pool, keys, (key) => assignRouted(pool, key));
    await stage.removeConversations(keys.map((key) => key.conversationId));
    return { ...timed, done: keys.length };
  });
}

/** The rings of one team that became due at the same moment, in one transaction. */
export async function measureRingBatch(stage: AssignStage, pool: pg.Pool): Promise<{ rings: number; ms: number }> {
  const { workspaceId } = stage;
  const { teamId } = stage.population.teams[0]!;
  const due = await stage.makeRingsDue(teamId, maxRelaxed);
  const startedAt = performance.now();
  await relaxDue(pool, { workspaceId, teamId }, [...due.keys()]);
  const ms = performance.now() - startedAt;
  const rings = await stage.windBack(due);
  return { rings, ms };
}

/**
 * Changes the aging slope of every team again and again while closes give what waits to agents.
 *
 * @returns how long a change took, waiting for its team included, and what was drained meanwhile
 */
export async function measureSlopeChanges(
  stage: AssignStage,
  pool: pg.Pool,
  budgetMs: number,
): Promise<{ changes: readonly number[]; drains: Sample }> {
  const { workspaceId, population } = stage;
  const changes: number[] = [];
  let isOver = false;
  const changing = (async () => {
    for (let turn = 0; !isOver; turn += 1) {
      const { teamId } = population.teams[turn % population.teams.length]!;
      const startedAt = performance.now();
      const settings = { agingPointsPerMinute: 0.5 + (turn % 7) };
      await updateTeam(stage.pools.aside, { workspaceId, teamId, settings });
      changes.push(performance.now() - startedAt);
    }
  })();
  try {
    return { changes, drains: await measureDrains(stage, pool, budgetMs) };
  } finally {
    isOver = true;
    await changing;
  }
}

async function repeat(budgetMs: number, run: () => Promise<Sample>): Promise<Sample> {
  const times: number[] = [];
  let elapsedMs = 0;
  let done = 0;
  do {
    const sample = await run();
    times.push(...sample.times);
    elapsedMs += sample.elapsedMs;
    done += sample.done;
  } while (elapsedMs < budgetMs);
  return { times, elapsedMs, done };
}

/** As many at once as the pool has connections. */
async function runOnAll<T>(
  pool: pg.Pool,
  items: readonly T[],
  work: (item: T) => Promise<unknown>,
): Promise<Pick<Sample, 'times' | 'elapsedMs'>> {
  const times: number[] = [];
  let next = 0;
  const startedAt = performance.now();
  const lanes = Array.from({ length: pool.options.max }, async () => {
    for (;;) {
      const index = next++;
      if (index >= items.length) return;
      const from = performance.now();
      await work(items[index]!);
      times.push(performance.now() - from);
    }
  });
  await Promise.all(lanes);
  return { times, elapsedMs: performance.now() - startedAt };
}
