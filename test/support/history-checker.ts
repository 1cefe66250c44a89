/**
 * Checks the invariants of ARCHITECTURE.md over what a scenario left in the database. The rows say how things ended; the
 * events, whose ids follow the order of happening, say that no moment in between was wrong either.
 */
import type { Queryable } from '../../platform/pool.ts';

export interface AcceptedMessage {
  readonly messageId: string;
  readonly contactId: string;
  readonly sequence: number;
}

export interface HistoryOptions {
  readonly workspaceId: string;
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

export async function findViolations(db: Queryable, { workspaceId, accepted = [] }: HistoryOptions): Promise<string[]> {
  const found: string[] = [];
  for (const [claim, text] of Object.entries(violationsSql)) {
    const { rows } = await db.query<{ what: string }>(text, [workspaceId]);
    found.push(...rows.map(({ what }) => `${claim}: ${what}`));
  }
  found.push(...(await findLostMessages(db, workspaceId, accepted)));
  found.push(...(await replayEvents(db, workspaceId)));
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
  'I3 load is what open assigned conversations cost': `
    SELECT a.id || ' load ' || a.load || ', cost ' || coalesce(sum(v.units), 0) AS what
    FROM agents a
    LEFT JOIN conversations v ON v.workspace_id = a.workspace_id AND v.agent_id = a.id AND v.closed_at IS NULL
    WHERE a.workspace_id = $1
    GROUP BY a.id, a.load HAVING a.load <> coalesce(sum(v.units), 0)`,
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
  'I7 none waits while an agent who may take it has room': `
    SELECT v.id || ' waits, ' || a.id || ' has load ' || a.load || ' of ' || a.capacity AS what
    FROM conversations v
    JOIN team_members m ON m.workspace_id = v.workspace_id AND m.team_id = v.team_id
    JOIN agents a ON a.workspace_id = m.workspace_id AND a.id = m.agent_id
    JOIN agent_presence p ON p.workspace_id = a.workspace_id AND p.agent_id = a.id AND p.status = 'online'
    WHERE v.workspace_id = $1 AND v.state = 'waiting' AND v.close_requested_at IS NULL
      AND a.load + v.units <= a.capacity`,
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

interface EventRow {
  readonly id: number;
  readonly type: string;
  readonly conversation_id: string;
  readonly contact_id: string;
  readonly data: { readonly agentId?: string; readonly forced?: boolean };
}

/**
 * Lives the history through again: per contact, conversations open and close in turn; per conversation, nothing happens before
 * it opened, nothing but its close after the request, nothing at all after it; per agent, the load never exceeds the capacity,
 * unless it was forced. Units are taken as 1 each and capacities as they are at the end.
 */
async function replayEvents(db: Queryable, workspaceId: string): Promise<string[]> {
  const { rows: events } = await db.query<EventRow>(
    `SELECT id, type, conversation_id, contact_id, data FROM events
     WHERE workspace_id = $1 AND conversation_id IS NOT NULL ORDER BY id`,
    [workspaceId],
  );
  const { rows: agents } = await db.query<{ id: string; capacity: number }>(
    'SELECT id, capacity FROM agents WHERE workspace_id = $1',
    [workspaceId],
  );
  const capacities = new Map(agents.map((agent) => [agent.id, agent.capacity]));
  const found: string[] = [];
  const openByContact = new Map<string, string>();
  const stages = new Map<string, 'open' | 'closing' | 'closed'>();
  const agentByConversation = new Map<string, string>();
  const loads = new Map<string, number>();
  const moveTo = (conversationId: string, agentId: string | undefined): void => {
    const before = agentByConversation.get(conversationId);
    if (before !== undefined) loads.set(before, loads.get(before)! - 1);
    if (agentId === undefined) {
      agentByConversation.delete(conversationId);
      return;
    }
    agentByConversation.set(conversationId, agentId);
    loads.set(agentId, (loads.get(agentId) ?? 0) + 1);
  };

  for (const { id, type, conversation_id: conversationId, contact_id: contactId, data } of events) {
    const stage = stages.get(conversationId);
    const complain = (claim: string): void => {
      found.push(`${claim}: event ${id} ${type} of conversation ${conversationId}`);
    };
    if (type === 'conversation.opened') {
      if (openByContact.has(contactId)) complain('I2 a conversation opens only after the previous one closed');
      if (stage !== undefined) complain('I6 a conversation opens once');
      openByContact.set(contactId, conversationId);
      stages.set(conversationId, 'open');
      continue;
    }
    if (stage === undefined) complain('nothing happens before the opening');
    if (stage === 'closing' && type !== 'conversation.closed')
      complain('nothing happens between close request and close');
    if (stage === 'closed') complain('nothing happens after the close');
    switch (type) {
      case 'conversation.assigned': {
        const agentId = data.agentId!;
        moveTo(conversationId, agentId);
        const load = loads.get(agentId)!;
        if (load > capacities.get(agentId)! && data.forced !== true)
          complain(`I3 agent ${agentId} had ${load} at once`);
        break;
      }
      case 'conversation.unassigned':
        moveTo(conversationId, undefined);
        break;
      case 'conversation.close_requested':
        stages.set(conversationId, 'closing');
        break;
      case 'conversation.closed':
        if (stage !== 'closing') complain('a close is requested before it is carried out');
        stages.set(conversationId, 'closed');
        moveTo(conversationId, undefined);
        if (openByContact.get(contactId) === conversationId) openByContact.delete(contactId);
    }
  }
  return found;
}
