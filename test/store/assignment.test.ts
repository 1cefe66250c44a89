import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { setPresence, updateAgent } from '../../store/agents.ts';
import { assignManually, assignRouted, type AssignTarget } from '../../store/assignment.ts';
import { openForContact } from '../../store/opening.ts';
import { fallBack } from '../../store/fallback.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { connectAnother } from './second-pool.ts';
import { createStage, findImbalances, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

/** A workspace of its own, where a test needs to know everyone who waits. */
const begin = async (): Promise<string> => {
  stage = await createStage(database.pool);
  return stage.workspaceId;
};

const assign = (conversationId: string, to: AssignTarget, pool = database.pool) =>
  assignManually(pool, { workspaceId: stage.workspaceId, conversationId, to, note: 'by hand', byAgentId: null });

test('a person moves a waiting conversation to an agent, to another team, and back to the queue', async () => {
  const workspaceId = await begin();
  const teamId = await stage.addTeam();
  const { conversationId } = await stage.open(newId());
  const { waitingSince } = await stage.conversation(conversationId);
  const agentId = await stage.addAgent(1, []);
  expect(await assign(conversationId, { kind: 'agent', agentId, force: false })).toEqual({ kind: 'done' });
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId, forced: false });
  expect(await stage.loadOf(agentId)).toBe(1);
  expect(await assign(conversationId, { kind: 'team', teamId })).toEqual({ kind: 'done' });
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'waiting', teamId, agentId: null });
  expect(await stage.loadOf(agentId)).toBe(0);
  expect(await assign(conversationId, { kind: 'queue' })).toEqual({ kind: 'done' });
  // Back in the queue of its own team, and still at the place it had from the start.
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'waiting', teamId, waitingSince });
  expect(await stage.eventsOf(conversationId)).toContain('conversation.unassigned');
  expect(await findImbalances(database.pool, workspaceId)).toEqual([]);
});

test('giving it to the agent who has it changes nothing', async () => {
  await begin();
  const agentId = await stage.addAgent(1);
  const { conversationId } = await stage.open(newId());
  const before = await stage.eventsOf(conversationId);
  expect(await assign(conversationId, { kind: 'agent', agentId, force: false })).toEqual({ kind: 'done' });
  expect(await stage.loadOf(agentId)).toBe(1);
  expect(await stage.eventsOf(conversationId)).toEqual(before);
});

test('an agent without room is refused; force goes over it and is recorded', async () => {
  await begin();
  const agentId = await stage.addAgent(1);
  await stage.open(newId());
  const { conversationId } = await stage.open(newId());
  expect(await assign(conversationId, { kind: 'agent', agentId, force: false })).toEqual({ kind: 'no_room' });
  expect(await assign(conversationId, { kind: 'agent', agentId, force: true })).toEqual({ kind: 'done' });
  expect(await stage.conversation(conversationId)).toMatchObject({ agentId, forced: true });
  expect(await stage.loadOf(agentId)).toBe(2);
});

test('taking a conversation from an agent lets the next who waits have the room', async () => {
  const workspaceId = await begin();
  const agentId = await stage.addAgent(1);
  const taken = await stage.open(newId());
  const next = await stage.open(newId());
  const teamId = await stage.addTeam();
  await assign(taken.conversationId, { kind: 'team', teamId });
  expect(await stage.conversation(next.conversationId)).toMatchObject({ state: 'assigned', agentId });
  expect(await findImbalances(database.pool, workspaceId)).toEqual([]);
});

test('what does not exist here is named, and nothing changes', async () => {
  await begin();
  const { conversationId } = await stage.open(newId());
  const other = await createStage(database.pool);
  const foreignAgent = await other.addAgent(1);
  expect(await assign(conversationId, { kind: 'agent', agentId: foreignAgent, force: true })).toEqual({
    kind: 'unknown_agent',
  });
  expect(await assign(conversationId, { kind: 'team', teamId: other.defaultTeamId })).toEqual({ kind: 'unknown_team' });
  const theirs = await other.open(newId());
  expect(await assign(theirs.conversationId, { kind: 'queue' })).toEqual({ kind: 'not_found' });
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'waiting' });
});

test('a person who acts before the flow has ended wins: the flow’s steps change nothing any more', async () => {
  const workspaceId = await begin();
  const agentId = await stage.addAgent(1, []);
  const { contactId } = await stage.write(newId());
  const { phase } = await openForContact(database.pool, { workspaceId, contactId });
  if (phase.kind !== 'assigning') throw new Error(phase.kind);
  const key = { workspaceId, contactId, conversationId: phase.conversationId };
  await assign(key.conversationId, { kind: 'agent', agentId, force: false });
  expect(await assignRouted(database.pool, key)).toBe(false);
  expect(await fallBack(database.pool, key, 'too late')).toBe(false);
  expect(await stage.conversation(key.conversationId)).toMatchObject({
    state: 'assigned',
    agentId,
    fallbackReason: null,
  });
});

test('the flow’s last step, run many times at once, assigns once', async () => {
  const workspaceId = await begin();
  const agentId = await stage.addAgent(5);
  const { contactId } = await stage.write(newId());
  const { phase } = await openForContact(database.pool, { workspaceId, contactId });
  if (phase.kind !== 'assigning') throw new Error(phase.kind);
  const key = { workspaceId, contactId, conversationId: phase.conversationId };
  const done = await Promise.all(Array.from({ length: 8 }, () => assignRouted(database.pool, key)));
  expect(done.filter(Boolean)).toHaveLength(1);
  expect(await stage.loadOf(agentId)).toBe(1);
});

