/** The statement by which agents and programs ask for a close. */
import type pg from 'pg';
import {
  findFittingRules,
  isRuleAmongSql,
  maxNamedCategories,
  noteRulesSql,
  toNoteRules,
  type GivenNotes,
  type NoteRules,
  type NoteRulesRow,
} from './close-notes.ts';
import { storedColumns, toConversationRow, type ConversationRow, type StoredConversation } from './conversations.ts';
import { runStatement } from './database.ts';
import { shardSql, wakeRelaysSql } from './outbox.ts';

export type CloseRequest = GivenNotes & { workspaceId: string; conversationId: string; agentId: string | null };

/** What the request was judged by, and the conversation if it took effect; null: there is no such conversation. */
export async function requestIfFit(
  pool: pg.Pool,
  request: CloseRequest,
): Promise<{ knowsAgent: boolean; rules: NoteRules; requested: ConversationRow | null } | null> {
  const { workspaceId, conversationId, agentId, category, summary } = request;
  const { rows } = await runStatement<JudgedRow>(pool, {
    name: 'request-close-if-fit',
    text: requestIfFitSql,
    values: [
      workspaceId,
      category ?? null,
      maxNamedCategories,
      conversationId,
      agentId,
      summary ?? null,
      findFittingRules(request),
      JSON.stringify({ agentId, reason: 'agent' }),
    ],
  });
  const [row] = rows;
  if (row === undefined) return null;
  const { knowsAgent, settings, categories, categoryCount, listedCategory, pg_notify: _, ...stored } = row;
  const rules = toNoteRules({ settings, categories, categoryCount, category: listedCategory });
  const { id } = stored;
  return { knowsAgent, rules, requested: id === null ? null : toConversationRow({ ...stored, id }) };
}

interface JudgedRow extends Omit<NoteRulesRow, 'category'>, Omit<StoredConversation, 'id'> {
  readonly knowsAgent: boolean;
  readonly listedCategory: string | null;
  /** Null, as all of the conversation, where the request took no effect. */
  readonly id: string | null;
  readonly pg_notify: unknown;
}

// Whose contact a conversation is never changes, so it may be read before the lock. The conversation is changed as it is when the lock is held: whoever
// changed it meanwhile, PostgreSQL looks at the newest row again before it changes that.
const requestIfFitSql = `
  WITH held AS MATERIALIZED (
    SELECT c.id AS held_id FROM contacts c
    WHERE c.workspace_id = $1
      AND c.id = (SELECT v.contact_id FROM conversations v WHERE v.workspace_id = $1 AND v.id = $4)
    FOR NO KEY UPDATE
  ), judged AS MATERIALIZED (
    SELECT held_id, $5::uuid IS NULL OR EXISTS (SELECT FROM agents a WHERE a.workspace_id = $1 AND a.id = $5) AS "knowsAgent",
           rules.settings AS rules_settings, rules.categories, rules."categoryCount", rules.category
    FROM held CROSS JOIN (${noteRulesSql}) rules
  ), requested AS (
    UPDATE conversations
    SET close_requested_at = now(), close_category = coalesce(judged.category, $2::text), close_summary = $6, close_reason = 'agent',
        awaiting_after_sequence = NULL, answer_until = NULL, version = version + 1, progressed_at = now()
    FROM judged
    WHERE workspace_id = $1 AND id = $4 AND close_requested_at IS NULL AND closed_at IS NULL
      AND judged."knowsAgent" AND ${isRuleAmongSql('judged.rules_settings', '$7')}
      AND ($2::text IS NULL OR judged."categoryCount" = 0 OR judged.category IS NOT NULL)
    RETURNING ${storedColumns}
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT $1, 'conversation.close_requested', id, "contactId", $8::jsonb FROM requested
  ), noted AS (
    INSERT INTO outbox (shard, workspace_id, contact_id, close_conversation_id)
    SELECT ${shardSql('"contactId"')}, $1, "contactId", id FROM requested
  )
  SELECT judged."knowsAgent", judged.rules_settings AS settings, judged.categories, judged."categoryCount", judged.category AS "listedCategory",
         requested.*, CASE WHEN requested.id IS NOT NULL THEN ${wakeRelaysSql} END
  FROM judged LEFT JOIN requested ON true`;
