/** Conversations on their way into a queue, for the first time or back from an agent. */
import { newId } from '../platform/id.ts';
import { skillsAfter, type Requirements } from '../routing/requirements.ts';
import { publishMoment, type ReturnReason } from './assignment-metrics.ts';
import { clockOf } from './clocks.ts';
import type { Queryable } from './database.ts';
import { recordAssignmentDecisions } from './decisions.ts';
import { recordEvents } from './events.ts';
import type { ConversationKey, ConversationLock, MatchingLock } from './locks.ts';
import type { HeldTeams } from './match-writes.ts';
import type { QueuedConversation } from './queue-heads.ts';
import { releaseHolder } from './agent-room.ts';
import { queueKeyOf } from './queue-key.ts';

/** Who moved it, where a person did. */
export interface ByHand {
  readonly byAgentId: string | null;
  readonly note: string | null;
}

/**
 * Takes a conversation back from whoever has it, into the queue of its team or of another. Its place there is by its first wait and the target that
 * its flow set; whoever lost it is passed over while others exist. The caller holds everything concerned and drains afterwards.
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
  const manual = reason === 'transferred' || reason === 'put_back';
  const record = { manual, reason, chosen: null, from: agentId, teamId, note, byAgentId };
  await queueConversations(tx, lock, [{ requirements, asked, awaitedUntilMs: null, record }]);
}

/** The offer that there was, if any, ends without an answer. The record also tells the agent so, when it answers later. */
export async function tellWithdrawal(
  tx: Queryable,
  { workspaceId, conversationId }: ConversationKey,
  conversation: Pick<ConversationLock, 'offeredAgentId' | 'teamId' | 'contactId'>,
  reason: WithdrawalReason,
): Promise<void> {
  await tellWithdrawals(tx, workspaceId, [{ ...conversation, conversationId }], reason);
}

type WithdrawalReason = ReturnReason | 'assigned_by_hand' | 'closed';

/** The same for many, of which only those count that are offered to somebody. */
export async function tellWithdrawals(
  tx: Queryable,
  workspaceId: string,
  conversations: readonly (Pick<ConversationLock, 'offeredAgentId' | 'teamId' | 'contactId'> & {
    readonly conversationId: string;
  })[],
  reason: WithdrawalReason,
): Promise<void> {
  const offered = conversations.filter(({ offeredAgentId }) => offeredAgentId !== null);
  if (offered.length === 0) return;
  for (const { teamId } of offered) publishMoment({ kind: 'offer', outcome: 'withdrawn', teamId: teamId! });
  const records = offered.map(({ conversationId, offeredAgentId }) => {
    return { conversationId, detail: { offer: 'withdrawn', agentId: offeredAgentId, reason } };
  });
  const events = offered.map(({ conversationId, contactId, offeredAgentId }) => {
    const data = { agentId: offeredAgentId, outcome: 'withdrawn', reason };
    return { type: 'conversation.offer_ended', conversationId, contactId, data } as const;
  });
  await recordAssignmentDecisions(tx, workspaceId, records);
  await recordEvents(tx, workspaceId, events);
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

/** A conversation on its way into the queue of the team that it asks for. */
export interface Queueing {
  readonly requirements: Requirements;
  readonly asked: QueuedConversation;
  readonly awaitedUntilMs: number | null;
  /** Why, for people. */
  readonly record: object;
}

const queueConversationsSql = `
  WITH coming AS (
    SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::jsonb[], $5::text[], $6::uuid[], $7::uuid[], $8::float8[], $9::text[],
                         $10::text[], $11::float8[], $12::uuid[], $13::jsonb[])
      WITH ORDINALITY AS c (id, team_id, requirements, queue_key, preferred, awaited, awaited_ms, passed_over, due_kind, due_ms,
                            decision_id, detail, place)
  ), queued AS (
    UPDATE conversations v
    SET state = 'waiting', team_id = coming.team_id, agent_id = NULL, assigned_at = NULL, forced = false,
        routed_at = coalesce(routed_at, now()), waiting_since = coalesce(waiting_since, routed_at, now()),
        queued_at = to_timestamp($14::float8 / 1000), requirements = coming.requirements, ring = 0, queue_key = coming.queue_key,
        preferred_agent_id = coming.preferred, awaited_agent_id = coming.awaited,
        awaited_until = to_timestamp(coming.awaited_ms / 1000), passed_over = coming.passed_over::uuid[],
        offered_agent_id = NULL, offer_expires_at = NULL, quiet_since = NULL, return_at = NULL,
        awaiting_after_sequence = NULL, answer_until = NULL, due_kind = coming.due_kind, due_at = to_timestamp(coming.due_ms / 1000), version = version + 1, progressed_at = now()
    FROM coming
    WHERE v.workspace_id = $1 AND v.id = coming.id
    RETURNING v.id, v.contact_id, v.team_id, coming.decision_id, coming.detail, coming.place
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
    SELECT $1, decision_id, id, 'assignment', detail FROM queued
  )
  INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
  SELECT $1, 'conversation.waiting', id, contact_id, jsonb_build_object('teamId', team_id) FROM queued ORDER BY place`;

/**
 * Puts conversations into their teams' queues, with the records of why. Their wait counts from the first time they were to be assigned, also
 * after a return. A question of their flow that a person cuts short waits no longer.
 */
export async function queueConversations(tx: Queryable, lock: HeldTeams, coming: readonly Queueing[]): Promise<void> {
  if (coming.length === 0) return;
  const clocks = coming.map(({ requirements, asked: { teamId }, awaitedUntilMs }) =>
    clockOf(lock, teamId, {
      state: 'waiting',
      queuedAtMs: lock.nowMs,
      ring: 0,
      requirements,
      awaitedUntilMs,
      offerExpiresAtMs: null,
    }),
  );
  await tx.query({
    name: 'queue-conversations',
    text: queueConversationsSql,
    values: [
      lock.workspaceId,
      coming.map(({ asked }) => asked.conversationId),
      coming.map(({ asked }) => asked.teamId),
      coming.map(({ requirements }) => JSON.stringify(requirements)),
      coming.map(({ asked }) => asked.queueKey),
      coming.map(({ asked }) => asked.preferredAgentId),
      coming.map(({ asked }) => asked.awaitedAgentId),
      coming.map(({ awaitedUntilMs }) => awaitedUntilMs),
      // As text: lists of different lengths are no array of arrays.
      coming.map(({ asked }) => `{${asked.passedOver.join()}}`),
      clocks.map((clock) => clock?.kind ?? null),
      clocks.map((clock) => clock?.atMs ?? null),
      coming.map(() => newId()),
      coming.map(({ record }) => JSON.stringify(record)),
      lock.nowMs,
    ],
  });
}

/** A conversation as the core is to see it, at the end of the rings it has passed. */
export function queuedOf(
  { conversationId }: Pick<ConversationKey, 'conversationId'>,
  conversation: ConversationLock,
  nowMs: number,
): QueuedConversation {
  const { teamId, priority, slaSeconds, units, channel, preferredAgentId, awaitedAgentId, passedOver, flowVersionId } =
    conversation;
  const skills = skillsAfter(conversation.requirements, conversation.ring);
  return {
    conversationId,
    teamId: teamId!,
    priority,
    slaSeconds,
    waitingSinceMs: (conversation.waitingSince ?? conversation.routedAt)?.getTime() ?? nowMs,
    units,
    channel,
    skills,
    preferredAgentId,
    awaitedAgentId,
    passedOver,
    queueKey: queueKeyOf({ skills, units, channel, passedOver, slaSeconds }),
    flowVersionId,
  };
}
