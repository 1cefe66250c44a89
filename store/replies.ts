import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { transact, type Queryable } from './database.ts';
import { recordEvents } from './events.ts';
import { lockContact, readConversation } from './locks.ts';

export type ReplyResult =
  | { readonly kind: 'stored'; readonly messageId: string; readonly duplicate: boolean }
  | { readonly kind: 'not_found' | 'closed' | 'closing' | 'unknown_agent' };

/**
 * An agent's reply. It takes the next number of the contact's sequence, so that a thread has one order, goes to the
 * channel on which the contact wrote last, and is refused from the close request on. With an `externalId`, sending it again answers with the message stored first.
 */
export async function addReply(
  pool: pg.Pool,
  reply: { workspaceId: string; conversationId: string; agentId: string; text: string; externalId?: string },
): Promise<ReplyResult> {
  const { workspaceId, conversationId, agentId } = reply;
  const before = await readConversation(pool, workspaceId, conversationId);
  if (before === null) return { kind: 'not_found' };
  const { contactId } = before;
  return transact(pool, async (tx): Promise<ReplyResult> => {
    const contact = (await lockContact(tx, workspaceId, contactId))!;
    const stored = await readReply(tx, reply);
    if (stored !== null) return { kind: 'stored', messageId: stored, duplicate: true };
    const conversation = (await readConversation(tx, workspaceId, conversationId))!;
    if (conversation.state === 'closed') return { kind: 'closed' };
    if (conversation.closeRequestedAt !== null) return { kind: 'closing' };
    const { rows: agents } = await tx.query('SELECT FROM agents WHERE workspace_id = $1 AND id = $2', [
      workspaceId,
      agentId,
    ]);
    if (agents.length === 0) return { kind: 'unknown_agent' };
    const messageId = newId();
    const sequence = contact.lastSequence + 1;
    await tx.query({
      name: 'write-reply',
      text: `WITH numbered AS (
               UPDATE contacts SET last_sequence = $5 WHERE workspace_id = $1 AND id = $3
             ), keyed AS (
               INSERT INTO reply_keys (workspace_id, conversation_id, external_id, message_id)
               SELECT $1, $4, $8::text, $2 WHERE $8::text IS NOT NULL
             )
             INSERT INTO messages (workspace_id, id, contact_id, conversation_id, direction, sequence, agent_id, text,
                                   external_id, channel_id)
             VALUES ($1, $2, $3, $4, 'outbound', $5, $6, $7, $8,
                     (SELECT channel_id FROM messages
                      WHERE workspace_id = $1 AND conversation_id = $4 AND direction = 'inbound'
                      ORDER BY sequence DESC LIMIT 1))`,
      values: [
        workspaceId,
        messageId,
        contactId,
        conversationId,
        sequence,
        agentId,
        reply.text,
        reply.externalId ?? null,
      ],
    });
    await recordEvents(tx, workspaceId, [
      { type: 'message.sent', conversationId, contactId, data: { messageId, sequence, agentId } },
    ]);
    return { kind: 'stored', messageId, duplicate: false };
  });
}

async function readReply(
  tx: Queryable,
  { workspaceId, conversationId, externalId }: { workspaceId: string; conversationId: string; externalId?: string },
): Promise<string | null> {
  if (externalId === undefined) return null;
  const { rows } = await tx.query<{ message_id: string }>({
    name: 'read-reply-key',
    text: `SELECT message_id FROM reply_keys WHERE workspace_id = $1 AND conversation_id = $2 AND external_id = $3`,
    values: [workspaceId, conversationId, externalId],
  });
  return rows[0]?.message_id ?? null;
}
