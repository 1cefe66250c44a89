/** Whatever happens in whatever order: the invariants hold after every step, and at the end when all happens at once from several processes. */
import fc from 'fast-check';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findNeedlessWaits } from '../support/balance.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { countDeadlocks } from '../support/deadlocks.ts';
import { findViolations } from '../support/history-checker.ts';
import { command, rulesOfTeams, type Command } from './assignment-commands.ts';
import { createWatch } from './assignment-watch.ts';
import { createWorld, perform, runClocks, settle, stopClocks, type World } from './assignment-world.ts';
import { connectAnother } from './second-pool.ts';
import { createStage } from './stage.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

/** Runs end when the time is over; those before count. Set ASSIGNMENT_SEED to repeat one, and the time to look for longer. */
const seed = Number(process.env['ASSIGNMENT_SEED'] ?? Math.floor(Math.random() * 1e9));
const searchMs = Number(process.env['ASSIGNMENT_SEARCH_MS'] ?? 15_000);

test(
  `after every step of any sequence I2, I3 and I7 hold, waits are kept, none overtakes, and records decide again as they did (seed ${seed})`,
  { timeout: searchMs * 10 },
  async () => {
    let steps = 0;
    const sequences = fc.array(command, { maxLength: 80, size: 'max' });
    const holds = fc.asyncProperty(rulesOfTeams, sequences, async (rules, commands) => {
      const world = await createWorld(database.pool, rules);
      steps += await runWatched(world, commands);
      expect(await judge(world)).toEqual([]);
    });
    await fc.assert(holds, { seed, numRuns: 1_000, interruptAfterTimeLimit: searchMs });
    expect(steps).toBeGreaterThan(50);
  },
);

async function runWatched(world: World, commands: readonly Command[]): Promise<number> {
  const watch = await createWatch(world);
  for (const [i, next] of commands.entries()) {
    await perform(world, next);
    const found = await watch.look(next);
    if (found.length > 0) throw new Error(`after step ${i + 1}, ${JSON.stringify(next)}:\n  ${found.join('\n  ')}`);
  }
  return commands.length;
}

test(
  `freed room goes to exactly those whom the core would choose from the whole queue (seed ${seed})`,
  { timeout: searchMs * 10 },
  async () => {
    const arrivals = fc.array(
      fc.record({
        units: fc.constantFrom(1, 1, 2),
        priority: fc.constantFrom(0, 50),
        slaSeconds: fc.constantFrom(null, null, 30, 300),
        minutes: fc.nat(9),
        isGerman: fc.boolean(),
      }),
      { minLength: 2, maxLength: 12, size: 'max' },
    );
    const holds = fc.asyncProperty(arrivals, fc.constantFrom(0, 10), async (queue, agingPointsPerMinute) => {
      const stage = await createStage(database.pool);
      const teamId = await stage.addTeam('least_loaded', { agingPointsPerMinute });
      const channels = new Map([
        [1, 'web'],
        [2, await stage.addChannel(2)],
        [6, await stage.addChannel(6)],
      ]);
      await stage.addAgent(6, [teamId], { skills: { german: 3 } });
      const large = await stage.open('large', { teamId, channel: channels.get(6)! });
      const waiting: string[] = [];
      for (const [i, { units, priority, slaSeconds, minutes, isGerman }] of queue.entries()) {
        const skills = isGerman ? [{ skill: 'german', level: 2, preferred: false }] : [];
        const { conversationId } = await stage.open(`${i}`, {
          teamId,
          channel: channels.get(units)!,
          priority,
          slaSeconds,
          skills,
        });
        const earlier = `UPDATE conversations SET waiting_since = waiting_since - $2 * interval '1 min' WHERE id = $1`;
        await database.pool.query(earlier, [conversationId, minutes]);
        waiting.push(conversationId);
      }
      const chosen = await chooseAfterClose(stage.workspaceId);
      await stage.close(large);
      const states = await Promise.all(waiting.map((id) => stage.conversation(id)));
      expect(waiting.filter((_, i) => states[i]!.state === 'assigned').toSorted()).toEqual(chosen.toSorted());
    });
    await fc.assert(holds, { seed, numRuns: 1_000, interruptAfterTimeLimit: searchMs / 2 });
  },
);

/** What the core says about all who wait at once, when nobody has anything any more. */
async function chooseAfterClose(workspaceId: string): Promise<string[]> {
  const client = await database.pool.connect();
  try {
    await client.query('BEGIN');
    await client.query(`UPDATE agents SET load = 0, channel_loads = '{}' WHERE workspace_id = $1`, [workspaceId]);
    const needless = await findNeedlessWaits(client, workspaceId);
    return needless.map((what) => what.split(' ', 1)[0]!);
  } finally {
    await client.query('ROLLBACK');
    client.release();
  }
}

test(
  `six at once from three processes: the invariants hold afterwards, nobody failed, nobody met a deadlock (seed ${seed})`,
  { timeout: searchMs * 10 },
  async () => {
    const pools = Array.from({ length: 3 }, () => connectAnother(database));
    try {
      const endsAt = Date.now() + searchMs;
      const perPerson = fc.array(command, { minLength: 20, maxLength: 30, size: 'max' });
      const days = fc.tuple(rulesOfTeams, fc.array(perPerson, { minLength: 6, maxLength: 6 }));
      // Another run of the same commands goes otherwise, so there is nothing to shrink.
      for (const [i, [rules, persons]] of fc.sample(days, { seed, numRuns: 200 }).entries()) {
        if (Date.now() > endsAt) break;
        const world = await createWorld(database.pool, rules);
        await runAtOnce(world, persons, pools);
        expect(await judge(world), `run ${i}`).toEqual([]);
      }
    } finally {
      // Only as they end do connections tell of all the deadlocks they met.
      await Promise.all(pools.map((pool) => pool.end()));
    }
    expect(await countDeadlocks(database.pool)).toBe(0);
  },
);

async function runAtOnce(
  world: World,
  persons: readonly (readonly Command[])[],
  pools: readonly pg.Pool[],
): Promise<void> {
  const outcomes = await Promise.allSettled(
    persons.map(async (commands, i) => {
      for (const next of commands) await perform(world, next, pools[i % pools.length]);
    }),
  );
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

/** What the whole history says, when all that was asked for is done. */
async function judge(world: World): Promise<string[]> {
  const { pool } = database;
  const { workspaceId, limits, stage } = world;
  await settle(world, pool);
  await runClocks(world, pool);
  await settle(world, pool);
  const found = await findViolations(pool, { workspaceId, loweredAgentIds: await limits.loweredAgentIds(stage) });
  await stopClocks(world, pool);
  return found;
}
