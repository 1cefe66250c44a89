import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { setPresence } from '../../store/agents.ts';
import { assignManually } from '../../store/assignment.ts';
import { observeAssignments } from '../../store/assignment-metrics.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { listDecisions } from '../../store/conversations.ts';
import { acceptOffer, expireOffer, rejectOffer } from '../../store/offers.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { expectSound, letTimePass, readEvents, settleAllDue } from './passing-time.ts';
import { connectAnother } from './second-pool.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let other: pg.Pool;
let pool: pg.Pool;
let stage: Stage;
let workspaceId: string;
let teamId: string;

beforeAll(async () => {
  database = await createTestDatabase();
  ({ pool } = database);
  other = connectAnother(database);
});
beforeEach(async () => {
  stage = await createStage(pool);
  ({ workspaceId } = stage);
  teamId = await stage.addTeam('least_loaded', { offer: { acceptSeconds: 20, maxMissed: 2 } });
});
afterEach(() => expectSound(pool, workspaceId));
afterAll(async () => {
  await other?.end();
  await database?.drop();
});

const open = () => stage.open(newId(), { teamId });
const accept = (conversationId: string, agentId: string, by = pool) =>
  acceptOffer(by, { workspaceId, conversationId, agentId });
const reject = (conversationId: string, agentId: string, by = pool) =>
  rejectOffer(by, { workspaceId, conversationId, agentId, reason: 'on the phone' });
const missedBy = async (agentId: string): Promise<number> => {
  const { rows } = await pool.query<{ missed: number }>('SELECT missed_offers AS missed FROM agents WHERE id = $1', [
    agentId,
  ]);
  return rows[0]!.missed;
};

const detailsOf = async (conversationId: string) =>
  (await listDecisions(pool, { workspaceId, conversationId, after: null, limit: 50 })).map(({ detail }) => detail);

/** Time passes until the offer has run out, and its clock is seen to. */
async function miss(conversationId: string): Promise<void> {
  await letTimePass(pool, conversationId, 21);
  expect(await settleAllDue(pool, workspaceId)).toBe(1);
}

test('an offered conversation waits and reserves its units; accepted, it is the agent’s and costs no more', async () => {
  const agentId = await stage.addAgent(2, [teamId]);
  const { conversationId } = await open();
  expect(await stage.conversation(conversationId)).toMatchObject({
    state: 'waiting',
    agentId: null,
    offeredAgentId: agentId,
    dueKind: 'offer',
  });
  expect(await stage.loadOf(agentId)).toBe(1);
  expect(await accept(conversationId, agentId)).toEqual({ kind: 'done' });
  expect(await stage.conversation(conversationId)).toMatchObject({
    state: 'assigned',
    agentId,
    offeredAgentId: null,
    dueKind: null,
  });
  expect(await stage.loadOf(agentId)).toBe(1);
  expect(await readEvents(pool, workspaceId, 'conversation.assigned')).toEqual([
    { agentId, teamId, units: 1, accepted: true },
  ]);
});

test('accepting again what one has changes nothing', async () => {
  const agentId = await stage.addAgent(2, [teamId]);
  const { conversationId } = await open();
  await accept(conversationId, agentId);
  expect(await accept(conversationId, agentId)).toEqual({ kind: 'done' });
  expect(await readEvents(pool, workspaceId, 'conversation.assigned')).toHaveLength(1);
  expect(await stage.loadOf(agentId)).toBe(1);
});

test('only the agent to whom it is offered may accept or reject; others are told whose it is', async () => {
  const agentId = await stage.addAgent(1, [teamId]);
  const stranger = await stage.addAgent(1, [teamId], { online: false });
  const { conversationId } = await open();
  const offered = { kind: 'not_offered', offeredAgentId: agentId, agentId: null, ended: null };
  expect(await accept(conversationId, stranger)).toEqual(offered);
  expect(await reject(conversationId, stranger)).toEqual(offered);
  await accept(conversationId, agentId);
  expect(await accept(conversationId, stranger)).toEqual({ ...offered, offeredAgentId: null, agentId });
  expect(await accept(conversationId, newId())).toEqual({ kind: 'unknown_agent' });
  expect(await accept(newId(), agentId)).toEqual({ kind: 'not_found' });
});

