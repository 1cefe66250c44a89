/**
 * Checks the invariants of ARCHITECTURE.md over what a scenario left in the database. The rows say how things ended; the
 * events, whose ids follow the order of happening, say that no moment in between was wrong either.
 */
import type { Queryable } from '../../platform/pool.ts';
import { findMisfiled, findNeedlessWaits, findWrongLoads } from './balance.ts';
import { replayEvents, type ReplayOptions } from './history-replay.ts';

export interface AcceptedMessage {
  readonly messageId: string;
  readonly contactId: string;
  readonly sequence: number;
}

export interface HistoryOptions extends ReplayOptions {
  /** What was answered 202: every one must be there. */
  readonly accepted?: readonly AcceptedMessage[];
}

/** Call it when all is settled (see settled.ts). Throws an error that lists every violation. */
export async function assertSoundHistory(db: Queryable, options: HistoryOptions): Promise<void> {
  const violations = await findViolations(db, options);
  if (violations.length === 0) return;
  const shown = violations.slice(0, 20).join('\n  ');
  throw new Error(`${violations.length} violations of the invariants:\n  ${shown}`);
}

export async function findViolations(db: Queryable, options: HistoryOptions): Promise<string[]> {
  const { workspaceId, accepted = [] } = options;
  const found: string[] = [];
  for (const [claim, text] of Object.entries(violationsSql)) {
    const { rows } = await db.query<{ what: string }>(text, [workspaceId]);
    found.push(...rows.map(({ what }) => `${claim}: ${what}`));
  }
  found.push(...(await findLostMessages(db, workspaceId, accepted)));
  const claims = {
    'I3 load is what agents hold': findWrongLoads,
    'I7 none waits while an agent who may take it has room': findNeedlessWaits,
    'what waits is filed and timed by what it asks': findMisfiled,
  };
  for (const [claim, find] of Object.entries(claims)) {
    found.push(...(await find(db, workspaceId)).map((what) => `${claim}: ${what}`));
  }
  found.push(...(await replayEvents(db, options)));
  return found;
}

