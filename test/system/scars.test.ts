/** What users of other systems suffer from when conversations are assigned, each by HTTP on two API and two worker processes. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorkspace } from '../../store/workspaces.ts';
import { createApiClient, type ApiClient } from '../support/api-client.ts';
import { eventually } from '../support/eventually.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { fillWorkspace } from '../support/workspace.ts';

let system: TestSystem;

beforeAll(async () => {
  system = await startSystem({ apis: 2, workers: 2 });
});
afterAll(() => system?.stop());

interface Conversation {
  readonly id: string;
  readonly state: string;
  readonly agentId: string | null;
  readonly waitingSince: string | null;
  readonly quietSince: string | null;
}

/** A workspace of its own in the running system, with a team of agents who are online. */
async function enter(contents: { agents: number; capacity: number; team?: object }) {
  const { pool } = system.database;
  const { workspaceId, keys } = await createWorkspace(pool, { name: 'Scene' });
  const apis = system.apis.map(({ url }) => createApiClient(url, keys));
  const { teamId, agentIds } = await fillWorkspace({ apis }, contents);
  const [api, other] = apis as [ApiClient, ApiClient];
  const insist = async (method: string, path: string, body: object): Promise<void> => {
    const answer = await api.call(method, path, body);
    if (answer.status !== 200) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  };
  if (contents.team !== undefined) await insist('PATCH', `/v1/teams/${teamId}`, contents.team);
  const get = (id: string): Promise<Conversation> => api.get(`/v1/conversations/${id}`);

  async function eventsOf(types: readonly string[]) {
    const { rows } = await pool.query<{ type: string; conversationId: string; at: Date; agentId: string | null }>(
      `SELECT type, conversation_id AS "conversationId", at, data ->> 'agentId' AS "agentId" FROM events
       WHERE workspace_id = $1 AND type = ANY($2::text[]) ORDER BY id`,
      [workspaceId, types],
    );
    return rows;
  }

  /** A contact's first message, and its conversation once that is assigned or waits. */
  async function open(contact: string): Promise<Conversation> {
    const { body } = await api.send(contact, 'Hello');
    return eventually(`the conversation of ${contact}`, async () => {
      const { items } = await api.get(`/v1/conversations?contactId=${body.contactId}`);
      return (items as Conversation[]).find(({ state }) => state === 'assigned' || state === 'waiting');
    });
  }

  return {
    pool,
    workspaceId,
    apis,
    api,
    other,
    teamId,
    agentIds,
    get,
    open,
    eventsOf,
    list: async (filter: string): Promise<Conversation[]> =>
      (await api.get(`/v1/conversations?limit=100&${filter}`)).items,
    close: (id: string) => api.post(`/v1/conversations/${id}/close`, {}),
    assign: (id: string, to: object) => insist('POST', `/v1/conversations/${id}/assign`, to),
    setPresence: (agentId: string, status: string) => insist('PUT', `/v1/agents/${agentId}/presence`, { status }),
    settled: () => waitUntilSettled({ pool, workspaceId }),
    assertSound: () => assertSoundHistory(pool, { workspaceId }),
  };
}

test('over the cap: a burst through two API processes and two workers, with agents coming and going, gives nobody more than the capacity', async () => {
  const scene = await enter({ agents: 3, capacity: 2 });
  const { apis, agentIds } = scene;
  const writing = Array.from({ length: 30 }, (_, i) => apis[i % 2]!.send(`contact-${i}`, 'Hello'));
  for (const agentId of agentIds) {
    await scene.setPresence(agentId, 'away');
    await scene.setPresence(agentId, 'online');
  }
  await Promise.all(writing);
  await scene.settled();
  expect(await scene.list('state=assigned')).toHaveLength(6);
  expect(await scene.list('state=waiting')).toHaveLength(24);
  for (let round = 0; round < 2; round += 1) {
    await Promise.all((await scene.list('state=assigned')).map(({ id }) => scene.close(id)));
    await scene.settled();
    expect(await scene.list('state=assigned')).toHaveLength(6);
  }
  await scene.assertSound();
});

