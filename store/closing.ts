/**
 * Closing is a request. The caller's transaction stores it with an outbox row; the actor carries it out. From the request on, new
 * messages stay pending and nobody may reply or reassign, so every message is on one side of it.
 */
import type pg from 'pg';
import type { Phase } from '../routing/phase.ts';
import { getAgent } from './agents.ts';
import { ConcurrentChange, transact, type Queryable } from './database.ts';
import { recordEvents } from './events.ts';
import { freeAgent, type ConversationKey } from './assignment.ts';
import {
  assertTeamsHeld,
  lockContact,
  lockConversation,
  lockMatching,
  readConversation,
  readTeamsOfAgents,
  withLoad,
} from './locks.ts';
import { drainQueues } from './matching.ts';
import { enqueueNudges } from './outbox.ts';
import { readPhase } from './phases.ts';

export type CloseRequestResult = {
  readonly kind: 'requested' | 'already_requested' | 'already_closed' | 'not_found' | 'unknown_agent';
};

/** The first request wins; later ones change nothing. */
export async function requestClose(
  pool: pg.Pool,
  request: {
    workspaceId: string;
    conversationId: string;
    agentId: string | null;
    category?: string;
    summary?: string;
  },
): Promise<CloseRequestResult> {
  const { workspaceId, conversationId } = request;
  const before = await readConversation(pool, workspaceId, conversationId);
  if (before === null) return { kind: 'not_found' };
  if (request.agentId !== null && (await getAgent(pool, { workspaceId, agentId: request.agentId })) === null) {
    return { kind: 'unknown_agent' };
  }
  const { contactId } = before;
  return transact(pool, async (tx): Promise<CloseRequestResult> => {
    await lockContact(tx, workspaceId, contactId);
    const { rowCount } = await tx.query({
      name: 'request-close',
      text: `UPDATE conversations
             SET close_requested_at = now(), close_category = $3, close_summary = $4, version = version + 1,
                 progressed_at = now()
             WHERE workspace_id = $1 AND id = $2 AND close_requested_at IS NULL AND closed_at IS NULL`,
      values: [workspaceId, conversationId, request.category ?? null, request.summary ?? null],
    });
    if (rowCount === 0) {
      const now = await readConversation(tx, workspaceId, conversationId);
      return { kind: now!.state === 'closed' ? 'already_closed' : 'already_requested' };
    }
    await recordEvents(tx, workspaceId, [
      { type: 'conversation.close_requested', conversationId, contactId, data: { agentId: request.agentId } },
    ]);
    await enqueueNudges(tx, [{ workspaceId, contactId, closeConversationId: conversationId }]);
    return { kind: 'requested' };
  });
}

/**
 * Carries a close out: the contact is free for its next conversation, and the agent's room goes to whoever waits for it, in the
 * same transaction. Safe to repeat; a conversation that is closed, or another contact's, is left alone.
 *
 * @returns the phase the contact is in now
 */
export async function executeClose(pool: pg.Pool, key: ConversationKey): Promise<{ phase: Phase; closed: boolean }> {
  const { workspaceId, contactId, conversationId } = key;
  return transact(pool, async (tx) => {
    const contact = await lockContact(tx, workspaceId, contactId);
    if (contact?.openConversationId !== conversationId) return { phase: await readPhase(tx, key), closed: false };
    const before = (await readConversation(tx, workspaceId, conversationId))!;
    const agentIds = before.agentId === null ? [] : [before.agentId];
    const teamIds = await readTeamsOfAgents(tx, workspaceId, agentIds);
    const lock = await lockMatching(tx, workspaceId, { teamIds, agentIds });
    for (const agentId of agentIds) assertTeamsHeld(lock, agentId);
    const conversation = (await lockConversation(tx, workspaceId, conversationId))!;
    if (conversation.agentId !== before.agentId) throw new ConcurrentChange('the conversation was assigned meanwhile');
    await freeAgent(tx, key, conversation);
    await closeConversation(tx, key);
    await drainQueues(tx, withLoad(lock, conversation.agentId ?? '', -conversation.units));
    return { phase: await readPhase(tx, key), closed: true };
  });
}

async function closeConversation(tx: Queryable, key: ConversationKey): Promise<void> {
  await tx.query({
    name: 'close-conversation',
    text: `WITH closed AS (
             UPDATE conversations
             SET state = 'closed', closed_at = now(), close_requested_at = coalesce(close_requested_at, now()),
                 version = version + 1, progressed_at = now()
             WHERE workspace_id = $1 AND id = $2
             RETURNING agent_id, team_id, close_category
           ), freed AS (
             UPDATE contacts SET open_conversation_id = NULL WHERE workspace_id = $1 AND id = $3
           )
           INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
           SELECT $1, 'conversation.closed', $2, $3,
                  jsonb_build_object('agentId', agent_id, 'teamId', team_id, 'category', close_category)
           FROM closed`,
    values: [key.workspaceId, key.conversationId, key.contactId],
  });
}
