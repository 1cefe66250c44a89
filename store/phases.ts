import { MAX_ANSWER_MESSAGES } from '../routing/answer.ts';
import { phaseOf, type OpenConversation, type Phase } from '../routing/phase.ts';
import type { Queryable } from './database.ts';
import type { ContactKey } from './locks.ts';

/** Where a contact stands, from the rows as they are. A contact that does not exist is idle. */
export async function readPhase(db: Queryable, contact: ContactKey): Promise<Phase> {
  const [phase] = await readPhases(db, [contact]);
  return phase!;
}

/** The same for many at once, in their order. */
export async function readPhases(db: Queryable, contacts: readonly ContactKey[]): Promise<Phase[]> {
  const { rows } = await db.query<PhaseRow & { pending: boolean }>({
    name: 'read-phases',
    text: `SELECT ${phaseColumns},
                  v.id IS NULL AND EXISTS (SELECT FROM messages m WHERE m.workspace_id = c.workspace_id
                                           AND m.contact_id = c.id AND m.conversation_id IS NULL) AS pending
           FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS asked (workspace_id, contact_id, place)
           ${joinPhase}
           ORDER BY asked.place`,
    values: [contacts.map(({ workspaceId }) => workspaceId), contacts.map(({ contactId }) => contactId)],
  });
  return rows.map((row) => phaseOfRow(row, row.pending));
}

export interface PhaseRow extends Omit<OpenConversation, 'id'> {
  readonly id: string | null;
}

export const phaseOfRow = (row: PhaseRow, hasPending: boolean): Phase =>
  phaseOf(row.id === null ? null : { ...row, id: row.id }, hasPending);

/**
 * SQL for how long the question of conversation `v` still waits, at most 0 when its turn has come: its time is over, or the contact has answered
 * and been silent since, or has written ten messages. Null where no question waits, and then it costs nothing.
 */
export const waitMsSql = `
  CASE WHEN v.state = 'enriching' AND v.awaiting_after_sequence IS NOT NULL THEN ceil(1000 * extract(epoch FROM
    least(v.answer_until,
          (SELECT CASE WHEN count(*) < ${MAX_ANSWER_MESSAGES} THEN max(m.received_at) + v.answer_settle_seconds * interval '1 s'
                       ELSE min(m.received_at) END
           FROM messages m
           WHERE m.workspace_id = v.workspace_id AND m.conversation_id = v.id AND m.sequence > v.awaiting_after_sequence
             AND m.direction = 'inbound'))
    - clock_timestamp()))::float8 END`;

export const phaseColumns = `
  v.id, v.state, v.routed_at IS NOT NULL AS routed, v.close_requested_at IS NOT NULL AS "closeRequested",
  coalesce(f.uses_network, false) AS "enrichesOverNetwork", ${waitMsSql} AS "waitMs"`;

/** From contacts that were `asked` for to the rows of `phaseColumns`. */
export const joinPhase = `
  LEFT JOIN contacts c ON c.workspace_id = asked.workspace_id AND c.id = asked.contact_id
  LEFT JOIN conversations v ON v.workspace_id = c.workspace_id AND v.id = c.open_conversation_id
  LEFT JOIN flow_versions f ON f.workspace_id = v.workspace_id AND f.id = v.flow_version_id`;
