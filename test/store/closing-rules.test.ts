import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createCloseCategory } from '../../store/close-categories.ts';
import { closeInactive, executeClose, requestClose, writeCloseRequest } from '../../store/closing.ts';
import { transact } from '../../store/database.ts';
import { addReply } from '../../store/replies.ts';
import { updateWorkspaceSettings, type CloseNotes, type WorkspaceSettings } from '../../store/settings.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage, findImbalances, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase({ poolSize: 20 });
});
beforeEach(async () => {
  stage = await createStage(database.pool);
});
afterAll(() => database?.drop());

interface Opened {
  readonly contact: string;
  readonly contactId: string;
  readonly conversationId: string;
}

const open = async (): Promise<Opened> => {
  const contact = newId();
  return { contact, ...(await stage.open(contact)) };
};
const keyOf = ({ contactId, conversationId }: Opened) => ({
  workspaceId: stage.workspaceId,
  contactId,
  conversationId,
});
const set = (settings: Partial<WorkspaceSettings>) =>
  updateWorkspaceSettings(database.pool, { workspaceId: stage.workspaceId, settings });
const close = ({ conversationId }: Opened, notes: { category?: string; summary?: string } = {}) =>
  requestClose(database.pool, { workspaceId: stage.workspaceId, conversationId, agentId: null, ...notes });
const addCategory = (name: string) => createCloseCategory(database.pool, { workspaceId: stage.workspaceId, name });
const inactive = (opened: Opened) => closeInactive(database.pool, keyOf(opened));

/** As if all that has happened had happened so much earlier. */
async function age({ conversationId }: Opened, minutes: number): Promise<void> {
  const earlier = `- $2 * interval '1 min'`;
  const values = [conversationId, minutes];
  await database.pool.query(
    `UPDATE messages SET received_at = received_at ${earlier} WHERE conversation_id = $1`,
    values,
  );
  await database.pool.query(`UPDATE conversations SET assigned_at = assigned_at ${earlier} WHERE id = $1`, values);
}

const category = 'solved';
const summary = 'Paid back';

test.each<[CloseNotes, { category?: string; summary?: string }, [string, string][]]>([
  ['off', {}, []],
  ['off', { summary: '' }, []],
  ['off', { category }, [['category', 'not_wanted']]],
  [
    'off',
    { category, summary },
    [
      ['category', 'not_wanted'],
      ['summary', 'not_wanted'],
    ],
  ],
  ['optional', {}, []],
  ['optional', { category, summary }, []],
  ['category_required', { category }, []],
  ['category_required', { summary }, [['category', 'missing']]],
  ['category_required', { category: ' ' }, [['category', 'missing']]],
  ['both_required', { category, summary }, []],
  ['both_required', { category, summary: ' ' }, [['summary', 'missing']]],
  [
    'both_required',
    {},
    [
      ['category', 'missing'],
      ['summary', 'missing'],
    ],
  ],
])('where closing notes are %s, a close with %j has the faults %j', async (closeNotes, notes, faults) => {
  await set({ closeNotes });
  const opened = await open();
  const result = await close(opened, notes);
  const { closeRequestedAt } = await stage.conversation(opened.conversationId);
  if (faults.length === 0) {
    expect(result).toMatchObject({ kind: 'requested' });
    expect(closeRequestedAt).not.toBeNull();
  } else {
    expect(result).toMatchObject({ kind: 'unfit_notes', faults: faults.map(([field, fault]) => ({ field, fault })) });
    expect(closeRequestedAt).toBeNull();
    expect(await stage.nudgesOf(opened.contactId)).toEqual([null]);
  }
});

test('once there are categories, a close that names one must name one of them, of its own workspace', async () => {
  const opened = await open();
  const other = stage;
  stage = await createStage(database.pool);
  const stranger = await open();
  stage = other;
  for (const name of ['refund', 'spam']) await addCategory(name);
  expect(await close(opened, { category: 'refunds' })).toMatchObject({
    faults: [{ field: 'category', fault: 'unknown' }],
    rules: { categories: ['refund', 'spam'], categoryCount: 2 },
  });
  expect(await close(opened, { category: 'refund' })).toMatchObject({ kind: 'requested' });
  expect(await close(await open())).toMatchObject({ kind: 'requested' });
  const { workspaceId } = (await conversationOf(stranger))!;
  const theirs = { workspaceId, conversationId: stranger.conversationId, agentId: null, category: 'anything' };
  expect(await requestClose(database.pool, theirs)).toMatchObject({ kind: 'requested' });
});

async function conversationOf({ conversationId }: Opened): Promise<{ workspaceId: string } | undefined> {
  const { rows } = await database.pool.query<{ workspaceId: string }>(
    'SELECT workspace_id AS "workspaceId" FROM conversations WHERE id = $1',
    [conversationId],
  );
  return rows[0];
}

test('a category named in another case is the one of the list, and stored as it is there', async () => {
  await addCategory('Refund');
  const opened = await open();
  expect(await close(opened, { category: 'refund' })).toMatchObject({ kind: 'requested' });
  expect((await stage.conversation(opened.conversationId)).category).toBe('Refund');
});

test('of many categories, a refusal names the first twenty and counts all', async () => {
  for (let i = 25; i > 0; i -= 1) await addCategory(`c${String(i).padStart(2, '0')}`);
  const result = await close(await open(), { category: 'none of them' });
  if (result.kind !== 'unfit_notes') throw new Error(result.kind);
  expect(result.rules.categoryCount).toBe(25);
  expect(result.rules.categories).toEqual(Array.from({ length: 20 }, (_, i) => `c${String(i + 1).padStart(2, '0')}`));
  expect(await close(await open(), { category: 'c25' })).toMatchObject({ kind: 'requested' });
});

