import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createChannel } from '../../store/channels.ts';
import type { NewWorkspace } from '../../store/workspaces.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createTestWorkspace, startApi, type Answer, type ApiUnderTest } from './bare-api.ts';

let database: TestDatabase;
let api: ApiUnderTest;
let workspace: NewWorkspace;

beforeAll(async () => {
  database = await createTestDatabase();
  api = await startApi(database.pool);
  workspace = await createTestWorkspace(database.pool);
  for (const key of ['chat', 'mail']) {
    await createChannel(database.pool, { workspaceId: workspace.workspaceId, key, name: key });
  }
});

afterAll(async () => {
  await api.close();
  await database.drop();
});

function post(body: unknown, path = '/v1/messages'): Promise<Answer> {
  return api.call('POST', path, { key: workspace.keys.ingest, body });
}

/** A message of a contact that nobody else has, unless told otherwise. */
function message(overrides: Record<string, unknown> = {}) {
  return { channel: 'chat', externalId: newId(), contact: { externalId: newId() }, text: 'Hello', ...overrides };
}

const fieldsOf = (answer: Answer): string[] => answer.body.errors.map((fault: { field: string }) => fault.field);

describe('POST /v1/messages', () => {
  test('202: the message is stored and can be read', async () => {
    const sent = message({
      sentAt: '2026-03-01T10:30:00+01:00',
      attachments: [{ url: 'https://example.com/a.png', size: 7 }],
    });
    const answer = await post(sent);
    expect(answer.status).toBe(202);
    expect(answer.body).toEqual({
      messageId: expect.any(String),
      contactId: expect.any(String),
      conversationId: null,
      sequence: 1,
      duplicate: false,
    });
    const read = await api.call('GET', `/v1/messages/${answer.body.messageId}`, { key: workspace.keys.agent });
    expect(read.status).toBe(200);
    expect(read.body).toMatchObject({
      id: answer.body.messageId,
      contactId: answer.body.contactId,
      conversationId: null,
      direction: 'inbound',
      sequence: 1,
      channel: 'chat',
      externalId: sent.externalId,
      text: 'Hello',
      attachments: [{ url: 'https://example.com/a.png', size: 7 }],
      sentAt: '2026-03-01T09:30:00.000Z',
    });
  });

  test('202: the same delivery again has the same ids and takes no number', async () => {
    const sent = message();
    const first = await post(sent);
    const again = await post(sent);
    expect(again).toMatchObject({ status: 202, body: { ...first.body, duplicate: true } });
    const next = await post(message({ contact: sent.contact }));
    expect(next.body).toMatchObject({ contactId: first.body.contactId, sequence: 2 });
  });

  test('202: messages of one contact posted at once are numbered without a gap', async () => {
    const contact = { externalId: newId() };
    const answers = await Promise.all(Array.from({ length: 50 }, () => post(message({ contact }))));
    expect(answers.map((answer) => answer.body.sequence).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 50 }, (_, index) => index + 1),
    );
    expect(new Set(answers.map((answer) => answer.body.contactId)).size).toBe(1);
  });

  test('202: contact.id attaches a new identity to a known contact', async () => {
    const first = await post(message());
    const contact = { externalId: newId(), id: first.body.contactId };
    const answer = await post(message({ channel: 'mail', contact }));
    expect(answer).toMatchObject({ status: 202, body: { contactId: first.body.contactId, sequence: 2 } });
  });

  test('400: every fault is named, unknown fields among them', async () => {
    const answer = await post({
      ...message({ text: 5, sentAt: 'yesterday' }),
      contact: { externalId: '', id: 'x', attributes: { a: [1] } },
      attachments: [{ url: 'javascript:alert(1)' }],
      chanel: 'chat',
    });
    expect(answer.status).toBe(400);
    expect(answer.body.type).toBe('urn:switchyard:problem:invalid_request');
    expect(fieldsOf(answer).sort()).toEqual([
      '/attachments/0/url',
      '/chanel',
      '/contact/attributes/a',
      '/contact/externalId',
      '/contact/id',
      '/sentAt',
      '/text',
    ]);
  });

  test.each([
    ['externalId', { externalId: 'e'.repeat(257) }, '/externalId'],
    ['channel', { channel: 'c'.repeat(65) }, '/channel'],
    ['text', { text: 't'.repeat(16_385) }, '/text'],
    ['contact.name', { contact: { externalId: 'x', name: 'n'.repeat(257) } }, '/contact/name'],
    [
      'attachments',
      { attachments: Array.from({ length: 21 }, () => ({ url: 'https://example.com' })) },
      '/attachments',
    ],
    [
      'attributes',
      {
        contact: {
          externalId: 'x',
          attributes: Object.fromEntries(Array.from({ length: 51 }, (_, i) => [`a${i}`, i])),
        },
      },
      '/contact/attributes',
    ],
    [
      'the name of an attribute',
      { contact: { externalId: 'x', attributes: { ['k'.repeat(65)]: 1 } } },
      `/contact/attributes/${'k'.repeat(65)}`,
    ],
    [
      'the value of an attribute',
      { contact: { externalId: 'x', attributes: { a: 'v'.repeat(1025) } } },
      '/contact/attributes/a',
    ],
    ['a day that does not exist', { sentAt: '2026-02-30T00:00:00Z' }, '/sentAt'],
    ['a leap second', { sentAt: '2026-06-30T23:59:60Z' }, '/sentAt'],
    ['neither text nor attachments', { text: undefined }, '/text'],
    ['NUL in text', { text: 'a\u0000' }, '/text'],
    [
      'half an emoji in an attribute',
      { contact: { externalId: 'x', attributes: { a: '\ud83d' } } },
      '/contact/attributes/a',
    ],
  ])('400: %s beyond what is allowed is named', async (_what, overrides, field) => {
    const answer = await post(message(overrides));
    expect(answer.status).toBe(400);
    expect(fieldsOf(answer)).toEqual([field]);
  });

  test('202: the longest values that are allowed are stored, in any script', async () => {
    const attributes = Object.fromEntries(
      Array.from({ length: 50 }, (_, i) => [`${i}`.padEnd(64, 'é'), '你'.repeat(1024)]),
    );
    const contact = { externalId: newId().padEnd(256, '你'), name: '🙂'.repeat(256), attributes };
    const externalId = newId().padEnd(256, '🙂');
    const answer = await post(
      message({ externalId, contact, text: '🙂'.repeat(16_384), sentAt: '1999-12-31T23:59:59+23:59' }),
    );
    expect(answer.status).toBe(202);
  });

  test('409: a key that belongs to a message of another contact', async () => {
    const sent = message();
    await post(sent);
    const answer = await post({ ...sent, contact: { externalId: newId() } });
    expect(answer.status).toBe(409);
    expect(answer.body.type).toBe('urn:switchyard:problem:conflict.key_of_another_contact');
    expect(fieldsOf(answer)).toEqual(['/externalId']);
  });

  test('409: an identity that belongs to another contact', async () => {
    const [first, second] = [message(), message()];
    const { contactId } = (await post(first)).body;
    await post(second);
    const answer = await post(message({ contact: { ...second.contact, id: contactId } }));
    expect(answer.status).toBe(409);
    expect(answer.body.type).toBe('urn:switchyard:problem:conflict.identity_of_another_contact');
  });

  test.each([
    ['channel', { channel: 'nowhere' }, '/channel'],
    ['contact', { contact: { externalId: newId(), id: newId() } }, '/contact/id'],
  ])('422: an unknown %s', async (_what, overrides, field) => {
    const answer = await post(message(overrides));
    expect(answer.status).toBe(422);
    expect(answer.body.type).toBe('urn:switchyard:problem:unknown_reference');
    expect(fieldsOf(answer)).toEqual([field]);
  });

  test.each([
    ['400', 'bad_json', '{', 'application/json'],
    ['400', 'bad_json', '{"__proto__": 1}', 'application/json'],
    ['400', 'invalid_request', '', 'application/json'],
    ['413', 'payload_too_large', `"${'a'.repeat(256 * 1024)}"`, 'application/json'],
    ['415', 'unsupported_media_type', 'text=hello', 'application/x-www-form-urlencoded'],
    ['415', 'unsupported_media_type', 'hello', 'text/plain'],
  ])('%s %s', async (status, name, body, contentType) => {
    const headers = { 'content-type': contentType };
    const answer = await api.call('POST', '/v1/messages', { key: workspace.keys.ingest, body, headers });
    expect(answer.status).toBe(Number(status));
    expect(answer.body.type).toBe(`urn:switchyard:problem:${name}`);
  });

  test('413 names the limit; bytes that are no UTF-8 are refused and not replaced', async () => {
    const headers = { 'content-type': 'application/json' };
    const send = (body: string | Buffer) =>
      api.call('POST', '/v1/messages', { key: workspace.keys.ingest, body, headers });
    expect((await send(`"${'a'.repeat(256 * 1024)}"`)).body.detail).toBe(
      'At most 262144 bytes are taken here. Send less at a time.',
    );
    const text = Buffer.from(JSON.stringify(message({ text: 'caf?' })));
    text[text.indexOf('?')] = 0xe9;
    expect((await send(text)).body.detail).toBe('The body is not valid UTF-8. Send JSON as UTF-8.');
  });

  test('403: an agent key does not take in messages; an admin key does', async () => {
    expect((await api.call('POST', '/v1/messages', { key: workspace.keys.agent, body: message() })).status).toBe(403);
    expect((await api.call('POST', '/v1/messages', { key: workspace.keys.admin, body: message() })).status).toBe(202);
  });
});

