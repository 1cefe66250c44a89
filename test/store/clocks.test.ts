import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { summarizeDecision } from '../../api/decision-summary.ts';
import { newId } from '../../platform/id.ts';
import type { Ring } from '../../routing/requirements.ts';
import { setPresence } from '../../store/agents.ts';
import { assignManually } from '../../store/assignment.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { listDecisions } from '../../store/conversations.ts';
import { groupDue, putOff, readDue, settleDue, settleTogether } from '../../store/due-clocks.ts';
import { lockMatching } from '../../store/locks.ts';
import { openByUser } from '../../store/opening.ts';
import { changePresence } from '../../store/presence.ts';
import { addReply } from '../../store/replies.ts';
import { finishReview, isLastRound, readReviews, reviewPage } from '../../store/review-clocks.ts';
import { relaxDue } from '../../store/ring-clocks.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
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

const spanish = (level: number, preferred = false) => [{ skill: 'spanish', level, preferred }];
const relaxTo = (level: number, afterSeconds: number): Ring => ({
  kind: 'relax',
  afterSeconds,
  levels: [{ skill: 'spanish', level }],
});
const overflowTo = (teamId: string, afterSeconds: number): Ring => ({ kind: 'overflow', afterSeconds, teamId });
const end = (then: 'wait' | 'close', afterSeconds: number): Ring => ({ kind: 'fallback', afterSeconds, then });
const recordsOf = async (conversationId: string) => {
  const decisions = await listDecisions(pool, { workspaceId, conversationId, after: null, limit: 50 });
  const assignments = decisions.filter(({ kind }) => kind === 'assignment');
  return assignments.map((decision) => ({ detail: decision.detail, summary: summarizeDecision(decision) }));
};
const stateOf = async (conversationId: string) => (await stage.conversation(conversationId)).state;

test('what is asked for is relaxed ring by ring, and whoever may take it then gets it at its original wait', async () => {
  const teamId = await stage.addTeam('most_skilled');
  const agentId = await stage.addAgent(1, [teamId], { skills: { spanish: 2 } });
  const rings = [relaxTo(3, 30), relaxTo(2, 60), end('wait', 600)];
  const { conversationId } = await stage.open(newId(), { teamId, skills: spanish(4), rings });
  const { waitingSince } = await stage.conversation(conversationId);
  await letTimePass(pool, conversationId, 20);
  expect(await settleAllDue(pool, workspaceId)).toBe(0);
  await letTimePass(pool, conversationId, 10);
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(conversationId)).toMatchObject({
    state: 'waiting',
    ring: 1,
    dueKind: 'ring',
    waitingSince,
  });
  await letTimePass(pool, conversationId, 30);
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId, waitingSince });
  expect(await readEvents(pool, workspaceId, 'conversation.ring_passed')).toEqual([
    { ring: 1, change: 'relax', skills: spanish(3) },
    { ring: 2, change: 'relax', skills: spanish(2) },
  ]);
});

test('after the workers were away, every ring that is due passes at once', async () => {
  const teamId = await stage.addTeam();
  const rings = [relaxTo(2, 30), relaxTo(0, 60), end('wait', 90)];
  const { conversationId } = await stage.open(newId(), { teamId, skills: spanish(4), rings });
  await letTimePass(pool, conversationId, 10_000);
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(conversationId)).toMatchObject({
    state: 'waiting',
    ring: 3,
    dueKind: null,
    dueAt: null,
  });
  expect(await readEvents(pool, workspaceId, 'conversation.ring_passed')).toEqual([
    { ring: 1, change: 'relax', skills: spanish(2) },
    { ring: 2, change: 'relax', skills: [] },
    { ring: 3, change: 'fallback', then: 'wait' },
  ]);
});

