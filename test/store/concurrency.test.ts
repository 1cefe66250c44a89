/** Everybody does everything at once, from two processes; afterwards the invariants hold, and nobody ever met a deadlock. */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { setPresence, updateAgent } from '../../store/agents.ts';
import { assignManually, assignRouted, type AssignTarget } from '../../store/assignment.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { ingestMessages } from '../../store/ingest.ts';
import { openByUser, openForContact } from '../../store/opening.ts';
import { addReply } from '../../store/replies.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { countDeadlocks } from '../support/deadlocks.ts';
import { connectAnother } from './second-pool.ts';
import { createStage, findImbalances, type Stage } from './stage.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database?.drop());

for (const { force, seed } of [
  { force: false, seed: Math.floor(Math.random() * 1e9) },
  { force: true, seed: Math.floor(Math.random() * 1e9) },
]) {
  test(`twelve at once, ${force ? 'with' : 'without'} force (seed ${seed}): the invariants hold afterwards`, async () => {
    const stage = await createStage(database.pool);
    const { workspaceId } = stage;
    const teams = [stage.defaultTeamId, await stage.addTeam(), await stage.addTeam('least_loaded')];
    const agents = await Promise.all(
      [teams, teams.slice(0, 2), teams.slice(1), [teams[2]!]].map((teamIds, i) => stage.addAgent(1 + (i % 3), teamIds)),
    );
    const contacts = Array.from({ length: 15 }, () => newId());
    const pools = [connectAnother(database), connectAnother(database)];
    await Promise.all(
      Array.from({ length: 12 }, async (_, i) => {
        const random = createRandom(seed + i);
        const person = createPerson({
          stage,
          pool: pools[i % 2]!,
          teams,
          agents,
          contacts,
          random,
          force,
        });
        for (let step = 0; step < 25; step += 1) await person();
      }),
    );
    await Promise.all(pools.map((pool) => pool.end()));
    // What the actors would still do: open what is pending, assign what is routed, carry closes out.
    for (const contact of contacts) await settle(database.pool, workspaceId, (await stage.write(contact)).contactId);

    expect(await findImbalances(database.pool, workspaceId)).toEqual([]);
    expect(await findBrokenCycles(database.pool, workspaceId)).toEqual([]);
    if (!force) expect(await findOverloaded(database.pool, workspaceId)).toEqual([]);
    expect(await countDeadlocks(database.pool)).toBe(0);
  });
}

test('two teams that decide at once about the last room of an agent they share: one of them gets it, thirty times of thirty', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  const teamIds = [await stage.addTeam(), await stage.addTeam()];
  const agentId = await stage.addAgent(1, teamIds);
  const pools = teamIds.map(() => connectAnother(database));
  const states: string[][] = [];
  for (let round = 0; round < 30; round += 1) {
    const refs = await Promise.all(
      teamIds.map(async (teamId, i) => {
        const { contactId } = await stage.write(`${round}/${i}`);
        const { phase } = await openForContact(pools[i]!, { workspaceId, contactId });
        if (phase.kind !== 'assigning') throw new Error(phase.kind);
        const { conversationId } = phase;
        await database.pool.query('UPDATE conversations SET team_id = $2 WHERE id = $1', [conversationId, teamId]);
        return { workspaceId, contactId, conversationId };
      }),
    );
    await Promise.all(refs.map((ref, i) => assignRouted(pools[i]!, ref)));
    const found = await Promise.all(refs.map(({ conversationId }) => stage.conversation(conversationId)));
    states.push(found.map(({ state }) => state).toSorted());
    expect(await stage.loadOf(agentId)).toBe(1);
    for (const ref of refs) await stage.close(ref);
  }
  await Promise.all(pools.map((pool) => pool.end()));
  expect(states).toEqual(Array.from({ length: 30 }, () => ['assigned', 'waiting']));
  expect(await countDeadlocks(database.pool)).toBe(0);
});

interface PersonOptions {
  readonly stage: Stage;
  readonly pool: pg.Pool;
  readonly teams: readonly string[];
  readonly agents: readonly string[];
  readonly contacts: readonly string[];
  readonly random: (below: number) => number;
  readonly force: boolean;
}

