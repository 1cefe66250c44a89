import { newId } from '../platform/id.ts';
import type { Queryable } from './database.ts';
import type { ConversationKey } from './locks.ts';

/** Why it is as it is: read by people at `GET /v1/conversations/{id}/decisions`. */
export async function recordDecision(
  tx: Queryable,
  key: ConversationKey,
  kind: 'enrichment' | 'routing' | 'assignment',
  detail: unknown,
): Promise<void> {
  await tx.query({
    name: 'record-decision',
    text: 'INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail) VALUES ($1, $2, $3, $4, $5)',
    values: [key.workspaceId, newId(), key.conversationId, kind, JSON.stringify(detail)],
  });
}

/** As `recordDecision`, for many conversations at once. */
export async function recordAssignmentDecisions(
  tx: Queryable,
  workspaceId: string,
  decisions: readonly { readonly conversationId: string; readonly detail: unknown }[],
): Promise<void> {
  if (decisions.length === 0) return;
  await tx.query({
    name: 'record-assignment-decisions',
    text: `INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
           SELECT $1, id, conversation_id, 'assignment', detail
           FROM unnest($2::uuid[], $3::uuid[], $4::jsonb[]) AS made (id, conversation_id, detail)`,
    values: [
      workspaceId,
      decisions.map(() => newId()),
      decisions.map(({ conversationId }) => conversationId),
      decisions.map(({ detail }) => JSON.stringify(detail)),
    ],
  });
}

/**
 * Whether no agent has had the conversation before: every return to a queue records from whom. That is looked up only where somebody is
 * passed over, as whoever had it is.
 */
export const isFirstAssignment = (conversation: string): string => `(
  ${conversation}.passed_over = '{}' OR NOT EXISTS (
    SELECT FROM decisions r
    WHERE r.workspace_id = $1 AND r.conversation_id = ${conversation}.id AND r.kind = 'assignment'
      AND r.detail ->> 'from' IS NOT NULL
  ))`;