test('overflow moves a conversation to another team with its wait, and its next ring counts from the same moment', async () => {
  const [from, to] = [await stage.addTeam(), await stage.addTeam()];
  const rings = [overflowTo(to, 30), relaxTo(0, 60), end('wait', 90)];
  const { conversationId } = await stage.open(newId(), { teamId: from, skills: spanish(4), rings });
  const agentId = await stage.addAgent(1, [to]);
  await letTimePass(pool, conversationId, 31);
  const { waitingSince, queuedAt } = await stage.conversation(conversationId);
  await settleAllDue(pool, workspaceId);
  const moved = await stage.conversation(conversationId);
  expect(moved).toMatchObject({ state: 'waiting', teamId: to, ring: 1, waitingSince, queuedAt });
  expect(moved.dueAt!.getTime() - queuedAt!.getTime()).toBe(60_000);
  await letTimePass(pool, conversationId, 30);
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId, teamId: to });
  expect((await readEvents(pool, workspaceId, 'conversation.ring_passed'))[0]).toEqual({
    ring: 1,
    change: 'overflow',
    fromTeamId: from,
    teamId: to,
  });
});

test('overflow through several teams, all due at once, ends in the last one', async () => {
  const teams = [await stage.addTeam(), await stage.addTeam(), await stage.addTeam()] as const;
  const agentId = await stage.addAgent(1, [teams[2]]);
  const rings = [overflowTo(teams[1], 10), overflowTo(teams[2], 20), end('wait', 30)];
  const { conversationId } = await stage.open(newId(), { teamId: teams[0], rings });
  await letTimePass(pool, conversationId, 25);
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(conversationId)).toMatchObject({
    state: 'assigned',
    agentId,
    teamId: teams[2],
    ring: 2,
  });
});

test('rings that pass are in the decisions, and after an overflow why the conversation still waits', async () => {
  const [from, to] = [await stage.addTeam(), await stage.addTeam()];
  const agentId = await stage.addAgent(1, [to], { skills: { spanish: 1 } });
  const rings = [relaxTo(2, 30), overflowTo(to, 60), end('close', 600)];
  const { conversationId } = await stage.open(newId(), { teamId: from, skills: spanish(4), rings });
  await letTimePass(pool, conversationId, 61);
  await settleAllDue(pool, workspaceId);
  const [, ring, why, ...more] = await recordsOf(conversationId);
  expect(ring!.detail).toEqual({
    rings: [
      { change: 'relax', afterSeconds: 30, levels: [{ skill: 'spanish', level: 2 }] },
      { change: 'overflow', afterSeconds: 60, teamId: to },
    ],
    teamId: to,
  });
  expect(ring!.summary).toBe(`After 30 s spanish was relaxed to ≥ 2. After 60 s it overflowed to team ${to}.`);
  expect(why!.summary).toBe(`The conversation waits: agent ${agentId} lacks spanish ≥ 2.`);
  expect(more).toEqual([]);
  await letTimePass(pool, conversationId, 600);
  await settleAllDue(pool, workspaceId);
  expect((await recordsOf(conversationId)).slice(3).map(({ summary }) => summary)).toEqual([
    'Nobody was available for 600 s, so it was closed.',
  ]);
});

test('of many that pass a ring together, each gets its record, also those behind others in the queue', async () => {
  const teamId = await stage.addTeam();
  const agentId = await stage.addAgent(1, [teamId]);
  const opened = [];
  for (let i = 0; i < 6; i += 1)
    opened.push(await stage.open(newId(), { teamId, skills: spanish(4), rings: [relaxTo(0, 30), end('wait', 90)] }));
  const ids = opened.map(({ conversationId }) => conversationId);
  for (const id of ids) await letTimePass(pool, id, 31);
  await relaxDue(pool, { workspaceId, teamId }, ids);
  const [taken, ...left] = await Promise.all(ids.map(recordsOf));
  expect(taken!.map(({ detail }) => detail['chosen'])).toEqual([null, undefined, agentId]);
  for (const records of left) {
    expect(records.slice(1).map(({ summary }) => summary)).toEqual(['After 30 s spanish was dropped.']);
  }
});

