/** Conversations, their threads and the decisions about them, as they are read. Each change has a module of its own. */
import type { ConversationState } from '../routing/conversation.ts';
import type { FieldSources } from '../routing/flow-progress.ts';
import type { Requirements } from '../routing/requirements.ts';
import { defaultTeamSettings } from '../routing/team-rules.ts';
import { effectivePriority } from '../routing/waiting-order.ts';
import type { Queryable } from './database.ts';

export interface ConversationRow {
  readonly id: string;
  readonly contactId: string;
  readonly state: ConversationState;
  readonly source: 'contact' | 'user' | 'api';
  /** Key of the channel it began on. */
  readonly channel: string | null;
  /** What it takes of an agent's capacity. */
  readonly units: number;
  readonly priority: number;
  /** The wait that its flow's branch aims at; null: that of its team counts. */
  readonly slaSeconds: number | null;
  /** As grown by the time it has waited, at the time of reading; null unless it waits. */
  readonly effectivePriority: number | null;
  readonly requirements: Requirements;
  /** How many of the rings it has passed. */
  readonly ring: number;
  readonly teamId: string | null;
  readonly agentId: string | null;
  readonly flowVersionId: string | null;
  readonly fields: Record<string, unknown>;
  /** Where each of them comes from. */
  readonly fieldSources: FieldSources;
  /** The question of its flow that waits for the contact's answer. */
  readonly asking: Asking | null;
  readonly fallbackReason: string | null;
  readonly forced: boolean;
  readonly openedAt: Date;
  readonly routedAt: Date | null;
  readonly waitingSince: Date | null;
  readonly preferredAgentId: string | null;
  readonly offeredAgentId: string | null;
  readonly offerExpiresAt: Date | null;
  readonly quietSince: Date | null;
  readonly assignedAt: Date | null;
  readonly closeRequestedAt: Date | null;
  readonly closeCategory: string | null;
  readonly closeSummary: string | null;
  readonly closeReason: string | null;
  readonly closedAt: Date | null;
}

/** A question that waits for its answer. */
interface Asking {
  /** Position of the `ask` step, from 0. */
  readonly step: number;
  /** Which of its questions, from 1. */
  readonly question: number;
  readonly until: Date;
}

export interface DecisionRow {
  readonly id: string;
  readonly kind: 'enrichment' | 'routing' | 'assignment';
  readonly detail: Record<string, unknown>;
  readonly at: Date;
}

export interface ConversationFilter {
  readonly state?: ConversationState;
  readonly contactId?: string;
  readonly teamId?: string;
  readonly agentId?: string;
}

interface ConversationKey {
  readonly workspaceId: string;
  readonly conversationId: string;
}

export async function getConversation(
  db: Queryable,
  { workspaceId, conversationId }: ConversationKey,
): Promise<ConversationRow | null> {
  const { rows } = await db.query<StoredConversation>({
    name: 'get-conversation',
    text: `${selectConversationSql} AND id = $2`,
    values: [workspaceId, conversationId],
  });
  return rows[0] === undefined ? null : toConversationRow(rows[0]);
}

/** Newest first; `after` is the id of the last one of the page before. */
export async function listConversations(
  db: Queryable,
  options: { workspaceId: string; filter: ConversationFilter; after: string | null; limit: number },
): Promise<ConversationRow[]> {
  const { workspaceId, filter, after, limit } = options;
  const values: unknown[] = [workspaceId, limit];
  const conditions: string[] = [];
  // One statement for each set of filters: each then has a plan of its own, on the index that fits it.
  const names = ['list-conversations'];
  const addCondition = (name: string, condition: (place: string) => string, value: unknown): void => {
    values.push(value);
    names.push(name);
    conditions.push(`AND ${condition(`$${values.length}`)}`);
  };
  if (filter.state !== undefined) {
    const open = filter.state !== 'closed';
    // The second half says nothing new; it lets the planner use the index over open conversations.
    const half = open ? 'closed_at IS NULL' : 'closed_at IS NOT NULL';
    addCondition(open ? 'open-state' : 'closed', (place) => `state = ${place} AND ${half}`, filter.state);
  }
  if (filter.contactId !== undefined) addCondition('contact', (place) => `contact_id = ${place}`, filter.contactId);
  if (filter.teamId !== undefined) addCondition('team', (place) => `team_id = ${place}`, filter.teamId);
  if (filter.agentId !== undefined) addCondition('agent', (place) => `agent_id = ${place}`, filter.agentId);
  if (after !== null) addCondition('after', (place) => `id < ${place}`, after);
  const { rows } = await db.query<StoredConversation>({
    name: names.join('-'),
    text: `${selectConversationSql} ${conditions.join(' ')} ORDER BY id DESC LIMIT $2`,
    values,
  });
  return rows.map(toConversationRow);
}

