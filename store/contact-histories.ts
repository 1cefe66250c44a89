import type { ContactHistory } from '../routing/facts.ts';
import type { Queryable } from './database.ts';
import type { ConversationKey } from './locks.ts';

/**
 * What the contacts' earlier conversations tell, in the order of the keys. More than a thousand count as a thousand. The last agent and the last
 * category are each of the last conversation that had one: one that nobody took, or that the flow closed, does not make a contact forget who knows it.
 */
export async function readContactHistories(db: Queryable, keys: readonly ConversationKey[]): Promise<ContactHistory[]> {
  const { rows } = await db.query<ContactHistory>({
    name: 'read-contact-histories',
    text: `SELECT (SELECT count(*) FROM (SELECT FROM conversations p WHERE ${earlierSql} LIMIT 1000) earlier)::int AS "conversationCount",
                  ${lastKnownSql('agent_id')} AS "lastAgentId", ${lastKnownSql('close_category')} AS "lastCategory"
           FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) WITH ORDINALITY AS asked (workspace_id, contact_id, id, place)
           ORDER BY asked.place`,
    values: [
      keys.map(({ workspaceId }) => workspaceId),
      keys.map(({ contactId }) => contactId),
      keys.map(({ conversationId }) => conversationId),
    ],
  });
  return rows;
}

const earlierSql = 'p.workspace_id = asked.workspace_id AND p.contact_id = asked.contact_id AND p.id <> asked.id';

/** Read from the latest on, as far as the first that has it: mostly one row, at most a hundred where none has. */
const lastKnownSql = (column: 'agent_id' | 'close_category'): string => `
  (SELECT recent.value
   FROM (SELECT p.id, p.${column} AS value FROM conversations p WHERE ${earlierSql} ORDER BY p.id DESC LIMIT 100) recent
   WHERE recent.value IS NOT NULL ORDER BY recent.id DESC LIMIT 1)`;
