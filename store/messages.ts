/** Messages as they are read: contacts' messages are written by `store/ingest.ts`, what is said to them by `store/outgoing.ts`. */
import type { Queryable } from './database.ts';

export interface MessageRow {
  readonly id: string;
  readonly contactId: string;
  /** Null while the message waits for a conversation. */
  readonly conversationId: string | null;
  readonly direction: 'inbound' | 'outbound';
  /** The contact's messages and the replies to it, numbered without a gap. */
  readonly sequence: number;
  /** The channel's key: on which the contact wrote, or to which a reply goes. */
  readonly channel: string | null;
  readonly externalId: string | null;
  /** Who replied; null for a contact's message, and for one that a flow sent. */
  readonly agentId: string | null;
  readonly text: string | null;
  readonly attachments: readonly unknown[] | null;
  readonly sentAt: Date | null;
  readonly receivedAt: Date;
  /** Null: nobody has to be told. */
  readonly delivery: 'pending' | 'delivered' | 'failed' | null;
  readonly deliveredAt: Date | null;
  /** So far, where it is not delivered. */
  readonly deliveryAttempts: number | null;
  readonly deliveryError: string | null;
}

export async function getMessage(
  db: Queryable,
  { workspaceId, messageId }: { workspaceId: string; messageId: string },
): Promise<MessageRow | null> {
  const { rows } = await db.query<MessageRow>({
    name: 'get-message',
    text: `${selectMessageSql} AND message.id = $2`,
    values: [workspaceId, messageId],
  });
  return rows[0] ?? null;
}

/** A conversation's thread, oldest first; `afterSequence` is the last one of the page before, or 0. */
export async function listMessages(
  db: Queryable,
  options: { workspaceId: string; conversationId: string; afterSequence: number; limit: number },
): Promise<MessageRow[]> {
  const { rows } = await db.query<MessageRow>({
    name: 'list-messages',
    text: `${selectMessageSql} AND message.conversation_id = $2 AND message.sequence > $3
      ORDER BY message.sequence LIMIT $4`,
    values: [options.workspaceId, options.conversationId, options.afterSequence, options.limit],
  });
  return rows;
}

const selectMessageSql = `
  SELECT message.id, message.contact_id AS "contactId", message.conversation_id AS "conversationId",
    message.direction, message.sequence, channel.key AS channel, message.external_id AS "externalId",
    message.agent_id AS "agentId", message.text, message.attachments, message.sent_at AS "sentAt",
    message.received_at AS "receivedAt", message.delivery, message.delivered_at AS "deliveredAt",
    waiting.attempts AS "deliveryAttempts", waiting.last_error AS "deliveryError"
  FROM messages AS message
  LEFT JOIN channels AS channel ON channel.workspace_id = message.workspace_id AND channel.id = message.channel_id
  -- Looked up one by one, and only for what is on its way; OFFSET 0 keeps it from becoming a join with all of them.
  LEFT JOIN LATERAL (
    SELECT d.attempts, d.last_error FROM deliveries d
    WHERE message.delivery IN ('pending', 'failed') AND d.message_id = message.id OFFSET 0
  ) waiting ON true
  WHERE message.workspace_id = $1`;