test('flipping assignees: however many messages come at once, a conversation keeps the agent it got', async () => {
  const scene = await enter({ agents: 4, capacity: 10 });
  const contacts = Array.from({ length: 6 }, (_, i) => `contact-${i}`);
  const burst = contacts.flatMap((contact) =>
    Array.from({ length: 15 }, (_, i) => scene.apis[i % 2]!.send(contact, `${i}`)),
  );
  await Promise.all(burst);
  await scene.settled();
  const assigned = await scene.eventsOf(['conversation.assigned', 'conversation.unassigned']);
  expect(assigned).toHaveLength(contacts.length);
  expect(new Set(assigned.map(({ conversationId }) => conversationId)).size).toBe(contacts.length);
  await scene.assertSound();
});

test('two conversations at once: a new contact who writes twice at the same moment gets one, and one agent, ten times of ten', async () => {
  const scene = await enter({ agents: 2, capacity: 20 });
  const contactIds = new Set<string>();
  for (let i = 0; i < 10; i += 1) {
    const answers = await Promise.all(scene.apis.map((api) => api.send(`twice-${i}`, 'Hello')));
    for (const { body } of answers) contactIds.add(body.contactId);
  }
  await scene.settled();
  expect(contactIds.size).toBe(10);
  expect(await scene.list('state=assigned')).toHaveLength(10);
  expect(await scene.eventsOf(['conversation.assigned'])).toHaveLength(10);
});

test('work for who is gone: agents who are offline or away get nothing, and the backlog drains as they come back, oldest first', async () => {
  const scene = await enter({ agents: 2, capacity: 2 });
  const [first, second] = scene.agentIds as [string, string];
  await scene.setPresence(first, 'offline');
  await scene.setPresence(second, 'away');
  const waiting: string[] = [];
  for (let i = 0; i < 6; i += 1) waiting.push((await scene.open(`contact-${i}`)).id);
  expect(await scene.eventsOf(['conversation.assigned'])).toEqual([]);

  await scene.setPresence(first, 'online');
  // Its answer comes when the backlog has been drained: there is nothing to wait for.
  expect((await scene.eventsOf(['conversation.assigned'])).map((event) => event.conversationId)).toEqual(
    waiting.slice(0, 2),
  );
  await scene.setPresence(second, 'online');
  const drained = await scene.eventsOf(['conversation.assigned']);
  expect(drained.map((event) => event.conversationId)).toEqual(waiting.slice(0, 4));
  expect(drained.map((event) => event.agentId)).toEqual([first, first, second, second]);
  await scene.assertSound();
});

test('left behind: when an agent goes offline, its conversations move to others at once, or stay, as the team says', async () => {
  const scene = await enter({ agents: 2, capacity: 3, team: { offline: { then: 'return', graceSeconds: 0 } } });
  const [gone, there] = scene.agentIds as [string, string];
  await scene.setPresence(there, 'offline');
  const { id, agentId } = await scene.open('contact');
  expect(agentId).toBe(gone);
  await scene.setPresence(there, 'online');
  await scene.setPresence(gone, 'offline');
  await eventually('the other agent has it', async () => (await scene.get(id)).agentId === there);

  await scene.api.call('PATCH', `/v1/teams/${scene.teamId}`, { offline: { then: 'keep' } });
  await scene.setPresence(gone, 'online');
  await scene.setPresence(there, 'offline');
  const { rows: planned } = await scene.pool.query('SELECT return_at, due_at FROM conversations WHERE id = $1', [id]);
  expect(planned).toEqual([{ return_at: null, due_at: null }]);
  expect((await scene.get(id)).agentId).toBe(there);
  await scene.assertSound();
});

test('waiting for a timer: what waits is assigned in the moment room appears, and a new conversation within a second of its opening', async () => {
  const scene = await enter({ agents: 1, capacity: 1 });
  const ended = await scene.open('first');
  const next = await scene.open('second');
  expect([ended.state, next.state]).toEqual(['assigned', 'waiting']);
  await scene.close(ended.id);
  await eventually('the next one', async () => (await scene.get(next.id)).state === 'assigned');
  const events = await scene.eventsOf(['conversation.closed', 'conversation.assigned']);
  const [closed] = events.filter(({ type }) => type === 'conversation.closed');
  const [assigned] = events.filter(
    ({ type, conversationId }) => type === 'conversation.assigned' && conversationId === next.id,
  );
  expect(assigned!.at.getTime() - closed!.at.getTime()).toBeLessThan(1_000);
  await scene.close(next.id);
  await scene.settled();

  const waits: number[] = [];
  for (let i = 0; i < 5; i += 1) {
    const { id } = await scene.open(`contact-${i}`);
    const { openedAt, assignedAt } = await scene.api.get(`/v1/conversations/${id}`);
    waits.push(Date.parse(assignedAt) - Date.parse(openedAt));
    await scene.close(id);
    await scene.settled();
  }
  // The middle one: tests that run beside this one may hold a single one up.
  expect(waits.toSorted((a, b) => a - b)[2]).toBeLessThan(1_000);
});

