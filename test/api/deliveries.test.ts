import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createEventFeed } from '../../store/events.ts';
import { claimDeliveries, settleDelivered, settleFailedAttempts } from '../../store/deliveries.ts';
import { startWorkspaceApi, type WorkspaceApi } from './workspace-api.ts';
import { allRoom } from '../support/lane-room.ts';

let api: WorkspaceApi;
let workspace: Awaited<ReturnType<WorkspaceApi['workspace']>>;

beforeAll(async () => {
  api = await startWorkspaceApi();
});
afterAll(() => api.stop());
beforeEach(async () => {
  workspace = await api.workspace();
  const { body } = await workspace.get('/channels');
  await workspace.patch(`/channels/${body.items[0].id}`, { outboundUrl: 'https://chat.example.com/out' });
});

/** Replies in a conversation of its own. */
async function reply(text = 'On its way') {
  const { conversationId } = await workspace.open();
  const agentId = await workspace.addAgent(10);
  const answer = await workspace.post(`/conversations/${conversationId}/messages`, { text, agentId });
  expect(answer.status).toBe(201);
  return answer.body;
}

/** As the worker does: whatever of the workspace is due is claimed, and ends so. */
async function settle(end: 'delivered' | 'failed' | 'retried'): Promise<void> {
  const claimedBy = newId();
  const rest = {
    leaseMs: 60_000,
    maxRows: 100,
    maxRowsPerLane: 100,
    room: allRoom,
    afterLane: null,
  };
  const { claimed } = await claimDeliveries(api.pool, { claimedBy, ...rest });
  const ids = claimed.filter(({ workspaceId }) => workspaceId === workspace.workspaceId).map(({ id }) => id);
  expect(ids.length).toBeGreaterThan(0);
  if (end === 'delivered') return settleDelivered(api.pool, ids);
  const retryAfterMs = end === 'failed' ? null : 60_000;
  const attempts = ids.map((id) => ({ id, error: 'answered 500', retryAfterMs }));
  return settleFailedAttempts(api.pool, { claimedBy, attempts });
}

const messageOf = async (id: string) => (await workspace.get(`/messages/${id}`)).body;

test('a reply tells how its delivery stands, alone and in its thread', async () => {
  const sent = await reply();
  expect(sent).toMatchObject({
    author: 'agent',
    channel: 'chat',
    delivery: { state: 'pending', attempts: 0, lastError: null, deliveredAt: null },
  });
  await settle('retried');
  const tried = { state: 'pending', attempts: 1, lastError: 'answered 500', deliveredAt: null };
  expect((await messageOf(sent.id)).delivery).toEqual(tried);
  const thread = await workspace.get(`/conversations/${sent.conversationId}/messages`);
  expect(thread.body.items).toMatchObject([
    { author: 'contact', delivery: null },
    { author: 'agent', delivery: tried },
  ]);
});

test('what is delivered says when, is listed no more, and is told in the feed', async () => {
  const sent = await reply();
  await settle('delivered');
  expect((await messageOf(sent.id)).delivery).toEqual({
    state: 'delivered',
    attempts: null,
    lastError: null,
    deliveredAt: expect.stringMatching(/Z$/),
  });
  for (const state of ['pending', 'failed']) {
    expect((await workspace.get(`/deliveries?state=${state}`)).body.items).toEqual([]);
  }
  const events = await createEventFeed(api.pool).readEvents(workspace.workspaceId, 0, 100);
  expect(events.filter(({ type }) => type === 'message.delivered')).toMatchObject([{ data: { messageId: sent.id } }]);
});

test('a dead letter is listed, and begins anew when it is retried', async () => {
  const sent = await reply();
  await settle('failed');
  expect((await messageOf(sent.id)).delivery).toMatchObject({ state: 'failed', attempts: 1 });
  const { body } = await workspace.get('/deliveries');
  expect(body.items).toEqual([
    {
      id: expect.any(String),
      kind: 'message',
      state: 'failed',
      conversationId: sent.conversationId,
      contactId: sent.contactId,
      messageId: sent.id,
      channel: 'chat',
      url: null,
      attempts: 1,
      lastError: 'answered 500',
      nextAttemptAt: null,
      createdAt: expect.stringMatching(/Z$/),
    },
  ]);
  const retried = await workspace.post(`/deliveries/${body.items[0].id}/retry`, undefined, workspace.keys.admin);
  expect(retried).toMatchObject({
    status: 200,
    body: { state: 'pending', attempts: 0, nextAttemptAt: expect.any(String) },
  });
  expect((await messageOf(sent.id)).delivery).toMatchObject({ state: 'pending', attempts: 0 });
  await settle('delivered');
});

