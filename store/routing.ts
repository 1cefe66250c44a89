/**
 * Routing, for many conversations at once: the flow's branches decide team, priority and what is asked of an agent, or that the conversation is
 * closed. Read, decided and written as enriching is (enriching.ts); what says something to the contact or tells another system is written in a transaction
 * of its own, with the contact's lock held.
 */
import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { decideRoute, loadsNeeded, type RouteDecision } from '../routing/route.ts';
import { withoutQuery } from '../routing/web-address.ts';
import { writeCloseRequest } from './closing.ts';
import { runStatement, transact, type Queryable } from './database.ts';
import { lockContact, type ConversationKey } from './locks.ts';
import { enqueueWebhook, sendToContact } from './outgoing.ts';
import { readStepInputs, type FlowStepInput } from './step-inputs.ts';
import { readTeamLoads, type TeamLoads } from './team-loads.ts';

export interface Routed {
  /** Null where a branch closes the conversation. */
  readonly teamId: string | null;
  /** Conditions that could not be decided and counted as false. */
  readonly conditionErrors: number;
}

/** @returns null where it was superseded, or somebody else held one of several */
export async function routeByFlows(pool: pg.Pool, keys: readonly ConversationKey[]): Promise<(Routed | null)[]> {
  const inputs = await readStepInputs(pool, keys, 'routing');
  const loads = await readLoads(pool, keys, inputs);
  const made = keys.flatMap((key, place): DecidedRoute[] => {
    const input = inputs[place]!;
    return input === null ? [] : [{ key, version: input.version, ...decide(input, loads) }];
  });
  const skipHeld = keys.length > 1;
  const written = await writeSilentRoutes(pool, made.filter(isSilent), { skipHeld });
  for (const one of made) {
    if (!isSilent(one) && (await writeSpokenRoute(pool, one, { skipHeld }))) written.add(one.key.conversationId);
  }
  const byId = new Map(made.map((one) => [one.key.conversationId, one.route]));
  return keys.map(({ conversationId }) => {
    const route = byId.get(conversationId);
    if (route === undefined || !written.has(conversationId)) return null;
    const conditionErrors = route.evaluated.filter(({ error }) => error !== undefined).length;
    return { teamId: route.kind === 'team' ? route.teamId : null, conditionErrors };
  });
}

/** The same for one. */
export async function routeByFlow(pool: pg.Pool, key: ConversationKey): Promise<Routed | null> {
  return (await routeByFlows(pool, [key]))[0]!;
}

/** How busy the teams are of which conditions speak. */
async function readLoads(
  pool: pg.Pool,
  keys: readonly ConversationKey[],
  inputs: readonly (FlowStepInput | null)[],
): Promise<TeamLoads> {
  const asked = keys.flatMap(({ workspaceId }, place) => {
    const input = inputs[place]!;
    return input === null ? [] : loadsNeeded(input.flow).map((teamId) => ({ workspaceId, teamId }));
  });
  return asked.length === 0 ? new Map() : readTeamLoads(pool, asked);
}

interface DecidedRoute {
  readonly key: ConversationKey;
  readonly version: number;
  readonly route: RouteDecision;
  /** The record. */
  readonly detail: object;
}

/** The time taken is that of the decision alone. */
function decide({ flow, facts, progress, flowVersionId, flowVersionNumber }: FlowStepInput, loads: TeamLoads) {
  const beganAt = performance.now();
  const route = decideRoute(flow, facts, { loads, gaveUpStep: progress.gaveUpStep });
  const tookMs = Math.ceil((performance.now() - beganAt) * 100) / 100;
  // Agents read it.
  const webhookUrl = route.webhookUrl === null ? null : withoutQuery(route.webhookUrl);
  return { route, detail: { flowVersionId, flowVersionNumber, ...route, webhookUrl, tookMs } };
}

type SilentRoute = DecidedRoute & { readonly route: RouteDecision & { readonly kind: 'team' } };

const isSilent = (made: DecidedRoute): made is SilentRoute =>
  made.route.kind === 'team' && made.route.text === null && made.route.webhookUrl === null;