/** In the order in which they were made; those of a flow tell its name too. */
export async function listDecisions(
  db: Queryable,
  options: ConversationKey & { after: string | null; limit: number },
): Promise<DecisionRow[]> {
  const { workspaceId, conversationId, after, limit } = options;
  const { rows } = await db.query<DecisionRow>({
    name: after === null ? 'list-decisions' : 'list-decisions-after',
    text: `
      SELECT d.id, d.kind, d.at, CASE WHEN d.kind = 'routing' THEN d.detail || ${flowNameSql} ELSE d.detail END AS detail
      FROM decisions d
      WHERE d.workspace_id = $1 AND d.conversation_id = $2 ${after === null ? '' : 'AND d.id > $4'}
      ORDER BY d.id LIMIT $3`,
    values: [workspaceId, conversationId, limit, ...(after === null ? [] : [after])],
  });
  return rows;
}

/** As it is called now: the decision holds the version, which has no name. Nothing where no flow decided. */
const flowNameSql = `coalesce((
        SELECT jsonb_build_object('flowName', f.name)
        FROM flow_versions v JOIN flows f ON f.workspace_id = v.workspace_id AND f.id = v.flow_id
        WHERE v.workspace_id = d.workspace_id AND v.id = (d.detail ->> 'flowVersionId')::uuid
      ), '{}')`;

export interface StoredConversation extends Omit<ConversationRow, 'effectivePriority' | 'asking'> {
  readonly flowStep: number;
  readonly questionCount: number;
  /** Null where no question waits. */
  readonly answerUntil: Date | null;
  readonly nowMs: number;
  /** Null where the team never set it. */
  readonly agingPointsPerMinute: number | null;
}

export function toConversationRow(stored: StoredConversation): ConversationRow {
  const { nowMs, agingPointsPerMinute: slope, flowStep, questionCount, answerUntil, ...rest } = stored;
  const asking = answerUntil === null ? null : { step: flowStep, question: questionCount, until: answerUntil };
  const row = { ...rest, asking };
  if (row.state !== 'waiting') return { ...row, effectivePriority: null };
  const { priority, waitingSince } = row;
  const agingPointsPerMinute = slope ?? defaultTeamSettings.agingPointsPerMinute;
  const waiting = { priority, waitingSinceMs: waitingSince!.getTime() };
  return { ...row, effectivePriority: effectivePriority(waiting, { agingPointsPerMinute }, nowMs) };
}

// The slope comes by a query within the row, so that the filters above need no names of tables.
export const storedColumns = `
    id, contact_id AS "contactId", state, source, channel, units, priority, sla_seconds AS "slaSeconds",
    CASE WHEN state = 'waiting' THEN (
      SELECT (t.settings ->> 'agingPointsPerMinute')::float8 FROM teams t
      WHERE t.workspace_id = conversations.workspace_id AND t.id = conversations.team_id
    ) END AS "agingPointsPerMinute", extract(epoch FROM now())::float8 * 1000 AS "nowMs", requirements, ring, team_id AS "teamId", agent_id AS "agentId",
    flow_version_id AS "flowVersionId", fields, field_sources AS "fieldSources", flow_step AS "flowStep",
    question_count AS "questionCount", CASE WHEN state = 'enriching' AND awaiting_after_sequence IS NOT NULL THEN answer_until END AS "answerUntil",
    fallback_reason AS "fallbackReason", forced, opened_at AS "openedAt",
    routed_at AS "routedAt", waiting_since AS "waitingSince", preferred_agent_id AS "preferredAgentId",
    offered_agent_id AS "offeredAgentId", offer_expires_at AS "offerExpiresAt", quiet_since AS "quietSince",
    assigned_at AS "assignedAt", close_requested_at AS "closeRequestedAt", close_category AS "closeCategory",
    close_summary AS "closeSummary", close_reason AS "closeReason", closed_at AS "closedAt"`;

const selectConversationSql = `SELECT ${storedColumns} FROM conversations WHERE workspace_id = $1`;