/** Each call does one thing that somebody might do. */
function createPerson({ stage, pool, teams, agents, contacts, random, force }: PersonOptions): () => Promise<unknown> {
  const { workspaceId } = stage;
  const pick = <T>(values: readonly T[]): T => values[random(values.length)]!;
  const write = async (): Promise<string> => {
    const results = await ingestMessages(pool, [stage.itemOf(pick(contacts)), stage.itemOf(pick(contacts))]);
    if (results[0]?.kind !== 'accepted') throw new Error(results[0]?.kind);
    return results[0].contactId;
  };
  const target = (): AssignTarget =>
    pick<AssignTarget>([
      { kind: 'agent', agentId: pick(agents), force: force && random(2) === 0 },
      { kind: 'team', teamId: pick(teams) },
      { kind: 'queue' },
    ]);
  const openConversation = async (): Promise<string | undefined> => {
    const { rows } = await pool.query<{ id: string }>(
      'SELECT id FROM conversations WHERE workspace_id = $1 AND closed_at IS NULL ORDER BY random() LIMIT 1',
      [workspaceId],
    );
    return rows[0]?.id;
  };
  const onConversation = (act: (conversationId: string) => Promise<unknown>) => async () => {
    const conversationId = await openConversation();
    if (conversationId !== undefined) await act(conversationId);
  };
  const actor = async () => settle(pool, workspaceId, await write());
  const acts = [
    write,
    actor,
    actor,
    actor,
    async () =>
      openByUser(pool, { workspaceId, contactId: await write(), source: 'user', to: target(), byAgentId: null }),
    onConversation((conversationId) =>
      assignManually(pool, { workspaceId, conversationId, to: target(), byAgentId: null }),
    ),
    onConversation((conversationId) =>
      addReply(pool, { workspaceId, conversationId, agentId: pick(agents), text: 'Hi' }),
    ),
    onConversation((conversationId) => requestClose(pool, { workspaceId, conversationId, agentId: null })),
    () =>
      setPresence(pool, { workspaceId, agentId: pick(agents), status: pick(['online', 'online', 'away', 'offline']) }),
    () => updateAgent(pool, { workspaceId, agentId: pick(agents), teamIds: teams.filter(() => random(3) > 0) }),
    // Only upwards: after a lowered capacity a load above it would be right.
    () =>
      force ? updateAgent(pool, { workspaceId, agentId: pick(agents), capacity: 1 + random(4) }) : Promise.resolve(),
  ];
  return () => pick(acts)();
}

/** What the contact's actor does until it has to wait. */
async function settle(pool: pg.Pool, workspaceId: string, contactId: string): Promise<void> {
  for (;;) {
    const { phase } = await openForContact(pool, { workspaceId, contactId });
    if (phase.kind === 'assigning')
      await assignRouted(pool, { workspaceId, contactId, conversationId: phase.conversationId });
    else if (phase.kind === 'closing')
      await executeClose(pool, { workspaceId, contactId, conversationId: phase.conversationId });
    else if (phase.kind !== 'pending') return;
  }
}

/** I1, I2, I5, I6 and the contact's pointer. */
async function findBrokenCycles(pool: pg.Pool, workspaceId: string): Promise<unknown[]> {
  const { rows } = await pool.query(
    `SELECT 'sequence' AS kind, c.id FROM contacts c JOIN messages m ON m.workspace_id = c.workspace_id AND m.contact_id = c.id
     WHERE c.workspace_id = $1
     GROUP BY c.id, c.last_sequence HAVING count(*) <> c.last_sequence OR max(m.sequence) <> c.last_sequence
     UNION ALL
     SELECT 'pending message', m.id FROM messages m WHERE m.workspace_id = $1 AND m.conversation_id IS NULL
     UNION ALL
     SELECT 'pointer', c.id FROM contacts c
     LEFT JOIN conversations v ON v.workspace_id = c.workspace_id AND v.contact_id = c.id AND v.closed_at IS NULL
     WHERE c.workspace_id = $1 AND c.open_conversation_id IS DISTINCT FROM v.id
     UNION ALL
     SELECT 'closed events', v.id FROM conversations v
     LEFT JOIN events e ON e.workspace_id = v.workspace_id AND e.conversation_id = v.id AND e.type = 'conversation.closed'
     WHERE v.workspace_id = $1
     GROUP BY v.id, v.closed_at HAVING count(e.id) <> CASE WHEN v.closed_at IS NULL THEN 0 ELSE 1 END
     UNION ALL
     SELECT 'attached after the close request', m.id FROM messages m
     JOIN conversations v ON v.workspace_id = m.workspace_id AND v.id = m.conversation_id
     WHERE m.workspace_id = $1 AND m.direction = 'inbound' AND m.received_at > v.closed_at`,
    [workspaceId],
  );
  return rows;
}

async function findOverloaded(pool: pg.Pool, workspaceId: string): Promise<unknown[]> {
  const { rows } = await pool.query(
    'SELECT id, load, capacity FROM agents WHERE workspace_id = $1 AND load > capacity',
    [workspaceId],
  );
  return rows;
}

/** Repeatable from the seed that the test's name tells (mulberry32). */
function createRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}
