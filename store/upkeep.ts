/** What the leased worker looks at: conversations and contacts that stand still though they should not, and the numbers for the gauges. */
import type { Queryable } from './database.ts';
import type { OutboxEntry } from './outbox.ts';

export type StallKind = 'pending' | 'flow' | 'close';

/**
 * Contacts whose actor should have done something `afterMs` ago and has not, longest first: messages without a conversation, a flow
 * that does not go on, a close not carried out. In health there are none. What still waits in the outbox is not the actor's fault
 * and is left out.
 */
export async function readStalled(
  db: Queryable,
  { afterMs, maxRows }: { afterMs: number; maxRows: number },
): Promise<(OutboxEntry & { kind: StallKind })[]> {
  const { rows } = await db.query<OutboxEntry & { kind: StallKind }>({
    name: 'read-stalled',
    text: `SELECT workspace_id AS "workspaceId", contact_id AS "contactId",
                  close_conversation_id AS "closeConversationId", kind
           FROM (
             SELECT m.workspace_id, m.contact_id, NULL::uuid AS close_conversation_id, 'pending' AS kind,
                    min(m.received_at) AS since
             FROM messages m
             JOIN contacts c ON c.workspace_id = m.workspace_id AND c.id = m.contact_id
             WHERE m.conversation_id IS NULL AND c.open_conversation_id IS NULL
               AND m.received_at < now() - $1 * interval '1 ms'
             GROUP BY m.workspace_id, m.contact_id
             UNION ALL
             SELECT v.workspace_id, v.contact_id, CASE WHEN v.close_requested_at IS NOT NULL THEN v.id END,
                    CASE WHEN v.close_requested_at IS NOT NULL THEN 'close' ELSE 'flow' END, v.progressed_at
             FROM conversations v
             LEFT JOIN flow_versions f ON f.workspace_id = v.workspace_id AND f.id = v.flow_version_id
             WHERE (v.state IN ('enriching', 'routing') OR (v.close_requested_at IS NOT NULL AND v.closed_at IS NULL))
               AND v.progressed_at < now() - $1 * interval '1 ms'
               -- Other systems may take their time, up to the limit of the activity with all its attempts.
               AND NOT (v.state = 'enriching' AND v.close_requested_at IS NULL AND f.uses_network
                        AND v.progressed_at > now() - interval '4 min')
           ) stalled
           WHERE NOT EXISTS (SELECT FROM outbox o
                             WHERE o.workspace_id = stalled.workspace_id AND o.contact_id = stalled.contact_id)
           ORDER BY since LIMIT $2`,
    values: [afterMs, maxRows],
  });
  return rows;
}

export interface SystemGauges {
  readonly outboxDepth: number;
  readonly outboxOldestSeconds: number;
  readonly conversationsByState: Readonly<Record<string, number>>;
  readonly longestWaitSeconds: number;
  readonly agentsByPresence: Readonly<Record<string, number>>;
  readonly freeCapacityUnits: number;
  readonly oldestTransactionSeconds: number;
}

/** Over all workspaces. Counts open conversations only, by an index of its own; closed ones have a counter. */
export async function readSystemGauges(db: Queryable): Promise<SystemGauges> {
  const { rows } = await db.query<SystemGauges>(`
    SELECT (SELECT count(*) FROM outbox) AS "outboxDepth",
           (SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 FROM outbox) AS "outboxOldestSeconds",
           (SELECT coalesce(jsonb_object_agg(state, count), '{}')
            FROM (SELECT state, count(*) FROM conversations WHERE closed_at IS NULL GROUP BY state) s) AS "conversationsByState",
           (SELECT coalesce(extract(epoch FROM now() - min(waiting_since)), 0)::float8
            FROM conversations WHERE state = 'waiting' AND close_requested_at IS NULL) AS "longestWaitSeconds",
           (SELECT coalesce(jsonb_object_agg(status, count), '{}')
            FROM (SELECT status, count(*) FROM agent_presence GROUP BY status) p) AS "agentsByPresence",
           (SELECT coalesce(sum(greatest(a.capacity - a.load, 0)), 0)
            FROM agents a JOIN agent_presence p ON p.workspace_id = a.workspace_id AND p.agent_id = a.id
            WHERE p.status = 'online') AS "freeCapacityUnits",
           (SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float8
            FROM pg_stat_activity WHERE datname = current_database() AND backend_xmin IS NOT NULL) AS "oldestTransactionSeconds"`);
  return rows[0]!;
}

export interface ContactKey {
  readonly workspaceId: string;
  readonly contactId: string;
}

/** Of these contacts, the ones with nothing open, nothing pending, and no message for `idleMs`: their actors may end. */
export async function readIdleContacts(
  db: Queryable,
  { contacts, idleMs }: { contacts: readonly ContactKey[]; idleMs: number },
): Promise<ContactKey[]> {
  const { rows } = await db.query<ContactKey>({
    name: 'read-idle-contacts',
    text: `SELECT c.workspace_id AS "workspaceId", c.id AS "contactId"
           FROM unnest($1::uuid[], $2::uuid[]) AS i (workspace_id, id)
           JOIN contacts c USING (workspace_id, id)
           WHERE c.open_conversation_id IS NULL
             AND NOT EXISTS (SELECT FROM messages m
                             WHERE m.workspace_id = c.workspace_id AND m.contact_id = c.id
                               AND (m.conversation_id IS NULL OR m.received_at > now() - $3 * interval '1 ms'))`,
    values: [contacts.map((contact) => contact.workspaceId), contacts.map((contact) => contact.contactId), idleMs],
  });
  return rows;
}