test('after a return and after a transfer the newest record says why the conversation waits', async () => {
  const teamId = await stage.addTeam('round_robin', { silenceMinutes: 10 });
  const agentId = await stage.addAgent(1, [teamId]);
  const ref = await stage.open(newId(), { teamId });
  const { conversationId } = ref;
  await setPresence(pool, { workspaceId, agentId, status: 'away' });
  await letTimePass(pool, conversationId, 601);
  await settleAllDue(pool, workspaceId);
  const newestOf = async (count: number) => (await recordsOf(conversationId)).slice(-count).map(({ detail }) => detail);
  expect(await newestOf(2)).toMatchObject([
    { reason: 'silence', from: agentId },
    { chosen: null, candidates: [{ agentId, excluded: 'away' }] },
  ]);
  const to = { kind: 'team', teamId: await stage.addTeam() } as const;
  await assignManually(pool, { workspaceId, conversationId, to, byAgentId: null });
  expect(await newestOf(2)).toMatchObject([{ reason: 'transferred' }, { chosen: null, candidates: [] }]);
});

test('the last fallback closes by the same request as a person, saying that nobody was available', async () => {
  const teamId = await stage.addTeam();
  const ref = await stage.open(newId(), { teamId, rings: [end('close', 60)] });
  const { conversationId, contactId } = ref;
  await letTimePass(pool, conversationId, 61);
  await settleAllDue(pool, workspaceId);
  const closing = await stage.conversation(conversationId);
  expect(closing).toMatchObject({ state: 'waiting', closeReason: 'nobody_available', ring: 1 });
  expect(closing.closeRequestedAt).not.toBeNull();
  expect(await stage.nudgesOf(contactId)).toContain(conversationId);
  // An agent who comes now does not get it any more.
  await stage.addAgent(1, [teamId]);
  expect(await stateOf(conversationId)).toBe('waiting');
  await executeClose(pool, { workspaceId, ...ref });
  expect(await stateOf(conversationId)).toBe('closed');
});

test('where relaxing and closing are due together, those who may take it now come first', async () => {
  const teamId = await stage.addTeam();
  const agentId = await stage.addAgent(1, [teamId]);
  const rings = [relaxTo(0, 30), end('close', 60)];
  const taken = await stage.open(newId(), { teamId, skills: spanish(4), rings });
  const left = await stage.open(newId(), { teamId, skills: spanish(4), rings });
  for (const { conversationId } of [taken, left]) await letTimePass(pool, conversationId, 100);
  await settleAllDue(pool, workspaceId);
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(taken.conversationId)).toMatchObject({
    state: 'assigned',
    agentId,
    closeRequestedAt: null,
  });
  expect(await stage.conversation(left.conversationId)).toMatchObject({ closeReason: 'nobody_available' });
});

test('waiting for the preferred agent ends in time, and anybody gets it', async () => {
  const teamId = await stage.addTeam('longest_idle', { affinity: { withinHours: 24, waitSeconds: 45 } });
  const preferred = await stage.addAgent(1, [teamId]);
  const contact = newId();
  await stage.close(await stage.open(contact, { teamId }));
  await stage.open(newId(), { teamId });
  const { conversationId } = await stage.open(contact, { teamId });
  const agentId = await stage.addAgent(1, [teamId]);
  expect(await stage.conversation(conversationId)).toMatchObject({ awaitedAgentId: preferred, dueKind: 'awaited' });
  await letTimePass(pool, conversationId, 46);
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId, awaitedAgentId: null });
});

test('many that are due in one team pass in one transaction and are served in the order of their wait', async () => {
  const teamId = await stage.addTeam();
  const opened = [];
  for (let i = 0; i < 12; i += 1) {
    opened.push(await stage.open(newId(), { teamId, skills: spanish(4), rings: [relaxTo(0, 30), end('wait', 60)] }));
  }
  const agents = [await stage.addAgent(3, [teamId]), await stage.addAgent(2, [teamId])];
  for (const { conversationId } of opened) await letTimePass(pool, conversationId, 31);
  await relaxDue(
    pool,
    { workspaceId, teamId },
    opened.map(({ conversationId }) => conversationId),
  );
  const states = await Promise.all(opened.map(({ conversationId }) => stateOf(conversationId)));
  expect(states).toEqual([...Array(5).fill('assigned'), ...Array(7).fill('waiting')]);
  expect(await Promise.all(agents.map(stage.loadOf))).toEqual([3, 2]);
});

