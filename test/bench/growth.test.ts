import { expect, test } from 'vitest';
import { createTestDatabase } from '../support/database.ts';
import { findViolations } from '../support/history-checker.ts';
import { createStage } from '../store/stage.ts';
import { findNeedlessWaits, findWrongLoads } from '../support/balance.ts';
import { furnish } from './growth-house.ts';
import { makePast } from './growth-population.ts';
import { measureStore } from './growth-store.ts';

test('a past is gone on with where it was interrupted, keeps the invariants, and is worked beside', async () => {
  const database = await createTestDatabase();
  const contacts = 60;
  const steps: string[] = [];
  const note = (line: string): void => void steps.push(line);
  expect(await makePast(database.url, { contacts, note, maxSeconds: 0 })).toBeNull();
  const past = await makePast(database.url, { contacts, note });
  if (past === null) throw new Error('not whole');
  const made = steps.length;
  expect(await makePast(database.url, { contacts, note })).toMatchObject({ workspaceId: past.workspaceId });
  expect(steps).toHaveLength(made);
  const { rows } = await database.pool.query<{ messages: number; keys: number; conversations: number }>(
    `SELECT (SELECT count(*) FROM messages) AS messages, (SELECT count(*) FROM message_keys) AS keys,
            (SELECT count(*) FROM conversations) AS conversations`,
  );
  expect(rows[0]).toEqual({ messages: 10 * contacts, keys: 6 * contacts, conversations: 2 * contacts });
  const { rows: strayed } = await database.pool.query('SELECT FROM messages_stray');
  expect(strayed).toEqual([]);
  const figures = await measureStore({ ...past, databaseUrl: database.url }, { seconds: 0.2 });
  expect(Object.values(figures).every((ms) => ms > 0)).toBe(true);
  // Its events are as many as there would be, but do not name their messages.
  const violations = await findViolations(database.pool, { workspaceId: past.workspaceId });
  expect(violations.filter((violation) => /^I[26]|^I5 sequences/.test(violation))).toEqual([]);
  await expect(makePast(database.url, { contacts: 5, note })).rejects.toThrow('past of 60 contacts');
  await database.drop();
});

test('a grown house has its agents fifty to a team, and those who wait do so for what nobody can', async () => {
  const { pool, drop } = await createTestDatabase();
  const { workspaceId, defaultTeamId, addAgent, addTeam } = await createStage(pool);
  await addAgent(10);
  const workspace = {
    workspaceId,
    teamIds: [defaultTeamId, await addTeam()],
    keys: { ingest: '', agent: '', admin: '' },
  };
  await furnish({ pool, workspaces: [workspace] }, { agents: 130, waiting: 5_100 });
  const { rows: teams } = await pool.query<{ members: number }>(
    'SELECT count(*) AS members FROM team_members GROUP BY team_id ORDER BY 1',
  );
  expect(teams.map(({ members }) => members)).toEqual([1, 20, 50, 50]);
  const { rows } = await pool.query<{ waiting: number }>(
    `SELECT count(*) AS waiting FROM conversations WHERE state = 'waiting'`,
  );
  expect(rows[0]!.waiting).toBe(5_100);
  expect(await findNeedlessWaits(pool, workspaceId)).toEqual([]);
  expect(await findWrongLoads(pool, workspaceId)).toEqual([]);
  expect((await findViolations(pool, { workspaceId })).slice(0, 5)).toEqual([]);
  await drop();
});
