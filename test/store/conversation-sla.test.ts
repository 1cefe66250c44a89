import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import type { AssignmentExplanation } from '../../routing/matching.ts';
import { setPresence } from '../../store/agents.ts';
import { assignManually, type AssignTarget } from '../../store/assignment.ts';
import { getConversation, listDecisions } from '../../store/conversations.ts';
import { rejectOffer } from '../../store/offers.ts';
import { queueKeyOf } from '../../store/queue-key.ts';
import { readWaitingGauges } from '../../store/upkeep.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { expectSound, letTimePass, settleAllDue } from './passing-time.ts';
import { createStage, type Stage } from './stage.ts';
import { insertWaiting } from './waiting-rows.ts';

let database: TestDatabase;
let stage: Stage;
let workspaceId: string;

beforeAll(async () => {
  database = await createTestDatabase();
});
beforeEach(async () => {
  stage = await createStage(database.pool);
  ({ workspaceId } = stage);
});
afterEach(() => expectSound(database.pool, workspaceId));
afterAll(() => database?.drop());

const spanish = [{ skill: 'spanish', level: 3, preferred: false }];

/** Opens one that has waited for so long already. */
async function openAged(waitedSeconds: number, routed: Parameters<Stage['open']>[1]): Promise<string> {
  const { conversationId } = await stage.open(newId(), routed);
  await database.pool.query(
    `UPDATE conversations SET waiting_since = waiting_since - $2 * interval '1 s' WHERE id = $1`,
    [conversationId, waitedSeconds],
  );
  return conversationId;
}

const assign = (conversationId: string, to: AssignTarget) =>
  assignManually(database.pool, { workspaceId, conversationId, to, byAgentId: null });

/** In the order in which the team's agents get what waits, one after the other. */
async function serveAll(teamId: string, count: number): Promise<string[]> {
  const agentId = await stage.addAgent(1, [teamId]);
  const served: string[] = [];
  for (let i = 0; i < count; i += 1) {
    const { rows } = await database.pool.query<{ id: string; contactId: string }>(
      `SELECT id, contact_id AS "contactId" FROM conversations WHERE agent_id = $1 AND state = 'assigned'`,
      [agentId],
    );
    const [has] = rows;
    if (has === undefined) break;
    served.push(has.id);
    await stage.close({ contactId: has.contactId, conversationId: has.id });
  }
  return served;
}

test('those are served first whose own target is missed first, where they have none that of the team', async () => {
  const teamId = await stage.addTeam('round_robin', { slaSeconds: 600 });
  const byTeam = await openAged(500, { teamId });
  const relaxed = await openAged(900, { teamId, slaSeconds: 3_600 });
  const strict = await openAged(10, { teamId, slaSeconds: 60 });
  const strictOlder = await openAged(20, { teamId, slaSeconds: 60 });
  const urgent = await openAged(0, { teamId, priority: 1, slaSeconds: 86_400 });
  expect(await serveAll(teamId, 5)).toEqual([urgent, strictOlder, strict, byTeam, relaxed]);
});

test('without a target the order is by the wait, and one with a target of its own comes before', async () => {
  const teamId = await stage.addTeam();
  const old = await openAged(3_000, { teamId });
  const older = await openAged(4_000, { teamId });
  const strict = await openAged(0, { teamId, slaSeconds: 600 });
  expect(await serveAll(teamId, 3)).toEqual([strict, older, old]);
});

test('of long runs with several targets exactly those whose targets are missed first are given away', async () => {
  const teamId = await stage.addTeam('round_robin', { slaSeconds: 300 });
  const targets = [null, 60, 900];
  const rows = Array.from({ length: 180 }, (_, i) => ({ waitedSeconds: (i * 7) % 500, slaSeconds: targets[i % 3]! }));
  const ids = await insertWaiting(database.pool, { workspaceId, teamId }, rows);
  const breachIn = ({ waitedSeconds, slaSeconds }: (typeof rows)[number]) => (slaSeconds ?? 300) - waitedSeconds;
  await stage.addAgent(90, [teamId]);
  const { rows: given } = await database.pool.query<{ id: string }>(
    `SELECT id FROM conversations WHERE team_id = $1 AND state = 'assigned'`,
    [teamId],
  );
  const isGiven = new Set(given.map(({ id }) => id));
  expect(isGiven.size).toBe(90);
  const last = Math.max(...rows.filter((_, i) => isGiven.has(ids[i]!)).map(breachIn));
  const next = Math.min(...rows.filter((_, i) => !isGiven.has(ids[i]!)).map(breachIn));
  expect(last).toBeLessThanOrEqual(next);
});