test('a clock that comes too early, for another team, or after the conversation was taken changes nothing', async () => {
  const teamId = await stage.addTeam();
  const rings = [relaxTo(0, 30), end('close', 60)];
  const { conversationId, contactId } = await stage.open(newId(), { teamId, skills: spanish(4), rings });
  const key = { workspaceId, contactId, conversationId, teamId, lateSeconds: 0 };
  const before = await stage.conversation(conversationId);
  await relaxDue(pool, { workspaceId, teamId }, [conversationId]);
  await settleDue(pool, { ...key, kind: 'ring', needsContact: true });
  for (const kind of ['offer', 'return', 'silence', 'quiet', 'inactivity', 'review'] as const) {
    await settleDue(pool, { ...key, kind, needsContact: false });
  }
  expect(await stage.conversation(conversationId)).toEqual(before);
  await letTimePass(pool, conversationId, 31);
  await relaxDue(pool, { workspaceId, teamId: await stage.addTeam() }, [conversationId]);
  expect(await stage.conversation(conversationId)).toMatchObject({ ring: 0, teamId });
  const agentId = await stage.addAgent(1, [teamId], { skills: { spanish: 5 } });
  await letTimePass(pool, conversationId, 60);
  await relaxDue(pool, { workspaceId, teamId }, [conversationId]);
  await settleDue(pool, { ...key, kind: 'ring', needsContact: true });
  expect(await stage.conversation(conversationId)).toMatchObject({
    state: 'assigned',
    agentId,
    ring: 0,
    dueKind: null,
  });
});

test('one clock seen by two workers at once passes one ring', async () => {
  const teamId = await stage.addTeam();
  const rings = [relaxTo(2, 30), relaxTo(0, 60), end('close', 90)];
  const { conversationId, contactId } = await stage.open(newId(), { teamId, skills: spanish(4), rings });
  const due = { workspaceId, contactId, conversationId, teamId, kind: 'ring', lateSeconds: 0 } as const;
  await letTimePass(pool, conversationId, 31);
  await Promise.all([pool, other, pool, other].map((by) => settleDue(by, { ...due, needsContact: false })));
  expect(await stage.conversation(conversationId)).toMatchObject({ ring: 1 });
  await letTimePass(pool, conversationId, 60);
  await Promise.all([pool, other, pool, other].map((by) => settleDue(by, { ...due, needsContact: false })));
  await Promise.all([pool, other, pool, other].map((by) => settleDue(by, { ...due, needsContact: true })));
  expect(await readEvents(pool, workspaceId, 'conversation.ring_passed')).toHaveLength(3);
  expect(await readEvents(pool, workspaceId, 'conversation.close_requested')).toHaveLength(1);
});

test('who gets no reply in time goes back to the queue at the original wait; a reply, or nothing to answer, winds the clock anew', async () => {
  const teamId = await stage.addTeam('round_robin', { silenceMinutes: 10 });
  const agentId = await stage.addAgent(3, [teamId]);
  const [silent, answered] = [await stage.open(newId(), { teamId }), await stage.open(newId(), { teamId })];
  await addReply(pool, { workspaceId, conversationId: answered.conversationId, agentId, text: 'Hi' });
  for (const { conversationId } of [silent, answered]) await letTimePass(pool, conversationId, 601);
  await setPresence(pool, { workspaceId, agentId, status: 'away' });
  expect(await settleAllDue(pool, workspaceId)).toBe(2);
  expect(await stage.conversation(silent.conversationId)).toMatchObject({
    state: 'waiting',
    agentId: null,
    passedOver: [agentId],
  });
  const kept = await stage.conversation(answered.conversationId);
  expect(kept).toMatchObject({ state: 'assigned', agentId, dueKind: 'silence' });
  expect(kept.dueAt!.getTime()).toBeGreaterThan(Date.now() + 500_000);
  const { rows } = await pool.query<{ original: boolean }>(
    'SELECT waiting_since = routed_at AS original FROM conversations WHERE id = $1',
    [silent.conversationId],
  );
  expect(rows).toEqual([{ original: true }]);
  expect(await readEvents(pool, workspaceId, 'conversation.unassigned')).toMatchObject([
    { agentId, reason: 'silence' },
  ]);
  expect(await stage.loadOf(agentId)).toBe(1);
});