describe('POST /v1/messages/batch', () => {
  test('202: one result per message, in order; a bad one harms no other', async () => {
    const contact = { externalId: newId() };
    const twice = message({ contact });
    const answer = await post(
      {
        messages: [
          twice,
          message({ contact, text: 'a\u0000' }),
          twice,
          'no message',
          message({ channel: 'nowhere' }),
          message({ contact, text: undefined }),
          message({ contact }),
        ],
      },
      '/v1/messages/batch',
    );
    expect(answer.status).toBe(202);
    const refused = (name: string, field: string) => ({
      error: expect.objectContaining({
        type: `urn:switchyard:problem:${name}`,
        errors: [expect.objectContaining({ field })],
      }),
    });
    expect(answer.body.results).toEqual([
      expect.objectContaining({ sequence: 1, duplicate: false }),
      refused('invalid_request', '/text'),
      expect.objectContaining({ sequence: 1, duplicate: true, messageId: answer.body.results[0].messageId }),
      refused('invalid_request', ''),
      refused('unknown_reference', '/channel'),
      refused('invalid_request', '/text'),
      expect.objectContaining({ sequence: 2, duplicate: false }),
    ]);
  });

  test('202: 500 messages', async () => {
    const messages = Array.from({ length: 500 }, () => message());
    const answer = await post({ messages }, '/v1/messages/batch');
    expect(answer.status).toBe(202);
    expect(answer.body.results.length).toBe(500);
    expect(answer.body.results.every((result: { sequence?: number }) => result.sequence === 1)).toBe(true);
  });

  test.each([
    ['none', [], '/messages'],
    ['501', Array.from({ length: 501 }, () => ({})), '/messages'],
    ['no list', 'hello', '/messages'],
  ])('400: %s', async (_what, messages, field) => {
    const answer = await post({ messages }, '/v1/messages/batch');
    expect(answer.status).toBe(400);
    expect(fieldsOf(answer)).toEqual([field]);
  });
});

