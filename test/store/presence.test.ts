import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import type { TeamSettings } from '../../routing/team-rules.ts';
import { readSilentAgents, recordHeartbeat, setAwayIfSilent, setPresence } from '../../store/agents.ts';
import { assignManually } from '../../store/assignment.ts';
import { requestClose } from '../../store/closing.ts';
import { settleDue } from '../../store/due-clocks.ts';
import { acceptOffer } from '../../store/offers.ts';
import { finishReview, readReviews, reviewPage } from '../../store/review-clocks.ts';
import { updateTeam } from '../../store/teams.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { expectSound, letTimePass, readEvents, settleAllDue } from './passing-time.ts';
import { connectAnother } from './second-pool.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let other: pg.Pool;
let pool: pg.Pool;
let stage: Stage;
let workspaceId: string;

beforeAll(async () => {
  database = await createTestDatabase();
  ({ pool } = database);
  other = connectAnother(database);
});
beforeEach(async () => {
  stage = await createStage(pool);
  ({ workspaceId } = stage);
});
afterEach(() => expectSound(pool, workspaceId));
afterAll(async () => {
  await other?.end();
  await database?.drop();
});

const set = (agentId: string, status: 'online' | 'away' | 'offline', by = pool) =>
  setPresence(by, { workspaceId, agentId, status });
const addTeamThatReturns = (graceSeconds: number) =>
  stage.addTeam('longest_idle', { offline: { then: 'return', graceSeconds } });
const presenceOf = async (agentId: string): Promise<string> => {
  const { rows } = await pool.query<{ status: string }>('SELECT status FROM agent_presence WHERE agent_id = $1', [
    agentId,
  ]);
  return rows[0]!.status;
};

test('by default an agent who goes offline keeps its conversations', async () => {
  const agentId = await stage.addAgent(1);
  const { conversationId } = await stage.open(newId());
  await set(agentId, 'offline');
  expect(await stage.conversation(conversationId)).toMatchObject({
    state: 'assigned',
    agentId,
    returnAt: null,
    dueAt: null,
  });
});

test('returned at once: the conversations of who goes offline are given to others at their original wait', async () => {
  const teamId = await addTeamThatReturns(0);
  const [agentId, colleague] = [
    await stage.addAgent(2, [teamId]),
    await stage.addAgent(1, [teamId], { online: false }),
  ];
  const first = await stage.open(newId(), { teamId });
  const second = await stage.open(newId(), { teamId });
  await set(colleague, 'online');
  await set(agentId, 'offline');
  expect(await stage.conversation(first.conversationId)).toMatchObject({
    state: 'assigned',
    agentId,
    dueKind: 'return',
  });
  expect(await settleAllDue(pool, workspaceId)).toBe(2);
  expect(await stage.conversation(first.conversationId)).toMatchObject({
    state: 'assigned',
    agentId: colleague,
    passedOver: [agentId],
  });
  const waiting = await stage.conversation(second.conversationId);
  expect(waiting).toMatchObject({ state: 'waiting', agentId: null, returnAt: null });
  const { rows } = await pool.query<{ original: boolean }>(
    'SELECT waiting_since = routed_at AS original FROM conversations WHERE id = $1',
    [second.conversationId],
  );
  expect(rows).toEqual([{ original: true }]);
  expect(await stage.loadOf(agentId)).toBe(0);
  const unassigned = await readEvents(pool, workspaceId, 'conversation.unassigned');
  expect(unassigned).toMatchObject([
    { agentId, reason: 'agent_offline' },
    { agentId, reason: 'agent_offline' },
  ]);
});

test('who is back within the grace time has kept everything; a clock that comes late finds nothing to do', async () => {
  const teamId = await addTeamThatReturns(60);
  const agentId = await stage.addAgent(2, [teamId]);
  const { conversationId } = await stage.open(newId(), { teamId });
  await set(agentId, 'offline');
  expect(await settleAllDue(pool, workspaceId)).toBe(0);
  const planned = await stage.conversation(conversationId);
  expect(planned).toMatchObject({ dueKind: 'return', dueAt: planned.returnAt });
  await set(agentId, 'online');
  expect(await stage.conversation(conversationId)).toMatchObject({ returnAt: null });
  await letTimePass(pool, conversationId, 61);
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId, dueKind: null });
});

