/** Giving a conversation to the agent that the core chose: taking the room, and writing all that follows from it. */
import { newId } from '../platform/id.ts';
import type { Clock } from '../routing/clocks.ts';
import type { Match } from '../routing/matching.ts';
import { addConversationOn } from './agent-room.ts';
import { publishMoment } from './assignment-metrics.ts';
import { clockOf } from './clocks.ts';
import { ConcurrentChange, type Queryable } from './database.ts';
import { isFirstAssignment } from './decisions.ts';
import type { MatchingLock } from './locks.ts';
import type { QueuedConversation } from './queue-heads.ts';

export interface Decided {
  readonly matches: readonly Match[];
  /** The core's time for one of them. */
  readonly tookMs: number;
}

const applyMatchSql = `
  WITH taken AS (
    UPDATE agents
    SET load = load + $5, last_assigned_at = clock_timestamp(),
        channel_loads = ${addConversationOn('$6')}
    WHERE workspace_id = $1 AND id = $4 AND load + $5 <= capacity
      AND ($6::text IS NULL OR NOT channel_limits ? $6
           OR coalesce((channel_loads ->> $6)::int, 0) < (channel_limits ->> $6)::int)
    RETURNING id
  ), given AS (
    UPDATE conversations v
    SET state = CASE WHEN $9::float8 IS NULL THEN 'assigned' ELSE 'waiting' END,
        agent_id = CASE WHEN $9::float8 IS NULL THEN taken.id END,
        assigned_at = CASE WHEN $9::float8 IS NULL THEN clock_timestamp() END,
        offered_agent_id = CASE WHEN $9::float8 IS NOT NULL THEN taken.id END,
        offer_expires_at = to_timestamp($9::float8 / 1000),
        preferred_agent_id = $13, awaited_agent_id = NULL, awaited_until = NULL, forced = false,
        waiting_since = CASE WHEN $9::float8 IS NULL THEN waiting_since ELSE coalesce(waiting_since, routed_at, now()) END,
        queued_at = CASE WHEN $9::float8 IS NULL THEN queued_at ELSE coalesce(queued_at, now()) END,
        due_at = to_timestamp($11::float8 / 1000), due_kind = $10, version = version + 1, progressed_at = now()
    FROM taken
    WHERE v.workspace_id = $1 AND v.id = $2 AND v.state IN ('routing', 'waiting') AND v.close_requested_at IS NULL
      AND v.offered_agent_id IS NULL
    RETURNING v.id, v.contact_id, v.opened_at, v.passed_over
  ), rotated AS (
    UPDATE teams t SET last_agent_id = $4 FROM given WHERE t.workspace_id = $1 AND t.id = $3
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail) SELECT $1, $7, $2, 'assignment', $8 FROM given
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT $1, CASE WHEN $9::float8 IS NULL THEN 'conversation.assigned' ELSE 'conversation.offered' END, id, contact_id,
           jsonb_strip_nulls(jsonb_build_object('agentId', $4::uuid, 'teamId', $3::uuid, 'units', $5::int,
                                                'expiresAt', $12::text))
    FROM given
  )
  SELECT given.id IS NOT NULL AS "isGiven",
         CASE WHEN ${isFirstAssignment('given')} THEN extract(epoch FROM clock_timestamp() - opened_at)::float8 END AS seconds
  FROM taken LEFT JOIN given ON true`;

/**
 * Writes matches that name an agent, in the order in which they were decided: room, conversation, rotation, explanation and event together. The
 * update of the agent looks again whether there is room: another team may have taken it.
 *
 * One statement a match: nearly always a freed place means one match.
 */
export async function applyMatches(
  tx: Queryable,
  lock: MatchingLock,
  { matches, tookMs, waiting }: Decided & { readonly waiting: readonly QueuedConversation[] },
): Promise<void> {
  await lockChosen(tx, lock, matches);
  const conversations = new Map(waiting.map((conversation) => [conversation.conversationId, conversation]));
  for (const match of matches) {
    const conversation = conversations.get(match.conversationId)!;
    const isTaken = await applyMatch(tx, lock, { match, conversation, tookMs });
    if (!isTaken) throw new ConcurrentChange('the room was taken meanwhile');
  }
}

/**
 * Writes one match that names an agent.
 * @returns false when another team took the room meanwhile: nothing is written then, and the caller, who holds the team, may decide again at
 *   once. Such callers cannot deadlock: each waits only for an agent in whom it saw room, after everybody it missed had got full.
 */
export async function applyMatch(
  tx: Queryable,
  lock: MatchingLock,
  { match, conversation, tookMs }: { match: Match; conversation: QueuedConversation; tookMs: number },
): Promise<boolean> {
  const { conversationId, teamId, agentId, explanation } = match;
  const { units, channel, flowVersionId, preferredAgentId } = conversation;
  const { nowMs } = lock;
  const team = lock.teams.get(teamId)!;
  const offerExpiresAtMs = team.offer === null ? null : nowMs + team.offer.acceptSeconds * 1_000;
  const clock =
    offerExpiresAtMs === null ? clockOfAssigned(lock, teamId) : ({ kind: 'offer', atMs: offerExpiresAtMs } as const);
  const { rows } = await tx.query<{ isGiven: boolean; seconds: number | null }>({
    name: 'apply-match',
    text: applyMatchSql,
    values: [
      lock.workspaceId,
      conversationId,
      teamId,
      agentId,
      units,
      channel,
      newId(),
      JSON.stringify({ ...explanation, flowVersionId, offered: offerExpiresAtMs !== null, tookMs }),
      offerExpiresAtMs,
      clock?.kind ?? null,
      clock?.atMs ?? null,
      // PostgreSQL's own text of a time has another form than all others in events.
      offerExpiresAtMs === null ? null : new Date(offerExpiresAtMs).toISOString(),
      preferredAgentId,
    ],
  });
  const [taken] = rows;
  if (taken === undefined) return false;
  if (!taken.isGiven) throw new ConcurrentChange('the conversation was taken meanwhile');
  if (offerExpiresAtMs !== null) publishMoment({ kind: 'offer', outcome: 'made', teamId });
  else {
    const { strategy } = team;
    publishMoment({ kind: 'assigned', openToAssignedSeconds: taken.seconds, teamId, strategy, forced: false });
  }
  return true;
}

/** What time alone may do next to a conversation that an agent gets now. */
export function clockOfAssigned(lock: MatchingLock, teamId: string | null): Clock | null {
  const { nowMs } = lock;
  return clockOf(lock, teamId, {
    state: 'assigned',
    nowMs,
    assignedAtMs: nowMs,
    returnAtMs: null,
    unansweredSinceMs: nowMs,
    lastMessageAtMs: nowMs,
    isQuiet: false,
  });
}

/**
 * Agents are locked in the order of ids. One that is not held already and comes before one that is, or before another chosen one, cannot be
 * waited for without risking a deadlock: if somebody has it, the transaction starts over instead.
 */
async function lockChosen(
  tx: Queryable,
  { workspaceId, agents }: MatchingLock,
  matches: readonly Match[],
): Promise<void> {
  const chosen = [...new Set(matches.map((match) => match.agentId!))].filter((id) => !agents.has(id));
  // The update locks a single one by itself.
  if (chosen.length === 0 || (chosen.length === 1 && agents.size === 0)) return;
  await tx.query({
    name: 'lock-chosen-agents',
    text: 'SELECT FROM agents WHERE workspace_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE NOWAIT',
    values: [workspaceId, chosen],
  });
}
