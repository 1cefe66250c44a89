import type { FlowDocument } from '../routing/flow-schema.ts';
import { findFlowHints, type FlowSurroundings, type LiveFlow } from '../routing/flow-hints.ts';
import type { Queryable } from './database.ts';

/** What is worth knowing about the flow that has just been made live, beside the others that are. */
export async function readHints(
  db: Queryable,
  { workspaceId, flowId }: { readonly workspaceId: string; readonly flowId: string },
): Promise<string[]> {
  const { rows } = await db.query<LiveRow>({
    name: 'read-live-flows',
    text: `SELECT f.id, f.name, v.document -> 'trigger' ->> 'condition' AS condition,
                  CASE WHEN f.id = $2 THEN v.document END AS document
           FROM flows f JOIN flow_versions v ON v.workspace_id = f.workspace_id AND v.id = f.published_version_id
           WHERE f.workspace_id = $1 ORDER BY f.position, f.id`,
    values: [workspaceId, flowId],
  });
  const place = rows.findIndex(({ id }) => id === flowId);
  const document = rows[place]?.document;
  if (document === null || document === undefined) return [];
  const around = { before: rows.slice(0, place), after: rows.slice(place + 1) };
  return findFlowHints(document, { ...around, ...(await readSurroundings(db, workspaceId)) });
}

/** The same of a document without faults that has no place in the order. */
export async function readDocumentHints(
  db: Queryable,
  { workspaceId, document }: { readonly workspaceId: string; readonly document: FlowDocument },
): Promise<string[]> {
  return findFlowHints(document, { before: [], after: [], ...(await readSurroundings(db, workspaceId)) });
}

interface LiveRow extends LiveFlow {
  readonly id: string;
  /** Of the flow in question. */
  readonly document: FlowDocument | null;
}

type Surroundings = Omit<FlowSurroundings, 'before' | 'after'>;

async function readSurroundings(db: Queryable, workspaceId: string): Promise<Surroundings> {
  const { rows } = await db.query<SurroundingsRow>({
    name: 'read-flow-surroundings',
    text: `SELECT EXISTS (SELECT FROM channels WHERE workspace_id = $1 AND outbound_url IS NOT NULL) AS "reachesContacts",
                  ARRAY(SELECT key FROM channels WHERE workspace_id = $1 AND outbound_url IS NULL ORDER BY id) AS "silentChannels",
                  ARRAY(SELECT jsonb_build_object('id', t.id, 'name', t.name) FROM teams t
                        WHERE t.workspace_id = $1 AND NOT EXISTS (
                          SELECT FROM team_members m WHERE m.workspace_id = t.workspace_id AND m.team_id = t.id
                        ) ORDER BY t.id) AS empty`,
    values: [workspaceId],
  });
  const { empty, ...rest } = rows[0]!;
  return { ...rest, teamsWithoutAgents: new Map(empty.map(({ id, name }) => [id, name])) };
}

interface SurroundingsRow {
  readonly reachesContacts: boolean;
  readonly silentChannels: string[];
  readonly empty: { id: string; name: string }[];
}
