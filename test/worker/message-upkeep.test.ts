import { Writable } from 'node:stream';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { readMessagePartitions } from '../../store/message-partitions.ts';
import { startHouseTimer } from '../../worker/house-timer.ts';
import { createMessageUpkeep } from '../../worker/message-upkeep.ts';
import { createStage } from '../store/stage.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase();
  // Without any month, as if nobody had made one for long: each test says which there are.
  for (const { name } of await readMessagePartitions(database.pool)) await database.pool.query(`DROP TABLE ${name}`);
});
afterEach(async () => {
  vi.useRealTimers();
  await database.drop();
});

interface LogLine {
  readonly level: number;
  readonly msg: string;
}

const { info, warn } = pino.levels.values;

/** What the log and the metrics page of one worker say. */
function createWitness() {
  const lines: LogLine[] = [];
  const out = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as LogLine);
      done();
    },
  });
  const metrics = createMetrics({ component: 'test' });
  return {
    metrics,
    logger: pino(out),
    lines,
    /** Undefined: the page does not tell it. */
    async value(name: string, labels = ''): Promise<number | undefined> {
      const page = await metrics.registry.metrics();
      const line = page.split('\n').find((text) => text.startsWith(`switchyard_${name}{`) && text.includes(labels));
      return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1));
    },
  };
}

function createUpkeep({ retentionDays }: { retentionDays?: number } = {}) {
  const witness = createWitness();
  const { metrics, logger } = witness;
  return { ...witness, upkeep: createMessageUpkeep({ pool: database.pool, metrics, logger, retentionDays }) };
}

const months = async (): Promise<string[]> => (await readMessagePartitions(database.pool)).map(({ name }) => name);

const startOfMonth = (monthsFromNow: number): Date => {
  const now = new Date();
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + monthsFromNow, 1));
};
const nameOf = (month: Date): string => `messages_${month.toISOString().slice(0, 7).replace('-', '_')}`;
const thisAndThreeAhead = [0, 1, 2, 3].map((month) => nameOf(startOfMonth(month)));

const makeMonth = (at: string) => database.pool.query('SELECT create_message_partition($1)', [at]);

/** The only message there is becomes one of another time, as if the clock had said so when it came. */
const moveInTime = (at: string) => database.pool.query('UPDATE messages SET id = message_id_at($1)', [at]);

const secondsUntil = (at: Date): number => (at.getTime() - Date.now()) / 1_000;

/** Only the clock that the hour is told by; everything else goes on in real time. */
const letAnHourPass = () => vi.advanceTimersByTime(60 * 60 * 1_000);

test('this month and three ahead are made at once and then looked for once an hour; the metric tells how far they reach', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const { upkeep, lines, value } = createUpkeep();
  await upkeep.round();
  expect(await months()).toEqual(thisAndThreeAhead);
  expect(lines).toMatchObject([{ level: info, partitions: thisAndThreeAhead }]);
  const full = await value('message_partitions_ahead_seconds');
  expect(Math.abs(full! - secondsUntil(startOfMonth(4)))).toBeLessThan(60);

  await database.pool.query(`DROP TABLE ${thisAndThreeAhead[3]}`);
  await upkeep.round();
  expect(await months()).toEqual(thisAndThreeAhead.slice(0, 3));
  const shorter = await value('message_partitions_ahead_seconds');
  expect(Math.abs(shorter! - secondsUntil(startOfMonth(3)))).toBeLessThan(60);

  letAnHourPass();
  await upkeep.round();
  expect(await months()).toEqual(thisAndThreeAhead);
});

test('a month that was made far ahead does not hide that the next ones are missing', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const { upkeep, value } = createUpkeep();
  await upkeep.round();
  await makeMonth('2099-01-01T00:00:00Z');
  await database.pool.query(`DROP TABLE ${thisAndThreeAhead[1]}`);
  await upkeep.round();
  const ahead = await value('message_partitions_ahead_seconds');
  expect(Math.abs(ahead! - secondsUntil(startOfMonth(1)))).toBeLessThan(60);
});

test('without retention nothing is dropped, however old', async () => {
  await makeMonth('2001-02-10T00:00:00Z');
  const { upkeep, value } = createUpkeep();
  for (let i = 0; i < 3; i += 1) await upkeep.round();
  expect(await months()).toEqual(['messages_2001_02', ...thisAndThreeAhead]);
  expect(await value('message_partitions_dropped_total')).toBe(0);
  const age = await value('messages_oldest_month_seconds');
  expect(Math.abs(age! + secondsUntil(new Date('2001-03-01T00:00:00Z')))).toBeLessThan(60);
});

