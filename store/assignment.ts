/** Who gets a conversation: by the flow's last step, or by a person's hand. */
import type pg from 'pg';
import { awaitedOf, findPreference } from './affinity.ts';
import { addConversationOn, refuseAgent, releaseHolder } from './agent-room.ts';
import { publishMoment } from './assignment-metrics.ts';
import { ConcurrentChange, transact, type Queryable } from './database.ts';
import { recordDecision } from './decisions.ts';
import { recordEvents } from './events.ts';
import {
  holdConversation,
  readCandidates,
  readConversation,
  type ConversationKey,
  type ConversationLock,
  type MatchingLock,
} from './locks.ts';
import { applyMatch, clockOfAssigned } from './match-writes.ts';
import { decideMatches, drainQueues } from './matching.ts';
import { passOver, queueConversation, queuedOf, returnToQueue, tellWithdrawal, type ByHand } from './queueing.ts';
import { readDefaultTeam } from './teams.ts';

export type AssignTarget =
  | { readonly kind: 'agent'; readonly agentId: string; readonly force: boolean }
  | { readonly kind: 'team'; readonly teamId: string }
  /** The queue of its team, else of the workspace's default team. */
  | { readonly kind: 'queue' };

/**
 * The flow's last step: to an agent of the team with room, else into the team's queue. Holding the team's lock from looking for
 * an agent until the conversation is queued, it cannot miss room that is freed at the same moment.
 *
 * @returns false when the conversation is no longer where this step expects it, and nothing was done
 */
export async function assignRouted(pool: pg.Pool, key: ConversationKey): Promise<boolean> {
  const before = await readConversation(pool, key.workspaceId, key.conversationId);
  if (before === null || !awaitsAssignment(before)) return false;
  return transact(pool, async (tx) => {
    const held = await holdConversation(tx, key.workspaceId, key.conversationId);
    if (held === null || !awaitsAssignment(held.conversation)) return false;
    await assignOrQueue(tx, held.lock, key, held.conversation);
    return true;
  });
}

const awaitsAssignment = (conversation: ConversationLock): boolean =>
  conversation.state === 'routing' && conversation.routedAt !== null && conversation.closeRequestedAt === null;

/** To the best agent of its team who has room, else into the team's queue. The caller holds the team and the conversation. */
export async function assignOrQueue(
  tx: Queryable,
  lock: MatchingLock,
  key: ConversationKey,
  conversation: ConversationLock,
): Promise<void> {
  const teamId = conversation.teamId!;
  const team = lock.teams.get(teamId)!;
  const asked = queuedOf(key, conversation, lock.nowMs);
  const preference = await findPreference(tx, lock, key, team);
  for (;;) {
    const agents = await readCandidates(tx, key.workspaceId, [teamId]);
    const awaitedAgentId = awaitedOf(preference, agents, asked.skills);
    const waiting = { ...asked, preferredAgentId: preference?.agentId ?? null, awaitedAgentId };
    const { matches, tookMs } = decideMatches(lock, [waiting], agents);
    const match = matches[0]!;
    if (match.agentId === null) {
      const awaitedUntilMs = awaitedAgentId === null ? null : lock.nowMs + preference!.waitMs;
      const { requirements, flowVersionId } = conversation;
      await queueConversation(tx, lock, key, { teamId, requirements, asked: waiting, awaitedUntilMs });
      return recordDecision(tx, key, 'assignment', { ...match.explanation, flowVersionId, tookMs });
    }
    // Teams that share agents may choose the same one at once. To start over for that made a burst in 50 such teams take 7.5 s, not 1.8.
    if (await applyMatch(tx, lock, { match, conversation: waiting, tookMs })) return;
  }
}

export type ManualAssignResult = {
  readonly kind: 'done' | 'not_found' | 'closed' | 'closing' | 'unknown_agent' | 'unknown_team' | 'no_room';
};

/**
 * A person decides: to an agent, to a team, or back to the queue of its team. It wins over the flow, whose later steps find the
 * conversation moved on and change nothing. Freed room drains the queues of every team it concerns in the same transaction.
 */
