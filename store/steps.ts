/**
 * The steps of a flow, for many conversations at once. Each reads unlocked, decides by the pure core, and writes under the condition that
 * the conversation is still as it was read: same state, same version, no close requested. A step that finds otherwise was repeated
 * after it committed, or a person acted first; it changes nothing.
 *
 * A write is one statement and needs no transaction around it. It locks its conversations by id; of several it passes over those that
 * somebody else holds, so that nobody waits for another's: the caller finds such a one unchanged and tries it again alone.
 */
import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { joinMessageText, type Fields } from '../routing/facts.ts';
import type { Source } from '../routing/conversation.ts';
import { noRequirements } from '../routing/requirements.ts';
import { decideRoute } from '../routing/route.ts';
import type { ConversationKey } from './locks.ts';
import { runStatement, type Queryable } from './database.ts';
import { readFlowVersions } from './flow-choice.ts';
import { handOnInput, takeInput, type FlowStepInput } from './step-inputs.ts';

/** What a step needs; null when the conversation is not in this state any more, or is being closed. */
export async function readStepInput(
  db: Queryable,
  key: ConversationKey,
  state: 'enriching' | 'routing',
): Promise<FlowStepInput | null> {
  const [input] = await readStepInputs(db, [key], state);
  return input!;
}

/** The same for many, in their order. What the step before has handed on is not read; its write finds out whether that is still true. */
export async function readStepInputs(
  db: Queryable,
  keys: readonly ConversationKey[],
  state: 'enriching' | 'routing',
): Promise<(FlowStepInput | null)[]> {
  const inputs: (FlowStepInput | null)[] = keys.map(({ conversationId }) => takeInput(conversationId, state) ?? null);
  const places = [...keys.keys()].filter((place) => inputs[place] === null);
  if (places.length === 0) return inputs;
  const { rows } = await db.query<StepRow>({
    name: 'read-step-inputs',
    text: readStepInputsSql,
    values: [
      places.map((place) => keys[place]!.workspaceId),
      places.map((place) => keys[place]!.conversationId),
      places,
      state,
    ],
  });
  const versionKeys = rows.map(({ workspaceId, flowVersionId: versionId }) => ({ workspaceId, versionId }));
  const versions = await readFlowVersions(db, versionKeys);
  for (const row of rows) {
    const { id: flowVersionId, number: flowVersionNumber, document: flow } = versions.get(row.flowVersionId)!;
    inputs[row.place] = {
      version: row.version,
      flow,
      flowVersionId,
      flowVersionNumber,
      facts: {
        conversation: { source: row.source, priority: row.priority },
        contact: { id: keys[row.place]!.contactId, name: row.name, attributes: row.attributes },
        channel: { key: row.channelKey ?? '', name: row.channelName ?? '' },
        message: { text: joinMessageText(row.texts ?? []) },
        fields: row.fields,
      },
    };
  }
  return inputs;
}

const readStepInputsSql = `
  SELECT asked.place, v.workspace_id AS "workspaceId", v.version, v.source, v.priority, v.fields,
         v.flow_version_id AS "flowVersionId", c.name, c.attributes, first.texts,
         ch.key AS "channelKey", ch.name AS "channelName"
  FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS asked (workspace_id, id, place)
  JOIN conversations v ON v.workspace_id = asked.workspace_id AND v.id = asked.id
  JOIN contacts c ON c.workspace_id = v.workspace_id AND c.id = v.contact_id
  CROSS JOIN LATERAL (
    SELECT array_agg(m.text ORDER BY m.sequence) AS texts, (array_agg(m.channel_id ORDER BY m.sequence))[1] AS channel_id
    FROM (SELECT text, sequence, channel_id FROM messages
          WHERE workspace_id = v.workspace_id AND conversation_id = v.id AND direction = 'inbound'
          ORDER BY sequence LIMIT 10) m
  ) first
  LEFT JOIN channels ch ON ch.workspace_id = v.workspace_id AND ch.id = first.channel_id
  WHERE v.state = $4 AND v.routed_at IS NULL AND v.close_requested_at IS NULL AND v.flow_version_id IS NOT NULL`;