test('after the grace time they go back, and away counts as being back', async () => {
  const teamId = await addTeamThatReturns(60);
  const agentId = await stage.addAgent(2, [teamId]);
  const { conversationId } = await stage.open(newId(), { teamId });
  await set(agentId, 'offline');
  await set(agentId, 'away');
  expect(await stage.conversation(conversationId)).toMatchObject({ returnAt: null });
  await set(agentId, 'offline');
  await letTimePass(pool, conversationId, 50);
  expect(await settleAllDue(pool, workspaceId)).toBe(0);
  await letTimePass(pool, conversationId, 11);
  expect(await settleAllDue(pool, workspaceId)).toBe(1);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'waiting', passedOver: [agentId] });
});

test('each conversation goes by the rule of its own team', async () => {
  const returning = await addTeamThatReturns(0);
  const keeping = await stage.addTeam();
  const agentId = await stage.addAgent(2, [returning, keeping]);
  const returned = await stage.open(newId(), { teamId: returning });
  const kept = await stage.open(newId(), { teamId: keeping });
  await set(agentId, 'offline');
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(returned.conversationId)).toMatchObject({ state: 'waiting' });
  expect(await stage.conversation(kept.conversationId)).toMatchObject({ state: 'assigned', agentId });
});

test('what a person gives to an agent who is offline stays there', async () => {
  const teamId = await addTeamThatReturns(0);
  const agentId = await stage.addAgent(2, [teamId]);
  await set(agentId, 'offline');
  const { conversationId } = await stage.open(newId(), { teamId });
  await assignManually(pool, {
    workspaceId,
    conversationId,
    to: { kind: 'agent', agentId, force: false },
    byAgentId: null,
  });
  expect(await settleAllDue(pool, workspaceId)).toBe(0);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId });
});

test('many conversations of one agent are planned in one statement, whatever closes meanwhile', async () => {
  const teamId = await addTeamThatReturns(300);
  const agentId = await stage.addAgent(40, [teamId]);
  const opened = [];
  for (let i = 0; i < 40; i += 1) opened.push(await stage.open(newId(), { teamId }));
  await Promise.all([
    set(agentId, 'offline', other),
    ...opened
      .slice(0, 10)
      .map(({ conversationId }) => requestClose(pool, { workspaceId, conversationId, agentId: null })),
  ]);
  const rows = await Promise.all(opened.slice(10).map(({ conversationId }) => stage.conversation(conversationId)));
  expect(new Set(rows.map(({ dueKind }) => dueKind))).toEqual(new Set(['return']));
});

test.each(['away', 'offline'] as const)(
  'who goes %s is asked no more: its offers go to the next, and count as taken back',
  async (status) => {
    const teamId = await stage.addTeam('longest_idle', { offer: { acceptSeconds: 20, maxMissed: 1 } });
    const agentId = await stage.addAgent(3, [teamId]);
    const opened = [await stage.open(newId(), { teamId }), await stage.open(newId(), { teamId })];
    const next = await stage.addAgent(1, [teamId]);
    await set(agentId, status);
    expect(await stage.conversation(opened[0]!.conversationId)).toMatchObject({
      offeredAgentId: next,
      passedOver: [agentId],
    });
    expect(await stage.conversation(opened[1]!.conversationId)).toMatchObject({ offeredAgentId: null, dueKind: null });
    expect([await stage.loadOf(agentId), await stage.loadOf(next)]).toEqual([0, 1]);
    expect(await readEvents(pool, workspaceId, 'conversation.offer_ended')).toEqual([
      { agentId, outcome: 'withdrawn', reason: 'agent_left' },
      { agentId, outcome: 'withdrawn', reason: 'agent_left' },
    ]);
    const { rows } = await pool.query<{ missed: number }>('SELECT missed_offers AS missed FROM agents WHERE id = $1', [
      agentId,
    ]);
    expect(rows[0]!.missed).toBe(0);
    // Whose offer it was is told to an agent that answers too late.
    expect(await acceptOffer(pool, { workspaceId, conversationId: opened[0]!.conversationId, agentId })).toMatchObject({
      kind: 'not_offered',
      offeredAgentId: next,
      ended: 'withdrawn',
    });
  },
);

