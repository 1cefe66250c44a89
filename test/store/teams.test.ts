import { afterAll, beforeAll, expect, test } from 'vitest';
import { lockMatching } from '../../store/locks.ts';
import { createTeam, getTeam, updateTeam } from '../../store/teams.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
});
afterAll(() => database?.drop());

async function readReview(teamId: string): Promise<Date | null> {
  const { rows } = await database.pool.query<{ at: Date | null }>('SELECT review_at AS at FROM teams WHERE id = $1', [
    teamId,
  ]);
  return rows[0]!.at;
}

test('a change of rules waits for the decision under way, and the next decision goes by it', async () => {
  const { workspaceId, defaultTeamId: teamId } = stage;
  const key = { workspaceId, teamId };
  const version = (await getTeam(database.pool, key))!.version;
  const deciding = await database.pool.connect();
  try {
    await deciding.query('BEGIN');
    const during = await lockMatching(deciding, workspaceId, { teamIds: [teamId] });
    expect(during.teams.get(teamId)).toMatchObject({ strategy: 'least_loaded', agingPointsPerMinute: 0 });
    const update = updateTeam(database.pool, {
      ...key,
      strategy: 'longest_idle',
      settings: { agingPointsPerMinute: 2 },
    });
    await eventually('the change waits', async () => {
      const { rows } = await database.pool.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
      );
      return rows.length === 1;
    });
    await deciding.query('COMMIT');
    expect(await update).toMatchObject({ kind: 'updated', team: { version: version + 1, agingPointsPerMinute: 2 } });
    await deciding.query('BEGIN');
    const after = await lockMatching(deciding, workspaceId, { teamIds: [teamId] });
    expect(after.teams.get(teamId)).toMatchObject({ strategy: 'longest_idle', agingPointsPerMinute: 2 });
    await deciding.query('COMMIT');
  } finally {
    deciding.release();
  }
});

test('other times of silence or quiet, or another rule for who is offline, have a team’s conversations looked at again; nothing else has', async () => {
  const { workspaceId } = stage;
  const teamId = await stage.addTeam();
  const update = (settings: object) => updateTeam(database.pool, { workspaceId, teamId, settings });
  await update({ slaSeconds: 60, silenceMinutes: null, quietMinutes: null });
  expect(await readReview(teamId)).toBeNull();
  await update({ silenceMinutes: 5 });
  const first = await readReview(teamId);
  expect(first).not.toBeNull();
  await update({ silenceMinutes: 5, slaSeconds: 90 });
  expect(await readReview(teamId)).toEqual(first);
  await update({ quietMinutes: 5 });
  const second = await readReview(teamId);
  expect(second!.getTime()).toBeGreaterThanOrEqual(first!.getTime());
  await update({ silenceMinutes: null });
  const third = await readReview(teamId);
  expect(third).not.toEqual(second);
  await update({ offline: { then: 'keep' } });
  expect(await readReview(teamId)).toEqual(third);
  await update({ offline: { then: 'return', graceSeconds: 60 } });
  const fourth = await readReview(teamId);
  expect(fourth).not.toEqual(third);
  await update({ offline: { then: 'return', graceSeconds: 60 } });
  expect(await readReview(teamId)).toEqual(fourth);
  await update({ offline: { then: 'return', graceSeconds: 90 } });
  expect(await readReview(teamId)).not.toEqual(fourth);
});

test('changes of different rules at once are all kept', async () => {
  const { workspaceId } = stage;
  const teamId = await stage.addTeam();
  await Promise.all(
    [{ slaSeconds: 60 }, { silenceMinutes: 5 }, { quietMinutes: 7 }, { agingPointsPerMinute: 1 }].map((settings) =>
      updateTeam(database.pool, { workspaceId, teamId, settings }),
    ),
  );
  expect(await getTeam(database.pool, { workspaceId, teamId })).toMatchObject({
    version: 5,
    slaSeconds: 60,
    silenceMinutes: 5,
    quietMinutes: 7,
    agingPointsPerMinute: 1,
  });
});

test('a refused change leaves the team as it was', async () => {
  const { workspaceId } = stage;
  const teamId = await stage.addTeam();
  const before = await getTeam(database.pool, { workspaceId, teamId });
  const taken = { name: 'Taken', strategy: 'round_robin' } as const;
  expect(await createTeam(database.pool, { workspaceId, ...taken })).toMatchObject({ kind: 'created' });
  expect(await createTeam(database.pool, { workspaceId, ...taken })).toEqual({ kind: 'name_taken' });
  const settings = { silenceMinutes: 5 };
  expect(await updateTeam(database.pool, { workspaceId, teamId, name: 'Taken', settings })).toEqual({
    kind: 'name_taken',
  });
  const priorityList = [teamId];
  expect(await updateTeam(database.pool, { workspaceId, teamId, settings: { ...settings, priorityList } })).toEqual({
    kind: 'unknown_agents',
    agentIds: priorityList,
  });
  expect(await getTeam(database.pool, { workspaceId, teamId })).toEqual(before);
  expect(await readReview(teamId)).toBeNull();
});
