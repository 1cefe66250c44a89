import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createAgent } from '../../store/agents.ts';
import { withNames } from '../../store/names.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage } from './stage.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

test('agents and teams are called by their names, each wherever it stands; what the workspace does not know keeps its id', async () => {
  const { pool } = database;
  const { workspaceId, defaultTeamId } = await createStage(pool);
  const made = await createAgent(pool, { workspaceId, name: 'Ada $& “K”', capacity: 1, teamIds: [], skills: {} });
  if (made.kind !== 'created') throw new Error(made.kind);
  const { id } = made.agent;
  const sentences = [
    `Agent ${id} chosen: least loaded 0/1, tied with agent ${newId()}.`,
    `After 30 s it overflowed to team ${defaultTeamId}, because agent ${id} is offline.`,
    'The conversation waits.',
  ];
  expect(await withNames(pool, workspaceId, sentences)).toEqual([
    expect.stringMatching(/^Ada \$& “K” chosen: least loaded 0\/1, tied with agent [0-9a-f-]{36}\.$/),
    'After 30 s it overflowed to team “Default”, because Ada $& “K” is offline.',
    'The conversation waits.',
  ]);
  const stranger = await createStage(pool);
  expect(await withNames(pool, stranger.workspaceId, sentences)).toEqual(sentences);
});
