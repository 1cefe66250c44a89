import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';

let api: WorkspaceApi;

beforeAll(async () => {
  api = await startWorkspaceApi();
});
afterAll(() => api.stop());

/** A workspace whose default team asks first. */
async function prepare() {
  const workspace = await api.workspace();
  const offer = { acceptSeconds: 600, maxMissed: 3 };
  const team = await workspace.patch(`/teams/${workspace.defaultTeamId}`, { offer });
  expect(team.status).toBe(200);
  const answer = (conversationId: string, verb: 'accept' | 'reject', body?: object, key?: string) =>
    workspace.post(`/conversations/${conversationId}/${verb}`, body, key);
  return { ...workspace, answer };
}

const notOffered = 'urn:switchyard:problem:conflict.not_offered';

test('an offer is shown while the conversation waits; the agent accepts it with a key of its own and no body', async () => {
  const workspace = await prepare();
  const agentId = await workspace.addAgent(2);
  const { conversationId } = await workspace.open();
  const { body: waiting } = await workspace.get(`/conversations/${conversationId}`);
  expect(waiting).toMatchObject({
    state: 'waiting',
    agentId: null,
    offer: { agentId, expiresAt: expect.stringMatching(/Z$/) },
  });
  const accepted = await workspace.answer(conversationId, 'accept', undefined, await workspace.keyOf(agentId));
  expect(accepted).toMatchObject({ status: 200, body: { state: 'assigned', agentId, offer: null } });
  expect(await workspace.answer(conversationId, 'accept', { agentId })).toMatchObject({
    status: 200,
    body: { state: 'assigned', agentId },
  });
});

test('a rejected offer goes to the next agent, with the reason in the decisions', async () => {
  const workspace = await prepare();
  const first = await workspace.addAgent();
  const { conversationId } = await workspace.open();
  const second = await workspace.addAgent();
  const rejected = await workspace.answer(conversationId, 'reject', { agentId: first, reason: 'lunch' });
  expect(rejected).toMatchObject({ status: 200, body: { state: 'waiting', offer: { agentId: second } } });
  const { body } = await workspace.get(`/conversations/${conversationId}/decisions`);
  expect(body['items']).toContainEqual(
    expect.objectContaining({ detail: { offer: 'rejected', agentId: first, reason: 'lunch' } }),
  );
  const late = await workspace.answer(conversationId, 'accept', { agentId: first });
  expect(late).toMatchObject({
    status: 409,
    body: {
      type: notOffered,
      detail: `The agent rejected it. It is now offered to agent ${second}.`,
      offeredAgentId: second,
      agentId: null,
    },
  });
});

test('an offer that ran out, and one that another agent accepted, answer 409 and say so', async () => {
  const workspace = await prepare();
  const agentId = await workspace.addAgent();
  const other = await workspace.addAgent();
  const { conversationId } = await workspace.open();
  const { body } = await workspace.get(`/conversations/${conversationId}`);
  const asked: string = body['offer'].agentId;
  const unasked = asked === agentId ? other : agentId;
  await api.pool.query('UPDATE conversations SET offer_expires_at = now() WHERE id = $1', [conversationId]);
  expect(await workspace.answer(conversationId, 'accept', { agentId: asked })).toMatchObject({
    status: 409,
    body: { type: notOffered, detail: 'The offer to this agent ran out.', offeredAgentId: null, agentId: null },
  });
  await api.pool.query(`UPDATE conversations SET offer_expires_at = now() + interval '1 min' WHERE id = $1`, [
    conversationId,
  ]);
  await workspace.answer(conversationId, 'accept', { agentId: asked });
  expect(await workspace.answer(conversationId, 'reject', { agentId: unasked })).toMatchObject({
    status: 409,
    body: {
      type: notOffered,
      detail: `It was never offered to this agent. Agent ${asked} has it.`,
      offeredAgentId: null,
      agentId: asked,
    },
  });
});

