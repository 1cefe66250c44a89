/**
 * What a batch's items are about: which are refused or known already, and which contact each of the rest belongs to. Identities of new
 * contacts are made here.
 */
import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { ConcurrentChange, type Queryable } from './database.ts';
import type { IngestItem, IngestResult } from './ingest.ts';

/** An item to be stored, if its dedupe key is new. */
export interface Draft {
  readonly index: number;
  readonly item: IngestItem;
  readonly channelId: string;
  readonly messageId: string;
  contactId: string;
  identityIsNew: boolean;
}

// Each lookup is a subquery that cannot be flattened (OFFSET 0), so that it goes by its key for each item, on connections that read no table from end
// to end (platform/pool.ts). Plans are made once a connection: those of plain joins, made while the tables were small, read all keys of messages for each batch.
const resolveSql = `
  SELECT ch.id AS channel_id, ci.contact_id AS identity_contact_id, c.id AS named_contact_id,
         k.contact_id AS key_contact_id, k.message_id
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[]) WITH ORDINALITY
       AS i (workspace_id, channel, external_id, contact_external_id, contact_id, position)
  LEFT JOIN LATERAL (
    SELECT id FROM channels WHERE workspace_id = i.workspace_id AND key = i.channel OFFSET 0
  ) ch ON true
  LEFT JOIN LATERAL (
    SELECT contact_id FROM contact_identities
    WHERE workspace_id = i.workspace_id AND channel_id = ch.id AND external_id = i.contact_external_id OFFSET 0
  ) ci ON true
  LEFT JOIN LATERAL (
    SELECT id FROM contacts WHERE workspace_id = i.workspace_id AND id = i.contact_id OFFSET 0
  ) c ON true
  LEFT JOIN LATERAL (
    SELECT contact_id, message_id FROM message_keys
    WHERE workspace_id = i.workspace_id AND channel_id = ch.id AND external_id = i.external_id OFFSET 0
  ) k ON true
  ORDER BY i.position`;

interface Resolved {
  channel_id: string | null;
  identity_contact_id: string | null;
  named_contact_id: string | null;
  key_contact_id: string | null;
  message_id: string | null;
}

/** Settles what needs no writing (refusals, duplicates) and returns a draft for each of the rest. */
export async function resolveItems(
  db: Queryable,
  items: readonly IngestItem[],
  results: (IngestResult | undefined)[],
): Promise<Draft[]> {
  const { rows } = await db.query<Resolved>({
    name: 'resolve-ingest-items',
    text: resolveSql,
    values: [
      items.map((item) => item.workspaceId),
      items.map((item) => item.channel),
      items.map((item) => item.externalId),
      items.map((item) => item.contact.externalId),
      items.map((item) => item.contact.id ?? null),
    ],
  });
  const drafts: Draft[] = [];
  const duplicates: Duplicate[] = [];
  const newContactIds = new Map<string, string>();
  rows.forEach((row, index) => {
    const item = items[index]!;
    const refusal = refuse(item, row);
    if (refusal !== null) {
      results[index] = refusal;
      return;
    }
    if (row.message_id !== null) {
      duplicates.push({
        index,
        workspaceId: item.workspaceId,
        contactId: row.key_contact_id!,
        messageId: row.message_id,
      });
      return;
    }
    const channelId = row.channel_id!;
    const identity = identityKey(item, channelId);
    const contactId = row.identity_contact_id ?? newContactIds.get(identity) ?? item.contact.id ?? newId();
    if (item.contact.id !== undefined && item.contact.id !== contactId) {
      results[index] = { kind: 'identity_of_another_contact' };
      return;
    }
    const identityIsNew = row.identity_contact_id === null;
    if (identityIsNew) newContactIds.set(identity, contactId);
    drafts.push({ index, item, channelId, messageId: newId(), contactId, identityIsNew });
  });
  if (duplicates.length > 0) await answerDuplicates(db, duplicates, results);
  return drafts;
}

function refuse(item: IngestItem, row: Resolved): IngestResult | null {
  if (row.channel_id === null) return { kind: 'unknown_channel' };
  if (item.contact.id !== undefined && row.named_contact_id === null) return { kind: 'unknown_contact' };
  if (row.key_contact_id !== null && row.key_contact_id !== row.identity_contact_id) {
    return { kind: 'key_of_another_contact' };
  }
  return null;
}

interface Duplicate {
  readonly index: number;
  readonly workspaceId: string;
  readonly contactId: string;
  readonly messageId: string;
}

