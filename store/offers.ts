/**
 * Offers: an agent is asked before a conversation becomes its own. While the offer runs the conversation stays `waiting`, outside of its
 * queue, and its units are reserved in the agent's load. Every end is decided while agent, teams and conversation are held, and by the
 * database's clock, so an acceptance and the expiry cannot both win: from its time on an offer has run out, whether or not the clock has been
 * to see it.
 */
import type pg from 'pg';
import { isFirstAssignment, recordDecision } from './decisions.ts';
import { publishMoment, type OfferOutcome } from './assignment-metrics.ts';
import { rearm } from './clocks.ts';
import { ConcurrentChange, transact, type Queryable } from './database.ts';
import { recordEvents } from './events.ts';
import {
  holdConversation,
  readConversation,
  type ConversationKey,
  type ConversationLock,
  type HeldConversation,
} from './locks.ts';
import { clockOfAssigned } from './match-writes.ts';
import { drainQueues } from './matching.ts';
import { endOffers, readTeamsOfOffers } from './offer-ends.ts';
import { changePresence, forgetMissedOffers } from './presence.ts';

export type OfferAnswerResult =
  { readonly kind: 'done' | 'not_found' | 'closed' | 'closing' | 'unknown_agent' } | NotOffered;

export interface NotOffered {
  readonly kind: 'not_offered';
  /** Whom it is offered to instead, or who has it. */
  readonly offeredAgentId: string | null;
  readonly agentId: string | null;
  /** How the last offer to this agent ended; null when there was none. */
  readonly ended: EndOfOffer | null;
}

export type EndOfOffer = Exclude<OfferOutcome, 'made'>;

interface OfferAnswer {
  readonly workspaceId: string;
  readonly conversationId: string;
  readonly agentId: string;
}

/** Makes the offered conversation the agent's. Accepting again what one has by now changes nothing. */
export async function acceptOffer(pool: pg.Pool, answer: OfferAnswer): Promise<OfferAnswerResult> {
  const { workspaceId, conversationId, agentId } = answer;
  return transact(pool, async (tx): Promise<OfferAnswerResult> => {
    const held = await holdConversation(tx, workspaceId, conversationId);
    const refusal = await refuseAnswer(tx, held, answer);
    if (held?.conversation.agentId === agentId && refusal?.kind === 'not_offered') return { kind: 'done' };
    if (refusal !== null) return refusal;
    await giveOffered(tx, held!, answer);
    await forgetMissedOffers(tx, workspaceId, agentId);
    return { kind: 'done' };
  });
}

/** Gives the conversation to the next, passing the agent over while others exist. */
export async function rejectOffer(
  pool: pg.Pool,
  answer: OfferAnswer & { readonly reason: string | null },
): Promise<OfferAnswerResult> {
  const { workspaceId, conversationId, agentId, reason } = answer;
  return transact(pool, async (tx): Promise<OfferAnswerResult> => {
    const held = await holdConversation(tx, workspaceId, conversationId);
    const refusal = await refuseAnswer(tx, held, answer);
    if (refusal !== null) return refusal;
    await endOffers(tx, held!.lock, [offeredOf(conversationId, held!.conversation)], {
      agentId,
      outcome: 'rejected',
      reason,
    });
    await forgetMissedOffers(tx, workspaceId, agentId);
    await drainQueues(tx, held!.lock, { explain: [conversationId] });
    return { kind: 'done' };
  });
}

/**
 * An offer's time is over: the conversation goes to the next. An agent who is online and has missed as many in a row as the team allows is
 * set away in the same transaction, before the queues are drained, so that it is not asked once more.
 */
export async function expireOffer(pool: pg.Pool, key: ConversationKey): Promise<void> {
  const { workspaceId, conversationId } = key;
  await transact(pool, async (tx) => {
    const agentId = (await readConversation(tx, workspaceId, conversationId))?.offeredAgentId ?? null;
    const teamIds = agentId === null ? [] : await readTeamsOfOffers(tx, workspaceId, agentId);
    const held = await holdConversation(tx, workspaceId, conversationId, { teamIds });
    if (held === null || held.conversation.closeRequestedAt !== null) return;
    const { lock, conversation } = held;
    if (conversation.offeredAgentId !== agentId) throw new ConcurrentChange('it is offered to another meanwhile');
    if (agentId === null || !hasRunOut(held)) {
      await rearm(tx, lock, key, conversation);
      return;
    }
    await endOffers(tx, lock, [offeredOf(conversationId, conversation)], { agentId, outcome: 'expired' });
    if (lock.agents.get(agentId)!.presence === 'online') {
      const missed = await countMissedOffer(tx, workspaceId, agentId);
      const maxMissed = lock.teams.get(conversation.teamId!)!.offer?.maxMissed ?? Infinity;
      if (missed >= maxMissed) await changePresence(tx, lock, { agentId, status: 'away', reason: 'missed_offers' });
    }
    await drainQueues(tx, lock, { explain: [conversationId] });
  });
}

