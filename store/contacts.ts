/** Contacts as they are read. They are written where messages come in (`store/ingest.ts`). */
import type { Queryable } from './database.ts';

export interface ContactRow {
  readonly id: string;
  readonly name: string | null;
  readonly attributes: Record<string, unknown>;
  readonly identities: readonly ContactIdentity[];
  readonly openConversationId: string | null;
  readonly createdAt: Date;
}

export interface ContactIdentity {
  /** The channel's key. */
  readonly channel: string;
  readonly externalId: string;
}

export async function getContact(
  db: Queryable,
  { workspaceId, contactId }: { workspaceId: string; contactId: string },
): Promise<ContactRow | null> {
  const { rows } = await db.query<ContactRow>({
    name: 'get-contact',
    text: `${selectContactSql} AND contact.id = $2`,
    values: [workspaceId, contactId],
  });
  return rows[0] ?? null;
}

/** Newest first; `after` is the id of the last one of the page before. */
export async function listContacts(
  db: Queryable,
  { workspaceId, after, limit }: { workspaceId: string; after: string | null; limit: number },
): Promise<ContactRow[]> {
  const { rows } = await db.query<ContactRow>({
    name: after === null ? 'list-contacts' : 'list-contacts-after',
    text: `${selectContactSql} ${after === null ? '' : 'AND contact.id < $3'} ORDER BY contact.id DESC LIMIT $2`,
    values: after === null ? [workspaceId, limit] : [workspaceId, limit, after],
  });
  return rows;
}

const selectContactSql = `
  SELECT contact.id, contact.name, contact.attributes, contact.open_conversation_id AS "openConversationId",
    contact.created_at AS "createdAt",
    COALESCE((
      SELECT jsonb_agg(
        jsonb_build_object('channel', channel.key, 'externalId', identity.external_id)
        ORDER BY channel.key, identity.external_id)
      FROM contact_identities AS identity
      JOIN channels AS channel ON channel.workspace_id = identity.workspace_id AND channel.id = identity.channel_id
      WHERE identity.workspace_id = contact.workspace_id AND identity.contact_id = contact.id
    ), '[]') AS identities
  FROM contacts AS contact
  WHERE contact.workspace_id = $1`;