const readDuplicatesSql = `
  SELECT m.sequence, m.conversation_id AS "conversationId"
  FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS d (workspace_id, id, position)
  LEFT JOIN LATERAL (
    SELECT sequence, conversation_id FROM messages WHERE workspace_id = d.workspace_id AND id = d.id OFFSET 0
  ) m ON true
  ORDER BY d.position`;

async function answerDuplicates(
  db: Queryable,
  duplicates: readonly Duplicate[],
  results: (IngestResult | undefined)[],
): Promise<void> {
  const { rows } = await db.query<{ sequence: number | null; conversationId: string | null }>({
    name: 'read-duplicates',
    text: readDuplicatesSql,
    values: [duplicates.map(({ workspaceId }) => workspaceId), duplicates.map(({ messageId }) => messageId)],
  });
  duplicates.forEach(({ index, contactId, messageId }, i) => {
    const { sequence, conversationId } = rows[i]!;
    if (sequence === null) throw new ConcurrentChange('the message is past its retention, its key is being removed');
    results[index] = { kind: 'accepted', messageId, contactId, conversationId, sequence, duplicate: true };
  });
}

/** The message's dedupe key, unique among all channels. */
export const keyOf = ({ item, channelId }: Draft): string => `${channelId}/${item.externalId}`;

const identityKey = (item: IngestItem, channelId: string): string =>
  `${item.workspaceId}/${channelId}/${item.contact.externalId}`;

// The foreign key from identity to contact is checked when the statement ends, so both may be inserted in one. Its commit does not wait for the
// disk: it is there at the latest with the commit of the messages, which is later in the same log. Hence a pool: no transaction of anybody's may be made
// to commit so.
const insertIdentitiesSql = `
  WITH commit AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
  identity AS (
    INSERT INTO contact_identities (workspace_id, channel_id, external_id, contact_id)
    SELECT i.* FROM commit, unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[]) AS i
    ON CONFLICT DO NOTHING
    RETURNING workspace_id, contact_id
  ), contact AS (
    INSERT INTO contacts (workspace_id, id)
    SELECT DISTINCT workspace_id, contact_id FROM identity
    ON CONFLICT DO NOTHING
  )
  SELECT FROM identity`;

const readIdentitiesSql = `
  SELECT ci.contact_id
  FROM unnest($1::uuid[], $2::uuid[], $3::text[]) WITH ORDINALITY AS i (workspace_id, channel_id, external_id, position)
  LEFT JOIN LATERAL (
    SELECT contact_id FROM contact_identities
    WHERE workspace_id = i.workspace_id AND channel_id = i.channel_id AND external_id = i.external_id OFFSET 0
  ) ci ON true
  ORDER BY i.position`;

/** Makes the contacts that are not known yet. One of whom no message is stored after all is as good as one who has not written for long. */
export async function resolveNewIdentities(
  pool: pg.Pool,
  drafts: readonly Draft[],
  results: (IngestResult | undefined)[],
): Promise<void> {
  const fresh = drafts.filter((draft) => draft.identityIsNew);
  if (fresh.length === 0) return;
  const byIdentity = new Map(fresh.map((draft) => [identityKey(draft.item, draft.channelId), draft]));
  const sorted = [...byIdentity.entries()].sort(byKey).map(([, draft]) => draft);
  const identities = [
    sorted.map((draft) => draft.item.workspaceId),
    sorted.map((draft) => draft.channelId),
    sorted.map((draft) => draft.item.contact.externalId),
  ];
  const inserted = await pool.query({
    name: 'insert-contact-identities',
    text: insertIdentitiesSql,
    values: [...identities, sorted.map((draft) => draft.contactId)],
  });
  if (inserted.rowCount === sorted.length) return;
  // Others met some of them first.
  const { rows } = await pool.query<{ contact_id: string | null }>({
    name: 'read-contact-identities',
    text: readIdentitiesSql,
    values: identities,
  });
  if (rows.some((row) => row.contact_id === null)) throw new ConcurrentChange('an identity was undone by a crash');
  const owners = new Map(sorted.map((draft, i) => [identityKey(draft.item, draft.channelId), rows[i]!.contact_id]));
  for (const draft of fresh) {
    draft.contactId = owners.get(identityKey(draft.item, draft.channelId))!;
    const named = draft.item.contact.id;
    if (named !== undefined && named !== draft.contactId)
      results[draft.index] = { kind: 'identity_of_another_contact' };
  }
}

/** Stable, and the same in every process: a locale must not order keys differently here and there. */
const byKey = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number =>
  a < b ? -1 : a > b ? 1 : 0;