test('two teams that share agents, assigning at once from two processes, never exceed a capacity', async () => {
  const workspaceId = await begin();
  const other = connectAnother(database);
  const teams = [await stage.addTeam('least_loaded'), await stage.addTeam('round_robin')];
  const agents = [await stage.addAgent(2, teams), await stage.addAgent(3, teams), await stage.addAgent(1, [teams[0]!])];
  const opened = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const { contactId } = await stage.write(newId());
      const { phase } = await openForContact(database.pool, { workspaceId, contactId });
      if (phase.kind !== 'assigning') throw new Error(phase.kind);
      return { workspaceId, contactId, conversationId: phase.conversationId };
    }),
  );
  await Promise.all(
    opened.map((key, i) =>
      assign(key.conversationId, { kind: 'team', teamId: teams[i % 2]! }, i % 3 === 0 ? other : database.pool),
    ),
  );
  await other.end();
  expect(await Promise.all(agents.map(stage.loadOf))).toEqual([2, 3, 1]);
  const states = await Promise.all(opened.map(async (key) => (await stage.conversation(key.conversationId)).state));
  expect(states.filter((state) => state === 'assigned')).toHaveLength(6);
  expect(states.filter((state) => state === 'waiting')).toHaveLength(14);
  expect(await findImbalances(database.pool, workspaceId)).toEqual([]);
});

test('coming online takes the oldest first, up to the capacity; going away keeps what one has and takes no more', async () => {
  const workspaceId = await begin();
  const waiting = [await stage.open(newId()), await stage.open(newId()), await stage.open(newId())];
  const agentId = await stage.addAgent(2, [stage.defaultTeamId], { online: false });
  expect(await stage.loadOf(agentId)).toBe(0);
  await setPresence(database.pool, { workspaceId, agentId, status: 'online' });
  const states = async () =>
    Promise.all(waiting.map(async ({ conversationId }) => (await stage.conversation(conversationId)).state));
  expect(await states()).toEqual(['assigned', 'assigned', 'waiting']);
  await setPresence(database.pool, { workspaceId, agentId, status: 'away' });
  expect(await states()).toEqual(['assigned', 'assigned', 'waiting']);
  await stage.close(waiting[0]!);
  expect(await states()).toEqual(['closed', 'assigned', 'waiting']);
  await setPresence(database.pool, { workspaceId, agentId, status: 'online' });
  expect(await states()).toEqual(['closed', 'assigned', 'assigned']);
});

test('more capacity and another team are room for those who wait, in the same transaction', async () => {
  const workspaceId = await begin();
  const teamId = await stage.addTeam();
  const agentId = await stage.addAgent(1);
  const own = [await stage.open(newId()), await stage.open(newId())];
  const foreign = await stage.open(newId());
  await assign(foreign.conversationId, { kind: 'team', teamId });
  await updateAgent(database.pool, { workspaceId, agentId, capacity: 2 });
  expect(await stage.conversation(own[1]!.conversationId)).toMatchObject({ agentId });
  await updateAgent(database.pool, { workspaceId, agentId, capacity: 3 });
  expect(await stage.conversation(foreign.conversationId)).toMatchObject({ state: 'waiting' });
  await updateAgent(database.pool, { workspaceId, agentId, teamIds: [stage.defaultTeamId, teamId] });
  expect(await stage.conversation(foreign.conversationId)).toMatchObject({ state: 'assigned', agentId });
});

test('a lowered capacity takes nothing away and hands nothing out until there is room again', async () => {
  const workspaceId = await begin();
  const agentId = await stage.addAgent(2);
  const [first, second] = [await stage.open(newId()), await stage.open(newId())];
  const waiting = await stage.open(newId());
  await updateAgent(database.pool, { workspaceId, agentId, capacity: 1 });
  expect(await stage.loadOf(agentId)).toBe(2);
  await stage.close(first);
  expect(await stage.conversation(waiting.conversationId)).toMatchObject({ state: 'waiting' });
  await stage.close(second);
  expect(await stage.conversation(waiting.conversationId)).toMatchObject({ state: 'assigned', agentId });
});

test('round robin takes turns; least loaded takes the freest', async () => {
  await begin();
  const robin = await stage.addTeam('round_robin');
  const robins = [await stage.addAgent(9, [robin]), await stage.addAgent(9, [robin])];
  const least = await stage.addTeam('least_loaded');
  const [free, busy] = [await stage.addAgent(10, [least]), await stage.addAgent(10, [least])];
  for (let i = 0; i < 4; i += 1)
    await assign((await stage.open(newId())).conversationId, { kind: 'team', teamId: robin });
  expect(await Promise.all(robins.map(stage.loadOf))).toEqual([2, 2]);
  for (let i = 0; i < 3; i += 1) {
    await assign((await stage.open(newId())).conversationId, { kind: 'agent', agentId: busy, force: false });
  }
  await assign((await stage.open(newId())).conversationId, { kind: 'team', teamId: least });
  expect(await stage.loadOf(free)).toBe(1);
});
