import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createChannel } from '../../store/channels.ts';
import { getContact } from '../../store/contacts.ts';
import { shardOf } from '../../store/outbox.ts';
import { ingestMessages, type AcceptedMessage, type IngestItem, type IngestResult } from '../../store/ingest.ts';
import { requestClose } from '../../store/closing.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { connectAnother } from './second-pool.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;

beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
});
afterAll(() => database?.drop());

const accepted = (results: readonly (IngestResult | undefined)[]): AcceptedMessage[] =>
  results.map((result) => {
    if (result?.kind !== 'accepted') throw new Error(`not accepted: ${result?.kind}`);
    return result;
  });

test('the first message of a contact is stored, pending, with one nudge for its actor', async () => {
  const contact = newId();
  const message = await stage.write(contact);
  expect(message).toMatchObject({ sequence: 1, conversationId: null, duplicate: false });
  expect(await stage.nudgesOf(message.contactId)).toEqual([null]);
  const { rows } = await database.pool.query('SELECT shard FROM outbox WHERE contact_id = $1', [message.contactId]);
  expect(rows).toEqual([{ shard: shardOf(message.contactId) }]);
});

test('a batch keeps its order, and its contacts are told once each', async () => {
  const [one, two] = [newId(), newId()];
  const texts = ['a', 'b', 'c', 'd'];
  const items = texts.flatMap((text) => [stage.itemOf(one, { text }), stage.itemOf(two, { text })]);
  const results = accepted(await ingestMessages(database.pool, items));
  expect(results.filter((_, i) => i % 2 === 0).map((result) => result.sequence)).toEqual([1, 2, 3, 4]);
  expect(results.filter((_, i) => i % 2 === 1).map((result) => result.sequence)).toEqual([1, 2, 3, 4]);
  const { rows } = await database.pool.query<{ text: string }>(
    'SELECT text FROM messages WHERE workspace_id = $1 AND contact_id = $2 ORDER BY sequence',
    [stage.workspaceId, results[0]!.contactId],
  );
  expect(rows.map((row) => row.text)).toEqual(texts);
  for (const { contactId } of [results[0]!, results[1]!]) expect(await stage.nudgesOf(contactId)).toEqual([null]);
});

test('the same delivery again answers with the first one and stores nothing', async () => {
  const contact = newId();
  const item = stage.itemOf(contact);
  const [first] = accepted(await ingestMessages(database.pool, [item]));
  const [again] = accepted(await ingestMessages(database.pool, [{ ...item, text: 'changed' }]));
  expect(again).toEqual({ ...first, duplicate: true });
  expect(await stage.messagesOf(first!.contactId)).toHaveLength(1);
  expect(await stage.nudgesOf(first!.contactId)).toHaveLength(1);
});

test('the same key twice in one batch is one message, and no sequence number is lost', async () => {
  const contact = newId();
  const item = stage.itemOf(contact);
  const results = accepted(await ingestMessages(database.pool, [item, { ...item }, stage.itemOf(contact)]));
  expect(results.map(({ sequence, duplicate }) => [sequence, duplicate])).toEqual([
    [1, false],
    [1, true],
    [2, false],
  ]);
  expect(results[1]!.messageId).toBe(results[0]!.messageId);
});

test('a duplicate tells the conversation its message belongs to now', async () => {
  const contact = newId();
  const item = stage.itemOf(contact);
  await ingestMessages(database.pool, [item]);
  const { conversationId } = await stage.open(contact);
  const [again] = accepted(await ingestMessages(database.pool, [item]));
  expect(again).toMatchObject({ duplicate: true, conversationId });
});

test('a key that another contact used is refused, in the same batch and later', async () => {
  const externalId = newId();
  const [first, second] = await ingestMessages(database.pool, [
    stage.itemOf(newId(), { externalId }),
    stage.itemOf(newId(), { externalId }),
  ]);
  expect(first?.kind).toBe('accepted');
  expect(second?.kind).toBe('key_of_another_contact');
  const [third] = await ingestMessages(database.pool, [stage.itemOf(newId(), { externalId })]);
  expect(third?.kind).toBe('key_of_another_contact');
});

test('an unknown channel or contact is refused in its place and harms no other item', async () => {
  const [contact, last] = [newId(), newId()];
  const results = await ingestMessages(database.pool, [
    stage.itemOf(contact),
    stage.itemOf(contact, { channel: 'fax' }),
    stage.itemOf(contact, { contact: { externalId: newId(), id: newId() } }),
    stage.itemOf(last),
  ]);
  expect(results.map((result) => result.kind)).toEqual(['accepted', 'unknown_channel', 'unknown_contact', 'accepted']);
});

