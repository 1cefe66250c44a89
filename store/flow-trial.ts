/**
 * Trying a flow: what it would do with a contact and a message that somebody describes, by today's teams and agents. Everything is read in one
 * transaction that may not write, and decided by the functions that decide in earnest.
 */
import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { joinMessageText, type ContactHistory, type RoutingFacts } from '../routing/facts.ts';
import { tryFlow, type FlowTrial, type GivenTurns } from '../routing/flow-trial.ts';
import type { FlowDocument } from '../routing/flow-schema.ts';
import { noRequirements } from '../routing/requirements.ts';
import { loadsNeeded } from '../routing/route.ts';
import { isNetworkStep } from '../routing/step-schemas.ts';
import { readContactHistories } from './contact-histories.ts';
import { transact, type Queryable } from './database.ts';
import { chooseFlow, type PublishedVersion } from './flow-choice.ts';
import { previewAssignment, type AssignmentPreview } from './trial-assignment.ts';
import { readDocumentHints } from './flow-hints.ts';
import { checkDocument, getFlow, getFlowDocument, type FlowVersionName, type InvalidFlow } from './flows.ts';
import { readTeamLoads } from './team-loads.ts';

export interface TrialRequest extends Omit<GivenTurns, 'loads'> {
  readonly workspaceId: string;
  /** A flow of the workspace in one of its versions, or a document that stands in the place of the flow with this name, if there is one. */
  readonly flow:
    | { readonly flowId: string; readonly version: FlowVersionName }
    | { readonly document: unknown; readonly name: string | null };
  /** Key; null: the channel that was made first. */
  readonly channel: string | null;
  readonly contact: TriedContact;
  readonly text: string;
  /** Null: now. */
  readonly atMs: number | null;
}

/** A contact of the workspace, if `id` is given; what is described besides replaces what is known of it. */
export interface TriedContact {
  readonly id?: string;
  readonly name?: string;
  readonly attributes?: Readonly<Record<string, unknown>>;
  readonly lifecycle?: string;
  readonly history?: Partial<ContactHistory>;
}

export interface TrialResult extends FlowTrial {
  readonly kind: 'tried';
  /** The flow before it in the order that would run instead. */
  readonly earlierFlow: string | null;
  /** Null where the flow closes the conversation, or does not run. */
  readonly assignment: AssignmentPreview | null;
  readonly defaultTeamId: string;
  readonly teamNames: ReadonlyMap<string, string>;
  /** What is hardly meant, apart from what the order of the flows would tell. */
  readonly hints: readonly string[];
}

export type TrialRefusal =
  | { readonly kind: 'not_found' }
  | { readonly kind: 'unknown'; readonly what: 'version' | 'channel' | 'contact' }
  /** Keys of `responses` that name no step which asks another system; the positions of those that do. */
  | { readonly kind: 'unknown_responses'; readonly keys: readonly string[]; readonly positions: readonly number[] }
  | InvalidFlow;

export function runFlowTrial(pool: pg.Pool, request: TrialRequest): Promise<TrialResult | TrialRefusal> {
  return transact(pool, async (tx) => {
    // The database itself refuses what would change anything, and all that is read is of one moment.
    await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
    const found = await findFlow(tx, request);
    if (found.kind !== 'found') return found;
    const unknown = findUnknownResponses(found.flow, request.responses);
    if (unknown !== null) return unknown;
    const setting = await readSetting(tx, request);
    if (setting.kind !== 'read') return setting;
    const { flow, flowId } = found;
    const { facts, units, defaultTeamId, isKnown } = setting;
    const { workspaceId, answers, responses, share } = request;
    const asked = loadsNeeded(flow).map((teamId) => ({ workspaceId, teamId }));
    const loads = asked.length === 0 ? new Map() : await readTeamLoads(tx, asked);
    // What follows is joined to the message as it was written, and not as it was cut.
    const begun = { ...facts, message: { text: request.text } };
    const trial = tryFlow(flow, begun, { answers, responses, loads, share });
    const { route, failure } = trial;
    const teamId = failure !== null ? defaultTeamId : route?.kind === 'team' ? route.teamId : null;
    const assignment =
      teamId === null
        ? null
        : await previewAssignment(tx, {
            workspaceId,
            contactId: isKnown ? facts.contact.id : null,
            channel: facts.channel.key,
            units,
            teamId,
            ...(failure === null && route?.kind === 'team' ? route : fallenBack),
          });
    const before = trial.trigger.value ? await readFlowsBefore(tx, { workspaceId, flowId }) : [];
    return {
      ...trial,
      kind: 'tried',
      earlierFlow: nameOfChosen(before, facts),
      assignment,
      defaultTeamId,
      teamNames: await readTeamNames(tx, workspaceId),
      hints: await readDocumentHints(tx, { workspaceId, document: flow }),
    };
  });
}

const fallenBack = { priority: 0, slaSeconds: null, requirements: noRequirements };

type Found = { readonly kind: 'found'; readonly flow: FlowDocument; readonly flowId: string | null };

async function findFlow(tx: Queryable, { workspaceId, flow: asked }: TrialRequest): Promise<Found | TrialRefusal> {
  if ('document' in asked) {
    const checked = await checkDocument(tx, workspaceId, asked.document);
    if (checked.kind === 'invalid') return checked;
    return { kind: 'found', flow: checked.document, flowId: await findFlowId(tx, workspaceId, asked.name) };
  }
  const { flowId, version } = asked;
  const flow = await getFlow(tx, { workspaceId, flowId });
  if (flow === null) return { kind: 'not_found' };
  const document = await getFlowDocument(tx, { workspaceId, flow, version });
  if (document === null) return { kind: 'unknown', what: 'version' };
  if (version !== 'draft') return { kind: 'found', flow: document, flowId };
  const checked = await checkDocument(tx, workspaceId, document);
  return checked.kind === 'invalid' ? checked : { kind: 'found', flow: checked.document, flowId };
}

