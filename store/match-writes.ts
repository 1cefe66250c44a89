/** Giving conversations to the agents that the core chose: taking the room, and writing all that follows from it. */
import { newId } from '../platform/id.ts';
import type { Clock } from '../routing/clocks.ts';
import type { AgentCandidate, Match } from '../routing/matching.ts';
import { changeRoom, sumRoom } from './agent-room.ts';
import { publishMoment } from './assignment-metrics.ts';
import { clockOf } from './clocks.ts';
import { ConcurrentChange, type Queryable } from './database.ts';
import { isFirstAssignment } from './decisions.ts';
import type { MatchingLock } from './locks.ts';
import type { QueuedConversation } from './queue-heads.ts';

/** The part of the locks that decisions are made by. */
export type HeldTeams = Omit<MatchingLock, 'agents'>;

export interface Decided {
  readonly matches: readonly Match[];
  /** The core's time for one of them. */
  readonly tookMs: number;
}

/** Matches that name an agent, in the order in which they were decided. */
export interface Chosen extends Decided {
  readonly waiting: readonly QueuedConversation[];
}

// The agents' times differ in the order of the decisions, so that the longest idle is still found among those of one set.
const applyMatchesSql = `
  WITH matched AS (
    SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::jsonb[], $7::jsonb[], $8::float8[], $9::text[],
                         $10::float8[], $11::uuid[])
      WITH ORDINALITY AS m (id, team_id, agent_id, decision_id, detail, told, offer_ms, due_kind, due_ms, preferred, place)
  ), taken AS (
    UPDATE agents a
    SET last_assigned_at = clock_timestamp() + change.place * interval '1 microsecond', ${changeRoom('a', 'change')}
    FROM unnest($12::uuid[], $13::int[], $14::jsonb[], $15::int[]) AS change (agent_id, units, channels, place)
    WHERE a.workspace_id = $1 AND a.id = change.agent_id AND a.load + change.units <= a.capacity
      AND (change.channels IS NULL OR a.channel_limits = '{}' OR NOT EXISTS (
        SELECT FROM jsonb_each_text(change.channels) one
        WHERE coalesce((a.channel_loads ->> one.key)::int, 0) + one.value::int > (a.channel_limits ->> one.key)::int
      ))
    RETURNING a.id
  ), given AS (
    UPDATE conversations v
    SET state = CASE WHEN matched.offer_ms IS NULL THEN 'assigned' ELSE 'waiting' END,
        agent_id = CASE WHEN matched.offer_ms IS NULL THEN taken.id END,
        assigned_at = CASE WHEN matched.offer_ms IS NULL THEN clock_timestamp() END,
        offered_agent_id = CASE WHEN matched.offer_ms IS NOT NULL THEN taken.id END,
        offer_expires_at = to_timestamp(matched.offer_ms / 1000),
        preferred_agent_id = matched.preferred, awaited_agent_id = NULL, awaited_until = NULL, forced = false,
        waiting_since = CASE WHEN matched.offer_ms IS NULL THEN waiting_since ELSE coalesce(waiting_since, routed_at, now()) END,
        queued_at = CASE WHEN matched.offer_ms IS NULL THEN queued_at ELSE coalesce(queued_at, now()) END,
        due_at = to_timestamp(matched.due_ms / 1000), due_kind = matched.due_kind, version = version + 1, progressed_at = now()
    FROM matched JOIN taken ON taken.id = matched.agent_id
    WHERE v.workspace_id = $1 AND v.id = matched.id AND v.state IN ('routing', 'waiting') AND v.close_requested_at IS NULL
      AND v.offered_agent_id IS NULL
    RETURNING v.id, v.contact_id, v.opened_at, v.passed_over, matched.place, matched.offer_ms, matched.decision_id,
              matched.detail, matched.told
  ), rotated AS (
    UPDATE teams t SET last_agent_id = turned.agent_id
    FROM unnest($16::uuid[], $17::uuid[]) AS turned (team_id, agent_id)
    WHERE t.workspace_id = $1 AND t.id = turned.team_id AND EXISTS (SELECT FROM given)
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
    SELECT $1, decision_id, id, 'assignment', detail FROM given
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT $1, CASE WHEN offer_ms IS NULL THEN 'conversation.assigned' ELSE 'conversation.offered' END, id, contact_id, told
    FROM given ORDER BY place
  )
  SELECT (SELECT count(*) FROM taken) AS taken, given.place,
         CASE WHEN ${isFirstAssignment('given')} THEN extract(epoch FROM clock_timestamp() - opened_at)::float8 END AS seconds
  FROM (SELECT) always LEFT JOIN given ON true
  ORDER BY given.place`;

/**
 * Writes matches in one statement: room, conversations, rotation, explanations and events together. The update of the agents looks again
 * whether there is room: another team may have taken it.
 *
 * @returns false when the room of the only agent chosen is gone: nothing is written then, and the caller, who holds the team, may decide again
 *   at once. Such callers cannot deadlock: each waits only for an agent in whom it saw room, after everybody it missed had got full.
 *   Several agents have to be held (`lockChosen`), so their room cannot be gone.
 */
