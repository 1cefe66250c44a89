/** Many at once come out as one after the other in the same order would have, and nobody in a set harms another. */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { assignRouted } from '../../store/assignment.ts';
import { executeClose, executeCloses, requestClose } from '../../store/closing.ts';
import type { ConversationKey } from '../../store/locks.ts';
import { openForContact } from '../../store/opening.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { countDeadlocks } from '../support/deadlocks.ts';
import { connectAnother } from './second-pool.ts';
import { createStage, findImbalances, type Stage } from './stage.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

type Assign = (pool: pg.Pool, keys: readonly ConversationKey[]) => Promise<unknown>;

const asSet = {
  assign: (pool: pg.Pool, keys: readonly ConversationKey[]) => assignRouted(pool, keys),
  close: (pool: pg.Pool, keys: readonly ConversationKey[]) => executeCloses(pool, keys),
};
const oneByOne = {
  async assign(pool: pg.Pool, keys: readonly ConversationKey[]) {
    const assigned: boolean[] = [];
    for (const key of keys) assigned.push(await assignRouted(pool, key));
    return assigned;
  },
  async close(pool: pg.Pool, keys: readonly ConversationKey[]) {
    const closed = [];
    for (const key of keys) closed.push(await executeClose(pool, key));
    return closed;
  },
};

test.each(['round_robin', 'least_loaded', 'longest_idle', 'most_skilled', 'priority_list'] as const)(
  'a set leaves what one by one leaves: assigned, queued and offered, closed and drained (%s)',
  async (strategy) => {
    expect(await tellDay(strategy, asSet)).toEqual(await tellDay(strategy, oneByOne));
  },
);

/** The same day each time, told without ids and times: who got what and why, what happened to each, and who has how much. */
async function tellDay(strategy: Parameters<Stage['addTeam']>[0], by: typeof oneByOne): Promise<unknown> {
  const stage = await createStage(database.pool);
  const { pool, workspaceId } = stage;
  const heavy = await stage.addChannel(2);
  const teams = [
    await stage.addTeam(strategy, { affinity: { withinHours: 1, waitSeconds: 60 } }),
    await stage.addTeam(strategy),
    await stage.addTeam(strategy, { offer: { acceptSeconds: 60, maxMissed: 3 } }),
  ];
  const agents = [
    await stage.addAgent(3, teams.slice(0, 2), { skills: { german: 3 } }),
    await stage.addAgent(2, [teams[0]!], { channelLimits: { web: 1 } }),
    await stage.addAgent(2, teams.slice(1), { skills: { german: 1 } }),
    await stage.addAgent(4, [teams[2]!]),
  ];
  const names = new Map(agents.map((id, i) => [id, `agent ${i}`]));
  // Of earlier days: the contacts prefer whom they had.
  for (const contact of ['contact 0', 'contact 5']) await stage.close(await stage.open(contact, { teamId: teams[0]! }));

  const keys: ConversationKey[] = [];
  for (let i = 0; i < 16; i += 1) {
    keys.push(
      await route(stage, `contact ${i}`, {
        teamId: teams[i % 3]!,
        // Later ones with more priority: they must not come first, as they have come later.
        priority: i,
        channel: i % 4 === 3 ? heavy : 'web',
        skills: i % 5 === 0 ? [{ skill: 'german', level: 2, preferred: i % 2 === 0 }] : [],
      }),
    );
  }
  const answers: unknown[] = [await by.assign(pool, [...keys, keys[0]!])];
  answers.push(await tellState(stage, keys, names));
  const closing = keys.filter((_, i) => i % 3 !== 1);
  for (const { conversationId } of closing) await requestClose(pool, { workspaceId, conversationId, agentId: null });
  await stage.write('contact 2');
  answers.push(await by.close(pool, [...closing, closing[0]!]));
  answers.push(await tellState(stage, keys, names));
  expect(await findImbalances(pool, workspaceId)).toEqual([]);
  return answers;
}

