import fc from 'fast-check';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import type { TeamSettings } from '../../routing/team-rules.ts';
import { breachAtMs, compareWaiting, effectivePriority, targetSecondsOf } from '../../routing/waiting-order.ts';
import { requestClose } from '../../store/closing.ts';
import type { Queryable } from '../../store/database.ts';
import { readQueuePosition, readTeamQueue } from '../../store/queue-views.ts';
import { readWaitingGauges } from '../../store/upkeep.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage, type Stage } from './stage.ts';
import { insertUnchecked, insertWaiting, type WaitingRow } from './waiting-rows.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
});
afterAll(() => database?.drop());

const spanish = { skill: 'spanish', level: 3, preferred: false };
const polite = { skill: 'polite', level: 5, preferred: true };

/** A team of its own with these rows waiting. */
async function createQueue(rows: readonly WaitingRow[], settings: Partial<TeamSettings> = {}) {
  const teamId = await stage.addTeam('round_robin', settings);
  return { teamId, ids: await insertWaiting(database.pool, { ...stage, teamId }, rows), read: () => read(teamId) };
}

const read = async (teamId: string) => (await readTeamQueue(database.pool, { ...stage, teamId }))!;

const positionOf = (conversationId: string, db: Queryable = database.pool) =>
  readQueuePosition(db, { workspaceId: stage.workspaceId, conversationId });

test('a queue tells how much waits, for how long, for what, and who online could take it', async () => {
  const elsewhere = await stage.addAgent(1, []);
  const teamId = await stage.addTeam();
  await stage.addAgent(2, [teamId], { skills: { spanish: 2 } });
  await stage.addAgent(2, [teamId], { skills: { spanish: 3 } });
  await stage.addAgent(7, [teamId], { skills: { spanish: 5 }, online: false });
  await insertWaiting(database.pool, { ...stage, teamId }, [
    { waitedSeconds: 30, skills: [spanish] },
    { waitedSeconds: 600, skills: [spanish], passedOver: [elsewhere] },
    { waitedSeconds: 10, skills: [spanish, polite], units: 5, channel: 'call' },
    { waitedSeconds: 1000, offeredTo: elsewhere },
  ]);
  expect(await read(teamId)).toEqual({
    depth: 3,
    offered: 1,
    longestWaitSeconds: expect.closeTo(1000, -2),
    sla: null,
    byRequirement: [
      {
        skills: [spanish],
        channel: 'web',
        units: 1,
        depth: 2,
        longestWaitSeconds: expect.closeTo(600, -2),
        qualifiedOnline: 1,
      },
      {
        skills: [polite, spanish],
        channel: 'call',
        units: 5,
        depth: 1,
        longestWaitSeconds: expect.closeTo(10, -2),
        qualifiedOnline: 1,
      },
    ],
    others: null,
    onlineAgents: 2,
    freeUnits: 4,
    estimatedWaitSeconds: null,
  });
});

test('the risk for the target counts what breached it and what will within a fifth of it, offered or not', async () => {
  const offeredTo = await stage.addAgent(1, []);
  const rows = [10, 70, 85, 95, 101, 500].map((waitedSeconds) => ({ waitedSeconds }));
  const queue = await createQueue([...rows, { waitedSeconds: 90, offeredTo }, { waitedSeconds: 110, offeredTo }], {
    slaSeconds: 100,
  });
  expect(await queue.read()).toMatchObject({
    depth: 6,
    offered: 2,
    sla: { targetSeconds: 100, breached: 3, atRisk: 3 },
  });
});

