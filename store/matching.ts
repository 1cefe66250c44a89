/**
 * Matching waiting conversations with agents who have room, under the locks of the teams concerned. Whatever queues a
 * conversation or frees room calls `drainQueues` in its own transaction, so none waits while an agent who may take it has
 * room (I7), and there is nothing to poll.
 */
import { newId } from '../platform/id.ts';
import { matchWaiting, type AgentCandidate, type Match, type WaitingConversation } from '../routing/matching.ts';
import { publishAssignment } from './assignment-metrics.ts';
import { ConcurrentChange, type Queryable } from './database.ts';
import type { MatchingLock } from './locks.ts';

/** Assigns what waits in the held teams' queues until no room or no conversation is left. */
export async function drainQueues(tx: Queryable, lock: MatchingLock): Promise<void> {
  let held = lock;
  for (;;) {
    const free = [...held.agents.values()].filter(hasRoom);
    const teamIds = [...held.teams.keys()].filter((id) => free.some((agent) => agent.teamIds.includes(id)));
    if (teamIds.length === 0) return;
    const room = free.reduce((sum, agent) => sum + agent.capacity - agent.load, 0);
    const waiting = await lockWaiting(tx, held.workspaceId, teamIds, room);
    if (waiting.length === 0) return;
    const matches = decideMatches(held, waiting).filter((match) => match.agentId !== null);
    if (matches.length === 0) return;
    held = await applyMatches(tx, held, matches);
  }
}

/** Decides one conversation; where nobody has room, the match names no agent. */
export const decideMatches = (lock: MatchingLock, waiting: readonly WaitingConversation[]): Match[] =>
  matchWaiting({ waiting, teams: [...lock.teams.values()], agents: [...lock.agents.values()] });

const hasRoom = (agent: AgentCandidate): boolean => agent.presence === 'online' && agent.load < agent.capacity;

/**
 * The first `maxRows` of each queue, locked in queue order, not by id. That is safe here alone. Who else locks a waiting
 * conversation without holding its team either waits for nothing afterwards (a close request), or has taken it away by hand and
 * drains other queues; two who did that to each other would be a deadlock, which PostgreSQL ends and `transact` repeats. Rows that
 * ceased to wait drop out, and the limit counts what is left.
 *
 * Queue by queue along the index: over all queues at once, each of 25,000 who wait was read and sorted to find the first (46 ms
 * instead of 0.1).
 */
async function lockWaiting(
  tx: Queryable,
  workspaceId: string,
  teamIds: readonly string[],
  maxRows: number,
): Promise<WaitingConversation[]> {
  const { rows } = await tx.query<WaitingConversation>({
    name: 'lock-waiting',
    text: `SELECT first.id AS "conversationId", first.team_id AS "teamId", first.priority, first.units,
                  extract(epoch FROM first.waiting_since)::float8 * 1000 AS "waitingSinceMs"
           FROM unnest($2::uuid[]) AS held (team_id)
           CROSS JOIN LATERAL (
             SELECT v.id, v.team_id, v.priority, v.units, v.waiting_since FROM conversations v
             WHERE v.workspace_id = $1 AND v.team_id = held.team_id AND v.state = 'waiting' AND v.close_requested_at IS NULL
             ORDER BY v.priority DESC, v.waiting_since, v.id
             LIMIT $3
             FOR NO KEY UPDATE
           ) first
           ORDER BY first.priority DESC, first.waiting_since, first.id
           LIMIT $3`,
    values: [workspaceId, teamIds, Math.min(maxRows, 500)],
  });
  return rows;
}

const applyMatchesSql = `
  WITH match AS (
    SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::jsonb[])
             AS m (conversation_id, team_id, agent_id, decision_id, explanation)
  ), assigned AS (
    UPDATE conversations v
    SET state = 'assigned', agent_id = m.agent_id, assigned_at = now(), forced = false, version = version + 1,
        progressed_at = now()
    FROM match m
    WHERE v.workspace_id = $1 AND v.id = m.conversation_id AND v.agent_id IS NULL AND v.closed_at IS NULL
    RETURNING v.id, v.contact_id, v.agent_id, v.team_id, v.units, v.opened_at
  ), cost AS (
    SELECT agent_id, sum(units) AS units FROM assigned GROUP BY agent_id
  ), taken AS (
    UPDATE agents a SET load = a.load + cost.units
    FROM cost
    WHERE a.workspace_id = $1 AND a.id = cost.agent_id AND a.load + cost.units <= a.capacity
    RETURNING a.id, a.load
  ), rotated AS (
    UPDATE teams t SET last_agent_id = r.agent_id
    FROM unnest($7::uuid[], $8::uuid[]) AS r (team_id, agent_id)
    WHERE t.workspace_id = $1 AND t.id = r.team_id
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
    SELECT $1, decision_id, conversation_id, 'assignment', explanation FROM match
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT $1, 'conversation.assigned', id, contact_id, jsonb_build_object('agentId', agent_id, 'teamId', team_id)
    FROM assigned
  )
  SELECT (SELECT count(*) FROM assigned) AS assigned, (SELECT count(*) FROM cost) - (SELECT count(*) FROM taken) AS missed,
         (SELECT jsonb_object_agg(id, load) FROM taken) AS loads,
         (SELECT array_agg(extract(epoch FROM clock_timestamp() - opened_at)::float8) FROM assigned) AS seconds`;

/**
 * Writes matches that name an agent: conversation, load, rotation, explanation and event together. The load's own condition
 * holds I3 even if a caller forgot a lock.
 * @returns the lock with loads and rotation as they are now
 */
export async function applyMatches(
  tx: Queryable,
  lock: MatchingLock,
  matches: readonly Match[],
): Promise<MatchingLock> {
  const rotation = new Map(matches.map((match) => [match.teamId, match.agentId!]));
  const { rows } = await tx.query<AppliedMatches>({
    name: 'apply-matches',
    text: applyMatchesSql,
    values: [
      lock.workspaceId,
      matches.map((match) => match.conversationId),
      matches.map((match) => match.teamId),
      matches.map((match) => match.agentId),
      matches.map(() => newId()),
      matches.map((match) => JSON.stringify(match.explanation)),
      [...rotation.keys()],
      [...rotation.values()],
    ],
  });
  if (rows[0]!.assigned !== matches.length || rows[0]!.missed !== 0)
    throw new ConcurrentChange('room was taken meanwhile');
  const { loads, seconds } = rows[0]!;
  seconds.forEach(publishAssignment);
  return {
    ...lock,
    teams: new Map(
      [...lock.teams].map(([id, team]) => [id, { ...team, lastAgentId: rotation.get(id) ?? team.lastAgentId }]),
    ),
    agents: new Map([...lock.agents].map(([id, agent]) => [id, { ...agent, load: loads[id] ?? agent.load }])),
  };
}

interface AppliedMatches {
  assigned: number;
  missed: number;
  loads: Record<string, number>;
  seconds: number[];
}