async function route(
  stage: Stage,
  contact: string,
  to: { teamId: string; priority?: number; channel?: string; skills?: unknown[] },
): Promise<ConversationKey> {
  const { pool, workspaceId } = stage;
  const { contactId } = await stage.write(contact, { channel: to.channel ?? 'web' });
  const { phase } = await openForContact(pool, { workspaceId, contactId });
  if (phase.kind !== 'assigning') throw new Error(phase.kind);
  const { conversationId } = phase;
  await pool.query(
    'UPDATE conversations SET team_id = $3, priority = $4, requirements = $5 WHERE workspace_id = $1 AND id = $2',
    [workspaceId, conversationId, to.teamId, to.priority ?? 0, JSON.stringify({ skills: to.skills ?? [], rings: [] })],
  );
  return { workspaceId, contactId, conversationId };
}

async function tellState(stage: Stage, keys: readonly ConversationKey[], names: ReadonlyMap<string, string>) {
  const { pool, workspaceId } = stage;
  const nameOf = (id: string | null) => (id === null ? null : (names.get(id) ?? id));
  const conversations = [];
  for (const { conversationId } of keys) {
    const row = await stage.conversation(conversationId);
    const { rows: decisions } = await pool.query<{ detail: Record<string, unknown> }>(
      `SELECT detail FROM decisions WHERE workspace_id = $1 AND conversation_id = $2 AND kind = 'assignment' ORDER BY id`,
      [workspaceId, conversationId],
    );
    conversations.push({
      state: row.state,
      agent: nameOf(row.agentId),
      offered: nameOf(row.offeredAgentId),
      awaited: nameOf(row.awaitedAgentId),
      clock: row.dueKind,
      events: await stage.eventsOf(conversationId),
      decisions: decisions.map(({ detail }) => tellDecision(detail, nameOf)),
    });
  }
  const { rows: agents } = await pool.query<{ load: number; conversations: number | null }>(
    `SELECT load, (SELECT sum(value::int) FROM jsonb_each_text(channel_loads)) AS conversations FROM agents
     WHERE workspace_id = $1 ORDER BY id`,
    [workspaceId],
  );
  const { rows: teams } = await pool.query<{ last: string | null }>(
    'SELECT last_agent_id AS last FROM teams WHERE workspace_id = $1 ORDER BY id',
    [workspaceId],
  );
  return {
    conversations,
    agents,
    last: teams.map(({ last }) => nameOf(last)),
  };
}

/** What does not tell of ids, clocks, or the place in a set. */
function tellDecision(detail: Record<string, unknown>, nameOf: (id: string | null) => string | null) {
  const { chosen, candidates, offer, offered, awaitedAgentId, preferredAgentId, effectivePriority, agentId } = detail;
  const told = (candidates as { agentId: string; excluded?: string; load?: number }[] | undefined)?.map(
    ({ agentId: id, excluded, load }) => ({ agent: nameOf(id), excluded, load }),
  );
  return {
    chosen: nameOf((chosen ?? null) as string | null),
    of: nameOf((agentId ?? null) as string | null),
    awaited: nameOf((awaitedAgentId ?? null) as string | null),
    preferred: nameOf((preferredAgentId ?? null) as string | null),
    candidates: told,
    effectivePriority,
    offer,
    offered,
  };
}

