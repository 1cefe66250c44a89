import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { executeClose, requestClose } from '../../store/closing.ts';
import { ingestMessages } from '../../store/ingest.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { createQuietStage, type Opened, type QuietStage } from './quiet-stage.ts';

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

/** Runs `first` up to the contact's lock, then `second`, and only then lets both go on, in this order. */
async function inOrder(
  { contactId }: Opened,
  first: () => Promise<unknown>,
  second: () => Promise<unknown>,
): Promise<void> {
  const holder = await database.pool.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM contacts WHERE id = $1 FOR UPDATE', [contactId]);
  const running: Promise<unknown>[] = [];
  for (const work of [first, second]) {
    running.push(work());
    await eventually('waits for the contact', async () => (await countWaiting()) === running.length);
  }
  await holder.query('COMMIT');
  holder.release();
  await Promise.all(running);
}

async function countWaiting(): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(
    `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
  );
  return rows[0]!.count;
}

test('a message just before the going quiet is seen, and nothing goes quiet', async () => {
  const agentId = await stage.addAgent(5, [teamId]);
  const opened = await stage.open();
  await stage.age(opened, 11);
  await inOrder(
    opened,
    () => stage.write(opened.contact),
    () => stage.quiet(opened),
  );
  expect(await stage.conversation(opened.conversationId)).toMatchObject({ quietSince: null });
  expect(await stage.wakesOf(opened)).toEqual([]);
  expect(await stage.loadOf(agentId)).toBe(1);
});

test('a message just after the going quiet leaves a wake, which makes it count again', async () => {
  const agentId = await stage.addAgent(5, [teamId]);
  const opened = await stage.open();
  await stage.age(opened, 11);
  await inOrder(
    opened,
    () => stage.quiet(opened),
    () => stage.write(opened.contact),
  );
  expect(await stage.wakesOf(opened)).toEqual([opened.conversationId]);
  expect(await stage.loadOf(agentId)).toBe(0);
  expect(await stage.wake(opened)).toBe('kept');
  expect(await stage.loadOf(agentId)).toBe(1);
});

test('a message whose batch began before the going quiet, and is written after it, wakes as well', async () => {
  await stage.addAgent(5, [teamId]);
  // The batch locks contacts by id: it has begun, but not come to the second one.
  const held = await stage.open();
  const opened = await stage.open();
  await stage.age(opened, 11);
  const holder = await database.pool.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM contacts WHERE id = $1 FOR UPDATE', [held.contactId]);
  const ingesting = ingestMessages(database.pool, [stage.itemOf(held.contact), stage.itemOf(opened.contact)]);
  await eventually('the batch waits', async () => (await countWaiting()) === 1);
  expect(await stage.quiet(opened)).toBe(true);
  await holder.query('COMMIT');
  holder.release();
  await ingesting;
  expect(await stage.wakesOf(opened)).toEqual([opened.conversationId]);
  expect(await stage.wake(opened)).toBe('kept');
});

test('however messages and the going quiet meet, each conversation is counted or has a wake', async () => {
  const agentId = await stage.addAgent(100, [teamId]);
  for (let round = 0; round < 4; round += 1) {
    const opened = await Promise.all(Array.from({ length: 10 }, () => stage.open()));
    for (const each of opened) await stage.age(each, 11);
    await Promise.all(
      opened.flatMap((each, i) => {
        const calls = [() => stage.quiet(each), () => stage.write(each.contact), () => stage.write(each.contact)];
        return (i % 2 === 0 ? calls : calls.toReversed()).map((call) => call());
      }),
    );
    for (const each of opened) {
      const { quietSince } = await stage.conversation(each.conversationId);
      const wakes = await stage.wakesOf(each);
      if (quietSince === null) expect(wakes).toEqual([]);
      else expect(wakes.length).toBeGreaterThan(0);
    }
    await Promise.all(opened.flatMap((each) => [stage.wake(each), stage.wake(each)]));
    for (const { conversationId } of opened) {
      expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', quietSince: null });
    }
    expect(await stage.loadOf(agentId)).toBe(10 * (round + 1));
  }
  expect(await stage.imbalances()).toEqual([]);
});

test('however wakes, transfers, closes and the going quiet meet, loads are what is held and nobody waits beside room', async () => {
  const { workspaceId } = stage;
  const agents = [
    await stage.addAgent(3, [teamId]),
    await stage.addAgent(3, [teamId]),
    await stage.addAgent(3, [teamId]),
  ];
  for (let round = 0; round < 6; round += 1) {
    const opened = await Promise.all(Array.from({ length: 8 }, () => stage.open()));
    for (const each of opened) await stage.age(each, 11);
    await Promise.all(opened.slice(0, 6).map(stage.quiet));
    await Promise.all(opened.map((each) => stage.write(each.contact)));
    await Promise.all(
      opened.flatMap((each, i) => [
        stage.wake(each),
        stage.assign(each, i % 2 === 0 ? { kind: 'queue' } : { kind: 'agent', agentId: agents[i % 3]!, force: false }),
        stage.wake(each),
        i % 4 === 3 ? stage.close(each) : stage.quiet(each),
      ]),
    );
    expect(await stage.imbalances()).toEqual([]);
    for (const each of opened) await stage.close(each);
    expect(await stage.imbalances()).toEqual([]);
  }
  const { rows } = await database.pool.query('SELECT load FROM agents WHERE workspace_id = $1', [workspaceId]);
  expect(rows).toEqual(agents.map(() => ({ load: 0 })));
});

test('a wake against a close, in both orders: nothing is given back twice, and nothing stays taken', async () => {
  const agentId = await stage.addAgent(5, [teamId]);
  for (const closesFirst of [true, false]) {
    const sleeper = await stage.openQuiet();
    await stage.write(sleeper.contact);
    const close = () => requestClose(database.pool, { ...stage.keyOf(sleeper), agentId: null });
    if (closesFirst) await close();
    expect(await stage.wake(sleeper)).toBe(closesFirst ? 'unchanged' : 'kept');
    expect(await stage.loadOf(agentId)).toBe(closesFirst ? 0 : 1);
    if (!closesFirst) await close();
    await Promise.all([executeClose(database.pool, stage.keyOf(sleeper)), stage.wake(sleeper)]);
    expect(await stage.loadOf(agentId)).toBe(0);
  }
  expect(await stage.imbalances()).toEqual([]);
});