test('a close that changes nothing is answered as before, whatever the rules are now', async () => {
  const opened = await open();
  await close(opened, { category });
  await set({ closeNotes: 'both_required' });
  await addCategory('refund');
  expect(await close(opened)).toEqual({ kind: 'already_requested' });
  await executeClose(database.pool, keyOf(opened));
  expect(await close(opened, { category: 'no such' })).toEqual({ kind: 'already_closed' });
  expect(await stage.conversation(opened.conversationId)).toMatchObject({ category, closeReason: 'agent' });
});

test('a close by rule is exempt from the notes, tells its reason, and is one request among others', async () => {
  await set({ closeNotes: 'both_required' });
  const opened = await open();
  const byRule = { agentId: null, category: null, summary: null, reason: 'nobody_available' } as const;
  const request = () => transact(database.pool, (tx) => writeCloseRequest(tx, keyOf(opened), byRule));
  expect([await request(), await request()]).toEqual([true, false]);
  expect(await close(opened, { category, summary })).toEqual({ kind: 'already_requested' });
  expect(await stage.conversation(opened.conversationId)).toMatchObject({
    closeReason: 'nobody_available',
    category: null,
  });
  expect(await stage.nudgesOf(opened.contactId)).toEqual([null, opened.conversationId]);
});

test('after the time of inactivity a conversation is asked to close, also where notes are required, and its room is freed', async () => {
  await set({ inactivityMinutes: 30, closeNotes: 'both_required' });
  const agentId = await stage.addAgent(1);
  const [opened, next] = [await open(), await open()];
  await age(opened, 31);
  expect(await inactive(opened)).toBe(true);
  expect(await inactive(opened)).toBe(false);
  expect(await stage.nudgesOf(opened.contactId)).toEqual([null, opened.conversationId]);
  await executeClose(database.pool, keyOf(opened));
  expect(await stage.conversation(opened.conversationId)).toMatchObject({ state: 'closed', closeReason: 'inactivity' });
  expect(await stage.conversation(next.conversationId)).toMatchObject({ state: 'assigned', agentId });
  expect(await findImbalances(database.pool, stage.workspaceId)).toEqual([]);
  expect(await inactive(opened)).toBe(false);
});

test('what either side writes cancels the close for inactivity, and it counts at the earliest from the assignment', async () => {
  const { workspaceId } = stage;
  await set({ inactivityMinutes: 30 });
  const agentId = await stage.addAgent(5);
  const [written, answered, assigned] = [await open(), await open(), await open()];
  for (const opened of [written, answered, assigned]) await age(opened, 31);
  await stage.write(written.contact);
  await addReply(database.pool, { workspaceId, conversationId: answered.conversationId, agentId, text: 'Well?' });
  const assign = `UPDATE conversations SET assigned_at = now() - interval '10 min' WHERE id = $1`;
  await database.pool.query(assign, [assigned.conversationId]);
  for (const [opened, minutes] of [
    [written, 30],
    [answered, 30],
    [assigned, 20],
  ] as const) {
    expect(await inactive(opened)).toBe(false);
    const { closeRequestedAt, dueKind, dueAt } = await stage.conversation(opened.conversationId);
    expect([closeRequestedAt, dueKind]).toEqual([null, 'inactivity']);
    expect(Math.abs((dueAt!.getTime() - Date.now()) / 60_000 - minutes)).toBeLessThan(0.2);
  }
});

test('the rule as it is now decides about inactivity, and what waits for an agent is not closed by it', async () => {
  const waiting = await open();
  await set({ inactivityMinutes: 30 });
  await age(waiting, 60);
  expect(await inactive(waiting)).toBe(false);
  await stage.addAgent(5);
  const opened = await open();
  await age(opened, 60);
  await set({ inactivityMinutes: null });
  expect(await inactive(opened)).toBe(false);
  expect(await stage.conversation(opened.conversationId)).toMatchObject({ closeRequestedAt: null, dueKind: null });
});

test('however a message meets the close for inactivity, it is on one side of it', async () => {
  await set({ inactivityMinutes: 30 });
  await stage.addAgent(100);
  const seen = new Set<boolean>();
  for (let round = 0; round < 5; round += 1) {
    const opened = await Promise.all(Array.from({ length: 8 }, open));
    for (const each of opened) await age(each, 31);
    const [first, second, ...rest] = opened;
    await inactive(first!);
    await stage.write(first!.contact);
    await stage.write(second!.contact);
    await inactive(second!);
    await Promise.all(
      rest.flatMap((each, i) => {
        const calls = [() => inactive(each), () => stage.write(each.contact)];
        return (i % 2 === 0 ? calls : calls.toReversed()).map((call) => call());
      }),
    );
    for (const { conversationId, contactId } of opened) {
      const closing = (await stage.conversation(conversationId)).closeRequestedAt !== null;
      const [, last] = await stage.messagesOf(contactId);
      // Closing: it waits for the next conversation, and its actor is told so.
      expect(last!.conversationId).toBe(closing ? null : conversationId);
      expect(await stage.nudgesOf(contactId)).toEqual(closing ? [null, conversationId, null] : [null]);
      seen.add(closing);
    }
  }
  expect(seen.size).toBe(2);
});
