import { phaseOf, type OpenConversation, type Phase } from '../routing/phase.ts';
import type { Queryable } from './database.ts';

/** Where a contact stands, from the rows as they are. A contact that does not exist is idle. */
export async function readPhase(
  db: Queryable,
  { workspaceId, contactId }: { workspaceId: string; contactId: string },
): Promise<Phase> {
  const { rows } = await db.query<{ id: string | null; pending: boolean } & Omit<OpenConversation, 'id'>>({
    name: 'read-phase',
    text: `SELECT v.id, v.state, v.routed_at IS NOT NULL AS routed, v.close_requested_at IS NOT NULL AS "closeRequested",
                  coalesce(f.uses_network, false) AS "enrichesOverNetwork",
                  v.id IS NULL AND EXISTS (SELECT FROM messages m WHERE m.workspace_id = c.workspace_id
                                           AND m.contact_id = c.id AND m.conversation_id IS NULL) AS pending
           FROM contacts c
           LEFT JOIN conversations v ON v.workspace_id = c.workspace_id AND v.id = c.open_conversation_id
           LEFT JOIN flow_versions f ON f.workspace_id = v.workspace_id AND f.id = v.flow_version_id
           WHERE c.workspace_id = $1 AND c.id = $2`,
    values: [workspaceId, contactId],
  });
  const row = rows[0];
  if (row === undefined) return phaseOf(null, false);
  return phaseOf(row.id === null ? null : { ...row, id: row.id }, row.pending);
}
