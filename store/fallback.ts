import type pg from 'pg';
import { newId } from '../platform/id.ts';
import type { OutgoingText } from '../routing/flow-interpreter.ts';
import { noRequirements } from '../routing/requirements.ts';
import { transact } from './database.ts';
import { lockContact, type ConversationKey } from './locks.ts';
import { sendToContact } from './outgoing.ts';

/**
 * The flow failed: the conversation counts as routed to the default team, asks for nothing, is marked with the reason, and goes on to
 * assignment. Not for many at once: it is rare.
 * @param messages what the flow has said to the contact before it failed, and nobody has sent yet
 * @returns false when it was superseded
 */
export async function fallBack(
  pool: pg.Pool,
  key: ConversationKey,
  reason: string,
  messages: readonly OutgoingText[] = [],
): Promise<boolean> {
  return transact(pool, async (tx) => {
    if (messages.length > 0) await lockContact(tx, key.workspaceId, key.contactId);
    const { rowCount } = await tx.query({
      name: 'fall-back',
      text: fallBackSql,
      values: [key.workspaceId, key.conversationId, reason, JSON.stringify(noRequirements), newId()],
    });
    if (rowCount !== 1) return false;
    await sendToContact(
      tx,
      key,
      messages.map(({ text }) => ({ text, agentId: null })),
    );
    return true;
  });
}

const fallBackSql = `
  WITH fallen AS (
    UPDATE conversations v
    SET state = 'routing', team_id = w.default_team_id, requirements = $4, routed_at = now(), fallback_reason = $3,
        awaiting_after_sequence = NULL, answer_until = NULL, version = version + 1, progressed_at = now()
    FROM workspaces w
    WHERE w.id = $1 AND v.workspace_id = $1 AND v.id = $2 AND v.state IN ('enriching', 'routing') AND v.routed_at IS NULL
      AND v.close_requested_at IS NULL
    RETURNING v.contact_id, v.team_id, v.flow_version_id
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
    SELECT $1, $5, $2, 'routing', jsonb_build_object(
             'flowVersionId', flow_version_id,
             'flowVersionNumber', (SELECT number FROM flow_versions f WHERE f.workspace_id = $1 AND f.id = flow_version_id),
             'teamId', team_id, 'branch', NULL, 'reason', $3::text)
    FROM fallen
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT $1, 'conversation.fell_back', $2, contact_id, jsonb_build_object('teamId', team_id, 'reason', $3::text)
    FROM fallen
  )
  SELECT FROM fallen`;