test('who rejects what it has is told so, and how to give it back; the others are told to wait', async () => {
  const workspace = await prepare();
  const agentId = await workspace.addAgent();
  const { conversationId } = await workspace.open();
  await workspace.answer(conversationId, 'accept', { agentId });
  const other = await workspace.addAgent();
  expect(await workspace.answer(conversationId, 'reject', { agentId })).toMatchObject({
    status: 409,
    body: {
      type: notOffered,
      detail: 'This agent has accepted it and has it.',
      agentId,
      errors: [{ field: '/agentId', mend: 'To give it back, send {} to POST /v1/conversations/{id}/assign.' }],
    },
  });
  expect(await workspace.answer(conversationId, 'accept', { agentId: other })).toMatchObject({
    status: 409,
    body: {
      detail: `It was never offered to this agent. Agent ${agentId} has it.`,
      errors: [{ field: '/agentId', mend: expect.stringContaining('Wait for the next offer') }],
    },
  });
  expect((await workspace.post(`/conversations/${conversationId}/assign`, {})).status).toBe(200);
  expect((await workspace.get(`/conversations/${conversationId}`)).body['offer']).toMatchObject({ agentId: other });
  expect(await workspace.answer(conversationId, 'accept', { agentId })).toMatchObject({
    status: 409,
    body: {
      detail: `The agent accepted it, but has it no more. It is now offered to agent ${other}.`,
      errors: [{ field: '/agentId', mend: expect.stringContaining('Wait for the next offer') }],
    },
  });
});

test('an answer names its agent, only keys for agents may give one, and all faults of a body are told', async () => {
  const workspace = await prepare();
  const agentId = await workspace.addAgent();
  const { conversationId } = await workspace.open();
  for (const verb of ['accept', 'reject'] as const) {
    expect(await workspace.answer(conversationId, verb)).toMatchObject({
      status: 422,
      body: { type: 'urn:switchyard:problem:agent_required' },
    });
    expect(await workspace.answer(conversationId, verb, { agentId: newId() })).toMatchObject({
      status: 422,
      body: { type: 'urn:switchyard:problem:unknown_reference', errors: [{ field: '/agentId' }] },
    });
    expect(await workspace.answer(conversationId, verb, { agentId }, workspace.keys.ingest)).toMatchObject({
      status: 403,
    });
    expect(await workspace.answer(newId(), verb, { agentId })).toMatchObject({ status: 404 });
    const other = await api.workspace();
    expect(await other.post(`/conversations/${conversationId}/${verb}`, { agentId })).toMatchObject({ status: 404 });
  }
  const boundToAnother = await workspace.keyOf(await workspace.addAgent());
  expect(await workspace.answer(conversationId, 'accept', { agentId }, boundToAnother)).toMatchObject({ status: 403 });
  const faulty = await workspace.answer(conversationId, 'reject', { agentId: 'me', reason: '', why: 'x' });
  expect(faulty).toMatchObject({ status: 400 });
  expect(faulty.body['errors'].map((fault: { field: string }) => fault.field).toSorted()).toEqual([
    '/agentId',
    '/reason',
    '/why',
  ]);
});

test('from the close request on, an offer can be answered no more', async () => {
  const workspace = await prepare();
  const agentId = await workspace.addAgent();
  const ref = await workspace.open();
  await workspace.post(`/conversations/${ref.conversationId}/close`);
  expect(await workspace.answer(ref.conversationId, 'accept', { agentId })).toMatchObject({
    status: 409,
    body: { type: 'urn:switchyard:problem:conflict.closing' },
  });
  await workspace.close(ref);
  expect(await workspace.answer(ref.conversationId, 'reject', { agentId })).toMatchObject({
    status: 409,
    body: { type: 'urn:switchyard:problem:conflict.closed' },
  });
  expect((await workspace.get(`/agents/${agentId}`)).body).toMatchObject({ load: 0 });
});