async function findFlowId(tx: Queryable, workspaceId: string, name: string | null): Promise<string | null> {
  const { rows } = await tx.query<{ id: string }>({
    name: 'find-flow-by-name',
    text: `SELECT id FROM flows WHERE workspace_id = $1 AND name = $2 AND archived_at IS NULL ORDER BY position, id LIMIT 1`,
    values: [workspaceId, name],
  });
  return rows[0]?.id ?? null;
}

/** As nothing would come of them, what they were meant for would seem not to respond. */
function findUnknownResponses(flow: FlowDocument, responses: GivenTurns['responses']): TrialRefusal | null {
  const positions = flow.enrichment.flatMap((step, place) => (isNetworkStep(step) ? [place] : []));
  const known = new Set(positions.map(String));
  const keys = Object.keys(responses).filter((key) => !known.has(key));
  return keys.length === 0 ? null : { kind: 'unknown_responses', keys, positions };
}

interface Setting {
  readonly kind: 'read';
  readonly facts: RoutingFacts;
  /** What a conversation on the channel takes of an agent's capacity. */
  readonly units: number;
  readonly defaultTeamId: string;
  /** Whether the contact is one of the workspace. */
  readonly isKnown: boolean;
}

/** Of one who is only described. */
const describedId = '00000000-0000-7000-8000-000000000000';

async function readSetting(tx: Queryable, request: TrialRequest): Promise<Setting | TrialRefusal> {
  const { workspaceId, contact } = request;
  const { rows } = await tx.query<SettingRow>({
    name: 'read-trial-setting',
    text: `SELECT w.default_team_id AS "defaultTeamId", extract(epoch FROM now())::float8 * 1000 AS "nowMs",
                  ch.key AS "channelKey", ch.name AS "channelName", ch.units,
                  c.id AS "contactId", c.name, c.attributes
           FROM workspaces w
           LEFT JOIN LATERAL (
             SELECT key, name, units FROM channels
             WHERE workspace_id = w.id AND ($2::text IS NULL OR key = $2) ORDER BY id LIMIT 1
           ) ch ON true
           LEFT JOIN contacts c ON c.workspace_id = w.id AND c.id = $3
           WHERE w.id = $1`,
    values: [workspaceId, request.channel, contact.id ?? null],
  });
  const row = rows[0]!;
  if (row.channelKey === null) return { kind: 'unknown', what: 'channel' };
  if (contact.id !== undefined && row.contactId === null) return { kind: 'unknown', what: 'contact' };
  const { lifecycle } = contact;
  const attributes = { ...(contact.attributes ?? row.attributes), ...(lifecycle !== undefined && { lifecycle }) };
  return {
    kind: 'read',
    units: row.units!,
    defaultTeamId: row.defaultTeamId,
    isKnown: row.contactId !== null,
    facts: {
      nowMs: request.atMs ?? row.nowMs,
      conversation: { source: 'contact', priority: 0 },
      contact: { id: row.contactId ?? describedId, name: contact.name ?? row.name, attributes },
      channel: { key: row.channelKey, name: row.channelName! },
      message: { text: joinMessageText([request.text]) },
      fields: {},
      history: { ...(await readHistory(tx, workspaceId, row.contactId)), ...contact.history },
    },
  };
}

interface SettingRow {
  readonly defaultTeamId: string;
  readonly nowMs: number;
  readonly channelKey: string | null;
  readonly channelName: string | null;
  readonly units: number | null;
  readonly contactId: string | null;
  readonly name: string | null;
  readonly attributes: Record<string, unknown> | null;
}

async function readHistory(tx: Queryable, workspaceId: string, contactId: string | null): Promise<ContactHistory> {
  if (contactId === null) return { conversationCount: 0, lastAgentId: null, lastCategory: null };
  // The conversation in question is not there yet.
  const [history] = await readContactHistories(tx, [{ workspaceId, contactId, conversationId: newId() }]);
  return history!;
}

type LiveVersion = PublishedVersion & { readonly name: string };

/** All live ones, where the flow in question has no place in the order yet. */
async function readFlowsBefore(
  tx: Queryable,
  { workspaceId, flowId }: { workspaceId: string; flowId: string | null },
): Promise<LiveVersion[]> {
  const { rows } = await tx.query<LiveVersion>({
    name: 'read-flows-before',
    text: `SELECT v.id, v.number, v.document, f.name
           FROM flows f
           JOIN flow_versions v ON v.workspace_id = f.workspace_id AND v.id = f.published_version_id
           LEFT JOIN flows own ON own.workspace_id = f.workspace_id AND own.id = $2 AND own.archived_at IS NULL
           WHERE f.workspace_id = $1 AND (own.id IS NULL OR (f.position, f.id) < (own.position, own.id))
           ORDER BY f.position, f.id`,
    values: [workspaceId, flowId],
  });
  return rows;
}

function nameOfChosen(versions: readonly LiveVersion[], facts: RoutingFacts): string | null {
  const choice = chooseFlow(versions, facts);
  return choice.kind === 'flow' ? versions.find(({ id }) => id === choice.version.id)!.name : null;
}

async function readTeamNames(tx: Queryable, workspaceId: string): Promise<Map<string, string>> {
  const { rows } = await tx.query<{ id: string; name: string }>({
    name: 'list-team-names',
    text: 'SELECT id, name FROM teams WHERE workspace_id = $1',
    values: [workspaceId],
  });
  return new Map(rows.map(({ id, name }) => [id, name]));
}