test('an agent that sends heartbeats is set away when they stop, and its heartbeats count anew when it comes back', async () => {
  const agentId = await stage.addAgent(1);
  const silent = async () =>
    (await readSilentAgents(pool, { maxRows: 100 })).filter((agent) => agent.workspaceId === workspaceId);
  const stopFor = (seconds: number) =>
    pool.query(`UPDATE agent_presence SET expires_at = expires_at - $2 * interval '1 s' WHERE agent_id = $1`, [
      agentId,
      seconds,
    ]);
  await recordHeartbeat(pool, { workspaceId, agentId });
  await stopFor(50);
  expect(await silent()).toEqual([]);
  await stopFor(11);
  expect(await silent()).toEqual([{ workspaceId, agentId }]);
  await setAwayIfSilent(pool, { workspaceId, agentId });
  expect(await presenceOf(agentId)).toBe('away');
  const changes = await readEvents(pool, workspaceId, 'agent.presence_changed');
  expect(changes.at(-1)).toEqual({ agentId, status: 'away', reason: 'silent' });
  await set(agentId, 'online');
  await stopFor(3_600);
  expect(await silent()).toEqual([]);
});

test('how long an agent may be silent is the workspace’s to say', async () => {
  await pool.query(`UPDATE workspaces SET settings = '{"heartbeatExpirySeconds": 600}' WHERE id = $1`, [workspaceId]);
  const agentId = await stage.addAgent(1);
  await recordHeartbeat(pool, { workspaceId, agentId });
  const { rows } = await pool.query<{ seconds: number }>(
    `SELECT extract(epoch FROM expires_at - heartbeat_at)::int AS seconds FROM agent_presence WHERE agent_id = $1`,
    [agentId],
  );
  expect(rows).toEqual([{ seconds: 600 }]);
});

test('an agent that never sent a heartbeat stays; one that is heard at the last moment, too', async () => {
  const quiet = await stage.addAgent(1);
  await setAwayIfSilent(pool, { workspaceId, agentId: quiet });
  expect(await presenceOf(quiet)).toBe('online');
  const agentId = await stage.addAgent(1);
  await recordHeartbeat(pool, { workspaceId, agentId });
  await pool.query(`UPDATE agent_presence SET expires_at = now() WHERE agent_id = $1`, [agentId]);
  await recordHeartbeat(pool, { workspaceId, agentId });
  await setAwayIfSilent(pool, { workspaceId, agentId });
  expect(await presenceOf(agentId)).toBe('online');
});

test('a return drains the backlog, oldest first', async () => {
  const teamId = await addTeamThatReturns(0);
  const agentId = await stage.addAgent(2, [teamId], { online: false });
  const opened = [];
  for (let i = 0; i < 3; i += 1) opened.push(await stage.open(newId(), { teamId }));
  await set(agentId, 'online');
  const states = await Promise.all(
    opened.map(async ({ conversationId }) => (await stage.conversation(conversationId)).state),
  );
  expect(states).toEqual(['assigned', 'assigned', 'waiting']);
});

test('going offline and accepting at the same time: it is the agent’s and planned to return, or another’s to take', async () => {
  const teamId = await stage.addTeam('longest_idle', {
    offer: { acceptSeconds: 60, maxMissed: 3 },
    offline: { then: 'return', graceSeconds: 600 },
  });
  const agentId = await stage.addAgent(2, [teamId]);
  for (let round = 0; round < 10; round += 1) {
    await set(agentId, 'online');
    const { conversationId } = await stage.open(newId(), { teamId });
    const [accepted] = await Promise.all([
      acceptOffer(other, { workspaceId, conversationId, agentId }),
      set(agentId, 'offline'),
    ]);
    const now = await stage.conversation(conversationId);
    if (accepted.kind === 'done') expect(now).toMatchObject({ state: 'assigned', agentId, dueKind: 'return' });
    else expect(now).toMatchObject({ state: 'waiting', offeredAgentId: null, dueKind: null });
    expect(await stage.loadOf(agentId)).toBe(accepted.kind === 'done' ? 1 : 0);
    await assignManually(pool, { workspaceId, conversationId, to: { kind: 'queue' }, byAgentId: null });
    await requestClose(pool, { workspaceId, conversationId, agentId: null });
  }
});