const hasRunOut = ({ lock, conversation }: HeldConversation): boolean =>
  conversation.offerExpiresAt !== null && conversation.offerExpiresAt.getTime() <= lock.nowMs;

const offeredOf = (conversationId: string, conversation: ConversationLock) => ({
  ...conversation,
  conversationId,
  teamId: conversation.teamId!,
});

async function refuseAnswer(
  tx: Queryable,
  held: HeldConversation | null,
  { workspaceId, conversationId, agentId }: OfferAnswer,
): Promise<Exclude<OfferAnswerResult, { kind: 'done' }> | null> {
  if (held === null) return { kind: 'not_found' };
  const { conversation } = held;
  if (conversation.state === 'closed') return { kind: 'closed' };
  if (conversation.closeRequestedAt !== null) return { kind: 'closing' };
  const isOffered = conversation.offeredAgentId === agentId;
  if (isOffered && !hasRunOut(held)) return null;
  const { rows } = await tx.query<{ ended: EndOfOffer | null }>({
    name: 'read-end-of-offer',
    text: `SELECT (SELECT d.detail ->> 'offer' FROM decisions d
                   WHERE d.workspace_id = $1 AND d.conversation_id = $2 AND d.kind = 'assignment'
                     AND d.detail ? 'offer' AND d.detail ->> 'agentId' = $3::text
                   ORDER BY d.id DESC LIMIT 1) AS ended
           FROM agents WHERE workspace_id = $1 AND id = $3::uuid`,
    values: [workspaceId, conversationId, agentId],
  });
  const [agent] = rows;
  if (agent === undefined) return { kind: 'unknown_agent' };
  return {
    kind: 'not_offered',
    offeredAgentId: isOffered ? null : conversation.offeredAgentId,
    agentId: conversation.agentId,
    ended: isOffered ? 'expired' : agent.ended,
  };
}

/** The units stay where they are: they were reserved, now they are taken. */
async function giveOffered(
  tx: Queryable,
  { lock, conversation }: HeldConversation,
  { workspaceId, conversationId, agentId }: OfferAnswer,
): Promise<void> {
  const teamId = conversation.teamId!;
  const clock = clockOfAssigned(lock, teamId);
  const { rows } = await tx.query<{ seconds: number | null }>({
    name: 'give-offered',
    text: `UPDATE conversations
           SET state = 'assigned', agent_id = offered_agent_id, assigned_at = clock_timestamp(), forced = false,
               offered_agent_id = NULL, offer_expires_at = NULL, awaited_agent_id = NULL, awaited_until = NULL,
               due_kind = $3, due_at = to_timestamp($4::float8 / 1000), version = version + 1, progressed_at = now()
           WHERE workspace_id = $1 AND id = $2
           RETURNING CASE WHEN ${isFirstAssignment('conversations')}
                     THEN extract(epoch FROM clock_timestamp() - opened_at)::float8 END AS seconds`,
    values: [workspaceId, conversationId, clock?.kind ?? null, clock?.atMs ?? null],
  });
  const { contactId, units } = conversation;
  const { strategy } = lock.teams.get(teamId)!;
  const openToAssignedSeconds = rows[0]!.seconds;
  publishMoment({ kind: 'offer', outcome: 'accepted', teamId });
  publishMoment({ kind: 'assigned', openToAssignedSeconds, teamId, strategy, forced: false });
  await recordDecision(tx, { workspaceId, contactId, conversationId }, 'assignment', { offer: 'accepted', agentId });
  const data = { agentId, teamId, units, accepted: true };
  await recordEvents(tx, workspaceId, [{ type: 'conversation.assigned', conversationId, contactId, data }]);
}

async function countMissedOffer(tx: Queryable, workspaceId: string, agentId: string): Promise<number> {
  const { rows } = await tx.query<{ missed: number }>({
    name: 'count-missed-offer',
    text: `UPDATE agents SET missed_offers = missed_offers + 1 WHERE workspace_id = $1 AND id = $2
           RETURNING missed_offers AS missed`,
    values: [workspaceId, agentId],
  });
  return rows[0]!.missed;
}
