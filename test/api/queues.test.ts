import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

let api: WorkspaceApi;

beforeAll(async () => {
  api = await startWorkspaceApi();
});

afterAll(() => api.stop());

test('a queue tells what waits, by requirement, with its risk, and is empty once an agent comes', async () => {
  const workspace = await api.workspace();
  const path = `/teams/${workspace.defaultTeamId}`;
  await workspace.patch(path, { slaSeconds: 3_600 });
  expect(await workspace.get(`${path}/queue`)).toEqual({
    status: 200,
    body: {
      teamId: workspace.defaultTeamId,
      depth: 0,
      offered: 0,
      longestWaitSeconds: 0,
      sla: { targetSeconds: 3_600, breached: 0, atRisk: 0 },
      byRequirement: [],
      others: null,
      onlineAgents: 0,
      freeUnits: 0,
      estimatedWaitSeconds: null,
    },
  });
  await workspace.open();
  await workspace.open();
  const group = { skills: [], channel: 'chat', units: 1, depth: 2, qualifiedOnline: 0 };
  expect((await workspace.get(`${path}/queue`)).body).toMatchObject({ depth: 2, byRequirement: [group] });
  await workspace.addAgent(3);
  expect((await workspace.get(`${path}/queue`)).body).toMatchObject({
    depth: 0,
    byRequirement: [],
    onlineAgents: 1,
    freeUnits: 1,
    estimatedWaitSeconds: 0,
  });
});

test('what is offered is not in the queue, yet waits: its place is 0', async () => {
  const workspace = await api.workspace();
  const path = `/teams/${workspace.defaultTeamId}`;
  await workspace.patch(path, { offer: { acceptSeconds: 60, maxMissed: 3 } });
  await workspace.addAgent(1);
  const [first, second] = [await workspace.open(), await workspace.open()];
  expect((await workspace.get(`${path}/queue`)).body).toMatchObject({ depth: 1, offered: 1, freeUnits: 0, sla: null });
  expect((await workspace.get(`/conversations/${first.conversationId}/position`)).body).toMatchObject({
    state: 'waiting',
    position: 0,
    estimatedWaitSeconds: 0,
  });
  expect((await workspace.get(`/conversations/${second.conversationId}/position`)).body).toMatchObject({ position: 1 });
});

test('a place moves up as others are served, and ends with the wait', async () => {
  const workspace = await api.workspace();
  const [first, second] = [await workspace.open(), await workspace.open()];
  const positionOf = (conversationId: string) => workspace.get(`/conversations/${conversationId}/position`);
  expect(await positionOf(second.conversationId)).toEqual({
    status: 200,
    body: {
      conversationId: second.conversationId,
      state: 'waiting',
      teamId: workspace.defaultTeamId,
      position: 2,
      waitedSeconds: 0,
      estimatedWaitSeconds: null,
    },
  });
  await workspace.addAgent(1);
  // One was taken in the last 15 minutes, and this one is the next.
  expect((await positionOf(second.conversationId)).body).toMatchObject({ position: 1, estimatedWaitSeconds: 900 });
  expect((await positionOf(first.conversationId)).body).toMatchObject({
    state: 'assigned',
    position: null,
    waitedSeconds: null,
    estimatedWaitSeconds: null,
  });
});

test('queues and places of another workspace, or of nothing, are not found', async () => {
  const workspace = await api.workspace();
  const stranger = await api.workspace();
  const { conversationId } = await workspace.open();
  for (const path of [
    `/teams/${workspace.defaultTeamId}/queue`,
    `/conversations/${conversationId}/position`,
    `/teams/${newId()}/queue`,
    '/conversations/nothing/position',
  ]) {
    expect(await stranger.get(path), path).toMatchObject({ status: 404 });
  }
});
