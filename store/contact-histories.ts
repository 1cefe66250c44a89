import type { ContactHistory } from '../routing/facts.ts';
import type { Queryable } from './database.ts';
import type { ConversationKey } from './locks.ts';

/** What the contacts' earlier conversations tell, in the order of the keys. More than a thousand count as a thousand. */
export async function readContactHistories(db: Queryable, keys: readonly ConversationKey[]): Promise<ContactHistory[]> {
  const { rows } = await db.query<ContactHistory>({
    name: 'read-contact-histories',
    text: `SELECT (SELECT count(*) FROM (SELECT FROM conversations p
                                         WHERE p.workspace_id = asked.workspace_id AND p.contact_id = asked.contact_id
                                           AND p.id <> asked.id LIMIT 1000) earlier)::int AS "conversationCount",
                  last.agent_id AS "lastAgentId", last.close_category AS "lastCategory"
           FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) WITH ORDINALITY AS asked (workspace_id, contact_id, id, place)
           LEFT JOIN LATERAL (
             SELECT p.agent_id, p.close_category FROM conversations p
             WHERE p.workspace_id = asked.workspace_id AND p.contact_id = asked.contact_id AND p.id <> asked.id
             ORDER BY p.id DESC LIMIT 1
           ) last ON true
           ORDER BY asked.place`,
    values: [
      keys.map(({ workspaceId }) => workspaceId),
      keys.map(({ contactId }) => contactId),
      keys.map(({ conversationId }) => conversationId),
    ],
  });
  return rows;
}
