import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createPool } from '../../platform/pool.ts';
import { loadConfig } from '../../platform/config.ts';
import { ingestMessages } from '../../store/ingest.ts';
import {
  createMessagePartitions,
  createMessageRetention,
  readMessagePartitions,
  readPartitionGauges,
} from '../../store/message-partitions.ts';
import { getMessage, listMessages } from '../../store/messages.ts';
import { migrate } from '../../store/migrate.ts';
import { addReply } from '../../store/replies.ts';
import { openForContact } from '../../store/opening.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
});
afterAll(() => database?.drop());

const hourMs = 60 * 60 * 1_000;
const dayMs = 24 * hourMs;

/** An id as another clock would have made it. */
const idAt = (at: Date): string => {
  const hex = at.getTime().toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}${newId().slice(13)}`;
};

/** As if the message had come in at that time: with its keys, into the partition of that month. */
async function moveInTime(pool: pg.Pool, messageId: string, at: Date): Promise<string> {
  const id = idAt(at);
  await pool.query('UPDATE messages SET id = $2, received_at = $3 WHERE id = $1', [messageId, id, at]);
  await pool.query('UPDATE message_keys SET message_id = $2 WHERE message_id = $1', [messageId, id]);
  await pool.query('UPDATE reply_keys SET message_id = $2 WHERE message_id = $1', [messageId, id]);
  return id;
}

const partitionOf = async (pool: pg.Pool, messageId: string): Promise<string | undefined> => {
  const { rows } = await pool.query<{ name: string }>(
    'SELECT tableoid::regclass::text AS name FROM messages WHERE id = $1',
    [messageId],
  );
  return rows[0]?.name;
};

/** A migrated database with a month long gone, as if it had been there all the time. */
async function createAgedDatabase(): Promise<{ own: TestDatabase; scene: Stage; longAgo: Date }> {
  const own = await createTestDatabase();
  const longAgo = new Date('2024-02-10T12:00:00Z');
  await own.pool.query('DROP TABLE messages_before');
  await own.pool.query('SELECT create_message_partition($1)', [longAgo]);
  await createMessagePartitions(own.pool, { monthsAhead: 3 });
  return { own, scene: await createStage(own.pool), longAgo };
}

test('months are made ahead, each once, whoever makes them', async () => {
  const { own } = await createAgedDatabase();
  const now = new Date('2031-11-20T00:00:00Z');
  const made = await Promise.all(
    Array.from({ length: 4 }, () => createMessagePartitions(own.pool, { monthsAhead: 3, now })),
  );
  expect(made.flat().toSorted()).toEqual([
    'messages_2031_11',
    'messages_2031_12',
    'messages_2032_01',
    'messages_2032_02',
  ]);
  expect(await createMessagePartitions(own.pool, { monthsAhead: 3, now })).toEqual([]);
  const partitions = await readMessagePartitions(own.pool);
  expect(partitions[0]).toEqual({
    name: 'messages_2024_02',
    from: new Date('2024-02-01T00:00:00Z'),
    to: new Date('2024-03-01T00:00:00Z'),
  });
  expect(partitions.at(-1)?.to).toEqual(new Date('2032-03-01T00:00:00Z'));
  await own.drop();
});

test('a message whose id fits no month is stored all the same, told, and moved when its month is made', async () => {
  const { own, scene } = await createAgedDatabase();
  const { messageId, conversationId } = await scene.write(newId());
  expect(conversationId).toBeNull();
  const id = await moveInTime(own.pool, messageId, new Date('2033-05-05T00:00:00Z'));
  expect(await partitionOf(own.pool, id)).toBe('messages_stray');
  expect((await readPartitionGauges(own.pool)).strayed).toBe(1);
  await createMessagePartitions(own.pool, { monthsAhead: 0, now: new Date('2033-05-20T00:00:00Z') });
  expect(await partitionOf(own.pool, id)).toBe('messages_2033_05');
  expect((await readPartitionGauges(own.pool)).strayed).toBe(0);
  await own.drop();
});

test('within a month no contact has a number twice', async () => {
  const { messageId } = await stage.write(newId());
  const copy = database.pool.query(
    `INSERT INTO messages (workspace_id, id, contact_id, direction, sequence)
     SELECT workspace_id, $2, contact_id, direction, sequence FROM messages WHERE id = $1`,
    [messageId, newId()],
  );
  await expect(copy).rejects.toMatchObject({ code: '23505' });
});

test('a month older than messages are kept is dropped with its dedupe keys; a late duplicate is a new message', async () => {
  const { own, scene, longAgo } = await createAgedDatabase();
  const contact = newId();
  const item = scene.itemOf(contact);
  const [first] = await ingestMessages(own.pool, [item]);
  if (first?.kind !== 'accepted') throw new Error('refused');
  const { workspaceId } = scene;
  const { contactId } = first;
  await scene.addAgent(1);
  const opened = await openForContact(own.pool, { workspaceId, contactId });
  if (opened.phase.kind !== 'assigning') throw new Error(opened.phase.kind);
  const { conversationId } = opened.phase;
  const agentId = await scene.addAgent(1);
  const reply = { workspaceId, conversationId, agentId, text: 'Hello', externalId: 'r-1' };
  const replied = await addReply(own.pool, reply);
  if (replied.kind !== 'stored') throw new Error(replied.kind);
  const recent = await scene.write(contact);
  const oldIds = [
    await moveInTime(own.pool, first.messageId, longAgo),
    await moveInTime(own.pool, replied.messageId, longAgo),
  ];
  await scene.close({ contactId, conversationId });
  const retention = createMessageRetention(own.pool, { days: 30 });
  const outcome = await retention.advance({ budgetMs: 10_000 });
  expect(outcome).toMatchObject({ kind: 'dropped', partition: { name: 'messages_2024_02' } });
  expect(await retention.advance({ budgetMs: 10_000 })).toEqual({ kind: 'none' });
  for (const messageId of oldIds) expect(await getMessage(own.pool, { workspaceId, messageId })).toBeNull();
  const thread = await listMessages(own.pool, { workspaceId, conversationId, afterSequence: 0, limit: 10 });
  expect(thread.map(({ id }) => id)).toEqual([recent.messageId]);
  const { rows } = await own.pool.query(`SELECT FROM reply_keys`);
  expect(rows).toEqual([]);
  const [again] = await ingestMessages(own.pool, [item]);
  expect(again).toMatchObject({ kind: 'accepted', duplicate: false, contactId, sequence: 4 });
  await own.drop();
});

test('a month is kept while it holds a message that waits, or one of an open conversation, and dropped after', async () => {
  const { own, scene, longAgo } = await createAgedDatabase();
  const { workspaceId } = scene;
  const { messageId, contactId } = await scene.write(newId());
  await moveInTime(own.pool, messageId, longAgo);
  const retention = createMessageRetention(own.pool, { days: 30 });
  expect(await retention.advance({ budgetMs: 1_000 })).toMatchObject({ kind: 'held', by: 'pending' });
  const { phase } = await openForContact(own.pool, { workspaceId, contactId });
  if (phase.kind !== 'assigning') throw new Error(phase.kind);
  expect(await retention.advance({ budgetMs: 1_000 })).toMatchObject({ kind: 'held', by: 'open' });
  await scene.close({ contactId, conversationId: phase.conversationId });
  expect(await retention.advance({ budgetMs: 1_000 })).toMatchObject({ kind: 'dropped' });
  await own.drop();
});

test('a month within its time stays; several workers at once drop one that is over once', async () => {
  const { own, scene, longAgo } = await createAgedDatabase();
  const { messageId, contactId } = await scene.write(newId());
  await openForContact(own.pool, { workspaceId: scene.workspaceId, contactId });
  await moveInTime(own.pool, messageId, longAgo);
  await own.pool.query(`UPDATE contacts SET open_conversation_id = NULL`);
  await own.pool.query(`UPDATE conversations SET state = 'closed', closed_at = now(), close_requested_at = now()`);
  const end = new Date('2024-03-01T00:00:00Z').getTime();
  const young = createMessageRetention(own.pool, { days: 30 });
  expect(await young.advance({ budgetMs: 1_000, now: new Date(end + 30 * dayMs - hourMs) })).toEqual({ kind: 'none' });
  const outcomes = await Promise.all(
    Array.from({ length: 4 }, () => createMessageRetention(own.pool, { days: 30 }).advance({ budgetMs: 1_000 })),
  );
  const kinds = outcomes.map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind === 'dropped')).toHaveLength(1);
  expect(kinds.filter((kind) => kind !== 'dropped' && kind !== 'none' && kind !== 'busy')).toEqual([]);
  await own.drop();
});

test('dropping asks for its lock only shortly, so that nobody waits behind a long reader', async () => {
  const { own } = await createAgedDatabase();
  const reader = await own.pool.connect();
  await reader.query('BEGIN');
  await reader.query('SELECT count(*) FROM messages');
  const retention = createMessageRetention(own.pool, { days: 30 });
  const startedAt = performance.now();
  expect(await retention.advance({ budgetMs: 1_000 })).toMatchObject({ kind: 'busy' });
  expect(performance.now() - startedAt).toBeLessThan(2_000);
  await reader.query('COMMIT');
  reader.release();
  expect(await retention.advance({ budgetMs: 1_000 })).toMatchObject({ kind: 'dropped' });
  await own.drop();
});

test('keys are forgotten in pages, and what was begun goes on', async () => {
  const { own, scene, longAgo } = await createAgedDatabase();
  const { contactId } = await scene.write(newId());
  await openForContact(own.pool, { workspaceId: scene.workspaceId, contactId });
  // Without the checks: five thousand messages of the conversation, with keys, all long gone.
  await own.pool.query(
    `WITH one AS (DELETE FROM messages RETURNING *), many AS (
       INSERT INTO messages (workspace_id, id, contact_id, conversation_id, direction, sequence, channel_id, external_id)
       SELECT workspace_id, (left(message_id_at($1)::text, 23) || '-' || lpad(to_hex(n), 12, '0'))::uuid, contact_id,
              conversation_id, 'inbound', n, channel_id, 'x' || n
       FROM one, generate_series(1, 5000) AS n RETURNING *
     )
     INSERT INTO message_keys (workspace_id, channel_id, external_id, contact_id, message_id)
     SELECT workspace_id, channel_id, external_id, contact_id, id FROM many`,
    [longAgo],
  );
  await own.pool.query(`UPDATE contacts SET open_conversation_id = NULL`);
  await own.pool.query(`UPDATE conversations SET state = 'closed', closed_at = now(), close_requested_at = now()`);
  const retention = createMessageRetention(own.pool, { days: 30 });
  expect(await retention.advance({ budgetMs: 0 })).toMatchObject({ kind: 'clearing', keys: 0 });
  const outcomes = [await retention.advance({ budgetMs: 1 })];
  while (outcomes.at(-1)?.kind === 'clearing') outcomes.push(await retention.advance({ budgetMs: 1 }));
  expect(outcomes.at(-1)?.kind).toBe('dropped');
  // One key is that of the message which made way for the five thousand.
  const { rows } = await own.pool.query<{ count: number }>('SELECT count(*) FROM message_keys');
  expect(rows[0]!.count).toBe(1);
  await own.drop();
});

test('what was stored before messages had partitions is all there after the migration, and goes on', async () => {
  const { url, drop } = await createOldDatabase();
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const before = await client.query('SELECT * FROM messages ORDER BY id');
  const { rows: files } = await client.query(`SELECT relfilenode FROM pg_class WHERE relname = 'messages'`);
  await migrate(url);
  const after = await client.query('SELECT * FROM messages ORDER BY id');
  // Later migrations have added what is empty.
  expect(after.rows).toMatchObject(before.rows);
  expect(after.rows).toHaveLength(3);
  // Not rewritten: the same file.
  const { rows: filesNow } = await client.query(`SELECT relfilenode FROM pg_class WHERE relname = 'messages_before'`);
  expect(filesNow).toEqual(files);
  await client.end();
  const pool = createPool(loadConfig({ DATABASE_URL: url }), { applicationName: 'switchyard-test' });
  const { workspace, contacts, item, opened } = old;
  const ref = { workspaceId: workspace, contactId: contacts.waits };
  const { phase } = await openForContact(pool, ref);
  expect(phase.kind).toBe('assigning');
  const [duplicate, next] = await ingestMessages(pool, [
    { ...item, externalId: 'old-2', contact: { externalId: 'open' } },
    { ...item, externalId: 'new-1', contact: { externalId: 'open' } },
  ]);
  expect(duplicate).toMatchObject({ kind: 'accepted', duplicate: true, conversationId: opened, sequence: 1 });
  expect(next).toMatchObject({ kind: 'accepted', duplicate: false, conversationId: opened, sequence: 2 });
  const thread = await listMessages(pool, {
    workspaceId: workspace,
    conversationId: opened,
    afterSequence: 0,
    limit: 10,
  });
  expect(thread.map(({ sequence }) => sequence)).toEqual([1, 2]);
  const [first, ...months] = await readMessagePartitions(pool);
  expect(first).toMatchObject({ name: 'messages_before', from: null });
  expect(first!.to.getTime() - Date.now()).toBeGreaterThan(7 * dayMs);
  expect(months.length).toBeGreaterThanOrEqual(3);
  await pool.end();
  await drop();
});

const old = {
  workspace: newId(),
  team: newId(),
  channel: newId(),
  opened: newId(),
  contacts: { waits: newId(), open: newId() },
  get item() {
    return { workspaceId: old.workspace, channel: 'web', externalId: '', contact: { externalId: '' }, text: 'Hello' };
  },
};

/** As the migrations before left it, with messages that wait and one in an open conversation. */
async function createOldDatabase(): Promise<{ url: string; drop: () => Promise<void> }> {
  const server = inject('postgresUrl');
  const name = `test_${randomBytes(6).toString('hex')}`;
  const admin = new pg.Client({ connectionString: server });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  const silent = () => undefined;
  await runner({
    dbClient: client,
    dir: fileURLToPath(new URL('../../store/migrations', import.meta.url)),
    migrationsTable: 'schema_migrations',
    direction: 'up',
    count: 2,
    logger: { debug: silent, info: silent, warn: silent, error: silent },
  });
  const { workspace, team, channel, opened, contacts } = old;
  const statements: [string, unknown[]][] = [
    [`INSERT INTO workspaces (id, name) VALUES ($1, 'Old')`, [workspace]],
    [
      `INSERT INTO teams (workspace_id, id, name, strategy) VALUES ($1, $2, 'Default', 'least_loaded')`,
      [workspace, team],
    ],
    [`UPDATE workspaces SET default_team_id = $1`, [team]],
    [`INSERT INTO channels (workspace_id, id, key, name) VALUES ($1, $2, 'web', 'Web')`, [workspace, channel]],
    [
      `INSERT INTO contacts (workspace_id, id, last_sequence) VALUES ($1, $2, 2), ($1, $3, 1)`,
      [workspace, contacts.waits, contacts.open],
    ],
    [
      `INSERT INTO contact_identities VALUES ($1, $2, 'waits', $3), ($1, $2, 'open', $4)`,
      [workspace, channel, contacts.waits, contacts.open],
    ],
    [
      `INSERT INTO conversations (workspace_id, id, contact_id, state, source) VALUES ($1, $2, $3, 'routing', 'contact')`,
      [workspace, opened, contacts.open],
    ],
    [`UPDATE contacts SET open_conversation_id = $1 WHERE id = $2`, [opened, contacts.open]],
  ];
  const messages = [
    { contact: contacts.waits, conversation: null, sequence: 1, externalId: 'old-0' },
    { contact: contacts.waits, conversation: null, sequence: 2, externalId: 'old-1' },
    { contact: contacts.open, conversation: opened, sequence: 1, externalId: 'old-2' },
  ];
  for (const { contact, conversation, sequence, externalId } of messages) {
    const id = newId();
    statements.push(
      [
        `INSERT INTO messages (workspace_id, id, contact_id, conversation_id, direction, sequence, channel_id, external_id, text)
         VALUES ($1, $2, $3, $4, 'inbound', $5, $6, $7, 'Hello')`,
        [workspace, id, contact, conversation, sequence, channel, externalId],
      ],
      [`INSERT INTO message_keys VALUES ($1, $2, $3, $4, $5)`, [workspace, channel, externalId, contact, id]],
    );
  }
  for (const [text, values] of statements) await client.query(text, values);
  await client.end();
  return {
    url: url.href,
    async drop() {
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
      await admin.end();
    },
  };
}