test('contact.id attaches a new identity, in another channel, to a known contact', async () => {
  const channel = newId();
  await createChannel(database.pool, { workspaceId: stage.workspaceId, key: channel, name: 'Mail' });
  const { contactId } = await stage.write(newId());
  const externalId = `${newId()}@example.org`;
  const byMail = { channel, contact: { externalId, id: contactId } };
  expect(await stage.write('', byMail)).toMatchObject({ contactId, sequence: 2 });
  // Known from now on without the id.
  expect(await stage.write('', { channel, contact: { externalId } })).toMatchObject({ contactId, sequence: 3 });
  const contact = await getContact(database.pool, { workspaceId: stage.workspaceId, contactId });
  expect(contact?.identities).toHaveLength(2);
});

test('an identity that is another contact’s is refused, also when both come in one batch', async () => {
  const [mine, theirs] = [newId(), newId()];
  const { contactId } = await stage.write(mine);
  await stage.write(theirs);
  const claim = stage.itemOf('', { contact: { externalId: theirs, id: contactId } });
  expect(await ingestMessages(database.pool, [claim])).toEqual([{ kind: 'identity_of_another_contact' }]);
  const fresh = newId();
  const both = await ingestMessages(database.pool, [
    stage.itemOf(fresh),
    stage.itemOf('', { contact: { externalId: fresh, id: contactId } }),
  ]);
  expect(both.map((result) => result.kind)).toEqual(['accepted', 'identity_of_another_contact']);
});

test('name and attributes are merged: what is said anew replaces, what is left out stays', async () => {
  const externalId = newId();
  const { contactId } = await stage.write('', {
    contact: { externalId, name: 'Ann', attributes: { plan: 'free', age: 7 } },
  });
  await stage.write('', { contact: { externalId, attributes: { plan: 'gold' } } });
  await stage.write('', { contact: { externalId } });
  const contact = await getContact(database.pool, { workspaceId: stage.workspaceId, contactId });
  expect(contact).toMatchObject({ name: 'Ann', attributes: { plan: 'gold', age: 7 } });
});

test('a message joins the open conversation without a nudge, but not one whose close was requested', async () => {
  const contact = newId();
  const { contactId, conversationId } = await stage.open(contact);
  expect(await stage.write(contact)).toMatchObject({ conversationId });
  expect(await stage.nudgesOf(contactId)).toEqual([null]);
  await requestClose(database.pool, { workspaceId: stage.workspaceId, conversationId, agentId: null });
  expect(await stage.write(contact)).toMatchObject({ conversationId: null, sequence: 3 });
  expect(await stage.nudgesOf(contactId)).toEqual([null, conversationId, null]);
});

test('another workspace’s channel, contact and keys do not exist here', async () => {
  const other = await createStage(database.pool);
  const mine = await stage.write('same-person', { externalId: 'same-key' });
  const theirs = await other.write('same-person', { externalId: 'same-key' });
  expect(theirs.contactId).not.toBe(mine.contactId);
  expect(theirs).toMatchObject({ sequence: 1, duplicate: false });
  const [stolen] = await ingestMessages(database.pool, [
    other.itemOf('', { contact: { externalId: newId(), id: mine.contactId } }),
  ]);
  expect(stolen?.kind).toBe('unknown_contact');
});

test('two processes that write for the same contacts at once leave no gap, no double and no deadlock', async () => {
  const other = connectAnother(database);
  const contacts = Array.from({ length: 12 }, () => newId());
  const posted: IngestItem[] = contacts.flatMap((contact) => Array.from({ length: 20 }, () => stage.itemOf(contact)));
  // Every message goes to both, in batches that overlap in contacts and run in opposite order.
  const batches = (items: readonly IngestItem[]) =>
    Array.from({ length: 24 }, (_, i) => items.filter((_, j) => j % 24 === i));
  const results = await Promise.all([
    ...batches(posted).map((batch) => ingestMessages(database.pool, batch)),
    ...batches(posted.toReversed()).map((batch) => ingestMessages(other, batch)),
  ]);
  await other.end();
  const all = accepted(results.flat());
  expect(all).toHaveLength(480);
  expect(all.filter((result) => !result.duplicate)).toHaveLength(240);
  for (const contactId of new Set(all.map((result) => result.contactId))) {
    const sequences = (await stage.messagesOf(contactId)).map((message) => message.sequence);
    expect(sequences).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
  }
  expect(new Set(all.map((result) => result.contactId)).size).toBe(12);
});
