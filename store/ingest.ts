/**
 * A batch of contacts' messages, of any workspaces, in two round trips: what they are about is read, then all of them are stored.
 *
 * What may go wrong, and why it does not:
 * - The same delivery twice, at once or years apart: the dedupe key's primary key lets one call through; the other is undone, reads again and
 *   finds the winner's row. Sequence numbers are drawn by what commits, so none is skipped (I5).
 * - Two processes meet a new contact at once: one inserts its identity, the other reads whose it became.
 * - A close while the contact writes: both take the contact's row lock. A message is attached only to a conversation whose
 *   close is not yet requested; otherwise it stays pending and a nudge makes the actor look (I1).
 * - A conversation that goes quiet while the contact writes: that, too, takes the contact's row lock. Either it sees the message
 *   and does not, or the message sees that it is quiet and leaves an outbox row that wakes it.
 * - Deadlocks: identities are inserted in key order and committed before contacts are locked, contacts are locked by id.
 */
import type pg from 'pg';
import { retryOnConflict } from '../platform/pool.ts';
import { ConcurrentChange } from './database.ts';
import { keyOf, resolveItems, resolveNewIdentities, type Draft } from './ingest-resolution.ts';

export interface IngestItem {
  readonly workspaceId: string;
  /** The channel's `key`. */
  readonly channel: string;
  /** The channel's id of this message: the dedupe key within workspace and channel. */
  readonly externalId: string;
  readonly contact: {
    readonly externalId: string;
    readonly id?: string;
    readonly name?: string;
    readonly attributes?: Readonly<Record<string, string | number | boolean | null>>;
  };
  readonly text?: string;
  readonly attachments?: readonly unknown[];
  readonly sentAt?: string;
}

export interface AcceptedMessage {
  readonly kind: 'accepted';
  readonly messageId: string;
  readonly contactId: string;
  readonly conversationId: string | null;
  readonly sequence: number;
  readonly duplicate: boolean;
}

export type IngestResult =
  | AcceptedMessage
  | { readonly kind: 'unknown_channel' }
  | { readonly kind: 'unknown_contact' }
  | { readonly kind: 'key_of_another_contact' }
  | { readonly kind: 'identity_of_another_contact' };

/** @returns one result per item, in order, after the commit. */
export function ingestMessages(pool: pg.Pool, items: readonly IngestItem[]): Promise<IngestResult[]> {
  // Few attempts: whoever gathers batches repeats the members singly, so that one held contact harms no other.
  return retryOnConflict(() => ingestOnce(pool, items), 3);
}

async function ingestOnce(pool: pg.Pool, items: readonly IngestItem[]): Promise<IngestResult[]> {
  const results: (IngestResult | undefined)[] = new Array<undefined>(items.length);
  const drafts = await resolveItems(pool, items, results);
  await resolveNewIdentities(pool, drafts, results);
  const winners = new Map<string, Draft>();
  for (const draft of drafts) {
    // Of one key in one batch the first wins.
    if (results[draft.index] === undefined && !winners.has(keyOf(draft))) winners.set(keyOf(draft), draft);
  }
  if (winners.size > 0) await storeMessages(pool, [...winners.values()], results);
  for (const draft of drafts) results[draft.index] ??= repeat(draft, winners.get(keyOf(draft))!, results);
  return results as IngestResult[];
}

function repeat(draft: Draft, winner: Draft, results: readonly (IngestResult | undefined)[]): IngestResult {
  if (winner.contactId !== draft.contactId) return { kind: 'key_of_another_contact' };
  return { ...(results[winner.index] as AcceptedMessage), duplicate: true };
}

const storeMessagesSql = `
  SELECT sequence_number AS sequence, attached_to AS "conversationId"
  FROM store_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`;

async function storeMessages(
  pool: pg.Pool,
  drafts: readonly Draft[],
  results: (IngestResult | undefined)[],
): Promise<void> {
  const touched = new Map<string, TouchedContact>();
  const offsets = drafts.map((draft) => touch(touched, draft));
  // The order in which they are locked.
  const contacts = [...touched.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const numbers = new Map(contacts.map(({ id }, index) => [id, index + 1]));
  const { rows } = await pool
    .query<Pick<AcceptedMessage, 'sequence' | 'conversationId'>>({
      name: 'store-messages',
      text: storeMessagesSql,
      values: [
        drafts.map(({ item }) => item.workspaceId),
        drafts.map((draft) => draft.messageId),
        drafts.map((draft) => numbers.get(draft.contactId)),
        offsets,
        drafts.map((draft) => draft.channelId),
        drafts.map(({ item }) => item.externalId),
        drafts.map(({ item }) => item.text ?? null),
        drafts.map(({ item }) => (item.attachments === undefined ? null : JSON.stringify(item.attachments))),
        drafts.map(({ item }) => item.sentAt ?? null),
        contacts.map((contact) => contact.workspaceId),
        contacts.map((contact) => contact.id),
        contacts.map((contact) => contact.messages),
        contacts.map((contact) => contact.name),
        contacts.map((contact) => JSON.stringify(contact.attributes)),
      ],
    })
    .catch(rethrowLostKey);
  drafts.forEach(({ index, messageId, contactId }, i) => {
    results[index] = { kind: 'accepted', messageId, contactId, ...rows[i]!, duplicate: false };
  });
}

interface TouchedContact {
  readonly workspaceId: string;
  readonly id: string;
  messages: number;
  name: string | null;
  readonly attributes: Record<string, unknown>;
}

/** Notes what the message says of its contact, the later over the earlier. @returns which of its contact's messages it is, from 1 on. */
function touch(touched: Map<string, TouchedContact>, { contactId: id, item: { workspaceId, contact } }: Draft): number {
  let known = touched.get(id);
  if (known === undefined) touched.set(id, (known = { workspaceId, id, messages: 0, name: null, attributes: {} }));
  if (contact.name !== undefined) known.name = contact.name;
  if (contact.attributes !== undefined) Object.assign(known.attributes, contact.attributes);
  return (known.messages += 1);
}

function rethrowLostKey(error: unknown): never {
  const { code, constraint } = error as { code?: string; constraint?: string };
  if (code === '23505' && constraint === 'message_keys_pkey')
    throw new ConcurrentChange('the message came twice at once');
  throw error;
}
