/** What the leased worker looks at: conversations and contacts that stand still though they should not, and the numbers for the gauges. */
import type { Queryable } from './database.ts';
import type { ContactKey } from './locks.ts';
import type { OutboxEntry } from './outbox.ts';
import { defaultTeamSettings } from '../routing/team-rules.ts';
import { slaInQueueSql } from './queue-key.ts';
import { countWaitingSql, limitsSql } from './queue-views.ts';

export type StallKind = 'pending' | 'flow' | 'close';

/**
 * Contacts whose actor should have done something `afterMs` ago and has not, longest first: messages without a conversation, a flow
 * that does not go on, a close not carried out. In health there are none. What still waits in the outbox is not the actor's fault
 * and is left out.
 */
export async function readStalled(
  db: Queryable,
  { afterMs, maxRows }: { afterMs: number; maxRows: number },
): Promise<(OutboxEntry & { kind: StallKind })[]> {
  const { rows } = await db.query<OutboxEntry & { kind: StallKind }>({
    name: 'read-stalled',
    text: `SELECT workspace_id AS "workspaceId", contact_id AS "contactId",
                  close_conversation_id AS "closeConversationId", kind
           FROM (
             SELECT m.workspace_id, m.contact_id, NULL::uuid AS close_conversation_id, 'pending' AS kind,
                    min(m.received_at) AS since
             FROM messages m
             JOIN contacts c ON c.workspace_id = m.workspace_id AND c.id = m.contact_id
             WHERE m.conversation_id IS NULL AND c.open_conversation_id IS NULL
               AND m.received_at < now() - $1 * interval '1 ms'
             GROUP BY m.workspace_id, m.contact_id
             UNION ALL
             SELECT v.workspace_id, v.contact_id, CASE WHEN v.close_requested_at IS NOT NULL THEN v.id END,
                    CASE WHEN v.close_requested_at IS NOT NULL THEN 'close' ELSE 'flow' END, v.progressed_at
             FROM conversations v
             LEFT JOIN flow_versions f ON f.workspace_id = v.workspace_id AND f.id = v.flow_version_id
             WHERE (v.state IN ('enriching', 'routing') OR (v.close_requested_at IS NOT NULL AND v.closed_at IS NULL))
               AND v.progressed_at < now() - $1 * interval '1 ms'
               -- Other systems may take their time, up to the limit of the activity with all its attempts.
               AND NOT (v.state = 'enriching' AND v.close_requested_at IS NULL AND f.uses_network
                        AND v.progressed_at > now() - interval '4 min')
           ) stalled
           WHERE NOT EXISTS (SELECT FROM outbox o
                             WHERE o.workspace_id = stalled.workspace_id AND o.contact_id = stalled.contact_id
                               AND o.wake_conversation_id IS NULL)
           ORDER BY since LIMIT $2`,
    values: [afterMs, maxRows],
  });
  return rows;
}

export interface SystemGauges {
  readonly outboxDepth: number;
  readonly outboxOldestSeconds: number;
  readonly deliveriesByState: Readonly<Record<string, number>>;
  /** How long the oldest that is not given up has waited. */
  readonly deliveriesOldestSeconds: number;
  readonly conversationsByState: Readonly<Record<string, number>>;
  readonly agentsByPresence: Readonly<Record<string, number>>;
  readonly freeCapacityUnits: number;
  /**
   * Of those that hold something up: whoever has a snapshot here keeps dead rows alive, and whoever has written, in whatever database of
   * the server and even if idle since, holds the event feed back. Only users that may read all statistics see the age of others' transactions.
   */
  readonly oldestTransactionSeconds: number;
}

/** How long the oldest nudge has waited. Wakes, which need no actor, are left out: one that fails for ever says nothing about the nudges. */
export async function readOldestNudgeMs(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ ms: number }>({
    name: 'read-oldest-nudge',
    text: `SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 * 1000 AS ms
           FROM outbox WHERE wake_conversation_id IS NULL`,
  });
  return rows[0]!.ms;
}

/** Over all workspaces. Counts open conversations only, by an index of its own; closed ones have a counter. */
export async function readSystemGauges(db: Queryable): Promise<SystemGauges> {
  const { rows } = await db.query<SystemGauges>(`
    SELECT (SELECT count(*) FROM outbox) AS "outboxDepth",
           (SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 FROM outbox) AS "outboxOldestSeconds",
           (SELECT coalesce(jsonb_object_agg(state, count), '{}')
            FROM (VALUES ('pending'), ('failed')) states (state) CROSS JOIN LATERAL (
              SELECT count(*) FROM (SELECT FROM deliveries d WHERE d.state = states.state LIMIT 100000) first
            ) counted) AS "deliveriesByState",
           (SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8
            FROM deliveries WHERE state = 'pending') AS "deliveriesOldestSeconds",
           (SELECT coalesce(jsonb_object_agg(state, count), '{}')
            FROM (SELECT state, count(*) FROM conversations WHERE closed_at IS NULL GROUP BY state) s) AS "conversationsByState",
           (SELECT coalesce(jsonb_object_agg(status, count), '{}')
            FROM (SELECT status, count(*) FROM agent_presence GROUP BY status) p) AS "agentsByPresence",
           (SELECT coalesce(sum(greatest(a.capacity - a.load, 0)), 0)
            FROM agents a JOIN agent_presence p ON p.workspace_id = a.workspace_id AND p.agent_id = a.id
            WHERE p.status = 'online') AS "freeCapacityUnits",
           (SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float8
            FROM pg_stat_activity
            WHERE backend_xid IS NOT NULL OR (backend_xmin IS NOT NULL AND datname = current_database())) AS "oldestTransactionSeconds"`);
  return rows[0]!;
}

