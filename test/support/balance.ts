/** I3 and I7 as rows show them, for a workspace in which nothing moves while they are read. */
import type { Queryable } from '../../platform/pool.ts';
import { nextClock } from '../../routing/clocks.ts';
import { matchWaiting, type AgentCandidate, type WaitingConversation } from '../../routing/matching.ts';
import { skillsAfter, type Requirements } from '../../routing/requirements.ts';
import { defaultTeamSettings, type TeamRules } from '../../routing/team-rules.ts';
import { queueKeyOf } from '../../store/queue-key.ts';

/** I3: agents whose load, in all or on a channel, is not what they hold: assigned and not quiet, or offered to them. */
export async function findWrongLoads(db: Queryable, workspaceId: string): Promise<string[]> {
  const { rows } = await db.query<{ what: string }>(
    `SELECT a.id || ' load ' || a.load || ', holds ' || coalesce(sum(v.units), 0) || '; on channels ' || a.channel_loads AS what
     FROM agents a
     LEFT JOIN conversations v ON v.workspace_id = a.workspace_id AND v.closed_at IS NULL
       AND (v.offered_agent_id = a.id OR (v.agent_id = a.id AND v.quiet_since IS NULL))
     WHERE a.workspace_id = $1
     GROUP BY a.id, a.load, a.channel_loads
     HAVING a.load <> coalesce(sum(v.units), 0)
         OR coalesce((SELECT sum(value::int) FROM jsonb_each_text(a.channel_loads)), 0) <> count(v.channel)
         OR EXISTS (SELECT FROM jsonb_each_text(a.channel_loads) AS l (channel, count)
                    WHERE l.count::int <> (SELECT count(*) FROM conversations w
                                           WHERE w.workspace_id = $1 AND w.closed_at IS NULL AND w.channel = l.channel
                                             AND (w.offered_agent_id = a.id OR (w.agent_id = a.id AND w.quiet_since IS NULL))))`,
    [workspaceId],
  );
  return rows.map(({ what }) => what);
}

/** I7: whom the pure core would give to somebody right now. It decides from all agents and all who wait, by no index and no grouping. */
export async function findNeedlessWaits(db: Queryable, workspaceId: string): Promise<string[]> {
  const { rows: waiting } = await db.query<
    Omit<WaitingConversation, 'skills'> & { requirements: Requirements; ring: number }
  >(
    `SELECT id AS "conversationId", team_id AS "teamId", priority, sla_seconds AS "slaSeconds", units, channel, requirements, ring,
            preferred_agent_id AS "preferredAgentId", awaited_agent_id AS "awaitedAgentId", passed_over AS "passedOver",
            id::text AS "queueKey", extract(epoch FROM waiting_since)::float8 * 1000 AS "waitingSinceMs"
     FROM conversations
     WHERE workspace_id = $1 AND state = 'waiting' AND close_requested_at IS NULL AND offered_agent_id IS NULL`,
    [workspaceId],
  );
  const { rows: agents } = await db.query<AgentCandidate>(
    `SELECT a.id AS "agentId", a.capacity, a.load, a.skills, a.channel_limits AS "channelLimits",
            a.channel_loads AS "channelLoads", p.status AS presence, 0 AS "idleSinceMs",
            ARRAY(SELECT m.team_id FROM team_members m WHERE m.workspace_id = a.workspace_id AND m.agent_id = a.id) AS "teamIds"
     FROM agents a JOIN agent_presence p ON p.workspace_id = a.workspace_id AND p.agent_id = a.id
     WHERE a.workspace_id = $1`,
    [workspaceId],
  );
  const { rows: teams } = await db.query<TeamRules & { settings: Partial<TeamRules> }>(
    `SELECT id AS "teamId", strategy, last_agent_id AS "lastAgentId", settings FROM teams WHERE workspace_id = $1`,
    [workspaceId],
  );
  const matches = matchWaiting({
    nowMs: Date.now(),
    waiting: waiting.map(({ requirements, ring, ...row }) => ({ ...row, skills: skillsAfter(requirements, ring) })),
    teams: teams.map(({ settings, ...team }) => ({ ...defaultTeamSettings, ...settings, ...team })),
    agents,
  });
  return matches
    .filter((match) => match.agentId !== null)
    .map(({ conversationId, agentId }) => `${conversationId} waits, though ${agentId} may take it and has room`);
}

/** Waiting conversations that the index or the clocks would miss: filed, or due, otherwise than their facts say. */
export async function findMisfiled(db: Queryable, workspaceId: string): Promise<string[]> {
  const { rows } = await db.query<WaitingRow>(
    `SELECT id, queue_key AS "queueKey", sla_seconds AS "slaSeconds", units, channel, requirements, ring, passed_over AS "passedOver",
            due_kind AS "dueKind", extract(epoch FROM due_at)::float8 * 1000 AS "dueAtMs",
            extract(epoch FROM queued_at)::float8 * 1000 AS "queuedAtMs",
            extract(epoch FROM awaited_until)::float8 * 1000 AS "awaitedUntilMs",
            extract(epoch FROM offer_expires_at)::float8 * 1000 AS "offerExpiresAtMs"
     FROM conversations WHERE workspace_id = $1 AND state = 'waiting' AND close_requested_at IS NULL`,
    [workspaceId],
  );
  return rows.flatMap(({ id, queueKey, dueKind, dueAtMs, ...row }) => {
    const found: string[] = [];
    // While it is offered it stands in no queue.
    const key = queueKeyOf({ ...row, skills: skillsAfter(row.requirements, row.ring) });
    if (row.offerExpiresAtMs === null && queueKey !== key) found.push(`${id} is filed under ${queueKey}, asks ${key}`);
    const clock = nextClock({ state: 'waiting', ...row }, { team: defaultTeamSettings, inactivityMinutes: null });
    const isTimed = clock === null ? dueKind === null : dueKind === clock.kind && Math.abs(dueAtMs! - clock.atMs) < 1;
    if (!isTimed) found.push(`${id} is due ${dueKind} at ${dueAtMs}, its facts say ${clock?.kind} at ${clock?.atMs}`);
    return found;
  });
}

interface WaitingRow {
  readonly id: string;
  readonly queueKey: string;
  readonly slaSeconds: number | null;
  readonly units: number;
  readonly channel: string | null;
  readonly requirements: Requirements;
  readonly ring: number;
  readonly passedOver: readonly string[];
  readonly dueKind: string | null;
  readonly dueAtMs: number | null;
  readonly queuedAtMs: number;
  readonly awaitedUntilMs: number | null;
  readonly offerExpiresAtMs: number | null;
}
