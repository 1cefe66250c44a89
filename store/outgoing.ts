/**
 * What leaves the house: messages to contacts, and webhooks of flows. Both are written in the caller's transaction, so that whatever decided them and
 * they themselves happen together or not at all; the worker delivers them afterwards (store/deliveries.ts).
 *
 * The caller holds the contact's lock (`lockContact`). That gives each message its number, and the deliveries of a conversation their order.
 */
import { createHash } from 'node:crypto';
import { newId } from '../platform/id.ts';
import type { Queryable } from './database.ts';
import { wakeDeliverersSql } from './deliveries.ts';
import type { ConversationKey } from './locks.ts';

export interface OutgoingMessage {
  readonly text: string;
  /** Who writes; null: the flow. */
  readonly agentId: string | null;
  /** Sent again with the same, a reply is the one that was stored first (store/replies.ts). */
  readonly externalId?: string;
  readonly detail?: {
    /** What the contact may choose from; the channel may show buttons. */
    readonly choices?: readonly unknown[];
    /** Which question of which step it is. */
    readonly question?: { readonly step: number; readonly number: number };
  };
}

export interface SentMessage {
  readonly messageId: string;
  readonly sequence: number;
}

/**
 * Writes messages to the contact, in their order: they take the next numbers of the thread and go to the channel on which the contact wrote last in
 * this conversation. Where that channel has no outbound URL, or the contact never wrote, they are only stored.
 */
export async function sendToContact(
  tx: Queryable,
  key: ConversationKey,
  messages: readonly OutgoingMessage[],
): Promise<SentMessage[]> {
  if (messages.length === 0) return [];
  const { rows } = await tx.query<SentMessage>({
    name: 'send-to-contact',
    text: sendToContactSql,
    values: [
      key.workspaceId,
      key.contactId,
      key.conversationId,
      messages.map(() => newId()),
      messages.map(() => newId()),
      messages.map(({ text }) => text),
      messages.map(({ agentId }) => agentId),
      messages.map(({ externalId }) => externalId ?? null),
      messages.map(({ detail }) => (detail?.choices === undefined ? null : JSON.stringify(detail.choices))),
      messages.map(({ detail }) => (detail?.question === undefined ? null : JSON.stringify(detail.question))),
    ],
  });
  if (rows.length !== messages.length) throw new Error(`Contact ${key.contactId} is gone`);
  return rows;
}

/** Tells another system, once and signed, why it is told (`reason`) and what is known then. */
export async function enqueueWebhook(
  tx: Queryable,
  key: ConversationKey,
  { url, reason, data }: { url: string; reason: string; data: Readonly<Record<string, unknown>> },
): Promise<void> {
  const lane = laneOfWebhook(key.workspaceId, url);
  await tx.query({
    name: 'enqueue-webhook',
    text: `WITH queued AS (
             INSERT INTO deliveries (id, workspace_id, contact_id, conversation_id, kind, lane, url, payload, due_at)
             SELECT $1, $2, $3, $4, 'webhook', $5, $6,
                    jsonb_build_object('type', 'flow.' || $7::text, 'timestamp', ${isoSql('now()')}, 'data', $8::jsonb),
                    ${dueSql('$4', '$5')}
             RETURNING id
           )
           SELECT ${wakeDeliverersSql} FROM queued`,
    values: [
      newId(),
      key.workspaceId,
      key.contactId,
      key.conversationId,
      lane,
      url,
      reason,
      JSON.stringify({ reason, conversationId: key.conversationId, contactId: key.contactId, ...data }),
    ],
  });
}

/** All webhooks of a workspace to one host: they answer, or do not, together. */
function laneOfWebhook(workspaceId: string, url: string): string {
  const host = URL.canParse(url) ? new URL(url).host : url;
  return createHash('sha256').update(`${workspaceId}/${host}`).digest('hex').slice(0, 32);
}