test('from its time on an offer has run out, whether or not the clock has been to see it', async () => {
  const agentId = await stage.addAgent(1, [teamId]);
  const { conversationId } = await open();
  await letTimePass(pool, conversationId, 20);
  const ranOut = { kind: 'not_offered', offeredAgentId: null, agentId: null, ended: 'expired' };
  expect(await accept(conversationId, agentId)).toEqual(ranOut);
  expect(await reject(conversationId, agentId)).toEqual(ranOut);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'waiting', offeredAgentId: agentId });
});

test('a rejected conversation goes to the next, its wait kept, and the reason is in the event and in the decisions', async () => {
  const first = await stage.addAgent(1, [teamId]);
  const { conversationId } = await open();
  const { waitingSince, queuedAt } = await stage.conversation(conversationId);
  const second = await stage.addAgent(1, [teamId]);
  expect(await reject(conversationId, first)).toEqual({ kind: 'done' });
  expect(await stage.conversation(conversationId)).toMatchObject({
    offeredAgentId: second,
    passedOver: [first],
    waitingSince,
    queuedAt,
  });
  expect([await stage.loadOf(first), await stage.loadOf(second)]).toEqual([0, 1]);
  expect(await readEvents(pool, workspaceId, 'conversation.offer_ended')).toEqual([
    { agentId: first, outcome: 'rejected', reason: 'on the phone' },
  ]);
  expect(await detailsOf(conversationId)).toContainEqual({
    offer: 'rejected',
    agentId: first,
    reason: 'on the phone',
  });
  expect(await accept(conversationId, first)).toMatchObject({ offeredAgentId: second, ended: 'rejected' });
});

test('where nobody else is there, who rejected is asked again', async () => {
  const agentId = await stage.addAgent(1, [teamId]);
  const { conversationId } = await open();
  await reject(conversationId, agentId);
  expect(await stage.conversation(conversationId)).toMatchObject({ offeredAgentId: agentId, passedOver: [agentId] });
});

test('an offer that runs out goes to the next', async () => {
  const first = await stage.addAgent(1, [teamId]);
  const { conversationId } = await open();
  const { waitingSince } = await stage.conversation(conversationId);
  const second = await stage.addAgent(1, [teamId]);
  await miss(conversationId);
  expect(await stage.conversation(conversationId)).toMatchObject({
    offeredAgentId: second,
    passedOver: [first],
    waitingSince,
  });
  expect([await missedBy(first), await missedBy(second)]).toEqual([1, 0]);
  expect(await readEvents(pool, workspaceId, 'conversation.offer_ended')).toEqual([
    { agentId: first, outcome: 'expired' },
  ]);
  expect(await accept(conversationId, first)).toMatchObject({ kind: 'not_offered', ended: 'expired' });
});

test('who misses as many offers in a row as the team allows is set away, and is asked no more', async () => {
  const agentId = await stage.addAgent(1, [teamId]);
  const { conversationId } = await open();
  await miss(conversationId);
  // Nobody else is there, so it was asked again at once.
  expect(await stage.conversation(conversationId)).toMatchObject({ offeredAgentId: agentId });
  await miss(conversationId);
  expect(await stage.conversation(conversationId)).toMatchObject({
    state: 'waiting',
    offeredAgentId: null,
    dueKind: null,
  });
  expect(await readEvents(pool, workspaceId, 'agent.presence_changed')).toEqual([
    { agentId, status: 'online' },
    { agentId, status: 'away', reason: 'missed_offers' },
  ]);
  expect(await stage.loadOf(agentId)).toBe(0);
});

test('what else is offered to an agent who is set away is taken back in the same moment', async () => {
  await stage.setRules(teamId, { offer: { acceptSeconds: 20, maxMissed: 1 } });
  const agentId = await stage.addAgent(3, [teamId]);
  const missed = await open();
  const offered = await open();
  const accepted = await open();
  await accept(accepted.conversationId, agentId);
  await miss(missed.conversationId);
  for (const { conversationId } of [missed, offered]) {
    expect(await stage.conversation(conversationId)).toMatchObject({ state: 'waiting', offeredAgentId: null });
  }
  expect(await stage.conversation(accepted.conversationId)).toMatchObject({ state: 'assigned', agentId });
  expect(await stage.loadOf(agentId)).toBe(1);
  expect(await missedBy(agentId)).toBe(1);
});

