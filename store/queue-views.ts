/**
 * What a team's queue looks like to people: how much waits, for what, for how long, and where one conversation stands. Read without
 * locks, all counts of a view in one snapshot. What is counted are entries of the index `conversations_queue`, so the table itself is hardly touched: of
 * 50,000 that wait, one row for each group is read.
 */
import { weighSkills } from '../routing/ranking.ts';
import { skillsAfter, type Requirements, type SkillRequirement } from '../routing/requirements.ts';
import { defaultTeamSettings } from '../routing/team-rules.ts';
import { estimateWaitSeconds } from '../routing/wait-estimate.ts';
import { assumedTargetSeconds } from '../routing/waiting-order.ts';
import type { AgentCandidate } from '../routing/matching.ts';
import type { ConversationState } from '../routing/conversation.ts';
import type { Queryable } from './database.ts';
import { readCandidates } from './locks.ts';
import { isQueued } from './queue-heads.ts';
import { slaInQueueSql } from './queue-key.ts';

export interface TeamQueue {
  /** How many wait and are not being offered to anybody right now. */
  readonly depth: number;
  /** How many wait and are being offered to an agent right now. */
  readonly offered: number;
  /** Of all that wait, offered or not; 0 when nothing does. */
  readonly longestWaitSeconds: number;
  /** Null where neither the team nor anything that waits has a target. */
  readonly sla: SlaRisk | null;
  /** What the queue waits for, the largest group first, at most `maxGroups`. */
  readonly byRequirement: readonly QueueGroup[];
  /** What is in the queue and in none of the groups; null when all is told. */
  readonly others: { readonly depth: number; readonly longestWaitSeconds: number } | null;
  readonly onlineAgents: number;
  /** Room of the agents who are online. */
  readonly freeUnits: number;
  /** For one who comes now, asks for no skill and is served last; null where nothing was taken lately. */
  readonly estimatedWaitSeconds: number | null;
}

export interface SlaRisk {
  /** The team's. */
  readonly targetSeconds: number | null;
  /** How many have waited for their target's time or longer: their own, else the team's. */
  readonly breached: number;
  /** How many will have within a fifth of that time. */
  readonly atRisk: number;
}

/** Conversations that ask for the same, as relaxed by now. */
export interface QueueGroup {
  readonly skills: readonly SkillRequirement[];
  readonly channel: string | null;
  readonly units: number;
  readonly depth: number;
  readonly longestWaitSeconds: number;
  /** Agents of the team who are online and have the required skills, with or without room. */
  readonly qualifiedOnline: number;
}

/** @returns null when there is no such team */
export async function readTeamQueue(
  db: Queryable,
  { workspaceId, teamId }: { workspaceId: string; teamId: string },
): Promise<TeamQueue | null> {
  const { rows } = await db.query<QueueRow>({
    name: 'read-team-queue',
    text: readTeamQueueSql,
    values: [workspaceId, teamId, maxKeys, defaultTeamSettings.slaSeconds],
  });
  const [row] = rows;
  if (row === undefined) return null;
  const { depth, offered, longestWaitSeconds, slaSeconds, targets, breached, atRisk } = row;
  const candidates = await readCandidates(db, workspaceId, [teamId]);
  const online = candidates.filter((agent) => agent.presence === 'online');
  const freeUnits = online.reduce((sum, { capacity, load }) => sum + Math.max(capacity - load, 0), 0);
  const groups = mergeGroups(row.groups).map((group) => ({ ...group, qualifiedOnline: countQualified(online, group) }));
  const nobodyIsBefore = depth === 0 && freeUnits > 0;
  return {
    depth,
    offered,
    longestWaitSeconds,
    sla: slaSeconds === null && targets === 0 ? null : { targetSeconds: slaSeconds, breached, atRisk },
    byRequirement: groups.slice(0, maxGroups),
    others: sumOthers(row, groups),
    onlineAgents: online.length,
    freeUnits,
    estimatedWaitSeconds: nobodyIsBefore ? 0 : await estimateWait(db, { workspaceId, teamId, position: depth + 1 }),
  };
}

/** Those told one by one; a team that asks for more different things is summed beyond. */
const maxGroups = 100;
/** Groups by `queue_key` looked into. They differ also in who is passed over, which is merged here, so there may be more of them. */
const maxKeys = 1_000;