interface StepRow {
  place: number;
  workspaceId: string;
  version: number;
  source: Source;
  priority: number;
  fields: Fields;
  flowVersionId: string;
  name: string | null;
  attributes: Record<string, unknown>;
  texts: (string | null)[] | null;
  channelKey: string | null;
  channelName: string | null;
}

export interface Enrichment {
  /** Of the conversation as it was read. */
  readonly version: number;
  readonly fields: Fields;
  readonly failures: readonly string[];
}

/** @returns false when it was superseded */
export async function writeEnrichment(pool: pg.Pool, key: ConversationKey, enrichment: Enrichment): Promise<boolean> {
  const [written] = await writeEnrichments(pool, [{ key, ...enrichment }]);
  return written!;
}

/**
 * The same for many; false also for one that somebody else held.
 * @param enrichments with `input`, where the caller has it, so that routing need not read it again
 */
export async function writeEnrichments(
  pool: pg.Pool,
  enrichments: readonly (Enrichment & { readonly key: ConversationKey; readonly input?: FlowStepInput })[],
): Promise<boolean[]> {
  if (enrichments.length === 0) return [];
  const isSet = enrichments.length > 1;
  const { rows } = await runStatement<{ id: string }>(pool, {
    name: isSet ? 'write-enrichments' : 'write-enrichment',
    text: isSet ? writeEnrichmentsSql : writeEnrichmentSql,
    values: [
      enrichments.map(({ key }) => key.workspaceId),
      enrichments.map(({ key }) => key.conversationId),
      enrichments.map(({ version }) => version),
      enrichments.map(({ fields }) => JSON.stringify(fields)),
      enrichments.map(() => newId()),
      enrichments.map(({ fields, failures }) => JSON.stringify({ fields, failures })),
      enrichments.map(({ failures }) => failures.length),
    ],
  });
  const written = new Set(rows.map(({ id }) => id));
  return enrichments.map(({ key: { conversationId }, version, fields, input }) => {
    if (!written.has(conversationId)) return false;
    if (input !== undefined) {
      const next = { ...input, version: version + 1, facts: { ...input.facts, fields } };
      handOnInput(conversationId, { state: 'routing', input: next });
    }
    return true;
  });
}

const enrichSql = (locking: string): string => `
  WITH made AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::jsonb[], $5::uuid[], $6::jsonb[], $7::int[])
      AS made (workspace_id, id, version, fields, decision_id, decision, failures)
  ), held AS MATERIALIZED (
    SELECT made.* FROM made JOIN conversations v ON v.workspace_id = made.workspace_id AND v.id = made.id
    WHERE v.version = made.version AND v.state = 'enriching' AND v.close_requested_at IS NULL
    ORDER BY v.id FOR NO KEY UPDATE OF v ${locking}
  ), enriched AS (
    UPDATE conversations v
    SET state = 'routing', fields = held.fields, version = v.version + 1, progressed_at = now()
    FROM held WHERE v.workspace_id = held.workspace_id AND v.id = held.id
    RETURNING v.workspace_id, v.id, v.contact_id, held.decision_id, held.decision, held.failures
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
    SELECT workspace_id, decision_id, id, 'enrichment', decision FROM enriched
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT workspace_id, 'conversation.enriched', id, contact_id, jsonb_build_object('failures', failures) FROM enriched
  )
  SELECT id FROM enriched`;

const writeEnrichmentSql = enrichSql('');
const writeEnrichmentsSql = enrichSql('SKIP LOCKED');

/** Decides team, priority and what is asked of an agent by the flow's branches. @returns false when it was superseded */
export async function routeByFlow(pool: pg.Pool, key: ConversationKey): Promise<boolean> {
  const [teamId] = await routeByFlows(pool, [key]);
  return teamId !== null;
}

