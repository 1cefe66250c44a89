import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { setPresence } from '../../store/agents.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { ingestMessages } from '../../store/ingest.ts';
import { addReply } from '../../store/replies.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createQuietStage, type QuietStage } from './quiet-stage.ts';

let database: TestDatabase;
let stage: QuietStage;
let teamId: string;

beforeAll(async () => {
  database = await createTestDatabase({ poolSize: 20 });
});
beforeEach(async () => {
  stage = await createQuietStage(database.pool);
  ({ teamId } = stage);
});
afterAll(() => database?.drop());

test('where nobody has written for the team’s time, a conversation stays its agent’s and gives its room to who waits', async () => {
  const agentId = await stage.addAgent(5, [teamId]);
  const phone = await stage.addChannel(5);
  const [call, next] = [await stage.open(phone), await stage.open()];
  expect(await stage.conversation(next.conversationId)).toMatchObject({ state: 'waiting' });
  await stage.age(call, 11);
  expect(await stage.quiet(call)).toBe(true);
  const { quietSince, ...now } = await stage.conversation(call.conversationId);
  expect(now).toMatchObject({ state: 'assigned', agentId, dueKind: null });
  expect(quietSince).toBeInstanceOf(Date);
  expect(await stage.conversation(next.conversationId)).toMatchObject({ state: 'assigned', agentId });
  expect(await stage.loadOf(agentId)).toBe(1);
  expect(await stage.countEvents(call, 'conversation.quiet')).toBe(1);
  expect(await stage.imbalances()).toEqual([]);
  expect(await stage.quiet(call)).toBe(false);
  expect(await stage.countEvents(call, 'conversation.quiet')).toBe(1);
  expect(await stage.imbalances()).toEqual([]);
});

test('a message of either side, or the assignment, within the time keeps it counting, and its clock is set to then', async () => {
  const { workspaceId } = stage;
  const agentId = await stage.addAgent(5, [teamId]);
  const [written, answered, assigned] = [await stage.open(), await stage.open(), await stage.open()];
  for (const opened of [written, answered, assigned]) await stage.age(opened, 11);
  await stage.write(written.contact);
  await addReply(database.pool, { workspaceId, conversationId: answered.conversationId, agentId, text: 'Well?' });
  const setAssigned = `UPDATE conversations SET assigned_at = now() - interval '9 min' WHERE id = $1`;
  await database.pool.query(setAssigned, [assigned.conversationId]);
  for (const [opened, minutes] of [
    [written, 10],
    [answered, 10],
    [assigned, 1],
  ] as const) {
    expect(await stage.quiet(opened)).toBe(false);
    const { quietSince, dueKind, dueAt } = await stage.conversation(opened.conversationId);
    expect([quietSince, dueKind]).toEqual([null, 'quiet']);
    const inMinutes = (dueAt!.getTime() - Date.now()) / 60_000;
    expect(Math.abs(inMinutes - minutes)).toBeLessThan(0.2);
  }
  expect(await stage.loadOf(agentId)).toBe(3);
});

test('the team’s rule as it is now decides: a longer time, or none', async () => {
  await stage.addAgent(5, [teamId]);
  const opened = await stage.open();
  await stage.age(opened, 11);
  await stage.setRules(teamId, { quietMinutes: 30 });
  expect(await stage.quiet(opened)).toBe(false);
  expect(await stage.conversation(opened.conversationId)).toMatchObject({ quietSince: null, dueKind: 'quiet' });
  await stage.setRules(teamId, { quietMinutes: null });
  expect(await stage.quiet(opened)).toBe(false);
  expect(await stage.conversation(opened.conversationId)).toMatchObject({ quietSince: null, dueKind: null });
  await stage.setRules(teamId, { quietMinutes: 10 });
  expect(await stage.quiet(opened)).toBe(true);
});

test('what waits, is being closed or is closed does not go quiet', async () => {
  const waiting = await stage.open();
  await stage.age(waiting, 11);
  expect(await stage.quiet(waiting)).toBe(false);
  await stage.addAgent(5, [teamId]);
  const closing = await stage.open();
  await stage.age(closing, 11);
  await requestClose(database.pool, { ...stage.keyOf(closing), agentId: null });
  expect(await stage.quiet(closing)).toBe(false);
  await executeClose(database.pool, stage.keyOf(closing));
  expect(await stage.quiet(closing)).toBe(false);
  expect(await stage.wake(closing)).toBe('unchanged');
  expect(await stage.imbalances()).toEqual([]);
});