test('handed out though closed: a conversation closed while it waited is not assigned any more', async () => {
  const scene = await enter({ agents: 1, capacity: 5 });
  const [agentId] = scene.agentIds as [string];
  await scene.setPresence(agentId, 'offline');
  const closed = await scene.open('closed early');
  const kept = await scene.open('kept');
  // The agent comes in the very moment of the close, through the other process.
  await Promise.all([
    scene.close(closed.id),
    scene.other.call('PUT', `/v1/agents/${agentId}/presence`, { status: 'online' }),
  ]);
  await scene.settled();
  const afterwards = await scene.open('later');
  await scene.close(afterwards.id);
  await scene.settled();
  expect(await scene.get(closed.id)).toMatchObject({ state: 'closed' });
  expect(await scene.get(kept.id)).toMatchObject({ state: 'assigned', agentId });
  // Where it was assigned first and closed then, its history says so; after the request nothing ever happens.
  await scene.assertSound();

  await scene.setPresence(agentId, 'offline');
  const early = await scene.open('closed before anybody came');
  await scene.close(early.id);
  await scene.setPresence(agentId, 'online');
  await scene.settled();
  const told = await scene.eventsOf(['conversation.assigned']);
  expect(told.filter(({ conversationId }) => conversationId === early.id)).toEqual([]);
});

test('one too many by sleeping: a quiet conversation that wakes does not put its agent over the capacity, and gets its turn by its age', async () => {
  const scene = await enter({ agents: 1, capacity: 1, team: { quietMinutes: 1 } });
  const { pool, workspaceId } = scene;
  const [agentId] = scene.agentIds as [string];
  const sleeper = await scene.open('sleeper');
  // A minute without a word.
  await pool.query(`UPDATE messages SET received_at = received_at - interval '2 min' WHERE conversation_id = $1`, [
    sleeper.id,
  ]);
  await pool.query(
    `UPDATE conversations SET assigned_at = assigned_at - interval '2 min', due_at = due_at - interval '2 min' WHERE id = $1`,
    [sleeper.id],
  );
  await eventually('it is quiet', async () => (await scene.get(sleeper.id)).quietSince !== null);
  const busy = await scene.open('busy');
  expect(busy).toMatchObject({ state: 'assigned', agentId });
  const younger = await scene.open('younger');

  await scene.other.send('sleeper', 'Are you there?');
  await eventually('it waits', async () => (await scene.get(sleeper.id)).state === 'waiting');
  const { rows } = await pool.query('SELECT load FROM agents WHERE workspace_id = $1', [workspaceId]);
  expect(rows).toEqual([{ load: 1 }]);
  await scene.close(busy.id);
  await eventually('it is its turn', async () => (await scene.get(sleeper.id)).agentId === agentId);
  expect(await scene.get(younger.id)).toMatchObject({ state: 'waiting' });
  await scene.assertSound();
});

test('the wait lost: put back or transferred, a conversation waits on from its first moment and is served before younger ones', async () => {
  const scene = await enter({ agents: 1, capacity: 1 });
  const [agentId] = scene.agentIds as [string];
  await scene.setPresence(agentId, 'away');
  const old = await scene.open('old');
  const young = await scene.open('young');
  expect(old.waitingSince).not.toBeNull();
  await scene.setPresence(agentId, 'online');
  expect(await scene.get(old.id)).toMatchObject({ state: 'assigned', agentId });
  await scene.setPresence(agentId, 'away');
  for (const to of [{}, { teamId: scene.teamId }]) {
    await scene.assign(old.id, to);
    expect(await scene.get(old.id)).toMatchObject({ state: 'waiting', waitingSince: old.waitingSince });
  }
  await scene.setPresence(agentId, 'online');
  expect(await scene.get(old.id)).toMatchObject({ state: 'assigned', agentId });
  expect(await scene.get(young.id)).toMatchObject({ state: 'waiting' });
  await scene.assertSound();
});
