/** Conversations on their way into a queue, for the first time or back from an agent. */
import { skillsAfter, type Requirements } from '../routing/requirements.ts';
import { publishMoment, type ReturnReason } from './assignment-metrics.ts';
import { clockOf } from './clocks.ts';
import type { Queryable } from './database.ts';
import { recordDecision } from './decisions.ts';
import { recordEvents } from './events.ts';
import type { ConversationKey, ConversationLock, MatchingLock } from './locks.ts';
import type { QueuedConversation } from './queue-heads.ts';
import { releaseHolder } from './agent-room.ts';
import { queueKeyOf } from './queue-key.ts';

/** Who moved it, where a person did. */
export interface ByHand {
  readonly byAgentId: string | null;
  readonly note: string | null;
}

/**
 * Takes a conversation back from whoever has it, into the queue of its team or of another. Its place there is by its first wait; whoever
 * lost it is passed over while others exist. The caller holds everything concerned and drains afterwards.
 */
export async function returnToQueue(
  tx: Queryable,
  lock: MatchingLock,
  key: ConversationKey,
  conversation: ConversationLock,
  to: { readonly reason: ReturnReason; readonly teamId: string } & Partial<ByHand>,
): Promise<void> {
  const { byAgentId = null, note = null, reason, teamId } = to;
  const { agentId, offeredAgentId } = conversation;
  await releaseHolder(tx, key, conversation);
  const passedOver = passOver(conversation, agentId ?? offeredAgentId);
  const requirements =
    reason === 'transferred' || reason === 'put_back' ? withoutMoves(conversation) : conversation.requirements;
  const moved = {
    ...conversation,
    teamId,
    passedOver,
    requirements,
    ring: 0,
    preferredAgentId: null,
    awaitedAgentId: null,
  };
  const { conversationId, contactId } = key;
  const events = [];
  if (agentId !== null) {
    publishMoment({ kind: 'returned', reason });
    const data = { agentId, reason, byAgentId, note };
    events.push({ type: 'conversation.unassigned', conversationId, contactId, data } as const);
  }
  await recordEvents(tx, key.workspaceId, events);
  await tellWithdrawal(tx, key, conversation, reason);
  const asked = queuedOf(key, moved, lock.nowMs);
  await queueConversation(tx, lock, key, { teamId, requirements, asked, awaitedUntilMs: null });
  const manual = reason === 'transferred' || reason === 'put_back';
  await recordDecision(tx, key, 'assignment', { manual, reason, chosen: null, from: agentId, teamId, note, byAgentId });
}

/** The offer that there was, if any, ends without an answer. The record also tells the agent so, when it answers later. */
export async function tellWithdrawal(
  tx: Queryable,
  key: ConversationKey,
  { offeredAgentId, teamId }: ConversationLock,
  reason: ReturnReason | 'assigned_by_hand' | 'closed',
): Promise<void> {
  if (offeredAgentId === null) return;
  const { workspaceId, conversationId, contactId } = key;
  publishMoment({ kind: 'offer', outcome: 'withdrawn', teamId: teamId! });
  await recordDecision(tx, key, 'assignment', { offer: 'withdrawn', agentId: offeredAgentId, reason });
  const data = { agentId: offeredAgentId, outcome: 'withdrawn', reason };
  await recordEvents(tx, workspaceId, [{ type: 'conversation.offer_ended', conversationId, contactId, data }]);
}

/** A person who moves a conversation ends the moves that its flow had planned; what it asks of agents stays. */
function withoutMoves({ requirements }: ConversationLock): Requirements {
  if (requirements.rings.length === 0) return requirements;
  return { ...requirements, rings: requirements.rings.filter((ring) => ring.kind === 'relax') };
}

const maxPassedOver = 20;

export function passOver(
  { passedOver }: Pick<ConversationLock, 'passedOver'>,
  agentId: string | null,
): readonly string[] {
  if (agentId === null) return passedOver;
  return [...passedOver.filter((id) => id !== agentId), agentId].slice(-maxPassedOver);
}

/** Puts a conversation into a team's queue. Its wait counts from the first time it was to be assigned, also after a return. */
export async function queueConversation(
  tx: Queryable,
  lock: MatchingLock,
  key: ConversationKey,
  to: {
    readonly teamId: string;
    readonly requirements: Requirements;
    readonly asked: QueuedConversation;
    readonly awaitedUntilMs: number | null;
  },
): Promise<void> {
  const { teamId, requirements, asked, awaitedUntilMs } = to;
  const { nowMs: queuedAtMs } = lock;
  const facts = {
    state: 'waiting',
    queuedAtMs,
    ring: 0,
    requirements,
    awaitedUntilMs,
    offerExpiresAtMs: null,
  } as const;
  const clock = clockOf(lock, teamId, facts);
  await tx.query({
    name: 'queue-conversation',
    text: `WITH queued AS (
             UPDATE conversations
             SET state = 'waiting', team_id = $3, agent_id = NULL, assigned_at = NULL, forced = false,
                 routed_at = coalesce(routed_at, now()), waiting_since = coalesce(waiting_since, routed_at, now()),
                 queued_at = to_timestamp($4::float8 / 1000), requirements = $5, ring = 0, queue_key = $6, preferred_agent_id = $7,
                 awaited_agent_id = $8, awaited_until = to_timestamp($9::float8 / 1000), passed_over = $10,
                 offered_agent_id = NULL, offer_expires_at = NULL, quiet_since = NULL, return_at = NULL,
                 due_kind = $11, due_at = to_timestamp($12::float8 / 1000), version = version + 1, progressed_at = now()
             WHERE workspace_id = $1 AND id = $2
             RETURNING contact_id
           )
           INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
           SELECT $1, 'conversation.waiting', $2, contact_id, jsonb_build_object('teamId', $3::uuid) FROM queued`,
    values: [
      key.workspaceId,
      key.conversationId,
      teamId,
      lock.nowMs,
      JSON.stringify(requirements),
      asked.queueKey,
      asked.preferredAgentId,
      asked.awaitedAgentId,
      awaitedUntilMs,
      asked.passedOver,
      clock?.kind ?? null,
      clock?.atMs ?? null,
    ],
  });
}

/** A conversation as the core is to see it, at the end of the rings it has passed. */
export function queuedOf(key: ConversationKey, conversation: ConversationLock, nowMs: number): QueuedConversation {
  const { teamId, priority, units, channel, preferredAgentId, awaitedAgentId, passedOver, flowVersionId } =
    conversation;
  const skills = skillsAfter(conversation.requirements, conversation.ring);
  return {
    conversationId: key.conversationId,
    teamId: teamId!,
    priority,
    waitingSinceMs: (conversation.waitingSince ?? conversation.routedAt)?.getTime() ?? nowMs,
    units,
    channel,
    skills,
    preferredAgentId,
    awaitedAgentId,
    passedOver,
    queueKey: queueKeyOf({ skills, units, channel, passedOver }),
    flowVersionId,
  };
}