test('a target of its own counts for a conversation, in the view and in the gauges, also where the team has none', async () => {
  const offeredTo = await stage.addAgent(1, []);
  const rows = [
    // By its own target breached, at risk, neither; by the team's breached.
    { waitedSeconds: 70, slaSeconds: 60 },
    { waitedSeconds: 50, slaSeconds: 60 },
    { waitedSeconds: 450, slaSeconds: 600 },
    { waitedSeconds: 450, slaSeconds: null },
    { waitedSeconds: 20, slaSeconds: 10, offeredTo },
    { waitedSeconds: 90, slaSeconds: 100, offeredTo },
  ];
  const strict = await createQueue(rows, { slaSeconds: 100 });
  expect(await strict.read()).toMatchObject({ depth: 4, sla: { targetSeconds: 100, breached: 3, atRisk: 2 } });
  const lax = await createQueue(rows);
  expect(await lax.read()).toMatchObject({ depth: 4, sla: { targetSeconds: null, breached: 2, atRisk: 2 } });
  const { teams } = await readWaitingGauges(database.pool, { maxTeams: 1_000 });
  const gaugesOf = (teamId: string) => teams!.find((team) => team.teamId === teamId);
  expect(gaugesOf(strict.teamId)).toMatchObject({ waiting: 6, slaBreached: 3, slaAtRisk: 2 });
  expect(gaugesOf(lax.teamId)).toMatchObject({ waiting: 6, slaBreached: 2, slaAtRisk: 2 });
  // It stands in a group with those that ask for the same.
  expect((await lax.read()).byRequirement).toMatchObject([{ depth: 4, longestWaitSeconds: expect.closeTo(450, -2) }]);
});

test('what was relaxed by passed rings is told as it is asked for now', async () => {
  const queue = await createQueue([{ skills: [spanish] }]);
  const rings = [{ afterSeconds: 30, kind: 'relax', levels: [{ skill: 'spanish', level: 1 }] }];
  await database.pool.query('UPDATE conversations SET ring = 1, requirements = $2 WHERE id = $1', [
    queue.ids[0],
    JSON.stringify({ skills: [spanish], rings }),
  ]);
  expect((await queue.read()).byRequirement).toMatchObject([{ skills: [{ ...spanish, level: 1 }], depth: 1 }]);
});

test('the 100 largest groups are told, the rest as a sum, and nothing is counted twice', async () => {
  const rows = Array.from({ length: 130 }, (_, number) => {
    const skills = [{ skill: `skill ${number}`, level: 1, preferred: false }];
    return Array.from({ length: number < 10 ? 3 : 1 }, () => ({ skills, waitedSeconds: 1_000 - number }));
  }).flat();
  const { byRequirement, others, depth } = await (await createQueue(rows)).read();
  expect(depth).toBe(150);
  expect(byRequirement).toHaveLength(100);
  expect(byRequirement.slice(0, 10).every((group) => group.depth === 3)).toBe(true);
  expect(others).toEqual({ depth: 30, longestWaitSeconds: expect.closeTo(900, -2) });
});

test('an empty queue with room is no wait; another workspace has no such team', async () => {
  const queue = await createQueue([]);
  expect(await queue.read()).toMatchObject({ depth: 0, byRequirement: [], others: null, estimatedWaitSeconds: null });
  await stage.addAgent(2, [queue.teamId]);
  expect(await queue.read()).toMatchObject({ onlineAgents: 1, freeUnits: 2, estimatedWaitSeconds: 0 });
  const stranger = await createStage(database.pool);
  expect(await readTeamQueue(database.pool, { workspaceId: stranger.workspaceId, teamId: queue.teamId })).toBeNull();
});

test('the place is the place in the order of the routing core, for any slope, priorities, targets and waits', async () => {
  const row = fc.record({
    priority: fc.oneof(fc.integer({ min: 0, max: 100 }), fc.constantFrom(0, 50, 100)),
    slaSeconds: fc.constantFrom(null, null, 30, 45, 7_200, 604_800),
    waitedSeconds: fc.oneof(
      fc.integer({ min: -2, max: 7200 }),
      fc.constantFrom(0, 60, 120),
      fc.double({ min: 0, max: 300, noNaN: true }),
    ),
  });
  const rules = fc.record({
    agingPointsPerMinute: fc.oneof(fc.constantFrom(0, 0.1, 1, 100), fc.double({ min: 0, max: 100, noNaN: true })),
    slaSeconds: fc.constantFrom(null, 45),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 25 }), rules, async (rows, settings) => {
      const { ids } = await createQueue(rows, settings);
      await atOneMoment(async (tx, nowMs) => {
        expect(await placesInStore(tx, ids)).toEqual(await orderInCore(tx, ids, { rules: settings, nowMs }));
      });
    }),
    { numRuns: 40 },
  );
});