interface QueueRow {
  readonly depth: number;
  readonly offered: number;
  readonly longestWaitSeconds: number;
  readonly slaSeconds: number | null;
  /** How many that wait have a target of their own. */
  readonly targets: number;
  readonly breached: number;
  readonly atRisk: number;
  /** What the keys beyond `maxKeys` hold. */
  readonly restDepth: number;
  readonly restLongestWaitSeconds: number;
  readonly groups: readonly KeyRow[];
}

interface KeyRow {
  readonly requirements: Requirements;
  readonly ring: number;
  readonly channel: string | null;
  readonly units: number;
  readonly depth: number;
  readonly longestWaitSeconds: number;
}

const isOffered = (row: string): string =>
  `${row}.state = 'waiting' AND ${row}.close_requested_at IS NULL AND ${row}.offered_agent_id IS NOT NULL`;

/** The part of the target's time that has passed when a conversation is at risk. */
const atRiskFrom = 0.8;

/**
 * SQL for how many wait, since when, and at which risk for their targets.
 *
 * @param sla SQL for a target of its own, in seconds
 * @param team a row of `limitsSql`, for those without
 */
export const countWaitingSql = ({ since, sla, team }: Record<'since' | 'sla' | 'team', string>): string => {
  const breachedIfBefore = `coalesce(now() - ${sla} * interval '1 s', ${team}.breached_if_before)`;
  const atRiskIfBefore = `coalesce(now() - ${sla} * ${atRiskFrom} * interval '1 s', ${team}.at_risk_if_before)`;
  return `
  count(*) AS depth, min(${since}) AS oldest, count(${sla}) AS targets,
  count(*) FILTER (WHERE ${since} <= ${breachedIfBefore}) AS breached,
  count(*) FILTER (WHERE ${since} <= ${atRiskIfBefore} AND ${since} > ${breachedIfBefore}) AS at_risk`;
};

export const limitsSql = (sla: string): string => `
  now() - ${sla} * interval '1 s' AS breached_if_before, now() - ${sla} * ${atRiskFrom} * interval '1 s' AS at_risk_if_before`;

// The groups leave the awaited agent out, though the index has it: an index-only scan cannot give a column that is there only
// within an expression.
const readTeamQueueSql = `
  WITH team AS MATERIALIZED (
    SELECT sla AS sla_seconds, ${limitsSql('sla')}
    FROM (SELECT coalesce((settings ->> 'slaSeconds')::float8, $4::float8) AS sla
          FROM teams WHERE workspace_id = $1 AND id = $2) rules
  ), keyed AS MATERIALIZED (
    SELECT v.queue_key, any_value(v.id) AS sample_id, ${countWaitingSql({ since: 'v.waiting_since', sla: slaInQueueSql('v'), team: 'team' })}
    FROM team CROSS JOIN conversations v
    WHERE v.workspace_id = $1 AND v.team_id = $2 AND ${isQueued('v')}
    GROUP BY v.queue_key
  ), ranked AS MATERIALIZED (
    SELECT *, row_number() OVER (ORDER BY depth DESC, queue_key) AS place FROM keyed
  ), offered AS (
    SELECT ${countWaitingSql({ since: 'v.waiting_since', sla: 'v.sla_seconds', team: 'team' })}
    FROM team CROSS JOIN conversations v
    WHERE v.workspace_id = $1 AND v.team_id = $2 AND ${isOffered('v')}
  ), total AS (
    SELECT coalesce(sum(depth), 0)::int AS depth, min(oldest) AS oldest,
           coalesce(sum(breached), 0)::int AS breached, coalesce(sum(at_risk), 0)::int AS at_risk,
           coalesce(sum(targets), 0)::int AS targets,
           coalesce(sum(depth) FILTER (WHERE place > $3), 0)::int AS rest_depth,
           min(oldest) FILTER (WHERE place > $3) AS rest_oldest
    FROM ranked
  )
  SELECT total.depth, offered.depth::int AS offered,
         ${secondsSince('least(total.oldest, offered.oldest)')} AS "longestWaitSeconds",
         team.sla_seconds AS "slaSeconds", (total.targets + offered.targets)::int AS targets,
         (total.breached + offered.breached)::int AS breached,
         (total.at_risk + offered.at_risk)::int AS "atRisk",
         total.rest_depth AS "restDepth", ${secondsSince('total.rest_oldest')} AS "restLongestWaitSeconds",
         coalesce((
           SELECT jsonb_agg(jsonb_build_object(
                    'requirements', v.requirements, 'ring', v.ring, 'channel', v.channel, 'units', v.units,
                    'depth', ranked.depth, 'longestWaitSeconds', ${secondsSince('ranked.oldest')}))
           FROM ranked JOIN conversations v ON v.workspace_id = $1 AND v.id = ranked.sample_id
           WHERE ranked.place <= $3
         ), '[]') AS groups
  FROM team, total, offered`;

