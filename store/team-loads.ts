/**
 * How busy teams are, for conditions of flows: such a condition is asked at every opening, and a second more or less makes no difference to
 * it. So what was read is remembered for a second in this process, and whoever asks meanwhile shares the reading.
 */
import type { TeamLoad } from '../routing/facts.ts';
import type { Queryable } from './database.ts';
import { isQueued, nobody } from './queue-heads.ts';

interface TeamKey {
  readonly workspaceId: string;
  readonly teamId: string;
}

/**
 * The load of each. A team that its workspace does not have is told as one in which nobody waits or works. Of more than 10,000 that wait,
 * 10,000 are told.
 *
 * @param db others may wait for what you read by it, and you for what they read: a pool is right, a transaction only if it cannot fail before
 */
export async function readTeamLoads(db: Queryable, keys: readonly TeamKey[]): Promise<TeamLoads> {
  const nowMs = performance.now();
  const readings = new Map<string, Reading>();
  const unknown: TeamKey[] = [];
  for (const key of keys) {
    const known = remembered.get(nameOf(key));
    if (known !== undefined && nowMs - known.atMs < maxAgeMs) readings.set(key.teamId, known.reading);
    else unknown.push(key);
  }
  if (unknown.length > 0) {
    const reading = readNow(db, unknown);
    for (const key of unknown) readings.set(key.teamId, reading);
    remember(unknown, { reading, atMs: nowMs });
  }
  const loads = new Map<string, TeamLoad>();
  for (const [teamId, reading] of readings) loads.set(teamId, (await reading).get(teamId)!);
  return loads;
}

/** By the ids of the teams. */
export type TeamLoads = ReadonlyMap<string, TeamLoad>;

type Reading = Promise<TeamLoads>;

interface Remembered {
  readonly reading: Reading;
  readonly atMs: number;
}

/** By workspace and team, the oldest reading first. */
const remembered = new Map<string, Remembered>();
const maxRemembered = 10_000;
const maxAgeMs = 1_000;

const nameOf = ({ workspaceId, teamId }: TeamKey): string => `${workspaceId}/${teamId}`;

function remember(keys: readonly TeamKey[], entry: Remembered): void {
  for (const key of keys) {
    remembered.delete(nameOf(key));
    remembered.set(nameOf(key), entry);
  }
  for (const name of remembered.keys()) {
    if (remembered.size <= maxRemembered) break;
    remembered.delete(name);
  }
  // Whoever asks next tries anew.
  entry.reading.catch(() => {
    for (const key of keys) if (remembered.get(nameOf(key)) === entry) remembered.delete(nameOf(key));
  });
}

async function readNow(db: Queryable, keys: readonly TeamKey[]): Promise<TeamLoads> {
  const { rows } = await db.query<TeamLoad & { teamId: string }>({
    name: 'read-team-loads',
    text: readTeamLoadsSql,
    values: [keys.map(({ workspaceId }) => workspaceId), keys.map(({ teamId }) => teamId), maxCounted, maxRuns],
  });
  return new Map(rows.map(({ teamId, ...load }) => [teamId, load]));
}

/** Entries of the index that are counted for a team. */
const maxCounted = 10_000;
/** Beyond that the longest wait is that of so many of its runs, and of those counted. */
const maxRuns = 1_000;

const awaitedOf = (row: string): string => `coalesce(${row}.awaited_agent_id, '${nobody}'::uuid)`;
const inQueueOf = (team: string): string =>
  `v.workspace_id = ${team}.workspace_id AND v.team_id = ${team}.team_id AND ${isQueued('v')}`;
const firstOfRun = `
      SELECT ${awaitedOf('v')} AS awaited, v.queue_key, v.priority, v.waiting_since FROM conversations v`;
const inOrder = `ORDER BY ${awaitedOf('v')}, v.queue_key, v.priority, v.waiting_since LIMIT 1`;

/**
 * Where not all entries were counted, the oldest is found as queues are served (queue-heads.ts): from run to run along the index, of which the first
 * entry is the oldest.
 */
const readTeamLoadsSql = `
  WITH RECURSIVE counted AS MATERIALIZED (
    SELECT asked.workspace_id, asked.team_id, entries.count, entries.oldest
    FROM unnest((SELECT $1::uuid[]), (SELECT $2::uuid[])) AS asked (workspace_id, team_id)
    CROSS JOIN LATERAL (
      SELECT count(*) AS count, min(waiting_since) AS oldest
      FROM (SELECT v.waiting_since FROM conversations v WHERE ${inQueueOf('asked')} LIMIT $3) v
    ) entries
  ), run AS (
    SELECT counted.workspace_id, counted.team_id, first.*, 1 AS number
    FROM counted CROSS JOIN LATERAL (${firstOfRun} WHERE ${inQueueOf('counted')} ${inOrder}) first
    WHERE counted.count >= $3
    UNION ALL
    SELECT run.workspace_id, run.team_id, next.*, run.number + 1
    FROM run CROSS JOIN LATERAL (
      ${firstOfRun}
      WHERE ${inQueueOf('run')} AND (${awaitedOf('v')}, v.queue_key, v.priority) > (run.awaited, run.queue_key, run.priority)
      ${inOrder}
    ) next
    WHERE run.number < $4
  ), heads AS (
    SELECT workspace_id, team_id, min(waiting_since) AS oldest FROM run GROUP BY workspace_id, team_id
  )
  SELECT counted.team_id AS "teamId", counted.count::int AS waiting, online.count::int AS "onlineAgents",
         coalesce(greatest(floor(extract(epoch FROM now() - least(counted.oldest, heads.oldest))), 0), 0)::int AS "longestWaitSeconds"
  FROM counted
  LEFT JOIN heads ON heads.workspace_id = counted.workspace_id AND heads.team_id = counted.team_id
  CROSS JOIN LATERAL (
    SELECT count(*) AS count FROM team_members m
    CROSS JOIN LATERAL (SELECT FROM agent_presence p
                        WHERE p.workspace_id = m.workspace_id AND p.agent_id = m.agent_id AND p.status = 'online' LIMIT 1) p
    WHERE m.workspace_id = counted.workspace_id AND m.team_id = counted.team_id
  ) online`;