describe('GET /v1/messages/{id}', () => {
  test('404: unknown, malformed, and those of another workspace', async () => {
    const { messageId } = (await post(message())).body;
    const other = await createTestWorkspace(database.pool);
    for (const [id, key] of [
      [newId(), workspace.keys.agent],
      ['x', workspace.keys.agent],
      [messageId, other.keys.admin],
    ] as const) {
      const answer = await api.call('GET', `/v1/messages/${id}`, { key });
      expect(answer.status).toBe(404);
      expect(answer.body.type).toBe('urn:switchyard:problem:not_found');
      // Who takes a key for an id is told so; of what is unknown or another's, nothing is.
      expect(answer.body.detail).toEqual(id === 'x' ? expect.stringContaining('is no id') : undefined);
    }
  });

  test('403: an ingest key does not read', async () => {
    const answer = await api.call('GET', `/v1/messages/${newId()}`, { key: workspace.keys.ingest });
    expect(answer.status).toBe(403);
  });
});

test('accepted and repeated messages are counted, and batches measured', async () => {
  const sent = message();
  const before = await readCounters();
  await post(sent);
  await post(sent);
  const after = await readCounters();
  expect(after.accepted - before.accepted).toBe(1);
  expect(after.duplicates - before.duplicates).toBe(1);
  expect(after.flushes - before.flushes).toBe(2);
});

async function readCounters() {
  const text = await api.metrics.registry.metrics();
  const read = (name: string): number => Number(new RegExp(`^switchyard_${name}{.*} (.*)$`, 'm').exec(text)?.[1]);
  return {
    accepted: read('messages_accepted_total'),
    duplicates: read('messages_duplicate_total'),
    flushes: read('ingest_flush_seconds_count'),
  };
}