/** Each selects what contradicts its claim, as `what`. */
const violationsSql: Readonly<Record<string, string>> = {
  'I1 every message belongs to a conversation': `
    SELECT id::text AS what FROM messages WHERE workspace_id = $1 AND conversation_id IS NULL`,
  'I1 every message was told once, with its conversation': `
    SELECT m.id || ' told ' || count(e.id) AS what
    FROM messages m
    LEFT JOIN events e ON e.workspace_id = m.workspace_id AND e.type IN ('message.received', 'message.sent')
                      AND e.data ->> 'messageId' = m.id::text
    WHERE m.workspace_id = $1
    GROUP BY m.id, m.conversation_id
    HAVING count(e.id) <> 1 OR max(e.conversation_id::text) IS DISTINCT FROM m.conversation_id::text`,
  'I1 a message and its key name each other': `
    SELECT coalesce(m.id, k.message_id)::text AS what
    FROM (SELECT * FROM messages WHERE workspace_id = $1 AND direction = 'inbound') m
    FULL JOIN (SELECT * FROM message_keys WHERE workspace_id = $1) k
      ON k.message_id = m.id AND k.channel_id = m.channel_id AND k.external_id = m.external_id AND k.contact_id = m.contact_id
    WHERE m.id IS NULL OR k.message_id IS NULL`,
  'a message belongs to a contact, a conversation and a channel that are there and belong together': `
    SELECT m.id::text AS what FROM messages m
    LEFT JOIN contacts c ON c.workspace_id = m.workspace_id AND c.id = m.contact_id
    LEFT JOIN conversations v ON v.workspace_id = m.workspace_id AND v.contact_id = m.contact_id AND v.id = m.conversation_id
    LEFT JOIN channels ch ON ch.workspace_id = m.workspace_id AND ch.id = m.channel_id
    WHERE m.workspace_id = $1
      AND (c.id IS NULL OR (m.conversation_id IS NOT NULL AND v.id IS NULL) OR (m.channel_id IS NOT NULL AND ch.id IS NULL))`,
  'I2 a contact has at most one open conversation, the one it points to': `
    SELECT c.id || ' points to ' || coalesce(c.open_conversation_id::text, 'none') || ', open: ' || count(v.id) AS what
    FROM contacts c
    LEFT JOIN conversations v ON v.workspace_id = c.workspace_id AND v.contact_id = c.id AND v.closed_at IS NULL
    WHERE c.workspace_id = $1
    GROUP BY c.id, c.open_conversation_id
    HAVING count(v.id) > 1 OR max(v.id::text) IS DISTINCT FROM c.open_conversation_id::text`,
  'I2 open intervals of a contact do not overlap': `
    SELECT contact_id || ': ' || id || ' opened ' || opened_at || ', before ' || previous || ' closed ' || coalesce(previous_closed_at::text, 'never') AS what
    FROM (SELECT id, contact_id, opened_at, lag(id) OVER w AS previous, lag(closed_at) OVER w AS previous_closed_at
          FROM conversations WHERE workspace_id = $1
          WINDOW w AS (PARTITION BY contact_id ORDER BY opened_at, id)) v
    WHERE previous IS NOT NULL AND (previous_closed_at IS NULL OR previous_closed_at > opened_at)`,
  'I3 an open conversation has an agent exactly when it is assigned': `
    SELECT id || ' is ' || state AS what FROM conversations
    WHERE workspace_id = $1 AND closed_at IS NULL AND (state = 'assigned') <> (agent_id IS NOT NULL)`,
  'I4 a flow runs only for what a contact opened': `
    SELECT v.id || ' source ' || v.source AS what FROM conversations v
    WHERE v.workspace_id = $1 AND v.source <> 'contact'
      AND (v.flow_version_id IS NOT NULL
           OR EXISTS (SELECT FROM events e WHERE e.workspace_id = v.workspace_id AND e.conversation_id = v.id
                      AND e.type IN ('conversation.enriched', 'conversation.routed')))`,
  'I4 what a contact opened has its message': `
    SELECT v.id::text AS what FROM conversations v
    WHERE v.workspace_id = $1 AND v.source = 'contact'
      AND NOT EXISTS (SELECT FROM messages m WHERE m.workspace_id = v.workspace_id AND m.conversation_id = v.id
                      AND m.direction = 'inbound')`,
  'I5 sequences have no gap': `
    SELECT c.id || ' last ' || c.last_sequence || ', messages ' || count(m.id) || ', highest ' || coalesce(max(m.sequence), 0) AS what
    FROM contacts c LEFT JOIN messages m ON m.workspace_id = c.workspace_id AND m.contact_id = c.id
    WHERE c.workspace_id = $1
    GROUP BY c.id, c.last_sequence
    HAVING count(m.id) <> c.last_sequence OR coalesce(max(m.sequence), 0) <> c.last_sequence
        OR count(DISTINCT m.sequence) <> count(m.id)`,
  'I5 a contact’s messages were told in order': `
    SELECT contact_id || ': ' || sequence || ' after ' || previous AS what
    FROM (SELECT contact_id, (data ->> 'sequence')::bigint AS sequence,
                 lag((data ->> 'sequence')::bigint) OVER (PARTITION BY contact_id ORDER BY id) AS previous
          FROM events WHERE workspace_id = $1 AND type = 'message.received') e
    WHERE sequence <= previous`,
  'I6 a conversation has one closed event exactly when it is closed': `
    SELECT v.id || ' is ' || v.state || ', closed events: ' || count(e.id) AS what
    FROM conversations v
    LEFT JOIN events e ON e.workspace_id = v.workspace_id AND e.conversation_id = v.id AND e.type = 'conversation.closed'
    WHERE v.workspace_id = $1
    GROUP BY v.id, v.state HAVING count(e.id) <> (v.state = 'closed')::int`,
  'what waits keeps the time from which it first did': `
    SELECT v.id || ' since ' || coalesce(v.waiting_since::text, 'never') || ', told ' || min(e.at) AS what
    FROM conversations v
    JOIN events e ON e.workspace_id = v.workspace_id AND e.conversation_id = v.id
                 AND e.type IN ('conversation.waiting', 'conversation.offered')
    WHERE v.workspace_id = $1
    GROUP BY v.id, v.waiting_since HAVING v.waiting_since IS NULL OR v.waiting_since > min(e.at)`,
};

async function findLostMessages(
  db: Queryable,
  workspaceId: string,
  accepted: readonly AcceptedMessage[],
): Promise<string[]> {
  const { rows } = await db.query<{ what: string }>(
    `SELECT a.id || ' sequence ' || a.sequence AS what
     FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) AS a (id, contact_id, sequence)
     LEFT JOIN messages m ON m.workspace_id = $1 AND m.id = a.id AND m.contact_id = a.contact_id AND m.sequence = a.sequence
     WHERE m.id IS NULL`,
    [
      workspaceId,
      accepted.map((message) => message.messageId),
      accepted.map((message) => message.contactId),
      accepted.map((message) => message.sequence),
    ],
  );
  return rows.map(({ what }) => `I1 what was answered 202 is there: ${what}`);
}
