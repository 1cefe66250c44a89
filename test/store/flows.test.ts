import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createFlow, getFlow, listFlows, listFlowVersions, publishFlow, updateFlow } from '../../store/flows.ts';
import { createWorkspace } from '../../store/workspaces.ts';
import { createTestDatabase } from '../support/database.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterAll(() => database.drop());

const documentFor = (teamId: string, priority = 0) => ({ routing: { branches: [], otherwise: { teamId, priority } } });

async function createDraft() {
  const { workspaceId, defaultTeamId: teamId } = await createWorkspace(database.pool, { name: 'Flows' });
  const result = await createFlow(database.pool, {
    workspaceId,
    name: 'Support',
    description: '',
    document: documentFor(teamId),
  });
  if (result.kind !== 'created') throw new Error(result.kind);
  return { workspaceId, teamId, flow: result.flow };
}

test('a draft is stored with its defaults, unpublished', async () => {
  const { flow } = await createDraft();
  expect(flow).toMatchObject({ name: 'Support', publishedVersionId: null, publishedNumber: null });
  expect(flow.document.trigger.condition).toBe("conversation.source == 'contact'");
});

test('people who publish at once get one number each, and the highest stands', async () => {
  const { workspaceId, flow } = await createDraft();
  const key = { workspaceId, flowId: flow.id };
  const results = await Promise.all(Array.from({ length: 5 }, () => publishFlow(database.pool, key)));
  const versions = results.map((result) => (result.kind === 'published' ? result.version : null));
  expect(versions.map((version) => version?.number).toSorted()).toEqual([1, 2, 3, 4, 5]);
  const published = await getFlow(database.pool, key);
  expect(published?.publishedNumber).toBe(5);
  expect(published?.publishedVersionId).toBe(versions.find((version) => version?.number === 5)?.id);
  const page = await listFlowVersions(database.pool, { ...key, beforeNumber: 4, limit: 2 });
  expect(page.map(({ number }) => number)).toEqual([3, 2]);
});

test('a published version stays as it was when the draft changes', async () => {
  const { workspaceId, teamId, flow } = await createDraft();
  const key = { workspaceId, flowId: flow.id };
  await publishFlow(database.pool, key);
  const changed = await updateFlow(database.pool, { ...key, name: 'Sales', document: documentFor(teamId, 50) });
  expect(changed).toMatchObject({ kind: 'updated', flow: { name: 'Sales', publishedNumber: 1 } });
  const [version] = await listFlowVersions(database.pool, { ...key, beforeNumber: null, limit: 10 });
  expect(version?.document.routing.otherwise.priority).toBe(0);
});

test('the database refuses to change or delete a published version', async () => {
  const { workspaceId, flow } = await createDraft();
  await publishFlow(database.pool, { workspaceId, flowId: flow.id });
  for (const sql of [
    "UPDATE flow_versions SET document = '{}' WHERE workspace_id = $1",
    'DELETE FROM flow_versions WHERE workspace_id = $1',
  ]) {
    await expect(database.pool.query(sql, [workspaceId])).rejects.toMatchObject({ code: '23001' });
  }
});

test('a flow that names a team of another workspace is refused, and nothing is stored', async () => {
  const { workspaceId, flow } = await createDraft();
  const other = await createDraft();
  const key = { workspaceId, flowId: flow.id };
  const result = await updateFlow(database.pool, { ...key, name: 'Sales', document: documentFor(other.teamId) });
  expect(result).toMatchObject({ kind: 'invalid', faults: [{ path: '/routing/otherwise/teamId' }] });
  expect((await getFlow(database.pool, key))?.name).toBe('Support');
});

test('another workspace finds no flow', async () => {
  const { flow } = await createDraft();
  const key = { workspaceId: newId(), flowId: flow.id };
  expect(await getFlow(database.pool, key)).toBeNull();
  expect(await publishFlow(database.pool, key)).toEqual({ kind: 'not_found' });
  expect(await updateFlow(database.pool, { ...key, name: 'Mine' })).toEqual({ kind: 'not_found' });
  expect(await listFlows(database.pool, { workspaceId: key.workspaceId, after: null, limit: 10 })).toEqual([]);
});
