import type pg from 'pg';
import { transact, type Queryable } from './database.ts';
import { lockContact, readConversation } from './locks.ts';
import { sendToContact } from './outgoing.ts';

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
    await lockContact(tx, { workspaceId, contactId });
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
    const { text, externalId } = reply;
    const message = { text, agentId, ...(externalId === undefined ? {} : { externalId }) };
    const [sent] = await sendToContact(tx, { workspaceId, contactId, conversationId }, [message]);
    return { kind: 'stored', messageId: sent!.messageId, duplicate: false };
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