test('silence is counted from what has not been answered, not from the assignment', async () => {
  const teamId = await stage.addTeam('round_robin', { silenceMinutes: 10 });
  const agentId = await stage.addAgent(3, [teamId]);
  const contact = newId();
  const { conversationId } = await stage.open(contact, { teamId });
  await addReply(pool, { workspaceId, conversationId, agentId, text: 'Hi' });
  await letTimePass(pool, conversationId, 540);
  await stage.write(contact, { text: 'And now?' });
  await letTimePass(pool, conversationId, 120);
  await settleAllDue(pool, workspaceId);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', dueKind: 'silence' });
  await letTimePass(pool, conversationId, 481);
  await setPresence(pool, { workspaceId, agentId, status: 'offline' });
  await settleAllDue(pool, workspaceId);
  expect(await stateOf(conversationId)).toBe('waiting');
});

test('changed rules of a team wind the clocks of what its agents have anew, also of an agent who has gone', async () => {
  const teamId = await stage.addTeam();
  const [here, gone] = [await stage.addAgent(1, [teamId]), await stage.addAgent(1, [teamId])];
  const refs = [await stage.open(newId(), { teamId }), await stage.open(newId(), { teamId })];
  await setPresence(pool, { workspaceId, agentId: gone, status: 'offline' });
  await stage.setRules(teamId, { silenceMinutes: 10, offline: { then: 'return', graceSeconds: 60 } });
  await pool.query('UPDATE teams SET review_at = now() WHERE id = $1', [teamId]);
  const mine = async () =>
    (await readReviews(pool, { maxRows: 100 })).filter((review) => review.workspaceId === workspaceId);
  const [review] = await mine();
  expect(review).toMatchObject({ teamId });
  expect(await reviewPage(pool, review!, null)).toEqual({ after: null, skipped: [] });
  const rows = await Promise.all(refs.map(({ conversationId }) => stage.conversation(conversationId)));
  expect(rows.find(({ agentId }) => agentId === here)).toMatchObject({ dueKind: 'silence', returnAt: null });
  expect(rows.find(({ agentId }) => agentId === gone)).toMatchObject({ dueKind: 'return' });
  expect(isLastRound(review!)).toBe(true);
  // Changed again meanwhile: that review is still to come.
  await pool.query('UPDATE teams SET review_at = clock_timestamp() WHERE id = $1', [teamId]);
  await finishReview(pool, review!);
  const [next] = await mine();
  await finishReview(pool, next!);
  expect(await mine()).toEqual([]);
});

test('changed rules of a workspace reach every team and what has none, page by page', async () => {
  const agentId = await stage.addAgent(2);
  const { conversationId } = await stage.open(newId());
  const { contactId } = await stage.write(newId());
  const opened = await openByUser(pool, {
    workspaceId,
    contactId,
    source: 'user',
    to: { kind: 'agent', agentId, force: false },
    byAgentId: null,
  });
  if (opened.kind !== 'opened') throw new Error(opened.kind);
  await pool.query(`UPDATE workspaces SET settings = '{"inactivityMinutes": 30}', review_at = now() WHERE id = $1`, [
    workspaceId,
  ]);
  const reviews = await readReviews(pool, { maxRows: 100 });
  const review = reviews.find((candidate) => candidate.workspaceId === workspaceId)!;
  // Who has read the old rules may still be writing.
  expect(isLastRound(review)).toBe(false);
  expect(isLastRound({ ...review, ageMs: 10_000 })).toBe(true);
  expect(await reviewPage(pool, review, null)).toEqual({ after: null, skipped: [] });
  for (const id of [conversationId, opened.conversationId]) {
    expect(await stage.conversation(id)).toMatchObject({ state: 'assigned', dueKind: 'inactivity' });
  }
  await finishReview(pool, review);
});