test('whoever answers an offer, or comes online, has missed none', async () => {
  const agentId = await stage.addAgent(1, [teamId]);
  const { conversationId } = await open();
  await miss(conversationId);
  expect(await missedBy(agentId)).toBe(1);
  await reject(conversationId, agentId);
  expect(await missedBy(agentId)).toBe(0);
  await miss(conversationId);
  await accept(conversationId, agentId);
  expect(await missedBy(agentId)).toBe(0);
  const another = await stage.addAgent(1, [teamId]);
  const next = await open();
  await miss(next.conversationId);
  expect(await missedBy(another)).toBe(1);
  await setPresence(pool, { workspaceId, agentId: another, status: 'away' });
  await setPresence(pool, { workspaceId, agentId: another, status: 'online' });
  expect(await missedBy(another)).toBe(0);
});

test('a transfer takes an offer back; the agent was not asked in vain', async () => {
  const agentId = await stage.addAgent(1, [teamId]);
  const { conversationId } = await open();
  const elsewhere = await stage.addTeam();
  await assignManually(pool, { workspaceId, conversationId, to: { kind: 'team', teamId: elsewhere }, byAgentId: null });
  expect(await stage.conversation(conversationId)).toMatchObject({ teamId: elsewhere, offeredAgentId: null });
  expect([await stage.loadOf(agentId), await missedBy(agentId)]).toEqual([0, 0]);
  expect(await accept(conversationId, agentId)).toMatchObject({ kind: 'not_offered', agentId: null });
});

test('an agent whose offer a person overrode is told that it was withdrawn', async () => {
  const first = await stage.addAgent(1, [teamId]);
  const { conversationId } = await open();
  const second = await stage.addAgent(1, [teamId]);
  const to = { kind: 'agent', agentId: second, force: false } as const;
  await assignManually(pool, { workspaceId, conversationId, to, byAgentId: null });
  expect(await accept(conversationId, first)).toEqual({
    kind: 'not_offered',
    offeredAgentId: null,
    agentId: second,
    ended: 'withdrawn',
  });
  const withdrawn = { agentId: first, reason: 'assigned_by_hand' };
  expect(await detailsOf(conversationId)).toContainEqual({ offer: 'withdrawn', ...withdrawn });
  expect(await readEvents(pool, workspaceId, 'conversation.offer_ended')).toEqual([
    { outcome: 'withdrawn', ...withdrawn },
  ]);
});

test.each(['transfer', 'close'] as const)('a %s that ends an offer is in the decisions as its end', async (by) => {
  const agentId = await stage.addAgent(1, [teamId]);
  const ref = await open();
  const { conversationId } = ref;
  const to = { kind: 'team', teamId: await stage.addTeam() } as const;
  if (by === 'close') await stage.close(ref);
  else await assignManually(pool, { workspaceId, conversationId, to, byAgentId: null });
  const reason = by === 'close' ? 'closed' : 'transferred';
  expect(await detailsOf(conversationId)).toContainEqual({ offer: 'withdrawn', agentId, reason });
  expect(await readEvents(pool, workspaceId, 'conversation.offer_ended')).toEqual([
    { agentId, outcome: 'withdrawn', reason },
  ]);
});

test('where an offer’s end leaves nobody to ask, the newest record says why the conversation waits', async () => {
  const agentId = await stage.addAgent(1, [teamId]);
  const { conversationId } = await open();
  await stage.setRules(teamId, { offer: { acceptSeconds: 20, maxMissed: 1 } });
  await miss(conversationId);
  expect((await detailsOf(conversationId)).slice(-2)).toMatchObject([
    { offer: 'expired', agentId },
    { chosen: null, candidates: [{ agentId, excluded: 'away' }] },
  ]);
});

test('the time at which an offer runs out has the same form in the event as everywhere', async () => {
  await stage.addAgent(1, [teamId]);
  const { conversationId } = await open();
  const { rows } = await pool.query<{ at: Date }>('SELECT offer_expires_at AS at FROM conversations WHERE id = $1', [
    conversationId,
  ]);
  const [offered] = await readEvents(pool, workspaceId, 'conversation.offered');
  expect(offered).toMatchObject({ expiresAt: rows[0]!.at.toISOString() });
});

test('the time to assignment is that of the first agent, also after a rejection, and not of those who follow', async () => {
  const metrics = createMetrics({ component: 'test' });
  observeAssignments(metrics, { maxTeams: 10 });
  const countOf = async (name: string) =>
    new RegExp(`switchyard_${name}(?:{.*})? (\\d+)`).exec(await metrics.registry.metrics())?.[1];
  const first = await stage.addAgent(1, [teamId]);
  const { conversationId } = await open();
  const second = await stage.addAgent(1, [teamId]);
  await reject(conversationId, first);
  await accept(conversationId, second);
  expect(await countOf('open_to_assigned_seconds_count')).toBe('1');
  await assignManually(pool, { workspaceId, conversationId, to: { kind: 'queue' }, byAgentId: null });
  await accept(conversationId, first);
  await stage.setRules(teamId, { offer: null });
  await assignManually(pool, { workspaceId, conversationId, to: { kind: 'queue' }, byAgentId: null });
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId: second });
  expect(await countOf('open_to_assigned_seconds_count')).toBe('1');
  expect(await countOf('team_first_assigned_total')).toBe('1');
  expect(await countOf('team_assigned_total')).toBe('3');
});