/** Whole seconds; 0 where nothing waits. */
function secondsSince(time: string): string {
  return `coalesce(greatest(floor(extract(epoch FROM now() - ${time})), 0), 0)::int`;
}

type RequirementGroup = Omit<QueueGroup, 'qualifiedOnline'>;

/** The largest first. */
function mergeGroups(keys: readonly KeyRow[]): RequirementGroup[] {
  const groups = new Map<string, RequirementGroup>();
  for (const { requirements, ring, channel, units, depth, longestWaitSeconds } of keys) {
    const skills = skillsAfter(requirements, ring).toSorted((left, right) => (left.skill < right.skill ? -1 : 1));
    const key = JSON.stringify([
      skills.map(({ skill, level, preferred }) => [skill, level, preferred]),
      channel,
      units,
    ]);
    const known = groups.get(key);
    groups.set(key, {
      skills,
      channel,
      units,
      depth: depth + (known?.depth ?? 0),
      longestWaitSeconds: Math.max(longestWaitSeconds, known?.longestWaitSeconds ?? 0),
    });
  }
  return [...groups.values()].sort(
    (left, right) => right.depth - left.depth || right.longestWaitSeconds - left.longestWaitSeconds,
  );
}

function sumOthers(row: QueueRow, groups: readonly RequirementGroup[]): TeamQueue['others'] {
  const beyond = groups.slice(maxGroups);
  const depth = beyond.reduce((sum, group) => sum + group.depth, row.restDepth);
  if (depth === 0) return null;
  const waits = beyond.map((group) => group.longestWaitSeconds);
  return { depth, longestWaitSeconds: Math.max(row.restLongestWaitSeconds, ...waits) };
}

function countQualified(online: readonly AgentCandidate[], { skills }: RequirementGroup): number {
  return online.filter((agent) => weighSkills(skills, agent.skills).lacks === null).length;
}

export interface QueuePosition {
  readonly state: ConversationState;
  readonly teamId: string | null;
  /**
   * Place among all that wait in its team's queue, from 1, in the order in which they are served, whatever they ask for; 0 while it is being
   * offered to an agent; null when it does not wait, or is about to be closed.
   */
  readonly position: number | null;
  readonly waitedSeconds: number | null;
  /** Null when it does not wait, or where nothing was taken from the queue lately. */
  readonly estimatedWaitSeconds: number | null;
}

/** @returns null when there is no such conversation */
export async function readQueuePosition(
  db: Queryable,
  { workspaceId, conversationId }: { workspaceId: string; conversationId: string },
): Promise<QueuePosition | null> {
  const { rows } = await db.query<Omit<QueuePosition, 'estimatedWaitSeconds'>>({
    name: 'read-queue-position',
    text: readQueuePositionSql,
    values: [
      workspaceId,
      conversationId,
      defaultTeamSettings.agingPointsPerMinute,
      defaultTeamSettings.slaSeconds,
      assumedTargetSeconds,
    ],
  });
  const [row] = rows;
  if (row === undefined) return null;
  const { teamId, position } = row;
  if (position === null || teamId === null) return { ...row, estimatedWaitSeconds: null };
  const estimatedWaitSeconds = position === 0 ? 0 : await estimateWait(db, { workspaceId, teamId, position });
  return { ...row, estimatedWaitSeconds };
}

/** In the same steps as routing/waiting-order.ts, so that rounding is the same: PostgreSQL's float8 is JavaScript's number. */
const effectivePriority = (row: string): string => `
  least(100, floor(${row}.priority + mine.aging
    * greatest(0, mine.now_ms - extract(epoch FROM ${row}.waiting_since)::float8 * 1000) / 60000))`;

const breachAtMs = (row: string, sla: string): string =>
  `extract(epoch FROM ${row}.waiting_since)::float8 * 1000 + coalesce(${sla}, mine.team_sla) * 1000`;