export async function applyMatches(tx: Queryable, lock: HeldTeams, chosen: Chosen): Promise<boolean> {
  const { matches, waiting } = chosen;
  if (matches.length === 0) return true;
  const conversations = new Map(waiting.map((conversation) => [conversation.conversationId, conversation]));
  const rows = matches.map((match) => rowOf(lock, { match, conversation: conversations.get(match.conversationId)! }));
  const { rows: written } = await tx.query<{ taken: number; place: number | null; seconds: number | null }>({
    name: 'apply-matches',
    text: applyMatchesSql,
    values: valuesOf(lock.workspaceId, rows, chosen.tookMs),
  });
  if (written[0]!.taken === 0) return false;
  if (written.length < matches.length || written[0]!.place === null) {
    throw new ConcurrentChange('a conversation or the room for it was taken meanwhile');
  }
  for (const { place, seconds } of written) publishMatch(lock, rows[place! - 1]!, seconds);
  return true;
}

interface MatchRow {
  readonly match: Match;
  readonly conversation: QueuedConversation;
  readonly offerExpiresAtMs: number | null;
  readonly clock: Clock | null;
}

function rowOf(lock: HeldTeams, of: Pick<MatchRow, 'match' | 'conversation'>): MatchRow {
  const { teamId } = of.match;
  const { offer } = lock.teams.get(teamId)!;
  if (offer === null) return { ...of, offerExpiresAtMs: null, clock: clockOfAssigned(lock, teamId) };
  const offerExpiresAtMs = lock.nowMs + offer.acceptSeconds * 1_000;
  return { ...of, offerExpiresAtMs, clock: { kind: 'offer', atMs: offerExpiresAtMs } };
}

function valuesOf(workspaceId: string, rows: readonly MatchRow[], tookMs: number): unknown[] {
  const takers = rows.map(({ match, conversation: { units, channel } }) => ({
    agentId: match.agentId!,
    units,
    channel,
  }));
  const room = sumRoom(takers, 1);
  // The last one of each counts.
  const lastPlaces = new Map(takers.map(({ agentId }, place) => [agentId, place]));
  const lastAgents = new Map(rows.map(({ match }) => [match.teamId, match.agentId]));
  return [
    workspaceId,
    rows.map(({ match }) => match.conversationId),
    rows.map(({ match }) => match.teamId),
    rows.map(({ match }) => match.agentId),
    rows.map(() => newId()),
    rows.map(({ match, conversation: { flowVersionId }, offerExpiresAtMs }) =>
      JSON.stringify({ ...match.explanation, flowVersionId, offered: offerExpiresAtMs !== null, tookMs }),
    ),
    rows.map(tellOf),
    rows.map(({ offerExpiresAtMs }) => offerExpiresAtMs),
    rows.map(({ clock }) => clock?.kind ?? null),
    rows.map(({ clock }) => clock?.atMs ?? null),
    rows.map(({ conversation }) => conversation.preferredAgentId),
    room.agentIds,
    room.units,
    room.channels,
    room.agentIds.map((agentId) => lastPlaces.get(agentId)),
    [...lastAgents.keys()],
    [...lastAgents.values()],
  ];
}

const tellOf = ({ match: { agentId, teamId }, conversation: { units }, offerExpiresAtMs }: MatchRow): string =>
  JSON.stringify({
    agentId,
    teamId,
    units,
    ...(offerExpiresAtMs !== null && { expiresAt: new Date(offerExpiresAtMs).toISOString() }),
  });

function publishMatch(
  lock: HeldTeams,
  { match: { teamId }, offerExpiresAtMs }: MatchRow,
  seconds: number | null,
): void {
  if (offerExpiresAtMs !== null) return publishMoment({ kind: 'offer', outcome: 'made', teamId });
  const { strategy } = lock.teams.get(teamId)!;
  publishMoment({ kind: 'assigned', openToAssignedSeconds: seconds, teamId, strategy, forced: false });
}

/** What time alone may do next to a conversation that an agent gets now. */
export function clockOfAssigned(lock: HeldTeams, teamId: string | null): Clock | null {
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
 * Locks the agents chosen, in the order of ids. With `waits`, which is for a transaction that holds no agent yet, it waits for them. Else one
 * that comes before another whom the transaction has already cannot be waited for without risking a deadlock: if somebody has it, the
 * transaction starts over.
 *
 * @param held ids of those whom the transaction holds; the chosen ones are added
 * @returns false when one of them is no longer as the decision saw it, which has to be made again. Only the load can differ: who changes
 *   anything else about an agent holds its teams.
 */
export async function lockChosen(
  tx: Queryable,
  workspaceId: string,
  { chosen, held, waits }: { chosen: ReadonlyMap<string, AgentCandidate>; held: Set<string>; waits: boolean },
): Promise<boolean> {
  const wanted = [...chosen.keys()].filter((agentId) => !held.has(agentId));
  // The update of `applyMatches` locks a single one by itself.
  if (wanted.length === 0 || (chosen.size === 1 && held.size === 0)) return true;
  const { rows } = await tx.query<{ id: string; load: number }>({
    ...(waits ? lockInOrder : lockAtOnce),
    values: [workspaceId, wanted],
  });
  for (const agentId of wanted) held.add(agentId);
  return rows.every(({ id, load }) => load === chosen.get(id)!.load);
}

const lockSql =
  'SELECT id, load FROM agents WHERE workspace_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE';
const lockInOrder = { name: 'lock-chosen-agents', text: lockSql };
const lockAtOnce = { name: 'lock-chosen-agents-at-once', text: `${lockSql} NOWAIT` };