test('all that failed are retried at once, or those of one channel', async () => {
  const { keys } = workspace;
  await workspace.post('/channels', { key: 'other', name: 'Other' }, keys.admin);
  for (let i = 0; i < 3; i += 1) await reply();
  await settle('failed');
  const retry = (body: object) => workspace.post('/deliveries/retry', body, keys.admin);
  expect(await retry({ channel: 'other' })).toMatchObject({ status: 200, body: { retried: 0 } });
  expect(await retry({ channel: 'chat' })).toMatchObject({ status: 200, body: { retried: 3 } });
  expect(await retry({})).toMatchObject({ status: 200, body: { retried: 0 } });
  expect(await retry({ channel: 'none' })).toMatchObject({ status: 422, body: { errors: [{ field: '/channel' }] } });
  await settle('delivered');
});

test('deliveries are listed page by page, by state', async () => {
  const sent = [];
  for (let i = 0; i < 3; i += 1) sent.push((await reply()).id);
  const first = await workspace.get('/deliveries?state=pending&limit=2');
  const second = await workspace.get(`/deliveries?state=pending&limit=2&cursor=${first.body.nextCursor}`);
  const listed = [...first.body.items, ...second.body.items].map(({ messageId }) => messageId);
  expect(listed.toSorted()).toEqual(sent.toSorted());
  expect(second.body.nextCursor).toBeNull();
  expect((await workspace.get('/deliveries?state=failed')).body.items).toEqual([]);
  for (const query of ['state=done', 'cursor=nonsense']) {
    const answer = await workspace.get(`/deliveries?${query}`);
    expect(answer).toMatchObject({ status: 400, body: { errors: [{ field: query.split('=')[0] }] } });
  }
  await settle('delivered');
});

test('without a state, what failed and what is pending are listed together, the oldest first, page by page', async () => {
  const sent = [];
  const ends = ['failed', 'retried', 'failed', 'retried', 'failed'] as const;
  for (const end of ends) {
    sent.push((await reply()).id);
    await settle(end);
  }
  const listed: { messageId: string; state: string }[] = [];
  for (let cursor = ''; listed.length < sent.length;) {
    const { body } = await workspace.get(`/deliveries?limit=2${cursor}`);
    expect(body.items.length).toBeGreaterThan(0);
    listed.push(...body.items);
    cursor = `&cursor=${body.nextCursor}`;
    expect(body.nextCursor === null).toBe(listed.length === sent.length);
  }
  const stateOf = { failed: 'failed', retried: 'pending' };
  expect(listed).toMatchObject(sent.map((messageId, place) => ({ messageId, state: stateOf[ends[place]!] })));
});

test('what waits for its next attempt is hurried by a retry', async () => {
  await reply();
  await settle('retried');
  const { id, nextAttemptAt } = (await workspace.get('/deliveries')).body.items[0];
  expect(Date.parse(nextAttemptAt)).toBeGreaterThan(Date.now() + 30_000);
  const { body } = await workspace.post(`/deliveries/${id}/retry`, undefined, workspace.keys.admin);
  expect(body).toMatchObject({ state: 'pending', attempts: 0 });
  expect(Date.parse(body.nextAttemptAt)).toBeLessThan(Date.parse(nextAttemptAt) - 30_000);
  await settle('delivered');
});

test('all that failed are retried without a body, as with an empty one', async () => {
  await reply();
  await settle('failed');
  const answer = await workspace.post('/deliveries/retry', undefined, workspace.keys.admin);
  expect(answer).toMatchObject({ status: 200, body: { retried: 1 } });
  await settle('delivered');
});

test('another workspace sees and retries nothing of it, and agents retry nothing', async () => {
  await reply();
  await settle('failed');
  const { id } = (await workspace.get('/deliveries')).body.items[0];
  expect((await workspace.post(`/deliveries/${id}/retry`)).status).toBe(403);
  expect((await workspace.post('/deliveries/retry', {})).status).toBe(403);
  const other = await api.workspace();
  expect((await other.get('/deliveries')).body.items).toEqual([]);
  for (const theirs of [id, newId(), 'x']) {
    expect((await other.post(`/deliveries/${theirs}/retry`, undefined, other.keys.admin)).status).toBe(404);
  }
  expect((await other.post('/deliveries/retry', {}, other.keys.admin)).body).toEqual({ retried: 0 });
  expect((await workspace.get('/deliveries')).body.items).toHaveLength(1);
});

test('the secret of webhooks is another one after each rotation, and agents cannot have it', async () => {
  const rotate = (key: string) => workspace.post('/workspace/rotate-webhook-secret', undefined, key);
  const secrets = [await rotate(workspace.keys.admin), await rotate(workspace.keys.admin)].map(
    ({ body }) => body.webhookSecret,
  );
  for (const secret of secrets) expect(secret).toMatch(/^whsec_[\w+/]{43}=$/);
  expect(new Set(secrets).size).toBe(2);
  expect((await rotate(workspace.keys.agent)).status).toBe(403);
});