/** The same for many. @returns the teams; null where it was superseded, or somebody else held one of several */
export async function routeByFlows(pool: pg.Pool, keys: readonly ConversationKey[]): Promise<(string | null)[]> {
  const inputs = await readStepInputs(pool, keys, 'routing');
  const routes = keys.flatMap((key, place) => {
    const input = inputs[place]!;
    return input === null ? [] : [{ key, ...decide(input) }];
  });
  if (routes.length === 0) return keys.map(() => null);
  const isSet = keys.length > 1;
  const { rows } = await runStatement<{ id: string; teamId: string }>(pool, {
    name: isSet ? 'write-routes' : 'write-route',
    text: isSet ? writeRoutesSql : writeRouteSql,
    values: [
      routes.map(({ key }) => key.workspaceId),
      routes.map(({ key }) => key.conversationId),
      routes.map(({ version }) => version),
      routes.map(({ route }) => route.teamId),
      routes.map(({ route }) => route.priority),
      routes.map(({ route }) => JSON.stringify(route.requirements)),
      routes.map(() => newId()),
      routes.map(({ detail }) => JSON.stringify(detail)),
      routes.map(({ route }) => route.branch),
    ],
  });
  const teams = new Map(rows.map(({ id, teamId }) => [id, teamId]));
  return keys.map(({ conversationId }) => teams.get(conversationId) ?? null);
}

/** The time taken is that of the decision alone. */
function decide({ version, flow, facts, flowVersionId, flowVersionNumber }: FlowStepInput) {
  const beganAt = performance.now();
  const route = decideRoute(flow, facts);
  const tookMs = Math.ceil((performance.now() - beganAt) * 100) / 100;
  return { version, route, detail: { flowVersionId, flowVersionNumber, ...route, tookMs } };
}

const routeSql = (locking: string): string => `
  WITH made AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[], $5::smallint[], $6::jsonb[], $7::uuid[], $8::jsonb[], $9::text[])
      AS made (workspace_id, id, version, team_id, priority, requirements, decision_id, decision, branch)
  ), held AS MATERIALIZED (
    SELECT made.* FROM made JOIN conversations v ON v.workspace_id = made.workspace_id AND v.id = made.id
    WHERE v.version = made.version AND v.state = 'routing' AND v.routed_at IS NULL AND v.close_requested_at IS NULL
    ORDER BY v.id FOR NO KEY UPDATE OF v ${locking}
  ), routed AS (
    UPDATE conversations v
    SET team_id = held.team_id, priority = held.priority, requirements = held.requirements, routed_at = now(),
        version = v.version + 1, progressed_at = now()
    FROM held WHERE v.workspace_id = held.workspace_id AND v.id = held.id
    RETURNING v.workspace_id, v.id, v.contact_id, v.team_id, held.decision_id, held.decision, held.branch
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
    SELECT workspace_id, decision_id, id, 'routing', decision FROM routed
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT workspace_id, 'conversation.routed', id, contact_id, jsonb_build_object('teamId', team_id, 'branch', branch)
    FROM routed
  )
  SELECT id, team_id AS "teamId" FROM routed`;

const writeRouteSql = routeSql('');
const writeRoutesSql = routeSql('SKIP LOCKED');

/**
 * The flow failed: the conversation counts as routed to the default team, asks for nothing, is marked with the reason, and goes on to
 * assignment. Not for many at once: it is rare.
 * @returns false when it was superseded
 */
export async function fallBack(pool: pg.Pool, key: ConversationKey, reason: string): Promise<boolean> {
  const { rows } = await runStatement(pool, {
    name: 'fall-back',
    text: fallBackSql,
    values: [key.workspaceId, key.conversationId, reason, JSON.stringify(noRequirements), newId()],
  });
  return rows.length === 1;
}

const fallBackSql = `
  WITH fallen AS (
    UPDATE conversations v
    SET state = 'routing', team_id = w.default_team_id, requirements = $4, routed_at = now(), fallback_reason = $3,
        version = version + 1, progressed_at = now()
    FROM workspaces w
    WHERE w.id = $1 AND v.workspace_id = $1 AND v.id = $2 AND v.state IN ('enriching', 'routing') AND v.routed_at IS NULL
      AND v.close_requested_at IS NULL
    RETURNING v.contact_id, v.team_id, v.flow_version_id
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
    SELECT $1, $5, $2, 'routing', jsonb_build_object(
             'flowVersionId', flow_version_id,
             'flowVersionNumber', (SELECT number FROM flow_versions f WHERE f.workspace_id = $1 AND f.id = flow_version_id),
             'teamId', team_id, 'branch', NULL, 'reason', $3::text)
    FROM fallen
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT $1, 'conversation.fell_back', $2, contact_id, jsonb_build_object('teamId', team_id, 'reason', $3::text)
    FROM fallen
  )
  SELECT FROM fallen`;