test('a batch with several messages to a quiet conversation leaves one wake for its contact, and ingest changes nothing else', async () => {
  const agentId = await stage.addAgent(5, [teamId]);
  const [one, two, loud] = [await stage.openQuiet(), await stage.openQuiet(), await stage.open()];
  const items = [one, two, one, loud, one, two].map(({ contact }) => stage.itemOf(contact));
  await ingestMessages(database.pool, [...items, items[0]!]);
  expect(await stage.wakesOf(one)).toEqual([one.conversationId]);
  expect(await stage.wakesOf(two)).toEqual([two.conversationId]);
  expect(await stage.wakesOf(loud)).toEqual([]);
  expect(await stage.conversation(one.conversationId)).toMatchObject({ quietSince: expect.any(Date) });
  expect(await stage.loadOf(agentId)).toBe(1);
  // What was delivered before is no news.
  await ingestMessages(database.pool, items);
  expect(await stage.wakesOf(one)).toEqual([one.conversationId]);
  expect((await stage.messagesOf(one.contactId)).map((message) => message.conversationId)).toEqual(
    Array<string>(4).fill(one.conversationId),
  );
});

test('when the contact writes again it counts again, with its units, if its agent is online and has room', async () => {
  const agentId = await stage.addAgent(5, [teamId]);
  const phone = await stage.addChannel(4);
  const call = await stage.openQuiet(phone);
  await stage.open();
  await stage.write(call.contact, { channel: phone });
  expect(await stage.wake(call)).toBe('kept');
  expect(await stage.conversation(call.conversationId)).toMatchObject({
    state: 'assigned',
    agentId,
    quietSince: null,
    dueKind: 'quiet',
  });
  expect(await stage.loadOf(agentId)).toBe(5);
  expect(await stage.countEvents(call, 'conversation.woken')).toBe(1);
  expect(await stage.imbalances()).toEqual([]);
});

test('without room it goes back to the queue with its first wait, before those who came later', async () => {
  const agentId = await stage.addAgent(1, [teamId]);
  const sleeper = await stage.openQuiet();
  const busy = await stage.open();
  const later = await stage.open();
  await stage.write(sleeper.contact);
  expect(await stage.wake(sleeper)).toBe('returned');
  const now = await stage.conversation(sleeper.conversationId);
  expect(now).toMatchObject({ state: 'waiting', teamId, agentId: null, quietSince: null, passedOver: [agentId] });
  const { waitingSince } = await stage.conversation(later.conversationId);
  expect(now.waitingSince!.getTime()).toBeLessThan(waitingSince!.getTime());
  expect(await stage.loadOf(agentId)).toBe(1);
  expect(await stage.countEvents(sleeper, 'conversation.unassigned')).toBe(1);
  expect(await stage.countEvents(sleeper, 'conversation.woken')).toBe(0);
  expect(await stage.imbalances()).toEqual([]);
  await stage.close(busy);
  expect(await stage.conversation(sleeper.conversationId)).toMatchObject({ state: 'assigned', agentId });
  expect(await stage.imbalances()).toEqual([]);
});

test('without room at its agent it goes to a colleague who has some, in the same transaction', async () => {
  const agentId = await stage.addAgent(1, [teamId]);
  const sleeper = await stage.openQuiet();
  await stage.open();
  const colleague = await stage.addAgent(1, [teamId]);
  await stage.write(sleeper.contact);
  expect(await stage.wake(sleeper)).toBe('returned');
  expect(await stage.conversation(sleeper.conversationId)).toMatchObject({ state: 'assigned', agentId: colleague });
  expect([await stage.loadOf(agentId), await stage.loadOf(colleague)]).toEqual([1, 1]);
  expect(await stage.imbalances()).toEqual([]);
});

test('a limit of its channel that is used up is no room', async () => {
  const phone = await stage.addChannel(1);
  const agentId = await stage.addAgent(9, [teamId], { channelLimits: { [phone]: 1 } });
  const sleeper = await stage.openQuiet(phone);
  await stage.open(phone);
  await stage.write(sleeper.contact, { channel: phone });
  expect(await stage.wake(sleeper)).toBe('returned');
  expect(await stage.loadOf(agentId)).toBe(1);
  expect(await stage.imbalances()).toEqual([]);
});