test('coming back at the very moment of the return: kept or taken by somebody, never both', async () => {
  const teamId = await addTeamThatReturns(0);
  const agentId = await stage.addAgent(1, [teamId]);
  const { contactId, conversationId } = await stage.open(newId(), { teamId });
  const due = {
    workspaceId,
    contactId,
    conversationId,
    teamId,
    kind: 'return',
    needsContact: false,
    lateSeconds: 0,
  } as const;
  for (let round = 0; round < 10; round += 1) {
    await set(agentId, 'offline');
    await Promise.all([settleDue(other, due), set(agentId, 'online'), settleDue(pool, due)]);
    expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId, returnAt: null });
    expect(await stage.loadOf(agentId)).toBe(1);
  }
});

const changeOffline = (teamId: string, offline: TeamSettings['offline']) =>
  updateTeam(pool, { workspaceId, teamId, settings: { offline } });
async function review(teamId: string): Promise<void> {
  const found = (await readReviews(pool, { maxRows: 100 })).find((candidate) => candidate.teamId === teamId);
  await reviewPage(pool, found!, null);
  await finishReview(pool, found!);
}

test('a rule that becomes to keep holds at once: what an agent who is offline was to lose stays, whether or not it was reviewed', async () => {
  for (const isReviewed of [true, false]) {
    const teamId = await addTeamThatReturns(120);
    const agentId = await stage.addAgent(1, [teamId]);
    const { conversationId } = await stage.open(newId(), { teamId });
    await set(agentId, 'offline');
    expect(await stage.conversation(conversationId)).toMatchObject({ dueKind: 'return' });
    await changeOffline(teamId, { then: 'keep' });
    if (isReviewed) await review(teamId);
    await letTimePass(pool, conversationId, 121);
    await settleAllDue(pool, workspaceId);
    expect(await stage.conversation(conversationId)).toMatchObject({
      state: 'assigned',
      agentId,
      returnAt: null,
      dueKind: null,
    });
  }
});

test('a rule that becomes to return, or sooner, reaches the conversations of who is offline already', async () => {
  const teamId = await stage.addTeam();
  const agentId = await stage.addAgent(2, [teamId]);
  const { conversationId } = await stage.open(newId(), { teamId });
  await set(agentId, 'offline');
  const given = await stage.open(newId(), { teamId });
  const to = { kind: 'agent', agentId, force: false } as const;
  await assignManually(pool, { workspaceId, conversationId: given.conversationId, to, byAgentId: null });
  await changeOffline(teamId, { then: 'return', graceSeconds: 600 });
  await review(teamId);
  const first = await stage.conversation(conversationId);
  expect(first).toMatchObject({ state: 'assigned', dueKind: 'return', dueAt: first.returnAt });
  await changeOffline(teamId, { then: 'return', graceSeconds: 60 });
  await review(teamId);
  const second = await stage.conversation(conversationId);
  expect(first.returnAt!.getTime() - second.returnAt!.getTime()).toBe(540_000);
  await letTimePass(pool, conversationId, 61);
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'waiting', passedOver: [agentId] });
  // A person gave it to an agent who was known to be offline.
  expect(await stage.conversation(given.conversationId)).toMatchObject({ state: 'assigned', agentId, returnAt: null });
});

test('a return without a grace time is one at once', async () => {
  const teamId = await stage.addTeam();
  await pool.query(`UPDATE teams SET settings = '{"offline": {"then": "return"}}' WHERE id = $1`, [teamId]);
  const agentId = await stage.addAgent(1, [teamId]);
  const { conversationId } = await stage.open(newId(), { teamId });
  await set(agentId, 'offline');
  expect(await stage.conversation(conversationId)).toMatchObject({ dueKind: 'return' });
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'waiting' });
});