test('the longest due come first, and one that is put off lets the others pass', async () => {
  const rings = [end('wait', 30)];
  const refs = [
    await stage.open(newId(), { rings }),
    await stage.open(newId(), { rings }),
    await stage.open(newId(), { rings }),
  ];
  for (const [i, { conversationId }] of refs.entries()) await letTimePass(pool, conversationId, 100 - i * 10);
  const mine = async () =>
    (await readDue(pool, { maxRows: 100 }))
      .filter((due) => due.workspaceId === workspaceId)
      .map((due) => due.conversationId);
  const ids = refs.map(({ conversationId }) => conversationId);
  expect(await mine()).toEqual(ids);
  await putOff(pool, { workspaceId, ...refs[0]! });
  expect(await mine()).toEqual(ids.slice(1));
  await letTimePass(pool, ids[0]!, 31);
  expect(await mine()).toContain(ids[0]);
});

test('rings, transfers, closes and agents who come and go, from two processes at once, meet no deadlock and lose no unit', async () => {
  const teams = [
    await stage.addTeam(),
    await stage.addTeam('least_loaded'),
    await stage.addTeam('longest_idle'),
  ] as const;
  const agents = await Promise.all([
    stage.addAgent(2, [teams[0], teams[1]]),
    stage.addAgent(3, [teams[1], teams[2]]),
    stage.addAgent(2, [teams[2], teams[0]], { skills: { spanish: 3 } }),
  ]);
  const refs = await Promise.all(
    Array.from({ length: 24 }, (_, i) =>
      stage.open(newId(), {
        teamId: teams[i % 3]!,
        skills: spanish(4),
        rings: [
          relaxTo(2, 10),
          overflowTo(teams[(i + 1) % 3]!, 20),
          relaxTo(0, 30),
          overflowTo(teams[(i + 2) % 3]!, 40),
          end('close', 50),
        ],
      }),
    ),
  );
  for (let round = 0; round < 5; round += 1) {
    for (const { conversationId } of refs) await letTimePass(pool, conversationId, 10);
    const clocksOf = async (by: pg.Pool) => {
      const due = (await readDue(by, { maxRows: 100 })).filter((clock) => clock.workspaceId === workspaceId);
      await Promise.all(
        teams.map((teamId) =>
          relaxDue(
            by,
            { workspaceId, teamId },
            due.filter((clock) => clock.teamId === teamId && !clock.needsContact).map((clock) => clock.conversationId),
          ),
        ),
      );
      for (const clock of due.filter(({ needsContact }) => needsContact)) await settleDue(by, clock);
    };
    const { conversationId } = refs[round]!;
    await Promise.all([
      clocksOf(pool),
      clocksOf(other),
      setPresence(other, { workspaceId, agentId: agents[round % 3]!, status: round % 2 === 0 ? 'away' : 'online' }),
      assignManually(other, {
        workspaceId,
        conversationId: refs[round + 10]!.conversationId,
        to: { kind: 'team', teamId: teams[round % 3]! },
        byAgentId: null,
      }),
      requestClose(pool, { workspaceId, conversationId, agentId: null }).then(() =>
        executeClose(pool, { workspaceId, ...refs[round]! }),
      ),
    ]);
    await expectSound(pool, workspaceId);
  }
});

