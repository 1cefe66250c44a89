import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { setPresence, updateAgent } from '../../store/agents.ts';
import type { Presence } from '../../routing/conversation.ts';
import { updateWorkspaceSettings } from '../../store/settings.ts';
import { updateTeam } from '../../store/teams.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { letTimePass, settleAllDue } from './passing-time.ts';
import { createStage, findImbalances, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
});
beforeEach(async () => {
  stage = await createStage(database.pool);
});
afterAll(() => database?.drop());

const present = (agentId: string, status: Presence) =>
  setPresence(database.pool, { workspaceId: stage.workspaceId, agentId, status });
const reopenWithin = (reopenMinutes: number) =>
  updateWorkspaceSettings(database.pool, { workspaceId: stage.workspaceId, settings: { reopenMinutes } });

/** A contact whose conversation the agent had, closed so many minutes ago. */
async function served(agentId: string, teamId: string, minutesAgo: number): Promise<string> {
  const contact = newId();
  const opened = await stage.open(contact, { teamId });
  expect(await stage.conversation(opened.conversationId)).toMatchObject({ agentId });
  await stage.close(opened);
  const earlier = `UPDATE conversations SET closed_at = closed_at - $2 * interval '1 min' WHERE id = $1`;
  await database.pool.query(earlier, [opened.conversationId, minutesAgo]);
  return contact;
}

/** Who gets the contact's next conversation, and whether it is a new one. */
async function nextOf(contact: string, teamId: string) {
  const { conversationId } = await stage.open(contact, { teamId });
  return { conversationId, ...(await stage.conversation(conversationId)) };
}

test('who writes soon after the close gets a new conversation with the same agent; later the strategy decides alone', async () => {
  await reopenWithin(15);
  const teamId = await stage.addTeam('priority_list');
  const second = await stage.addAgent(9, [teamId]);
  const [soon, late] = [await served(second, teamId, 14), await served(second, teamId, 16)];
  const first = await stage.addAgent(9, [teamId]);
  await stage.setRules(teamId, { priorityList: [first, second] });
  const next = await nextOf(soon, teamId);
  expect(next).toMatchObject({ state: 'assigned', agentId: second });
  expect(await stage.conversationsOf((await contactOf(next.conversationId))!)).toMatchObject([
    { state: 'closed' },
    { id: next.conversationId, state: 'assigned' },
  ]);
  expect(await nextOf(late, teamId)).toMatchObject({ state: 'assigned', agentId: first });
});

async function contactOf(conversationId: string): Promise<string | undefined> {
  const { rows } = await database.pool.query<{ contactId: string }>(
    'SELECT contact_id AS "contactId" FROM conversations WHERE id = $1',
    [conversationId],
  );
  return rows[0]?.contactId;
}

test('reopening prefers and does not wait: if the agent is busy, another one gets the conversation', async () => {
  await reopenWithin(15);
  const teamId = await stage.addTeam('least_loaded');
  const agentId = await stage.addAgent(1, [teamId]);
  const contact = await served(agentId, teamId, 1);
  await stage.open(newId(), { teamId });
  const other = await stage.addAgent(1, [teamId]);
  expect(await nextOf(contact, teamId)).toMatchObject({ state: 'assigned', agentId: other, awaitedAgentId: null });
});

test('a team’s affinity prefers the last agent within its hours, and not afterwards', async () => {
  const teamId = await stage.addTeam('priority_list', { affinity: { withinHours: 2, waitSeconds: 0 } });
  const second = await stage.addAgent(9, [teamId]);
  const [within, after] = [await served(second, teamId, 119), await served(second, teamId, 121)];
  const first = await stage.addAgent(9, [teamId]);
  await stage.setRules(teamId, { priorityList: [first, second] });
  expect(await nextOf(within, teamId)).toMatchObject({ agentId: second });
  expect(await nextOf(after, teamId)).toMatchObject({ agentId: first });
});

test('it waits for the busy last agent for the team’s seconds at most, while others have room', async () => {
  const teamId = await stage.addTeam('least_loaded', { affinity: { withinHours: 2, waitSeconds: 45 } });
  const agentId = await stage.addAgent(1, [teamId]);
  const contact = await served(agentId, teamId, 1);
  const busy = await stage.open(newId(), { teamId });
  await stage.addAgent(5, [teamId]);
  const waiting = await nextOf(contact, teamId);
  expect(waiting).toMatchObject({ state: 'waiting', awaitedAgentId: agentId, dueKind: 'awaited' });
  const seconds = (waiting.dueAt!.getTime() - Date.now()) / 1_000;
  expect(seconds).toBeGreaterThan(30);
  expect(seconds).toBeLessThanOrEqual(45);
  // Not a needless wait, although the other one has room.
  expect(await findImbalances(database.pool, stage.workspaceId)).toEqual([]);
  await stage.close(busy);
  expect(await stage.conversation(waiting.conversationId)).toMatchObject({ state: 'assigned', agentId });
  expect(await findImbalances(database.pool, stage.workspaceId)).toEqual([]);
});