// Of those with the same target of their own, or none, the earlier breach is the longer wait. Where age and priority say the same there is nothing to
// calculate; only a younger one with the higher priority may have been overtaken.
const readQueuePositionSql = `
  WITH found AS MATERIALIZED (
    SELECT v.id, v.state, v.team_id, v.priority, v.waiting_since, v.sla_seconds::float8 AS sla, rules.team_sla,
           v.state = 'waiting' AND v.close_requested_at IS NULL AS waits, v.offered_agent_id IS NOT NULL AS is_offered,
           -- So little makes no point in a century, but PostgreSQL fails where a product underflows.
           CASE WHEN rules.aging < 1e-9 THEN 0 ELSE rules.aging END AS aging,
           extract(epoch FROM now())::float8 * 1000 AS now_ms
    FROM conversations v
    LEFT JOIN teams t ON t.workspace_id = v.workspace_id AND t.id = v.team_id
    CROSS JOIN LATERAL (SELECT coalesce((t.settings ->> 'agingPointsPerMinute')::float8, $3::float8) AS aging,
                               coalesce((t.settings ->> 'slaSeconds')::float8, $4::float8, $5::float8) AS team_sla) rules
    WHERE v.workspace_id = $1 AND v.id = $2
  ), mine AS MATERIALIZED (
    SELECT *, ${effectivePriority('mine')} AS effective, ${breachAtMs('mine', 'mine.sla')} AS breach_at_ms
    FROM found AS mine WHERE waits AND NOT is_offered
  )
  SELECT found.state, found.team_id AS "teamId",
         CASE WHEN found.waits THEN ${secondsSince('found.waiting_since')} END AS "waitedSeconds",
         CASE WHEN found.waits AND found.is_offered THEN 0
              WHEN found.waits THEN (
                SELECT count(*)::int FROM mine JOIN conversations v
                  ON v.workspace_id = $1 AND v.team_id = mine.team_id AND ${isQueued('v')}
                WHERE CASE
                  WHEN ${slaInQueueSql('v')} IS DISTINCT FROM mine.sla THEN
                    ${effectivePriority('v')} > mine.effective
                    OR ${effectivePriority('v')} = mine.effective
                       AND (${breachAtMs('v', slaInQueueSql('v'))}, v.waiting_since, v.id)
                         < (mine.breach_at_ms, mine.waiting_since, mine.id)
                  WHEN v.priority >= mine.priority AND (v.waiting_since, v.id) <= (mine.waiting_since, mine.id) THEN true
                  WHEN v.priority <= mine.priority AND (v.waiting_since, v.id) > (mine.waiting_since, mine.id) THEN false
                  WHEN v.waiting_since < mine.waiting_since OR (v.waiting_since = mine.waiting_since AND v.id < mine.id)
                    THEN ${effectivePriority('v')} >= mine.effective
                  ELSE ${effectivePriority('v')} > mine.effective
                END)
         END AS position
  FROM found`;

/** How long what the team took from its queue lately is looked back on. */
export const estimateWindowSeconds = 900;

async function estimateWait(
  db: Queryable,
  { workspaceId, teamId, position }: { workspaceId: string; teamId: string; position: number },
): Promise<number | null> {
  const { rows } = await db.query<{ started: number }>({
    name: 'count-started-lately',
    text: countStartedSql,
    values: [workspaceId, teamId, estimateWindowSeconds],
  });
  return estimateWaitSeconds({ position, startedInWindow: rows[0]!.started, windowSeconds: estimateWindowSeconds });
}

// No index is by the time of assignment: each assignment would have to write it, for a number that is read rarely. Instead the newest
// conversations are looked at of each member who got one lately. An id tells when a conversation was opened, so the day before bounds how
// far back; the limit is an assignment every 4.5 seconds for one agent.
const countStartedSql = `
  SELECT count(*)::int AS started
  FROM team_members m
  JOIN agents a ON a.workspace_id = $1 AND a.id = m.agent_id AND a.last_assigned_at > now() - $3 * interval '1 s'
  CROSS JOIN LATERAL (
    SELECT v.team_id, v.assigned_at FROM conversations v
    WHERE v.workspace_id = $1 AND v.agent_id = m.agent_id
      AND v.id >= (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - 86400000), 12, '0') || repeat('0', 20))::uuid
    ORDER BY v.id DESC LIMIT 200
  ) lately
  WHERE m.workspace_id = $1 AND m.team_id = $2
    AND lately.team_id = $2 AND lately.assigned_at > now() - $3 * interval '1 s'`;