const isoSql = (time: string): string => `to_char(${time} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

/**
 * SQL for when what is written now is due: at once, or with the first that stands before it, where that was put off. So the deliverers need not look,
 * again and again, at what waits behind that. Where the first is claimed, or is due within the minute, it may be done before this is seen, and
 * would not free it (store/deliveries.ts). What stands between has the first's time too, or waits to be freed by it.
 */
const dueSql = (conversationId: string, lane: string): string => `
  greatest(now(), (SELECT CASE WHEN first.claimed_by IS NULL AND first.due_at > now() + interval '1 minute' THEN first.due_at END
                   FROM deliveries first
                   WHERE first.conversation_id = ${conversationId}::uuid AND first.lane = ${lane}::uuid AND first.state = 'pending'
                   ORDER BY first.position LIMIT 1))`;

// The contact's row is written first, so that the transaction has its id before it draws one for an event (store/events.ts).
const sendToContactSql = `
  WITH message AS MATERIALIZED (
    SELECT * FROM unnest($4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::text[], $9::jsonb[], $10::jsonb[])
      WITH ORDINALITY AS m (id, delivery_id, text, agent_id, external_id, choices, question, place)
  ), numbered AS (
    UPDATE contacts SET last_sequence = last_sequence + cardinality($4::uuid[])
    WHERE workspace_id = $1 AND id = $2
    RETURNING last_sequence - cardinality($4::uuid[]) AS last_sequence
  ), channel AS MATERIALIZED (
    SELECT c.id, c.key, c.outbound_url IS NOT NULL AS is_told
    FROM channels c
    WHERE c.workspace_id = $1 AND c.id = (
      SELECT channel_id FROM messages
      WHERE workspace_id = $1 AND conversation_id = $3 AND direction = 'inbound' ORDER BY sequence DESC LIMIT 1
    )
  ), keyed AS (
    INSERT INTO reply_keys (workspace_id, conversation_id, external_id, message_id)
    SELECT $1, $3, external_id, id FROM message WHERE external_id IS NOT NULL
  ), stored AS (
    INSERT INTO messages (workspace_id, id, contact_id, conversation_id, direction, sequence, agent_id, text, external_id,
                          channel_id, delivery)
    SELECT $1, m.id, $2, $3, 'outbound', n.last_sequence + m.place, m.agent_id, m.text, m.external_id,
           channel.id, CASE WHEN channel.is_told THEN 'pending' END
    FROM numbered n CROSS JOIN message m LEFT JOIN channel ON true
    RETURNING id, sequence
  ), evented AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT $1, 'message.sent', $3, $2,
           jsonb_build_object('messageId', m.id, 'sequence', n.last_sequence + m.place, 'agentId', m.agent_id)
             || CASE WHEN m.question IS NULL THEN '{}' ELSE jsonb_build_object('question', m.question) END
    FROM numbered n CROSS JOIN message m ORDER BY m.place
  ), queued AS (
    INSERT INTO deliveries (id, workspace_id, contact_id, conversation_id, kind, lane, message_id, channel_id, payload, due_at)
    SELECT m.delivery_id, $1, $2, $3, 'message', channel.id, m.id, channel.id,
           jsonb_build_object('type', 'message.outbound', 'timestamp', ${isoSql('now()')}, 'data', jsonb_build_object(
             'messageId', m.id, 'conversationId', $3::uuid, 'contactId', $2::uuid, 'channel', channel.key,
             'contact', jsonb_build_object('externalIds', ARRAY(
               SELECT i.external_id FROM contact_identities i
               WHERE i.workspace_id = $1 AND i.contact_id = $2 AND i.channel_id = channel.id ORDER BY i.external_id)),
             'text', m.text, 'sequence', n.last_sequence + m.place,
             'author', CASE WHEN m.agent_id IS NULL THEN 'flow' ELSE 'agent' END, 'agentId', m.agent_id)
             || CASE WHEN m.choices IS NULL THEN '{}' ELSE jsonb_build_object('choices', m.choices) END),
           ${dueSql('$3', 'channel.id')}
    FROM numbered n CROSS JOIN message m JOIN channel ON channel.is_told
    ORDER BY m.place
    RETURNING id
  ), rung AS (
    SELECT ${wakeDeliverersSql} FROM queued LIMIT 1
  )
  SELECT s.id AS "messageId", s.sequence FROM stored s LEFT JOIN rung ON true ORDER BY s.sequence`;