export async function assignManually(
  pool: pg.Pool,
  request: {
    workspaceId: string;
    conversationId: string;
    to: AssignTarget;
    note?: string;
    byAgentId: string | null;
  },
): Promise<ManualAssignResult> {
  const { workspaceId, conversationId, to } = request;
  return transact(pool, async (tx): Promise<ManualAssignResult> => {
    const toTeamId =
      to.kind === 'team' ? to.teamId : to.kind === 'queue' ? await readDefaultTeam(tx, workspaceId) : null;
    const held = await holdConversation(tx, workspaceId, conversationId, {
      teamIds: toTeamId === null ? [] : [toTeamId],
      agentIds: to.kind === 'agent' ? [to.agentId] : [],
    });
    if (held === null) return { kind: 'not_found' };
    const { lock, conversation } = held;
    if (conversation.state === 'closed') return { kind: 'closed' };
    if (conversation.closeRequestedAt !== null) return { kind: 'closing' };
    const key = { workspaceId, contactId: conversation.contactId, conversationId };
    const by = { byAgentId: request.byAgentId, note: request.note ?? null };
    if (to.kind === 'agent') {
      const refusal = refuseAgent(lock.agents.get(to.agentId), conversation, to);
      if (refusal !== null) return { kind: refusal };
      if (conversation.agentId === to.agentId) return { kind: 'done' };
      await releaseHolder(tx, key, conversation);
      if (conversation.offeredAgentId !== to.agentId) await tellWithdrawal(tx, key, conversation, 'assigned_by_hand');
      // What is reserved for the agent needs no room, even where its capacity was lowered below that.
      const force = to.force || conversation.offeredAgentId === to.agentId;
      await giveToAgent(tx, lock, { ...key, ...by, conversation, agentId: to.agentId, force });
    } else {
      const teamId = to.kind === 'team' ? to.teamId : (conversation.teamId ?? toTeamId!);
      if (!lock.teams.has(teamId)) return { kind: 'unknown_team' };
      const reason = to.kind === 'team' ? 'transferred' : 'put_back';
      await returnToQueue(tx, lock, key, conversation, { reason, teamId, ...by });
    }
    await drainQueues(tx, lock, { explain: [conversationId] });
    return { kind: 'done' };
  });
}

/** Assigns by hand. The caller holds agent and conversation and has checked for room; `force` goes over it, and is recorded. */
export async function giveToAgent(
  tx: Queryable,
  lock: MatchingLock,
  gift: ConversationKey &
    ByHand & {
      readonly conversation: Pick<ConversationLock, 'units' | 'channel' | 'agentId' | 'passedOver' | 'teamId'>;
      readonly agentId: string;
      readonly force: boolean;
    },
): Promise<void> {
  const { workspaceId, conversationId, contactId, agentId, byAgentId, note, conversation } = gift;
  const clock = clockOfAssigned(lock, conversation.teamId);
  const { rows } = await tx.query<{ forced: boolean; seconds: number }>({
    name: 'give-to-agent',
    text: `WITH taken AS (
             UPDATE agents
             SET load = load + $5, last_assigned_at = clock_timestamp(),
                 channel_loads = ${addConversationOn('$6')}
             WHERE workspace_id = $1 AND id = $3 AND ($4 OR load + $5 <= capacity)
             RETURNING load > capacity
                       OR coalesce((channel_loads ->> $6)::int > (channel_limits ->> $6)::int, false) AS forced
           )
           UPDATE conversations
           SET state = 'assigned', agent_id = $3, assigned_at = clock_timestamp(), forced = taken.forced, passed_over = $7,
               offered_agent_id = NULL, offer_expires_at = NULL, awaited_agent_id = NULL, awaited_until = NULL,
               quiet_since = NULL, return_at = NULL, due_kind = $8, due_at = to_timestamp($9::float8 / 1000),
               version = version + 1, progressed_at = now()
           FROM taken WHERE workspace_id = $1 AND id = $2
           RETURNING conversations.forced, extract(epoch FROM clock_timestamp() - opened_at)::float8 AS seconds`,
    values: [
      workspaceId,
      conversationId,
      agentId,
      gift.force,
      conversation.units,
      conversation.channel,
      passOver(conversation, conversation.agentId),
      clock?.kind ?? null,
      clock?.atMs ?? null,
    ],
  });
  const [given] = rows;
  if (given === undefined) throw new ConcurrentChange('room was taken meanwhile');
  const { forced, seconds } = given;
  publishMoment({
    kind: 'assigned',
    openToAssignedSeconds: seconds,
    teamId: conversation.teamId,
    strategy: null,
    forced,
  });
  await recordDecision(tx, gift, 'assignment', { manual: true, chosen: agentId, forced, note, byAgentId });
  const data = { agentId, manual: true, forced, byAgentId, note, units: conversation.units };
  await recordEvents(tx, workspaceId, [{ type: 'conversation.assigned', conversationId, contactId, data }]);
}