async function writeSilentRoutes(
  pool: pg.Pool,
  routes: readonly SilentRoute[],
  { skipHeld }: { readonly skipHeld: boolean },
): Promise<Set<string>> {
  if (routes.length === 0) return new Set();
  const { rows } = await runStatement<{ id: string }>(pool, {
    name: skipHeld ? 'write-routes' : 'write-route',
    text: skipHeld ? writeRoutesSql : writeRouteSql,
    values: valuesOf(routes),
  });
  return new Set(rows.map(({ id }) => id));
}

function valuesOf(routes: readonly SilentRoute[]): unknown[] {
  return [
    routes.map(({ key }) => key.workspaceId),
    routes.map(({ key }) => key.conversationId),
    routes.map(({ version }) => version),
    routes.map(({ route }) => route.teamId),
    routes.map(({ route }) => route.priority),
    routes.map(({ route }) => JSON.stringify(route.requirements)),
    routes.map(() => newId()),
    routes.map(({ detail }) => JSON.stringify(detail)),
    routes.map(({ route }) => route.branch),
    routes.map(({ route }) => route.slaSeconds),
  ];
}

const routeSql = (locking: string): string => `
  WITH made AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[], $5::smallint[], $6::jsonb[], $7::uuid[], $8::jsonb[], $9::text[],
                         $10::int[])
      AS made (workspace_id, id, version, team_id, priority, requirements, decision_id, decision, branch, sla_seconds)
  ), held AS MATERIALIZED (
    SELECT made.* FROM made JOIN conversations v ON v.workspace_id = made.workspace_id AND v.id = made.id
    WHERE v.version = made.version AND v.state = 'routing' AND v.routed_at IS NULL AND v.close_requested_at IS NULL
    ORDER BY v.id FOR NO KEY UPDATE OF v ${locking}
  ), routed AS (
    UPDATE conversations v
    SET team_id = held.team_id, priority = held.priority, requirements = held.requirements, routed_at = now(),
        sla_seconds = held.sla_seconds, version = v.version + 1, progressed_at = now()
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
  SELECT id FROM routed`;

const writeRouteSql = routeSql('');
const writeRoutesSql = routeSql('SKIP LOCKED');

/** A route that says something to the contact, tells another system, or closes. @returns false when it was superseded */
async function writeSpokenRoute(
  pool: pg.Pool,
  made: DecidedRoute,
  { skipHeld }: { readonly skipHeld: boolean },
): Promise<boolean> {
  const { key, route } = made;
  return transact(pool, async (tx) => {
    if ((await lockContact(tx, key, { skipHeld })) === null) return false;
    if (!(await writeDestination(tx, made))) return false;
    const { text, webhookUrl, branch } = route;
    if (text !== null) await sendToContact(tx, key, [{ text, agentId: null }]);
    if (webhookUrl !== null) {
      const teamId = route.kind === 'team' ? route.teamId : null;
      await enqueueWebhook(tx, key, { url: webhookUrl, reason: 'routed', data: { branch, teamId } });
    }
    if (route.kind === 'close') {
      await writeCloseRequest(tx, key, { agentId: null, category: null, summary: null, reason: 'flow' });
    }
    return true;
  });
}

async function writeDestination(tx: Queryable, { key, version, route, detail }: DecidedRoute): Promise<boolean> {
  if (route.kind === 'team') {
    const values = valuesOf([{ key, version, route, detail }]);
    return (await tx.query({ name: 'write-route', text: writeRouteSql, values })).rows.length === 1;
  }
  const { rowCount } = await tx.query({
    name: 'write-closing-route',
    text: writeClosingRouteSql,
    values: [key.workspaceId, key.conversationId, version, newId(), JSON.stringify(detail), route.branch],
  });
  return rowCount === 1;
}

const writeClosingRouteSql = `
  WITH routed AS (
    UPDATE conversations v SET version = v.version + 1, progressed_at = now()
    WHERE v.workspace_id = $1 AND v.id = $2 AND v.version = $3 AND v.state = 'routing' AND v.routed_at IS NULL
      AND v.close_requested_at IS NULL
    RETURNING v.contact_id
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail) SELECT $1, $4, $2, 'routing', $5 FROM routed
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT $1, 'conversation.routed', $2, contact_id, jsonb_build_object('teamId', NULL, 'branch', $6::text, 'close', true)
    FROM routed
  )
  SELECT FROM routed`;
