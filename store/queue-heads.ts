/** What waits in teams' queues, read in the order in which it may be served. */
import type { WaitingConversation } from '../routing/matching.ts';
import { skillsAfter, type Requirements } from '../routing/requirements.ts';
import type { Queryable } from './database.ts';
import type { HeldTeams } from './match-writes.ts';

/** A waiting conversation as the core sees it, with what the record of its decision tells besides. */
export interface QueuedConversation extends WaitingConversation {
  readonly flowVersionId: string | null;
}

export const nobody = '00000000-0000-0000-0000-000000000000';

/** SQL for what stands in a queue: exactly the condition of the index `conversations_queue`. */
export const isQueued = (row: string): string =>
  `${row}.state = 'waiting' AND ${row}.close_requested_at IS NULL AND ${row}.offered_agent_id IS NULL`;
const queuedColumns = `
  v.id AS "conversationId", v.team_id AS "teamId", v.priority, v.sla_seconds AS "slaSeconds", v.units, v.channel, v.requirements, v.ring,
  v.preferred_agent_id AS "preferredAgentId", v.awaited_agent_id AS "awaitedAgentId",
  v.passed_over AS "passedOver", v.queue_key AS "queueKey", v.flow_version_id AS "flowVersionId",
  extract(epoch FROM v.waiting_since)::float8 * 1000 AS "waitingSinceMs"`;
const inRunOf = (outer: string): string => `
  v.workspace_id = $1 AND v.team_id = ${outer}.team_id AND ${isQueued('v')}
  AND coalesce(v.awaited_agent_id, '${nobody}'::uuid) = ${outer}.awaited`;

/**
 * The first rows of each run: of those in a team's queue that the same agents may take with the same priority and the same target, which are
 * served in the order of their wait. The recursion steps along the index from run to run, so it costs what there are different requirements and
 * priorities, not what waits: one that waits for a rare skill is passed in one step and never read again.
 *
 * Those who await a certain agent are read only for the agents concerned, as nobody else may take them.
 *
 * Why the lists are hidden in sub-selects: `readCandidates` in locks.ts.
 */
const readHeadsSql = `
  WITH RECURSIVE run AS (
    SELECT seed.team_id, seed.awaited, first.queue_key, first.priority
    FROM (SELECT team_id, awaited
          FROM unnest((SELECT $2::uuid[])) AS team_id CROSS JOIN unnest((SELECT $3::uuid[])) AS awaited) seed
    CROSS JOIN LATERAL (
      SELECT v.queue_key, v.priority FROM conversations v WHERE ${inRunOf('seed')}
      ORDER BY v.queue_key, v.priority LIMIT 1
    ) first
    UNION ALL
    SELECT run.team_id, run.awaited, next.queue_key, next.priority
    FROM run CROSS JOIN LATERAL (
      SELECT v.queue_key, v.priority FROM conversations v
      WHERE ${inRunOf('run')} AND (v.queue_key, v.priority) > (run.queue_key, run.priority)
      ORDER BY v.queue_key, v.priority LIMIT 1
    ) next
  )
  SELECT head.* FROM run
  CROSS JOIN LATERAL (
    SELECT ${queuedColumns} FROM conversations v
    WHERE ${inRunOf('run')} AND v.queue_key = run.queue_key AND v.priority = run.priority
    ORDER BY v.waiting_since, v.id LIMIT $4
  ) head`;

export async function readHeads(
  tx: Queryable,
  lock: HeldTeams,
  { awaitedIds, maxRows }: { awaitedIds: readonly string[]; maxRows: number },
): Promise<QueuedConversation[]> {
  const { rows } = await tx.query<QueuedRow>({
    name: 'read-queue-heads',
    text: readHeadsSql,
    values: [lock.workspaceId, [...lock.teams.keys()], [nobody, ...awaitedIds], maxRows],
  });
  return rows.map(queuedOfRow);
}

type QueuedRow = Omit<QueuedConversation, 'skills'> & { readonly requirements: Requirements; readonly ring: number };

const queuedOfRow = ({ requirements, ring, ...row }: QueuedRow): QueuedConversation => ({
  ...row,
  skills: skillsAfter(requirements, ring),
});

/** Those of the named conversations that stand in the queues of the held teams. */
export async function readQueued(
  tx: Queryable,
  lock: HeldTeams,
  conversationIds: readonly string[],
): Promise<QueuedConversation[]> {
  const { rows } = await tx.query<QueuedRow>({
    name: 'read-queued',
    text: `SELECT ${queuedColumns} FROM conversations v
           WHERE v.workspace_id = $1 AND v.id = ANY($2::uuid[]) AND v.team_id = ANY($3::uuid[]) AND ${isQueued('v')}`,
    values: [lock.workspaceId, conversationIds, [...lock.teams.keys()]],
  });
  return rows.map(queuedOfRow);
}