test('clocks that find nothing to do are wound anew together, and only those really due are left', async () => {
  const teamId = await stage.addTeam('round_robin', { silenceMinutes: 10, quietMinutes: 15 });
  const agentId = await stage.addAgent(4, [teamId]);
  const refs = [];
  for (let i = 0; i < 4; i += 1) refs.push(await stage.open(newId(), { teamId }));
  const [silent, answered, ended, moved] = refs.map(({ conversationId }) => conversationId) as [
    string,
    string,
    string,
    string,
  ];
  for (const conversationId of [answered, ended]) {
    await addReply(pool, { workspaceId, conversationId, agentId, text: 'Hi' });
  }
  for (const id of [silent, answered, moved]) await letTimePass(pool, id, 601);
  await letTimePass(pool, ended, 901);
  const due = (await readDue(pool, { maxRows: 1_000 })).filter((clock) => clock.workspaceId === workspaceId);
  await setPresence(pool, { workspaceId, agentId, status: 'away' });
  await assignManually(pool, { workspaceId, conversationId: moved, to: { kind: 'queue' }, byAgentId: null });
  const before = await stage.conversation(moved);
  const [group, ...others] = groupDue(due);
  expect(others).toEqual([]);
  const left = await settleTogether(pool, group!);
  expect(new Map(left.map(({ conversationId, kind }) => [conversationId, kind]))).toEqual(
    new Map([
      [silent, 'silence'],
      // Answered, so it is not silent; but nobody has written for so long.
      [ended, 'quiet'],
      [moved, 'silence'],
    ]),
  );
  const { dueKind, dueAt } = await stage.conversation(answered);
  expect(dueKind).toBe('quiet');
  expect((dueAt!.getTime() - Date.now()) / 60_000).toBeCloseTo(5, 0);
  for (const clock of left) await settleDue(pool, clock);
  expect(await stage.conversation(moved)).toEqual(before);
  expect(await stage.conversation(silent)).toMatchObject({ passedOver: [agentId] });
  expect((await stage.conversation(ended)).quietSince).not.toBeNull();
});

test('what a read leaves out are the clocks of teams, and of conversations without one', async () => {
  const teamId = await stage.addTeam();
  const [out, kept] = [
    await stage.open(newId(), { teamId, rings: [end('wait', 30)] }),
    await stage.open(newId(), { rings: [end('wait', 30)] }),
  ];
  for (const { conversationId } of [out, kept]) await letTimePass(pool, conversationId, 60);
  const due = await readDue(pool, { maxRows: 1_000, exceptIds: [teamId] });
  const ids = due.map(({ conversationId }) => conversationId);
  expect(ids).toContain(kept.conversationId);
  expect(ids).not.toContain(out.conversationId);
});

test('a review that waits for somebody who goes offline sees that they have gone', async () => {
  const [teamId, elsewhere] = [
    await stage.addTeam('round_robin', { offline: { then: 'return', graceSeconds: 60 } }),
    await stage.addTeam(),
  ];
  // Not of the conversation's team, so that nothing but the conversation itself makes the review wait.
  const agentId = await stage.addAgent(1, [elsewhere]);
  const { conversationId } = await stage.open(newId(), { teamId });
  const to = { kind: 'agent', agentId, force: false } as const;
  await assignManually(pool, { workspaceId, conversationId, to, byAgentId: null });
  await pool.query('UPDATE teams SET review_at = now() WHERE id = $1', [teamId]);
  const review = (await readReviews(pool, { maxRows: 100 })).find((candidate) => candidate.teamId === teamId)!;
  const leaving = await other.connect();
  try {
    await leaving.query('BEGIN');
    const lock = await lockMatching(leaving, workspaceId, { teamIds: [elsewhere], agentIds: [agentId] });
    await changePresence(leaving, lock, { agentId, status: 'offline' });
    const reviewed = reviewPage(pool, review, null);
    await eventually('the review waits', async () => {
      const { rowCount } = await pool.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
      );
      return rowCount === 1;
    });
    await leaving.query('COMMIT');
    expect(await reviewed).toEqual({ after: null, skipped: [] });
  } finally {
    leaving.release();
  }
  const planned = await stage.conversation(conversationId);
  expect(planned).toMatchObject({ dueKind: 'return', dueAt: planned.returnAt });
  expect(planned.returnAt).not.toBeNull();
  await finishReview(pool, review);
});
