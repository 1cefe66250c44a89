import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { setPresence } from '../../store/agents.ts';
import type { Queryable } from '../../store/database.ts';
import { readTeamLoads } from '../../store/team-loads.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { createStage, type Stage } from './stage.ts';
import { insertWaiting } from './waiting-rows.ts';

let database: TestDatabase;
let stage: Stage;
let workspaceId: string;

beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
  ({ workspaceId } = stage);
});
afterAll(() => database?.drop());

const idle = { waiting: 0, onlineAgents: 0, longestWaitSeconds: 0 };
const readOne = async (teamId: string, db: Queryable = database.pool) =>
  (await readTeamLoads(db, [{ workspaceId, teamId }])).get(teamId);

/** Counts the statements, and lets them be refused. */
function createCounter() {
  const state = { count: 0, refuses: false };
  const db: Queryable = {
    query: (statement: never) => {
      state.count += 1;
      return state.refuses ? Promise.reject(new Error('refused')) : database.pool.query(statement);
    },
  };
  return { state, db };
}

test('a load is what waits in the queue, since when, and who is online; each team has its own', async () => {
  const [busy, calm] = [await stage.addTeam(), await stage.addTeam()];
  const elsewhere = await stage.addAgent(1, []);
  await stage.addAgent(1, [busy, calm]);
  await stage.addAgent(0, [busy]);
  const away = await stage.addAgent(1, [busy]);
  await setPresence(database.pool, { workspaceId, agentId: away, status: 'away' });
  const rows = [
    { waitedSeconds: 5 },
    { waitedSeconds: 125, priority: 100, slaSeconds: 60 },
    { waitedSeconds: 500, offeredTo: elsewhere },
  ];
  await insertWaiting(database.pool, { workspaceId, teamId: busy }, rows);
  const unknown = newId();
  const keys = [busy, calm, unknown].map((teamId) => ({ workspaceId, teamId }));
  const loads = await readTeamLoads(database.pool, keys);
  expect(loads.get(busy)).toEqual({ waiting: 2, onlineAgents: 2, longestWaitSeconds: expect.closeTo(125, -1) });
  expect(loads.get(calm)).toEqual({ waiting: 0, onlineAgents: 1, longestWaitSeconds: 0 });
  expect(loads.get(unknown)).toEqual(idle);
  const stranger = await createStage(database.pool);
  const theirs = await readTeamLoads(database.pool, [{ workspaceId: stranger.workspaceId, teamId: busy }]);
  expect(theirs.get(busy)).toEqual(idle);
});

test('for a second it is remembered, and those who ask at once share one reading of what is not known yet', async () => {
  const [first, second] = [await stage.addTeam(), await stage.addTeam()];
  const { state, db } = createCounter();
  await Promise.all([readOne(first, db), readOne(first, db), readOne(first, db)]);
  expect(state.count).toBe(1);
  await insertWaiting(database.pool, { workspaceId, teamId: first }, [{}]);
  const both = [first, second].map((teamId) => ({ workspaceId, teamId }));
  expect((await readTeamLoads(db, both)).get(first)).toEqual(idle);
  expect(await readOne(second, db)).toEqual(idle);
  expect(state.count).toBe(2);
  await eventually('it is read anew', async () => (await readOne(first, db))?.waiting === 1);
  expect(state.count).toBe(3);
});

test('what could not be read is not remembered', async () => {
  const teamId = await stage.addTeam();
  const { state, db } = createCounter();
  state.refuses = true;
  await expect(readOne(teamId, db)).rejects.toThrow('refused');
  state.refuses = false;
  expect(await readOne(teamId, db)).toEqual(idle);
});

test('of 50,000 that wait 10,000 are counted, and the longest wait is found among all of them', async () => {
  const teamId = await stage.addTeam();
  const skills = (number: number) => [{ skill: `skill ${number % 40}`, level: 1 + (number % 5), preferred: false }];
  const rows = Array.from({ length: 50_000 }, (_, number) => ({
    skills: skills(number),
    priority: number % 7,
    // The oldest has the highest priority and stands at the end of the index.
    waitedSeconds: number === 48_999 ? 9_000 : number % 3_601,
  }));
  await insertWaiting(database.pool, { workspaceId, teamId }, rows);
  await database.pool.query('VACUUM ANALYZE conversations');
  expect(await readOne(teamId)).toEqual({
    waiting: 10_000,
    onlineAgents: 0,
    longestWaitSeconds: expect.closeTo(9_000, -2),
  });
});
