/**
 * Closing is a request. The caller's transaction stores it with an outbox row; the actor carries it out. From the request on, new
 * messages stay pending and nobody may reply or reassign, so every message is on one side of it.
 */
import type pg from 'pg';
import type { Phase } from '../routing/phase.ts';
import { getAgent } from './agents.ts';
import { publishMoment } from './assignment-metrics.ts';
import { readMessageTimes, rearm } from './clocks.ts';
import { findNoteFaults, readNoteRules, type GivenNotes, type NoteFault, type NoteRules } from './close-notes.ts';
import { transact, type Queryable } from './database.ts';
import { recordEvents } from './events.ts';
import { releaseHolder } from './agent-room.ts';
import { holdConversation, lockContact, readConversation, type ConversationKey } from './locks.ts';
import { drainQueues } from './matching.ts';
import { enqueueNudges } from './outbox.ts';
import { readPhase } from './phases.ts';
import { tellWithdrawal } from './queueing.ts';

export type CloseRequestResult =
  | { readonly kind: 'requested' | 'already_requested' | 'already_closed' | 'not_found' | 'unknown_agent' }
  /** The workspace's rules want other notes; nothing was requested. */
  | { readonly kind: 'unfit_notes'; readonly faults: readonly NoteFault[]; readonly rules: NoteRules };

/**
 * The first request wins; later ones change nothing. The workspace's rules about category and summary hold for a request that takes
 * effect, so a repeated one is answered as before whatever they have become.
 */
export async function requestClose(
  pool: pg.Pool,
  request: GivenNotes & { workspaceId: string; conversationId: string; agentId: string | null },
): Promise<CloseRequestResult> {
  const { workspaceId, conversationId, agentId, category, summary } = request;
  const before = await readConversation(pool, workspaceId, conversationId);
  if (before === null) return { kind: 'not_found' };
  if (agentId !== null && (await getAgent(pool, { workspaceId, agentId })) === null) return { kind: 'unknown_agent' };
  const { contactId } = before;
  return transact(pool, async (tx): Promise<CloseRequestResult> => {
    await lockContact(tx, workspaceId, contactId);
    const rules = await readNoteRules(tx, workspaceId, category);
    const faults = findNoteFaults(rules, request);
    const close = {
      agentId,
      category: rules.category ?? category ?? null,
      summary: summary ?? null,
      reason: 'agent',
    } as const;
    const key = { workspaceId, contactId, conversationId };
    if (faults.length === 0 && (await writeCloseRequest(tx, key, close))) return { kind: 'requested' };
    const conversation = (await readConversation(tx, workspaceId, conversationId))!;
    if (conversation.state === 'closed') return { kind: 'already_closed' };
    if (conversation.closeRequestedAt !== null) return { kind: 'already_requested' };
    return { kind: 'unfit_notes', faults, rules };
  });
}

/** Who or what wanted the close: an agent or a program by the API, or a rule. */
type CloseReason = 'agent' | 'inactivity' | 'nobody_available';

/**
 * Makes a close request. The caller holds the contact, so that every message is on one side of it. Rules that close are exempt from what
 * the workspace wants to be noted.
 *
 * @returns false when a close was requested before, and nothing was done
 */
export async function writeCloseRequest(
  tx: Queryable,
  { workspaceId, contactId, conversationId }: ConversationKey,
  close: {
    readonly agentId: string | null;
    readonly category: string | null;
    readonly summary: string | null;
    readonly reason: CloseReason;
  },
): Promise<boolean> {
  const { agentId, category, summary, reason } = close;
  const { rowCount } = await tx.query({
    name: 'request-close',
    text: `UPDATE conversations
           SET close_requested_at = now(), close_category = $3, close_summary = $4, close_reason = $5,
               version = version + 1, progressed_at = now()
           WHERE workspace_id = $1 AND id = $2 AND close_requested_at IS NULL AND closed_at IS NULL`,
    values: [workspaceId, conversationId, category, summary, reason],
  });
  if (rowCount === 0) return false;
  const data = { agentId, reason };
  await recordEvents(tx, workspaceId, [{ type: 'conversation.close_requested', conversationId, contactId, data }]);
  await enqueueNudges(tx, [{ workspaceId, contactId, closeConversationId: conversationId }]);
  if (reason !== 'agent') publishMoment({ kind: 'closed_by_rule', reason });
  return true;
}

/**
 * When the inactivity clock has run out: asks for the close of a conversation in which neither side has written for as long as the workspace
 * sets, counted at the earliest from its assignment. If somebody wrote or the rule changed meanwhile, the clock is set anew.
 *
 * @returns whether this call asked for it
 */
export async function closeInactive(pool: pg.Pool, key: ConversationKey): Promise<boolean> {
  const { workspaceId, contactId, conversationId } = key;
  return transact(pool, async (tx) => {
    await lockContact(tx, workspaceId, contactId);
    const held = await holdConversation(tx, workspaceId, conversationId);
    if (held === null) return false;
    const { lock, conversation } = held;
    if (conversation.state !== 'assigned' || conversation.closeRequestedAt !== null) return false;
    const { inactivityMinutes } = lock.settings;
    const [times] = await readMessageTimes(tx, workspaceId, [conversationId]);
    const lastMs = Math.max(conversation.assignedAt!.getTime(), times?.lastMessageAtMs ?? 0);
    if (inactivityMinutes === null || lastMs + inactivityMinutes * 60_000 > lock.nowMs) {
      await rearm(tx, lock, key, conversation);
      return false;
    }
    return writeCloseRequest(tx, key, { agentId: null, category: null, summary: null, reason: 'inactivity' });
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
    const { lock, conversation } = (await holdConversation(tx, workspaceId, conversationId))!;
    await releaseHolder(tx, key, conversation);
    await tellWithdrawal(tx, key, conversation, 'closed');
    await closeConversation(tx, key);
    if (conversation.agentId !== null || conversation.offeredAgentId !== null) await drainQueues(tx, lock);
    return { phase: await readPhase(tx, key), closed: true };
  });
}

async function closeConversation(tx: Queryable, key: ConversationKey): Promise<void> {
  await tx.query({
    name: 'close-conversation',
    text: `WITH closed AS (
             UPDATE conversations
             SET state = 'closed', closed_at = clock_timestamp(), close_requested_at = coalesce(close_requested_at, now()),
                 offered_agent_id = NULL, offer_expires_at = NULL, awaited_agent_id = NULL, awaited_until = NULL,
                 return_at = NULL, due_at = NULL, due_kind = NULL, version = version + 1, progressed_at = now()
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
