/** Who gets a conversation: by the flow's last step, or by a person's hand. */
import type pg from 'pg';
import { groupBy } from '../platform/group-by.ts';
import { awaitedOf, findPreferences } from './affinity.ts';
import { addConversationOn, refuseAgent, releaseHolder } from './agent-room.ts';
import { publishMoment } from './assignment-metrics.ts';
import { ConcurrentChange, transact, type Queryable } from './database.ts';
import { isFirstAssignment, recordDecision } from './decisions.ts';
import { recordEvents } from './events.ts';
import {
  holdConversation,
  readCandidates,
  type ConversationKey,
  type ConversationLock,
  type MatchingLock,
} from './locks.ts';
import { applyMatches, clockOfAssigned, lockChosen } from './match-writes.ts';
import { decideMatches, drainQueues } from './matching.ts';
import { passOver, queueConversations, queuedOf, returnToQueue, tellWithdrawal, type ByHand } from './queueing.ts';
import { holdRouted } from './set-locks.ts';
import { readDefaultTeam } from './teams.ts';

export type AssignTarget =
  | { readonly kind: 'agent'; readonly agentId: string; readonly force: boolean }
  | { readonly kind: 'team'; readonly teamId: string }
  /** The queue of its team, else of the workspace's default team. */
  | { readonly kind: 'queue' };

/**
 * The flow's last step, for one conversation or for many: to an agent of the team with room, else into the team's queue. Holding the teams' locks
 * from looking for an agent until the conversation is queued, it cannot miss room that is freed at the same moment.
 *
 * Many are decided as if one after the other in the order given, in one transaction for each workspace. Its statements are as many for a
 * hundred as for one (`npm run bench -- assign`): five round trips for one, which were eight. In sets of a hundred an assignment takes 0.4 ms of
 * PostgreSQL's CPU where it took 2.6; for one alone most goes into reading the team's members, as before.
 *
 * @returns for each key, false when the conversation is no longer where this step expects it, and nothing was done
 */
export async function assignRouted(pool: pg.Pool, key: ConversationKey): Promise<boolean>;
export async function assignRouted(pool: pg.Pool, keys: readonly ConversationKey[]): Promise<boolean[]>;
export async function assignRouted(
  pool: pg.Pool,
  keys: ConversationKey | readonly ConversationKey[],
): Promise<boolean | boolean[]> {
  if ('workspaceId' in keys) return (await assignRouted(pool, [keys]))[0]!;
  const assigned = new Set<string>();
  for (const [workspaceId, members] of groupBy(keys, (key) => key.workspaceId)) {
    for (const id of await assignInWorkspace(pool, workspaceId, members)) assigned.add(id);
  }
  // One that is named twice is assigned the first time.
  return keys.map(({ conversationId }) => assigned.delete(conversationId));
}

/** @returns the ids of those who were assigned or queued */
function assignInWorkspace(pool: pg.Pool, workspaceId: string, keys: readonly ConversationKey[]): Promise<string[]> {
  const ids = [...new Set(keys.map(({ conversationId }) => conversationId))];
  return transact(pool, async (tx) => {
    const { lock, conversations } = await holdRouted(tx, workspaceId, ids);
    const held = ids.filter((id) => conversations.has(id));
    await assignAll(
      tx,
      lock,
      held.map((conversationId) => ({ ...conversations.get(conversationId)!, conversationId })),
    );
    return held;
  });
}

/** To the best agent of its team who has room, else into the team's queue. The caller holds the team and the conversation. */
export async function assignOrQueue(
  tx: Queryable,
  lock: MatchingLock,
  { conversationId }: ConversationKey,
  conversation: ConversationLock,
): Promise<void> {
  await assignAll(tx, lock, [{ ...conversation, conversationId }]);
}

type Routed = ConversationLock & { readonly conversationId: string };

/** The caller holds the teams and the conversations, and no agent. */
async function assignAll(tx: Queryable, lock: MatchingLock, conversations: readonly Routed[]): Promise<void> {
  if (conversations.length === 0) return;
  const teamIds = [...new Set(conversations.map(({ teamId }) => teamId!))];
  const held = new Set<string>();
  const preferences = await findPreferences(tx, lock, conversations);
  for (;;) {
    const agents = await readCandidates(tx, lock.workspaceId, teamIds);
    const waiting = conversations.map((conversation) => {
      const asked = queuedOf(conversation, conversation, lock.nowMs);
      const preference = preferences.get(conversation.conversationId) ?? null;
      const awaitedAgentId = awaitedOf(preference, agents, asked);
      return { ...asked, preferredAgentId: preference?.agentId ?? null, awaitedAgentId };
    });
    const { matches, tookMs } = decideMatches(lock, waiting, agents, 'given');
    const byId = new Map(matches.map((match) => [match.conversationId, match]));
    const inTurn = waiting.map(({ conversationId }) => byId.get(conversationId)!);
    const chosenIds = new Set(inTurn.map(({ agentId }) => agentId));
    const chosen = new Map(
      agents.filter(({ agentId }) => chosenIds.has(agentId)).map((agent) => [agent.agentId, agent]),
    );
    // Teams that share agents may choose the same one at once. To start over for that made a burst in 50 such teams take 7.5 s, not 1.8.
    if (!(await lockChosen(tx, lock.workspaceId, { chosen, held, waits: held.size === 0 }))) continue;
    const given = inTurn.filter(({ agentId }) => agentId !== null);
    if (!(await applyMatches(tx, lock, { matches: given, tookMs, waiting }))) continue;
    const coming = conversations.flatMap(({ conversationId, requirements, flowVersionId }, place) => {
      const { agentId, explanation } = inTurn[place]!;
      if (agentId !== null) return [];
      const asked = waiting[place]!;
      const waitMs = asked.awaitedAgentId === null ? null : preferences.get(conversationId)!.waitMs;
      const awaitedUntilMs = waitMs === null ? null : lock.nowMs + waitMs;
      return [{ requirements, asked, awaitedUntilMs, record: { ...explanation, flowVersionId, tookMs } }];
    });
    return queueConversations(tx, lock, coming);
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
  const { rows } = await tx.query<{ forced: boolean; seconds: number | null }>({
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
               quiet_since = NULL, return_at = NULL, awaiting_after_sequence = NULL, answer_until = NULL, due_kind = $8, due_at = to_timestamp($9::float8 / 1000),
               version = version + 1, progressed_at = now()
           FROM taken WHERE workspace_id = $1 AND id = $2
           RETURNING conversations.forced,
                     CASE WHEN NOT $10 AND ${isFirstAssignment('conversations')}
                     THEN extract(epoch FROM clock_timestamp() - opened_at)::float8 END AS seconds`,
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
      // Nothing records from whom a person takes it away to give it to somebody else.
      conversation.agentId !== null,
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
