/** Whose turn it is, through the store: agents in strict rotation, and conversations that grow more urgent the longer they wait. */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { executeClose, requestClose } from '../../store/closing.ts';
import { openByUser } from '../../store/opening.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { connectAnother } from './second-pool.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

test('round robin goes strictly round: over three processes at once, closes in between, full agents, and a restart of all', async () => {
  const stage = await createStage(database.pool);
  const team = await stage.addTeam('round_robin');
  const agentIds = (await Promise.all([3, 1, 2, 3, 2].map((capacity) => stage.addAgent(capacity, [team])))).toSorted();
  for (const round of [1, 2]) {
    // New connections, as after a restart.
    const pools = Array.from({ length: 3 }, () => connectAnother(database));
    try {
      await Promise.all(
        Array.from({ length: 14 }, async (_, i) => {
          const pool = pools[i % pools.length]!;
          for (let j = 0; j < 5; j += 1) {
            const ref = await openThrough(pool, stage, team, `${round}/${i}/${j}`);
            // A few stay, so that some agents are full for good.
            if (i + j > 1) await closeThrough(pool, stage, ref);
          }
        }),
      );
    } finally {
      await Promise.all(pools.map((pool) => pool.end()));
    }
  }
  const turns = await replayTurns(stage, agentIds);
  expect(turns.length).toBeGreaterThan(60);
  expect(turns.filter(({ expected, got }) => expected !== got)).toEqual([]);
});

async function openThrough(pool: pg.Pool, { workspaceId, write }: Stage, teamId: string, contact: string) {
  const { contactId } = await write(contact);
  const to = { kind: 'team', teamId } as const;
  const opened = await openByUser(pool, { workspaceId, contactId, source: 'api', to, byAgentId: null });
  if (opened.kind !== 'opened') throw new Error(opened.kind);
  return { contactId, conversationId: opened.conversationId };
}

async function closeThrough(pool: pg.Pool, { workspaceId }: Stage, ref: { contactId: string; conversationId: string }) {
  await requestClose(pool, { workspaceId, conversationId: ref.conversationId, agentId: null });
  await executeClose(pool, { workspaceId, ...ref });
}

/** Events of a team's conversations have the order of its lock, so they tell whose turn it was each time: the first with room after the last. */
async function replayTurns({ pool, workspaceId }: Stage, agentIds: readonly string[]) {
  const { rows: events } = await pool.query<{ type: string; id: string; agentId: string | null }>(
    `SELECT type, conversation_id AS id, data ->> 'agentId' AS "agentId" FROM events
     WHERE workspace_id = $1 AND type IN ('conversation.assigned', 'conversation.closed') ORDER BY events.id`,
    [workspaceId],
  );
  const { rows: agents } = await pool.query<{ id: string; capacity: number }>(
    'SELECT id, capacity FROM agents WHERE workspace_id = $1',
    [workspaceId],
  );
  const room = new Map(agents.map(({ id, capacity }) => [id, capacity]));
  const turns: { expected: string | undefined; got: string }[] = [];
  let last = '';
  for (const { type, agentId } of events) {
    if (agentId === null) continue;
    if (type === 'conversation.closed') {
      room.set(agentId, room.get(agentId)! + 1);
      continue;
    }
    const inTurn = [...agentIds.filter((id) => id > last), ...agentIds];
    turns.push({ expected: inTurn.find((id) => room.get(id)! > 0), got: agentId });
    room.set(agentId, room.get(agentId)! - 1);
    last = agentId;
  }
  return turns;
}

test('under a slope none starves: with ten points a minute the least urgent is served after ten minutes of urgent ones, without never', async () => {
  expect(await roundsUntilServed({ agingPointsPerMinute: 10, maxRounds: 20 })).toBe(10);
  expect(await roundsUntilServed({ agingPointsPerMinute: 0, maxRounds: 20 })).toBeNull();
});

/** One agent, and each minute one conversation of the highest priority comes and one ends. @returns in which minute the one of priority 0 began */
async function roundsUntilServed({
  agingPointsPerMinute,
  maxRounds,
}: {
  agingPointsPerMinute: number;
  maxRounds: number;
}) {
  const stage = await createStage(database.pool);
  const { workspaceId, pool } = stage;
  const teamId = await stage.addTeam('round_robin', { agingPointsPerMinute });
  await stage.addAgent(1, [teamId]);
  let current = await stage.open('first', { teamId, priority: 100 });
  const { conversationId: least } = await stage.open('least urgent', { teamId, priority: 0 });
  for (let round = 1; round <= maxRounds; round += 1) {
    await pool.query(
      `UPDATE conversations SET waiting_since = waiting_since - interval '1 min' WHERE workspace_id = $1 AND state = 'waiting'`,
      [workspaceId],
    );
    const next = await stage.open(`urgent ${round}`, { teamId, priority: 100 });
    await stage.close(current);
    if ((await stage.conversation(least)).state === 'assigned') return round;
    current = next;
    expect((await stage.conversation(current.conversationId)).state).toBe('assigned');
  }
  return null;
}

test.each([5, 20, 50])(
  'under a slope of %i points a minute nobody is served later than its priority and those before it explain',
  async (agingPointsPerMinute) => {
    const stage = await createStage(database.pool);
    const { workspaceId, pool } = stage;
    const teamId = await stage.addTeam('least_loaded', { agingPointsPerMinute });
    await stage.addAgent(1, [teamId]);
    const backlog = 6;
    const growsFor = Math.ceil(100 / agingPointsPerMinute);
    const openedIn = new Map<string, number>();
    const waits: number[] = [];
    for (let round = 0; round < 45; round += 1) {
      await pool.query(
        `UPDATE conversations SET waiting_since = waiting_since - interval '1 min' WHERE workspace_id = $1 AND state = 'waiting'`,
        [workspaceId],
      );
      const priority = (round * 37) % 101;
      const { conversationId } = await stage.open(`${round}`, { teamId, priority });
      openedIn.set(conversationId, round);
      if (round < backlog) continue;
      const { rows } = await pool.query<{ id: string; contactId: string }>(
        `SELECT id, contact_id AS "contactId" FROM conversations WHERE workspace_id = $1 AND state = 'assigned'`,
        [workspaceId],
      );
      const [ended] = rows;
      waits.push(round - openedIn.get(ended!.id)!);
      await stage.close({ conversationId: ended!.id, contactId: ended!.contactId });
    }
    expect(Math.max(...waits)).toBeLessThanOrEqual(growsFor + backlog + 1);
  },
);