test('with retention each round drops one month that is over, until none is', async () => {
  await makeMonth('2024-02-10T00:00:00Z');
  await makeMonth('2024-03-10T00:00:00Z');
  const { upkeep, lines, value } = createUpkeep({ retentionDays: 30 });
  await upkeep.round();
  expect(await months()).toEqual(['messages_2024_03', ...thisAndThreeAhead]);
  await upkeep.round();
  await upkeep.round();
  expect(await months()).toEqual(thisAndThreeAhead);
  expect(await value('message_partitions_dropped_total')).toBe(2);
  expect(await value('messages_oldest_month_seconds')).toBe(0);
  expect(lines.filter(({ msg }) => msg.startsWith('dropped'))).toMatchObject([
    { level: info, partition: 'messages_2024_02' },
    { level: info, partition: 'messages_2024_03' },
  ]);
});

test('a month that holds what is needed is kept and told, and dropped within the hour when that has ended', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  await makeMonth('2024-02-10T00:00:00Z');
  const stage = await createStage(database.pool);
  const conversation = await stage.open(newId());
  await moveInTime('2024-02-11T00:00:00Z');
  const { upkeep, lines, value } = createUpkeep({ retentionDays: 30 });
  await upkeep.round();
  expect(await months()).toContain('messages_2024_02');
  expect(await value('message_retention_held', 'by="open"')).toBe(1);
  expect(await value('message_retention_held', 'by="pending"')).toBe(0);
  expect(lines).toContainEqual(expect.objectContaining({ level: warn, partition: 'messages_2024_02', by: 'open' }));

  await stage.close(conversation);
  letAnHourPass();
  await upkeep.round();
  expect(await months()).not.toContain('messages_2024_02');
  expect(await value('message_retention_held', 'by="open"')).toBe(0);
});

test('a message that fits no month is told until its month is made', async () => {
  const stage = await createStage(database.pool);
  const { upkeep, value } = createUpkeep();
  await upkeep.round();
  expect(await value('messages_strayed')).toBe(0);
  await stage.write(newId());
  await moveInTime('2099-01-11T00:00:00Z');
  await upkeep.round();
  expect(await value('messages_strayed')).toBe(1);
  await makeMonth('2099-01-11T00:00:00Z');
  await upkeep.round();
  expect(await value('messages_strayed')).toBe(0);
});

test('a lock that others hold for long puts the months off by an hour and is logged; the round goes on', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const reader = await database.pool.connect();
  await reader.query('BEGIN');
  await reader.query('SELECT FROM messages_stray');
  const { upkeep, lines, value } = createUpkeep();
  await upkeep.round();
  expect(lines).toMatchObject([{ level: warn, msg: 'could not make partitions of messages ahead' }]);
  expect(await months()).toEqual([]);
  expect(await value('message_partitions_ahead_seconds')).toBe(0);
  await reader.query('COMMIT');
  reader.release();
  letAnHourPass();
  await upkeep.round();
  expect(await months()).toEqual(thisAndThreeAhead);
});

test('a worker whose place another takes tells nothing of the months any more', async () => {
  await makeMonth('2024-02-10T00:00:00Z');
  const { upkeep, value } = createUpkeep({ retentionDays: 30 });
  await upkeep.round();
  upkeep.clear();
  const gauges = ['message_partitions_ahead_seconds', 'messages_oldest_month_seconds', 'messages_strayed'];
  for (const name of [...gauges, 'message_retention_held']) expect(await value(name), name).toBeUndefined();
  // A counter stays: what was dropped was dropped.
  expect(await value('message_partitions_dropped_total')).toBe(1);
});

test('a round that fails is logged and leaves no old numbers; the house timer goes on and does it when it can', async () => {
  const breakUpkeep = 'ALTER FUNCTION create_message_partition RENAME TO gone';
  await database.pool.query(breakUpkeep);
  const { metrics, logger, lines, value } = createWitness();
  const houseTimer = startHouseTimer({
    pool: database.pool,
    metrics,
    logger,
    maxTeams: 0,
    messageRetentionDays: undefined,
  });
  try {
    await eventually('the failure is logged', () =>
      lines.some(({ level, msg }) => level === warn && msg === 'the house timer could not do its round'),
    );
    expect(await value('message_partitions_ahead_seconds')).toBeUndefined();
    await database.pool.query('ALTER FUNCTION gone RENAME TO create_message_partition');
    await eventually('the months are made', async () => (await months()).length === 4);
    await eventually('it is told', async () => (await value('message_partitions_ahead_seconds')) !== undefined);
  } finally {
    await houseTimer.stop();
  }
});