test('a set of several workspaces, with some that are no longer there, answers each key in its place', async () => {
  const stages = [await createStage(database.pool), await createStage(database.pool)];
  for (const stage of stages) await stage.addAgent(5);
  const keys: ConversationKey[] = [];
  for (const contact of ['one', 'two']) {
    for (const stage of stages) keys.push(await route(stage, contact, { teamId: stage.defaultTeamId }));
  }
  const unknown = { ...keys[0]!, conversationId: newId() };
  expect(await assignRouted(database.pool, [keys[0]!, unknown, ...keys.slice(1), keys[1]!])).toEqual([
    true,
    false,
    true,
    true,
    true,
    false,
  ]);
  const [first, second, ...others] = keys as [ConversationKey, ConversationKey, ...ConversationKey[]];
  // Another contact's conversation is left alone, whatever else the set names.
  const crossed = { ...first, conversationId: others[0]!.conversationId };
  expect(await executeCloses(database.pool, [crossed, second, unknown])).toEqual([
    { phase: { kind: 'open', conversationId: first.conversationId }, closed: false },
    { phase: { kind: 'idle' }, closed: true },
    { phase: { kind: 'open', conversationId: first.conversationId }, closed: false },
  ]);
  expect(await stages[0]!.conversation(others[0]!.conversationId)).toMatchObject({ state: 'assigned' });
  for (const { workspaceId } of stages) expect(await findImbalances(database.pool, workspaceId)).toEqual([]);
});

test('a set with one that fails changes nothing; each again alone, only that one fails', async () => {
  const stage = await createStage(database.pool);
  const { pool, workspaceId } = stage;
  const agentId = await stage.addAgent(5);
  const keys = [];
  for (const contact of ['one', 'two', 'three'])
    keys.push(await route(stage, contact, { teamId: stage.defaultTeamId }));
  // A record that cannot be written stands for whatever may go wrong with one of them.
  const [, poisoned] = keys as [ConversationKey, ConversationKey];
  await pool.query(
    `ALTER TABLE decisions ADD CONSTRAINT poison CHECK (conversation_id <> '${poisoned.conversationId}') NOT VALID`,
  );
  try {
    await expect(assignRouted(pool, keys)).rejects.toThrow('poison');
    expect(await stage.loadOf(agentId)).toBe(0);
    const alone = await Promise.allSettled(keys.map((key) => assignRouted(pool, key)));
    expect(alone.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(await stage.loadOf(agentId)).toBe(2);
  } finally {
    await pool.query('ALTER TABLE decisions DROP CONSTRAINT poison');
  }
  expect(await assignRouted(pool, keys)).toEqual([false, true, false]);
  expect(await findImbalances(pool, workspaceId)).toEqual([]);
});

test('sets of teams that share their agents, assigned and closed at once from three processes, meet no deadlock', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  const teams = [stage.defaultTeamId, await stage.addTeam('least_loaded'), await stage.addTeam('longest_idle')];
  for (let i = 0; i < 6; i += 1) await stage.addAgent(3, [teams[i % 3]!, teams[(i + 1) % 3]!]);
  const pools = [connectAnother(database), connectAnother(database), connectAnother(database)];
  for (let round = 0; round < 5; round += 1) {
    const sets: ConversationKey[][] = [[], [], []];
    for (let i = 0; i < 24; i += 1) {
      sets[i % 3]!.push(await route(stage, `${round}/${i}`, { teamId: teams[Math.floor(i / 3) % 3]! }));
    }
    const assigned = await Promise.all(sets.map((keys, i) => assignRouted(pools[i]!, keys)));
    expect(assigned.flat()).toEqual(Array.from({ length: 24 }, () => true));
    expect(await findImbalances(database.pool, workspaceId)).toEqual([]);
    // Closed in other sets than they came, and by two at once.
    const shuffled = sets.map((_, i) => sets.flat().filter((_key, place) => place % 3 === i));
    const closes: Assign[] = [executeCloses, executeCloses];
    for (const { conversationId } of sets.flat()) {
      await requestClose(database.pool, { workspaceId, conversationId, agentId: null });
    }
    await Promise.all(shuffled.flatMap((keys, i) => closes.map((close, j) => close(pools[(i + j) % 3]!, keys))));
    expect(await findImbalances(database.pool, workspaceId)).toEqual([]);
  }
  await Promise.all(pools.map((pool) => pool.end()));
  expect(await countDeadlocks(database.pool)).toBe(0);
});