/** `now()` stands still within a transaction. */
async function atOneMoment(work: (tx: pg.PoolClient, nowMs: number) => Promise<void>): Promise<void> {
  const tx = await database.pool.connect();
  try {
    await tx.query('BEGIN');
    const { rows } = await tx.query<{ nowMs: number }>('SELECT extract(epoch FROM now())::float8 * 1000 AS "nowMs"');
    await work(tx, rows[0]!.nowMs);
  } finally {
    await tx.query('ROLLBACK');
    tx.release();
  }
}

async function placesInStore(tx: pg.PoolClient, ids: readonly string[]): Promise<Record<number, string>> {
  const places: Record<number, string> = {};
  for (const id of ids) places[(await positionOf(id, tx))!.position!] = id;
  return places;
}

async function orderInCore(
  tx: pg.PoolClient,
  ids: readonly string[],
  { rules, nowMs }: { rules: Pick<TeamSettings, 'agingPointsPerMinute' | 'slaSeconds'>; nowMs: number },
): Promise<Record<number, string>> {
  const { rows } = await tx.query<{
    conversationId: string;
    priority: number;
    slaSeconds: number | null;
    waitingSinceMs: number;
  }>(
    `SELECT id AS "conversationId", priority, sla_seconds AS "slaSeconds", extract(epoch FROM waiting_since)::float8 * 1000 AS "waitingSinceMs"
     FROM conversations WHERE id = ANY($1::uuid[])`,
    [ids],
  );
  const placed = rows.map((row) => ({
    ...row,
    effectivePriority: effectivePriority(row, rules, nowMs),
    breachAtMs: breachAtMs(row.waitingSinceMs, { slaSeconds: targetSecondsOf(row, rules) }),
  }));
  return Object.fromEntries(
    placed.toSorted(compareWaiting).map(({ conversationId }, index) => [index + 1, conversationId]),
  );
}

test('a steeper slope moves the old one before the urgent one at once', async () => {
  const { teamId, ids } = await createQueue([{ priority: 0, waitedSeconds: 660 }, { priority: 10 }]);
  expect((await positionOf(ids[0]!))!.position).toBe(2);
  await stage.setRules(teamId, { agingPointsPerMinute: 1 });
  expect((await positionOf(ids[0]!))!.position).toBe(1);
});

test('one that does not wait has no place, but its state; one on offer is in hand', async () => {
  const offeredTo = await stage.addAgent(1, []);
  const { teamId, ids } = await createQueue([{ offeredTo, waitedSeconds: 50 }, {}, {}]);
  expect(await positionOf(ids[0]!)).toEqual({
    state: 'waiting',
    teamId,
    position: 0,
    waitedSeconds: expect.closeTo(50, -1),
    estimatedWaitSeconds: 0,
  });
  expect((await positionOf(ids[1]!))!.position).toBe(1);
  await requestClose(database.pool, { workspaceId: stage.workspaceId, conversationId: ids[1]!, agentId: null });
  expect(await positionOf(ids[1]!)).toMatchObject({ state: 'waiting', position: null, estimatedWaitSeconds: null });
  expect((await positionOf(ids[2]!))!.position).toBe(1);

  await stage.addAgent(1);
  const open = await stage.open(newId());
  const nowhere = { position: null, waitedSeconds: null, estimatedWaitSeconds: null };
  expect(await positionOf(open.conversationId)).toEqual({ ...nowhere, state: 'assigned', teamId: stage.defaultTeamId });
  await stage.close(open);
  expect(await positionOf(open.conversationId)).toMatchObject({ ...nowhere, state: 'closed' });
  expect(await positionOf(newId())).toBeNull();
});