test('it does not wait for an agent who is offline, lacks what is asked, or is no longer of the team', async () => {
  const teamId = await stage.addTeam('least_loaded', { affinity: { withinHours: 2, waitSeconds: 45 } });
  const agentId = await stage.addAgent(9, [teamId]);
  const [offline, unskilled, gone] = [
    await served(agentId, teamId, 1),
    await served(agentId, teamId, 1),
    await served(agentId, teamId, 1),
  ];
  const other = await stage.addAgent(9, [teamId], { skills: { german: 4 } });
  await present(agentId, 'offline');
  expect(await nextOf(offline, teamId)).toMatchObject({ state: 'assigned', agentId: other });
  await present(agentId, 'online');
  const skills = [{ skill: 'german', level: 3, preferred: false }];
  const { conversationId } = await stage.open(unskilled, { teamId, skills });
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId: other });
  await database.pool.query('DELETE FROM team_members WHERE agent_id = $1', [agentId]);
  expect(await nextOf(gone, teamId)).toMatchObject({ state: 'assigned', agentId: other });
});

test('it waits for one who is away, and gets them when they come back', async () => {
  const teamId = await stage.addTeam('least_loaded', { affinity: { withinHours: 2, waitSeconds: 45 } });
  const agentId = await stage.addAgent(9, [teamId]);
  const contact = await served(agentId, teamId, 1);
  await stage.addAgent(9, [teamId]);
  await present(agentId, 'away');
  const waiting = await nextOf(contact, teamId);
  expect(waiting).toMatchObject({ state: 'waiting', awaitedAgentId: agentId });
  await present(agentId, 'online');
  expect(await stage.conversation(waiting.conversationId)).toMatchObject({ state: 'assigned', agentId });
});

/** A conversation that awaits an agent who has no room, beside another who has. */
async function awaiting(teamId: string) {
  const awaited = await stage.addAgent(1, [teamId], { skills: { spanish: 4 } });
  const contact = await served(awaited, teamId, 1);
  await stage.open(newId(), { teamId });
  const other = await stage.addAgent(1, [teamId], { skills: { spanish: 4 } });
  const next = await nextOf(contact, teamId);
  expect(next).toMatchObject({ state: 'waiting', awaitedAgentId: awaited });
  return { awaited, other, conversationId: next.conversationId };
}

const affinity = { withinHours: 5, waitSeconds: 3_600 };

for (const [change, make] of Object.entries({
  'goes offline': (agentId) => present(agentId, 'offline'),
  'leaves the team': (agentId) => updateAgent(database.pool, { workspaceId: stage.workspaceId, agentId, teamIds: [] }),
  'loses the skill': (agentId) => updateAgent(database.pool, { workspaceId: stage.workspaceId, agentId, skills: {} }),
  'may no longer be waited for': (_agentId, teamId) =>
    updateTeam(database.pool, { workspaceId: stage.workspaceId, teamId, settings: { affinity: null } }),
} satisfies Record<string, (agentId: string, teamId: string) => Promise<unknown>>)) {
  test(`when the agent who is awaited ${change}, the conversation is for everybody`, async () => {
    const teamId = await stage.addTeam('least_loaded', { affinity });
    const { awaited, other, conversationId } = await awaiting(teamId);
    await make(awaited, teamId);
    await settleAllDue(database.pool, stage.workspaceId);
    expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId: other });
    expect(await findImbalances(database.pool, stage.workspaceId)).toEqual([]);
  });
}

test('a ring that relaxes what is asked serves an awaited agent who has room by now', async () => {
  const { workspaceId } = stage;
  const teamId = await stage.addTeam('least_loaded', { affinity });
  const awaited = await stage.addAgent(1, [teamId], { skills: { spanish: 4 } });
  const contact = await served(awaited, teamId, 1);
  const busy = await stage.open(newId(), { teamId });
  const { conversationId } = await stage.open(contact, {
    teamId,
    skills: [{ skill: 'spanish', level: 4, preferred: false }],
    rings: [
      { afterSeconds: 30, kind: 'relax', levels: [{ skill: 'spanish', level: 2 }] },
      { afterSeconds: 90, kind: 'fallback', then: 'wait' },
    ],
  });
  // Not by `updateAgent`, which ends the wait: as if the skill had been another one when it was looked at.
  await database.pool.query('UPDATE agents SET skills = $2 WHERE id = $1', [awaited, JSON.stringify({ spanish: 2 })]);
  await stage.close(busy);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'waiting', awaitedAgentId: awaited });
  await letTimePass(database.pool, conversationId, 31);
  await settleAllDue(database.pool, workspaceId);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', agentId: awaited });
});

test('nobody is awaited for a reopened conversation that the team’s affinity no longer covers', async () => {
  await reopenWithin(1_440);
  const teamId = await stage.addTeam('least_loaded', { affinity: { withinHours: 1, waitSeconds: 600 } });
  const last = await stage.addAgent(1, [teamId]);
  const contact = await served(last, teamId, 5 * 60);
  await stage.open(newId(), { teamId });
  const other = await stage.addAgent(1, [teamId]);
  expect(await nextOf(contact, teamId)).toMatchObject({ state: 'assigned', agentId: other });
});