test('from the close request on an offer can be neither accepted nor rejected, and does not run out', async () => {
  const agentId = await stage.addAgent(1, [teamId]);
  const ref = await open();
  const { conversationId } = ref;
  await requestClose(pool, { workspaceId, conversationId, agentId: null });
  expect(await accept(conversationId, agentId)).toEqual({ kind: 'closing' });
  expect(await reject(conversationId, agentId)).toEqual({ kind: 'closing' });
  await letTimePass(pool, conversationId, 60);
  expect(await settleAllDue(pool, workspaceId)).toBe(0);
  await expireOffer(pool, { workspaceId, ...ref });
  expect(await missedBy(agentId)).toBe(0);
  await executeClose(pool, { workspaceId, ...ref });
  expect(await accept(conversationId, agentId)).toEqual({ kind: 'closed' });
  expect(await stage.loadOf(agentId)).toBe(0);
});

test('an acceptance and the expiry at the same time: exactly one of them wins', async () => {
  const agents = [await stage.addAgent(30, [teamId]), await stage.addAgent(30, [teamId])];
  await stage.setRules(teamId, { offer: { acceptSeconds: 20, maxMissed: 1_000 } });
  const outcomes = new Set<string>();
  for (let round = 0; round < 12; round += 1) {
    const ref = await open();
    const { conversationId } = ref;
    const { offeredAgentId } = await stage.conversation(conversationId);
    // About now: what comes first is decided by the database.
    await pool.query(
      `UPDATE conversations SET offer_expires_at = clock_timestamp() + $2 * interval '1 ms' WHERE id = $1`,
      [conversationId, round === 0 ? 0 : 2 ** round],
    );
    const expiries = [other, pool, other].map((by) => expireOffer(by, { workspaceId, ...ref }));
    const [accepted] = await Promise.all([accept(conversationId, offeredAgentId!, other), ...expiries]);
    const now = await stage.conversation(conversationId);
    if (accepted.kind === 'done')
      expect(now).toMatchObject({ state: 'assigned', agentId: offeredAgentId, offeredAgentId: null });
    else expect(now).toMatchObject({ state: 'waiting', agentId: null });
    outcomes.add(accepted.kind);
    await requestClose(pool, { workspaceId, conversationId, agentId: null });
    await executeClose(pool, { workspaceId, ...ref });
  }
  expect([...outcomes].toSorted()).toEqual(['done', 'not_offered']);
  expect(await Promise.all(agents.map(stage.loadOf))).toEqual([0, 0]);
});

test('a rejection and a close at the same time: it is closed once, and no unit is lost', async () => {
  const agents = [await stage.addAgent(2, [teamId]), await stage.addAgent(2, [teamId])];
  for (let round = 0; round < 10; round += 1) {
    const ref = await open();
    const { conversationId } = ref;
    const { offeredAgentId } = await stage.conversation(conversationId);
    const close = async () => {
      await requestClose(pool, { workspaceId, conversationId, agentId: null });
      await executeClose(pool, { workspaceId, ...ref });
    };
    await Promise.all([reject(conversationId, offeredAgentId!, other), close()]);
    expect(await stage.conversation(conversationId)).toMatchObject({ state: 'closed', offeredAgentId: null });
  }
  expect(await Promise.all(agents.map(stage.loadOf))).toEqual([0, 0]);
});

test('an offer’s clock seen by two workers at once runs out once', async () => {
  await stage.setRules(teamId, { offer: { acceptSeconds: 20, maxMissed: 10 } });
  const agentId = await stage.addAgent(1, [teamId]);
  const ref = await open();
  await letTimePass(pool, ref.conversationId, 21);
  await Promise.all([pool, other, pool, other].map((by) => expireOffer(by, { workspaceId, ...ref })));
  expect(await missedBy(agentId)).toBe(1);
  expect(await readEvents(pool, workspaceId, 'conversation.offer_ended')).toHaveLength(1);
});
