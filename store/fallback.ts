import type pg from 'pg';
import { newId } from '../platform/id.ts';
import type { OutgoingText } from '../routing/flow-interpreter.ts';
import { noRequirements } from '../routing/requirements.ts';
import { transact } from './database.ts';
import { lockContact, type ConversationKey } from './locks.ts';
import { sendToContact } from './outgoing.ts';
import { waitMsSql } from './phases.ts';
import { answeredIn, recordOf, type TurnRecord } from './turn-records.ts';

/**
 * The flow failed: the conversation counts as routed to the default team, asks for nothing, is marked with the reason, and goes on to
 * assignment. A question that still waits for its answer is no failure, and is left to wait. Not for many at once: it is rare.
 * @param failed the turn that came to this, where there was one: what it has found is kept, and what it has said is sent
 * @returns false when it was superseded
 */
export async function fallBack(
  pool: pg.Pool,
  key: ConversationKey,
  reason: string,
  failed?: FailedTurn,
): Promise<boolean> {
  const { messages = [] } = failed ?? {};
  return transact(pool, async (tx) => {
    if (messages.length > 0) await lockContact(tx, key);
    const { rowCount } = await tx.query({
      name: 'fall-back',
      text: fallBackSql,
      values: [
        key.workspaceId,
        key.conversationId,
        reason,
        JSON.stringify(noRequirements),
        ...valuesOf(failed),
        // In this order: decisions are read by their ids.
        newId(),
        newId(),
      ],
    });
    if (rowCount !== 1) return false;
    const texts = messages.map(({ text }) => ({ text, agentId: null }));
    await sendToContact(tx, key, texts);
    return true;
  });
}

export interface FailedTurn extends TurnRecord {
  /** Of the conversation as it was read. */
  readonly version: number;
  readonly messages: readonly OutgoingText[];
}

function valuesOf(failed: FailedTurn | undefined): unknown[] {
  if (failed === undefined) return [null, null, null, null, null, null];
  const { version, progress, trace } = failed;
  const { fields, sources, step } = progress;
  const answered = answeredIn(trace);
  return [
    version,
    JSON.stringify(fields),
    JSON.stringify(sources),
    step,
    JSON.stringify(recordOf(failed)),
    answered === null ? null : JSON.stringify(answered),
  ];
}

const fallBackSql = `
  WITH fallen AS (
    UPDATE conversations v
    SET state = 'routing', team_id = w.default_team_id, requirements = $4, routed_at = now(), fallback_reason = $3,
        fields = coalesce($6::jsonb, v.fields), field_sources = coalesce($7::jsonb, v.field_sources),
        flow_step = coalesce($8::smallint, v.flow_step), question_count = 0,
        awaiting_after_sequence = NULL, answer_until = NULL, version = version + 1, progressed_at = now()
    FROM workspaces w
    WHERE w.id = $1 AND v.workspace_id = $1 AND v.id = $2 AND v.routed_at IS NULL AND v.close_requested_at IS NULL
      AND CASE WHEN $5::int IS NULL THEN v.state IN ('enriching', 'routing') AND coalesce(${waitMsSql}, 0) <= 0
               ELSE v.state = 'enriching' AND v.version = $5 END
    RETURNING v.contact_id, v.team_id, v.flow_version_id
  ), enriched AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
    SELECT $1, $11::uuid, $2, 'enrichment', $9::jsonb FROM fallen WHERE $9::jsonb IS NOT NULL
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
    SELECT $1, $12::uuid, $2, 'routing', jsonb_build_object(
             'flowVersionId', flow_version_id,
             'flowVersionNumber', (SELECT number FROM flow_versions f WHERE f.workspace_id = $1 AND f.id = flow_version_id),
             'teamId', team_id, 'branch', NULL, 'reason', $3::text)
    FROM fallen
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT $1, type, $2, contact_id, data
    FROM (
      SELECT 1 AS place, 'conversation.answered' AS type, contact_id, $10::jsonb AS data FROM fallen WHERE $10::jsonb IS NOT NULL
      UNION ALL
      SELECT 2, 'conversation.fell_back', contact_id, jsonb_build_object('teamId', team_id, 'reason', $3::text) FROM fallen
    ) event
    ORDER BY place
  )
  SELECT FROM fallen`;
