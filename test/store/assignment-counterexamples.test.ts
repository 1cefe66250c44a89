/** What the property tests of the store, or reading it, found wrong once: each as the shortest story that shows it. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { setPresence, updateAgent } from '../../store/agents.ts';
import { assignManually } from '../../store/assignment.ts';
import { openByUser } from '../../store/opening.ts';
import { relaxDue } from '../../store/ring-clocks.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { countDeadlocks } from '../support/deadlocks.ts';
import { findViolations } from '../support/history-checker.ts';
import { connectAnother } from './second-pool.ts';
import { createStage } from './stage.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

const offer = { acceptSeconds: 60, maxMissed: 3 };

test('an offer that a person overrides is told to have ended, before another agent gets the conversation', async () => {
  const stage = await createStage(database.pool);
  const teamId = await stage.addTeam('round_robin', { offer });
  const asked = await stage.addAgent(1, [teamId]);
  const other = await stage.addAgent(1, [teamId]);
  const { conversationId } = await stage.open('contact', { teamId });
  const { workspaceId } = stage;
  const offered = (await stage.conversation(conversationId)).offeredAgentId;
  const to = { kind: 'agent', agentId: offered === asked ? other : asked, force: false } as const;
  expect(await assignManually(database.pool, { workspaceId, conversationId, to, byAgentId: null })).toEqual({
    kind: 'done',
  });
  expect((await stage.eventsOf(conversationId)).slice(-3)).toEqual([
    'conversation.offered',
    'conversation.offer_ended',
    'conversation.assigned',
  ]);
});

test('what is offered to an agent can be given to it by hand although its capacity was lowered meanwhile', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  const teamId = await stage.addTeam('round_robin', { offer });
  const agentId = await stage.addAgent(1, [teamId]);
  const { conversationId } = await stage.open('contact', { teamId });
  await updateAgent(database.pool, { workspaceId, agentId, capacity: 0 });
  const to = { kind: 'agent', agentId, force: false } as const;
  expect(await assignManually(database.pool, { workspaceId, conversationId, to, byAgentId: null })).toEqual({
    kind: 'done',
  });
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId });
  expect(await stage.loadOf(agentId)).toBe(1);
});

test('when an agent leaves, those who may go to another now are served in their order, however many there are of each kind', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  const teamId = await stage.addTeam();
  const first = await stage.addAgent(3, [teamId]);
  const urgent = [];
  for (const contact of ['a', 'b']) urgent.push(await stage.open(contact, { teamId, priority: 50 }));
  const plain = await stage.open('c', { teamId, priority: 40 });
  // All three come back from the one agent who had them, and pass that agent over while there is another, who has no room.
  const leaving = await stage.addAgent(1, [teamId]);
  await stage.open('d', { teamId });
  for (const { conversationId } of [...urgent, plain]) {
    await assignManually(database.pool, { workspaceId, conversationId, to: { kind: 'team', teamId }, byAgentId: null });
  }
  expect(await stage.loadOf(first)).toBe(0);
  await updateAgent(database.pool, { workspaceId, agentId: first, capacity: 2 });
  await setPresence(database.pool, { workspaceId, agentId: leaving, status: 'offline' });
  const states = await Promise.all(
    [...urgent, plain].map(async (ref) => (await stage.conversation(ref.conversationId)).state),
  );
  expect(states).toEqual(['assigned', 'assigned', 'waiting']);
});

test('two teams that share their agents let rings pass at once, in opposite turns: neither waits for the other', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  const teams = [await stage.addTeam('round_robin'), await stage.addTeam('round_robin')];
  const agentIds = await Promise.all([1, 2].map(() => stage.addAgent(1_000, teams)));
  const pools = teams.map(() => connectAnother(database));
  try {
    for (let round = 0; round < 20; round += 1) {
      await Promise.all(
        teams.map(async (teamId, i) => {
          const skills = [{ skill: 'german', level: 5, preferred: false }];
          const rings = [{ kind: 'relax', afterSeconds: 1, levels: [{ skill: 'german', level: 0 }] }] as const;
          const waiting: string[] = [];
          for (let n = 0; n < 2; n += 1) {
            waiting.push((await stage.open(`${teamId} ${round} ${n}`, { teamId, skills, rings })).conversationId);
          }
          await database.pool.query(
            `UPDATE conversations SET queued_at = queued_at - interval '1 s', due_at = due_at - interval '1 s'
             WHERE id = ANY($1::uuid[])`,
            [waiting],
          );
          await database.pool.query('UPDATE teams SET last_agent_id = $2 WHERE id = $1', [teamId, agentIds[i]]);
          return waiting;
        }),
      ).then((waiting) =>
        Promise.all(waiting.map((ids, i) => relaxDue(pools[i]!, { workspaceId, teamId: teams[i]! }, ids))),
      );
    }
  } finally {
    await Promise.all(pools.map((pool) => pool.end()));
  }
  expect(
    await stage.pool.query(`SELECT FROM conversations WHERE workspace_id = $1 AND state = 'waiting'`, [workspaceId]),
  ).toMatchObject({ rowCount: 0 });
  expect(await countDeadlocks(database.pool)).toBe(0);
});

test('a conversation that had to wait for the close of the one before does not count as opened before that', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  const before = await stage.open('contact');
  const pool = connectAnother(database);
  try {
    const client = await pool.connect();
    const query = client.query.bind(client) as (config: { name?: string }) => Promise<unknown>;
    const { promise: begun, resolve: begin } = withResolvers();
    const { promise: closed, resolve: close } = withResolvers();
    // Its transaction has begun; the close gets the contact's lock first.
    const held = Object.assign(client, {
      query: async (config: { name?: string }) => {
        if (config.name === 'lock-contact') {
          begin();
          await closed;
        }
        return query(config);
      },
    });
    const opening = openByUser(Object.assign(pool, { connect: () => Promise.resolve(held) }), {
      workspaceId,
      contactId: before.contactId,
      source: 'user',
      to: { kind: 'queue' },
      byAgentId: null,
    });
    await begun;
    await stage.close(before);
    close();
    expect(await opening).toMatchObject({ kind: 'opened' });
  } finally {
    await pool.end();
  }
  const found = await findViolations(database.pool, { workspaceId });
  expect(found).toEqual([]);
});

function withResolvers() {
  let resolve!: () => void;
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}

test('many teams that share their agents, in one burst: everybody gets an agent, and nobody fails for having met others', async () => {
  const pool = connectAnother(database);
  const stage = await createStage(pool);
  const { workspaceId } = stage;
  const teamIds: string[] = [];
  for (let n = 0; n < 20; n += 1) teamIds.push(await stage.addTeam('longest_idle'));
  for (let n = 0; n < 60; n += 1) await stage.addAgent(1, teamIds);
  const opened = await Promise.all(
    Array.from({ length: 60 }, (_, n) => stage.open(`contact ${n}`, { teamId: teamIds[n % teamIds.length]! })),
  );
  const agents = new Set<string | null>();
  for (const { conversationId } of opened) agents.add((await stage.conversation(conversationId)).agentId);
  expect(agents.size).toBe(60);
  expect(agents).not.toContain(null);
  await pool.end();
  expect(await findViolations(database.pool, { workspaceId })).toEqual([]);
  expect(await countDeadlocks(database.pool)).toBe(0);
});