export interface WaitingGauges {
  readonly longestWaitSeconds: number;
  readonly slaBreached: number;
  readonly slaAtRisk: number;
  /** Null when there are more teams than are to be told one by one. */
  readonly teams: readonly TeamGauges[] | null;
}

export interface TeamGauges {
  readonly workspaceId: string;
  readonly teamId: string;
  readonly name: string;
  readonly waiting: number;
  readonly longestWaitSeconds: number;
  readonly slaBreached: number;
  readonly slaAtRisk: number;
}

/**
 * Over all that waits, offered or not, in all workspaces, by the target of each, its own or its team's. Two indexes hold exactly those rows, so
 * what is closed costs nothing; 50,000 are counted in tens of milliseconds.
 */
export async function readWaitingGauges(db: Queryable, { maxTeams }: { maxTeams: number }): Promise<WaitingGauges> {
  const { rows } = await db.query<WaitingGauges>({
    name: 'read-waiting-gauges',
    text: readWaitingGaugesSql,
    values: [maxTeams, defaultTeamSettings.slaSeconds],
  });
  return rows[0]!;
}

const readWaitingGaugesSql = `
  WITH rules AS MATERIALIZED (
    SELECT workspace_id, id, name, ${limitsSql("coalesce((settings ->> 'slaSeconds')::float8, $2::float8)")}
    FROM teams
  ), waiting AS MATERIALIZED (
    SELECT r.workspace_id, r.id, ${countWaitingSql({ since: 'v.waiting_since', sla: 'v.sla', team: 'r' })}
    FROM (
      SELECT workspace_id, team_id, waiting_since, ${slaInQueueSql('q')} AS sla FROM conversations q
      WHERE state = 'waiting' AND close_requested_at IS NULL AND offered_agent_id IS NULL
      UNION ALL
      SELECT workspace_id, team_id, waiting_since, sla_seconds::float8 FROM conversations
      WHERE state = 'waiting' AND close_requested_at IS NULL AND offered_agent_id IS NOT NULL
    ) v
    JOIN rules r ON r.workspace_id = v.workspace_id AND r.id = v.team_id
    GROUP BY r.workspace_id, r.id
  )
  SELECT coalesce(extract(epoch FROM now() - min(oldest)), 0)::float8 AS "longestWaitSeconds",
         coalesce(sum(breached), 0)::int AS "slaBreached", coalesce(sum(at_risk), 0)::int AS "slaAtRisk",
         CASE WHEN $1 > 0 AND (SELECT count(*) FROM rules) <= $1 THEN (
           SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'workspaceId', r.workspace_id, 'teamId', r.id, 'name', r.name, 'waiting', coalesce(w.depth, 0),
                    'longestWaitSeconds', coalesce(extract(epoch FROM now() - w.oldest), 0),
                    'slaBreached', coalesce(w.breached, 0), 'slaAtRisk', coalesce(w.at_risk, 0))), '[]')
           FROM rules r LEFT JOIN waiting w ON w.workspace_id = r.workspace_id AND w.id = r.id
         ) END AS teams
  FROM waiting`;

/** Of these contacts, the ones with nothing open, nothing pending, and no message for `idleMs`: their actors may end. */
export async function readIdleContacts(
  db: Queryable,
  { contacts, idleMs }: { contacts: readonly ContactKey[]; idleMs: number },
): Promise<ContactKey[]> {
  const { rows } = await db.query<ContactKey>({
    name: 'read-idle-contacts',
    text: `SELECT c.workspace_id AS "workspaceId", c.id AS "contactId"
           FROM unnest($1::uuid[], $2::uuid[]) AS i (workspace_id, id)
           JOIN contacts c USING (workspace_id, id)
           WHERE c.open_conversation_id IS NULL
             AND NOT EXISTS (SELECT FROM messages m
                             WHERE m.workspace_id = c.workspace_id AND m.contact_id = c.id
                               AND (m.conversation_id IS NULL OR m.received_at > now() - $3 * interval '1 ms'))`,
    values: [contacts.map((contact) => contact.workspaceId), contacts.map((contact) => contact.contactId), idleMs],
  });
  return rows;
}