test('the estimated wait counts what agents got from the team in the last 15 minutes, closed or not', async () => {
  const scene = await createStage(database.pool);
  const { workspaceId, defaultTeamId: teamId } = scene;
  const agentId = await scene.addAgent(2);
  await scene.close(await scene.open(newId()));
  await scene.open(newId());
  const old = await scene.open(newId());
  const [first, second] = await insertWaiting(database.pool, { workspaceId, teamId }, [{ waitedSeconds: 60 }, {}]);
  const estimateOf = async (conversationId: string | undefined) =>
    (await readQueuePosition(database.pool, { workspaceId, conversationId: conversationId! }))!.estimatedWaitSeconds;
  expect([await estimateOf(first), await estimateOf(second)]).toEqual([300, 600]);
  expect(await readTeamQueue(database.pool, { workspaceId, teamId })).toMatchObject({ estimatedWaitSeconds: 900 });
  await database.pool.query(`UPDATE conversations SET assigned_at = now() - interval '16 min' WHERE id = $1`, [
    old.conversationId,
  ]);
  expect(await estimateOf(first)).toBe(450);
  await database.pool.query(`UPDATE agents SET last_assigned_at = now() - interval '16 min' WHERE id = $1`, [agentId]);
  expect(await estimateOf(first)).toBeNull();
});

test('50,000 that wait are counted and placed from the index alone, in a moment', async () => {
  const skills = (number: number) => [{ skill: `skill ${number % 40}`, level: 1 + (number % 5), preferred: false }];
  const rows = Array.from({ length: 50_000 }, (_, number) => ({
    skills: skills(number),
    priority: number % 7,
    slaSeconds: number % 3 === 0 ? 300 : null,
    waitedSeconds: number % 3_601,
  }));
  const { teamId, ids } = await createQueue(rows, { slaSeconds: 600, agingPointsPerMinute: 0.5 });
  await addHistory(teamId, 60_000);
  // As autovacuum does it.
  await database.pool.query('VACUUM ANALYZE conversations');
  const key = { workspaceId: stage.workspaceId, teamId };
  const plan = await explain((db) => readTeamQueue(db, key));
  expect(plan).toContain('Index Only Scan using conversations_queue');
  expect(plan).not.toContain('Seq Scan on conversations');
  expect(await explain((db) => positionOf(ids[25_000]!, db))).toContain('Index Only Scan using conversations_queue');

  expect(await read(teamId)).toMatchObject({ depth: 50_000 });
  // About 30 ms each on two cores; the bounds leave room for busy ones.
  expect(await fastestMs(() => read(teamId))).toBeLessThan(250);
  expect(await fastestMs(() => positionOf(ids[25_000]!))).toBeLessThan(250);
  expect(await fastestMs(() => readWaitingGauges(database.pool, { maxTeams: 1_000 }))).toBeLessThan(250);
});

/** Closed conversations, of which a table holds far more than of waiting ones. */
async function addHistory(teamId: string, count: number): Promise<void> {
  const { contactId } = await stage.write(newId());
  await insertUnchecked(
    database.pool,
    `INSERT INTO conversations (workspace_id, id, contact_id, team_id, state, source, close_requested_at, closed_at)
     SELECT $1, uuidv7(), $2, $3, 'closed', 'contact', now(), now() FROM generate_series(1, $4)`,
    [stage.workspaceId, contactId, teamId, count],
  );
}

/** The plan of the first statement that `read` sends. */
async function explain(read: (db: typeof database.pool) => Promise<unknown>): Promise<string> {
  const sent: { text: string; values: unknown[] }[] = [];
  const recorder = {
    query: (statement: { text: string; values: unknown[] }) => {
      sent.push(statement);
      return database.pool.query(statement);
    },
  };
  await read(recorder as never);
  const { text, values } = sent[0]!;
  const { rows } = await database.pool.query<{ 'QUERY PLAN': string }>(`EXPLAIN ${text}`, values);
  return rows.map((row) => row['QUERY PLAN']).join('\n');
}

async function fastestMs(work: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < 7; round++) {
    const startedAt = performance.now();
    await work();
    times.push(performance.now() - startedAt);
  }
  return Math.min(...times);
}
