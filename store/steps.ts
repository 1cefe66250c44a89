/**
 * The steps of a flow. Each reads unlocked, decides by the pure core, and writes under the condition that the conversation is
 * still as it was read: same state, same version, no close requested. A step that finds otherwise was repeated after it
 * committed, or a person acted first; it changes nothing.
 */
import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { joinMessageText, type Fields, type RoutingFacts } from '../routing/facts.ts';
import type { FlowDocument } from '../routing/flow-document.ts';
import type { Source } from '../routing/conversation.ts';
import { noRequirements } from '../routing/requirements.ts';
import { decideRoute } from '../routing/route.ts';
import { recordDecision } from './decisions.ts';
import type { ConversationKey } from './locks.ts';
import { transact, type Queryable } from './database.ts';
import { recordEvents } from './events.ts';
import { readFlowVersion } from './flow-choice.ts';
import { readDefaultTeam } from './teams.ts';

export interface FlowStepInput {
  readonly version: number;
  readonly flow: FlowDocument;
  readonly flowVersionId: string;
  readonly flowVersionNumber: number;
  readonly facts: RoutingFacts;
}

/** What a step needs; null when the conversation is not in this state any more, or is being closed. */
export async function readStepInput(
  db: Queryable,
  key: ConversationKey,
  state: 'enriching' | 'routing',
): Promise<FlowStepInput | null> {
  const { rows } = await db.query<StepRow>({
    name: 'read-step-input',
    text: `SELECT v.version, v.source, v.priority, v.fields, v.flow_version_id, c.name, c.attributes,
                  first.texts, ch.key AS channel_key, ch.name AS channel_name
           FROM conversations v
           JOIN contacts c ON c.workspace_id = v.workspace_id AND c.id = v.contact_id
           CROSS JOIN LATERAL (
             SELECT array_agg(m.text ORDER BY m.sequence) AS texts, (array_agg(m.channel_id ORDER BY m.sequence))[1] AS channel_id
             FROM (SELECT text, sequence, channel_id FROM messages
                   WHERE workspace_id = v.workspace_id AND conversation_id = v.id AND direction = 'inbound'
                   ORDER BY sequence LIMIT 10) m
           ) first
           LEFT JOIN channels ch ON ch.workspace_id = v.workspace_id AND ch.id = first.channel_id
           WHERE v.workspace_id = $1 AND v.id = $2 AND v.state = $3 AND v.routed_at IS NULL
             AND v.close_requested_at IS NULL`,
    values: [key.workspaceId, key.conversationId, state],
  });
  const row = rows[0];
  if (row === undefined || row.flow_version_id === null) return null;
  const flowVersion = await readFlowVersion(db, key.workspaceId, row.flow_version_id);
  return {
    version: row.version,
    flow: flowVersion.document,
    flowVersionId: flowVersion.id,
    flowVersionNumber: flowVersion.number,
    facts: {
      conversation: { source: row.source, priority: row.priority },
      contact: { id: key.contactId, name: row.name, attributes: row.attributes },
      channel: { key: row.channel_key ?? '', name: row.channel_name ?? '' },
      message: { text: joinMessageText(row.texts ?? []) },
      fields: row.fields,
    },
  };
}

interface StepRow {
  version: number;
  source: Source;
  priority: number;
  fields: Fields;
  flow_version_id: string | null;
  name: string | null;
  attributes: Record<string, unknown>;
  texts: (string | null)[] | null;
  channel_key: string | null;
  channel_name: string | null;
}

/** @returns false when it was superseded */
export async function writeEnrichment(
  db: Queryable,
  key: ConversationKey,
  { version, fields, failures }: { version: number; fields: Fields; failures: readonly string[] },
): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'write-enrichment',
    text: `WITH enriched AS (
             UPDATE conversations SET state = 'routing', fields = $4, version = version + 1, progressed_at = now()
             WHERE workspace_id = $1 AND id = $2 AND version = $3 AND state = 'enriching' AND close_requested_at IS NULL
             RETURNING contact_id
           ), decided AS (
             INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
             SELECT $1, $5, $2, 'enrichment', $6 FROM enriched
           )
           INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
           SELECT $1, 'conversation.enriched', $2, contact_id, jsonb_build_object('failures', $7::int) FROM enriched`,
    values: [
      key.workspaceId,
      key.conversationId,
      version,
      JSON.stringify(fields),
      newId(),
      JSON.stringify({ fields, failures }),
      failures.length,
    ],
  });
  return rowCount === 1;
}

/** Decides team, priority and what is asked of an agent by the flow's branches. @returns false when it was superseded */
export async function routeByFlow(pool: pg.Pool, key: ConversationKey): Promise<boolean> {
  const beganAt = performance.now();
  const input = await readStepInput(pool, key, 'routing');
  if (input === null) return false;
  const { flowVersionId, flowVersionNumber } = input;
  const decision = decideRoute(input.flow, input.facts);
  const tookMs = Math.round((performance.now() - beganAt) * 100) / 100;
  const { rowCount } = await pool.query({
    name: 'write-route',
    text: `WITH routed AS (
             UPDATE conversations
             SET team_id = $4, priority = $5, requirements = $9, routed_at = now(), version = version + 1, progressed_at = now()
             WHERE workspace_id = $1 AND id = $2 AND version = $3 AND state = 'routing' AND routed_at IS NULL
               AND close_requested_at IS NULL
             RETURNING contact_id
           ), decided AS (
             INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
             SELECT $1, $6, $2, 'routing', $7 FROM routed
           )
           INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
           SELECT $1, 'conversation.routed', $2, contact_id, jsonb_build_object('teamId', $4::uuid, 'branch', $8::text)
           FROM routed`,
    values: [
      key.workspaceId,
      key.conversationId,
      input.version,
      decision.teamId,
      decision.priority,
      newId(),
      JSON.stringify({ flowVersionId, flowVersionNumber, ...decision, tookMs }),
      decision.branch,
      JSON.stringify(decision.requirements),
    ],
  });
  return rowCount === 1;
}

/**
 * The flow failed: the conversation counts as routed to the default team, asks for nothing, is marked with the reason, and goes on to
 * assignment.
 * @returns false when it was superseded
 */
export function fallBack(pool: pg.Pool, key: ConversationKey, reason: string): Promise<boolean> {
  return transact(pool, async (tx) => {
    const teamId = await readDefaultTeam(tx, key.workspaceId);
    const { rows } = await tx.query<{ flowVersionId: string | null; flowVersionNumber: number | null }>({
      name: 'fall-back',
      text: `UPDATE conversations AS v
             SET state = 'routing', team_id = $3, requirements = $5, routed_at = now(), fallback_reason = $4,
                 version = version + 1, progressed_at = now()
             WHERE workspace_id = $1 AND id = $2 AND state IN ('enriching', 'routing') AND routed_at IS NULL
               AND close_requested_at IS NULL
             RETURNING flow_version_id AS "flowVersionId",
               (SELECT number FROM flow_versions f
                WHERE f.workspace_id = v.workspace_id AND f.id = v.flow_version_id) AS "flowVersionNumber"`,
      values: [key.workspaceId, key.conversationId, teamId, reason, JSON.stringify(noRequirements)],
    });
    if (rows[0] === undefined) return false;
    await recordDecision(tx, key, 'routing', { ...rows[0], teamId, branch: null, reason });
    await recordEvents(tx, key.workspaceId, [
      {
        type: 'conversation.fell_back',
        conversationId: key.conversationId,
        contactId: key.contactId,
        data: { teamId, reason },
      },
    ]);
    return true;
  });
}