test('a transfer keeps the target of the branch, and the explanation counts by it', async () => {
  const [from, to] = [await stage.addTeam(), await stage.addTeam('round_robin', { slaSeconds: 3_600 })];
  const conversationId = await openAged(100, { teamId: from, slaSeconds: 60 });
  const other = await openAged(500, { teamId: to });
  expect(await assign(conversationId, { kind: 'team', teamId: to })).toEqual({ kind: 'done' });
  expect(await getConversation(database.pool, { workspaceId, conversationId })).toMatchObject({
    slaSeconds: 60,
    teamId: to,
  });
  const explain = async (id: string) => {
    const key = { workspaceId, conversationId: id, after: null, limit: 50 };
    const decisions = await listDecisions(database.pool, key);
    return decisions.at(-1)!.detail as unknown as AssignmentExplanation;
  };
  // Of whole seconds, the one under way counts.
  expect((await explain(conversationId)).breachInSeconds).toBeCloseTo(-41, -1);
  expect((await explain(other)).breachInSeconds).toBeCloseTo(3_600, -1);
  expect(await serveAll(to, 2)).toEqual([conversationId, other]);
});

test('it is filed by its target through rings, offers and returns', async () => {
  const teamId = await stage.addTeam('round_robin', { offer: { acceptSeconds: 20, maxMissed: 3 } });
  const rings = [
    { afterSeconds: 30, kind: 'relax', levels: [{ skill: 'spanish', level: 0 }] } as const,
    { afterSeconds: 600, kind: 'fallback', then: 'wait' } as const,
  ];
  const { conversationId } = await stage.open(newId(), { teamId, slaSeconds: 90, skills: spanish, rings });
  const keyOf = async () => {
    const { rows } = await database.pool.query<{ key: string }>(
      'SELECT queue_key AS key FROM conversations WHERE id = $1',
      [conversationId],
    );
    return rows[0]!.key;
  };
  expect(await keyOf()).toBe('~000090[1,"web",[["spanish",3,"required"]],[]]');
  await letTimePass(database.pool, conversationId, 31);
  await settleAllDue(database.pool, workspaceId);
  expect(await keyOf()).toBe('~000090[1,"web",[],[]]');
  const agentId = await stage.addAgent(1, [teamId]);
  await setPresence(database.pool, { workspaceId, agentId, status: 'online' });
  const passedOver = await stage.addAgent(1, [teamId], { online: false });
  expect((await stage.conversation(conversationId)).offeredAgentId).toBe(agentId);
  await setPresence(database.pool, { workspaceId, agentId: passedOver, status: 'online' });
  await rejectOffer(database.pool, { workspaceId, conversationId, agentId, reason: null });
  await rejectOffer(database.pool, { workspaceId, conversationId, agentId: passedOver, reason: null });
  await setPresence(database.pool, { workspaceId, agentId, status: 'away' });
  expect(await keyOf()).toMatch(/^~000090/);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'waiting' });
});

test('a target makes a key of its own also where the rest is a digest, and never changes the order of the rest', () => {
  const asked = { units: 1, channel: 'web', passedOver: [], skills: [] };
  const long = { ...asked, skills: [{ skill: 'x'.repeat(200), level: 1, preferred: false }] };
  for (const facts of [asked, long]) {
    const plain = queueKeyOf({ ...facts, slaSeconds: null });
    expect(queueKeyOf({ ...facts, slaSeconds: 5 })).toBe(`~000005${plain}`);
    expect(queueKeyOf({ ...facts, slaSeconds: 604_800 })).toBe(`~604800${plain}`);
    // What SQL tells keys with a target by.
    expect(plain < '~').toBe(true);
  }
});

test('the target in a key is read alike whatever order of characters the database has', async () => {
  const own = await createTestDatabase();
  await own.pool.query('ALTER TABLE conversations ALTER COLUMN queue_key TYPE text COLLATE "en-US-x-icu"');
  const home = await createStage(own.pool);
  const teamId = await home.addTeam();
  // Requirements this long become a digest, and its first character may be any.
  const skills = Array.from({ length: 10 }, (_, place) => ({
    skill: `a long name of skill ${place}`,
    level: 1,
    preferred: false,
  }));
  for (let count = 0; count < 20; count += 1) {
    await home.open(newId(), { teamId, skills: [...skills, { skill: newId(), level: 1, preferred: false }] });
  }
  await home.open(newId(), { teamId, slaSeconds: 90 });
  const gauges = await readWaitingGauges(own.pool, { maxTeams: 10 });
  expect(gauges.teams).toContainEqual(expect.objectContaining({ teamId, waiting: 21 }));
  await own.drop();
});
