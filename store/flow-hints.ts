import type { FlowDocument } from '../routing/flow-document.ts';
import { findFlowHints, type LiveFlow } from '../routing/flow-hints.ts';
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
  const { rows: around } = await db.query<{ reachesContacts: boolean; empty: { id: string; name: string }[] }>({
    name: 'read-flow-surroundings',
    text: `SELECT EXISTS (SELECT FROM channels WHERE workspace_id = $1 AND outbound_url IS NOT NULL) AS "reachesContacts",
                  ARRAY(SELECT jsonb_build_object('id', t.id, 'name', t.name) FROM teams t
                        WHERE t.workspace_id = $1 AND NOT EXISTS (
                          SELECT FROM team_members m WHERE m.workspace_id = t.workspace_id AND m.team_id = t.id
                        ) ORDER BY t.id) AS empty`,
    values: [workspaceId],
  });
  const { reachesContacts, empty } = around[0]!;
  return findFlowHints(document, {
    before: rows.slice(0, place),
    after: rows.slice(place + 1),
    teamsWithoutAgents: new Map(empty.map(({ id, name }) => [id, name])),
    reachesContacts,
  });
}

interface LiveRow extends LiveFlow {
  readonly id: string;
  /** Of the flow in question. */
  readonly document: FlowDocument | null;
}
