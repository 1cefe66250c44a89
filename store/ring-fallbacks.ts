/**
 * The last ring: nobody took the conversation in all its rings. It is closed or waits on, and its contact, or another system, is told so where the
 * flow says.
 */
import type pg from 'pg';
import { publishMoment } from './assignment-metrics.ts';
import { clockOf, rearm, waitingFacts } from './clocks.ts';
import { writeCloseRequest } from './closing.ts';
import { transact, type Queryable } from './database.ts';
import { recordDecision } from './decisions.ts';
import { recordEvents } from './events.ts';
import {
  holdConversation,
  lockContact,
  type ConversationKey,
  type ConversationLock,
  type HeldConversation,
} from './locks.ts';
import { enqueueWebhook, sendToContact } from './outgoing.ts';
import { isDue, needsContact, type FallbackRing } from './ring-clocks.ts';

/**
 * Passes a fallback that closes, or tells somebody. Contact first: what is sent takes a place in the thread, and a close divides it. The ring is
 * passed, and everything that it says is done, in one transaction: a clock that fires again, or on two workers at once, finds it passed. One that comes
 * back from an agent into the queue waits anew, as with all rings, and is told of anew in the end.
 */
export async function passFallback(pool: pg.Pool, key: ConversationKey): Promise<void> {
  const { workspaceId, contactId, conversationId } = key;
  await transact(pool, async (tx) => {
    await lockContact(tx, { workspaceId, contactId });
    const held = await holdConversation(tx, workspaceId, conversationId);
    if (held === null || held.conversation.closeRequestedAt !== null) return;
    const { lock, conversation } = held;
    const next = conversation.requirements.rings[conversation.ring];
    if (!isQueued(conversation) || !isDue(lock, conversation, next) || !needsContact(next)) {
      await rearm(tx, lock, key, conversation);
      return;
    }
    await writeRing(tx, key, held, next);
    const ring = conversation.ring + 1;
    const data = { ring, change: 'fallback', then: next.then };
    await recordEvents(tx, workspaceId, [{ type: 'conversation.ring_passed', conversationId, contactId, data }]);
    const { afterSeconds, kind, then, text, webhookUrl } = next;
    const sent = text === undefined ? [] : await sendToContact(tx, key, [{ text, agentId: null }]);
    if (webhookUrl !== undefined) {
      const told = { teamId: conversation.teamId, ring, afterSeconds, then };
      await enqueueWebhook(tx, key, { url: webhookUrl, reason: 'nobody_available', data: told });
    }
    const detail = {
      rings: [{ afterSeconds, change: kind, then }],
      teamId: conversation.teamId,
      ...(sent[0] !== undefined && { messageId: sent[0].messageId }),
      ...(webhookUrl !== undefined && { webhook: true }),
    };
    await recordDecision(tx, key, 'assignment', detail);
    publishMoment({ kind: 'ring', change: 'fallback' });
    if (then === 'wait') return;
    await writeCloseRequest(tx, key, { agentId: null, category: null, summary: null, reason: 'nobody_available' });
  });
}

const isQueued = ({ state, offeredAgentId }: ConversationLock): boolean =>
  state === 'waiting' && offeredAgentId === null;

/** Who waits on may still await a certain agent; a close ends all clocks. */
async function writeRing(
  tx: Queryable,
  { workspaceId, conversationId }: ConversationKey,
  { lock, conversation }: HeldConversation,
  { then }: FallbackRing,
): Promise<void> {
  const passed = { ...conversation, ring: conversation.ring + 1 };
  const clock = then === 'close' ? null : clockOf(lock, conversation.teamId, waitingFacts(passed));
  await tx.query({
    name: 'pass-last-ring',
    text: `UPDATE conversations
           SET ring = ring + 1, due_kind = $3, due_at = to_timestamp($4::float8 / 1000), version = version + 1, progressed_at = now()
           WHERE workspace_id = $1 AND id = $2`,
    values: [workspaceId, conversationId, clock?.kind ?? null, clock?.atMs ?? null],
  });
}