test('an agent who is not online gets nothing back: it goes to the queue', async () => {
  const { workspaceId } = stage;
  const agentId = await stage.addAgent(5, [teamId]);
  const sleeper = await stage.openQuiet();
  await setPresence(database.pool, { workspaceId, agentId, status: 'away' });
  await stage.write(sleeper.contact);
  expect(await stage.wake(sleeper)).toBe('returned');
  expect(await stage.conversation(sleeper.conversationId)).toMatchObject({ state: 'waiting', agentId: null });
  expect(await stage.loadOf(agentId)).toBe(0);
  expect(await stage.imbalances()).toEqual([]);
});

test('one that was given to its agent by hand, and has no team, goes back to the default team’s queue', async () => {
  const { workspaceId, defaultTeamId } = stage;
  const agentId = await stage.addAgent(1, [teamId]);
  const sleeper = await stage.openQuiet();
  await database.pool.query('UPDATE conversations SET team_id = NULL WHERE id = $1', [sleeper.conversationId]);
  await setPresence(database.pool, { workspaceId, agentId, status: 'offline' });
  await stage.write(sleeper.contact);
  expect(await stage.wake(sleeper)).toBe('returned');
  expect(await stage.conversation(sleeper.conversationId)).toMatchObject({ state: 'waiting', teamId: defaultTeamId });
  expect(await stage.imbalances()).toEqual([]);
});

test('many wakes at once wake once', async () => {
  const agentId = await stage.addAgent(5, [teamId]);
  const sleeper = await stage.openQuiet();
  await stage.write(sleeper.contact);
  const outcomes = await Promise.all(Array.from({ length: 12 }, () => stage.wake(sleeper)));
  expect(outcomes.filter((outcome) => outcome === 'kept')).toHaveLength(1);
  expect(outcomes.filter((outcome) => outcome === 'unchanged')).toHaveLength(11);
  expect(await stage.countEvents(sleeper, 'conversation.woken')).toBe(1);
  expect(await stage.loadOf(agentId)).toBe(1);
});

test('a wake that comes so late that the conversation went quiet again changes nothing', async () => {
  const agentId = await stage.addAgent(5, [teamId]);
  const sleeper = await stage.openQuiet();
  await stage.write(sleeper.contact);
  expect(await stage.wake(sleeper)).toBe('kept');
  await stage.age(sleeper, 11);
  expect(await stage.quiet(sleeper)).toBe(true);
  expect(await stage.wake(sleeper)).toBe('unchanged');
  expect(await stage.loadOf(agentId)).toBe(0);
  await stage.write(sleeper.contact);
  expect(await stage.wake(sleeper)).toBe('kept');
  expect(await stage.loadOf(agentId)).toBe(1);
});

test('a reply to a quiet conversation does not wake it', async () => {
  const { workspaceId } = stage;
  const agentId = await stage.addAgent(5, [teamId]);
  const sleeper = await stage.openQuiet();
  const { conversationId } = sleeper;
  await addReply(database.pool, { workspaceId, conversationId, agentId, text: 'Still there?' });
  expect(await stage.wakesOf(sleeper)).toEqual([]);
  expect(await stage.wake(sleeper)).toBe('unchanged');
  expect(await stage.conversation(conversationId)).toMatchObject({ quietSince: expect.any(Date) });
  expect(await stage.imbalances()).toEqual([]);
});

test('a transfer or a close of a quiet conversation gives back nothing twice', async () => {
  const [agentId, other] = [await stage.addAgent(2, [teamId]), await stage.addAgent(2, [], { online: false })];
  const [toAgent, toQueue, closed] = [await stage.openQuiet(), await stage.openQuiet(), await stage.openQuiet()];
  expect(await stage.assign(toAgent, { kind: 'agent', agentId: other, force: false })).toEqual({ kind: 'done' });
  expect(await stage.assign(toQueue, { kind: 'queue' })).toEqual({ kind: 'done' });
  await stage.close(closed);
  expect(await stage.conversation(toAgent.conversationId)).toMatchObject({ agentId: other, quietSince: null });
  // Back at its agent, as nobody else is there, and counting.
  expect(await stage.conversation(toQueue.conversationId)).toMatchObject({ agentId, quietSince: null });
  expect([await stage.loadOf(agentId), await stage.loadOf(other)]).toEqual([1, 1]);
  for (const opened of [toAgent, toQueue, closed]) expect(await stage.wake(opened)).toBe('unchanged');
  expect(await stage.imbalances()).toEqual([]);
});
