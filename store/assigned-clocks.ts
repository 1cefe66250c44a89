/** The clocks of many conversations that agents have, one team at a time. The caller holds the team, so none of them moves meanwhile. */
import type { Clock } from '../routing/clocks.ts';
import { assignedFacts, clockOf, readMessageTimes, type ClockedConversation } from './clocks.ts';
import type { Queryable } from './database.ts';
import type { MatchingLock } from './locks.ts';

export interface Assigned extends Pick<ClockedConversation, 'openedAt' | 'assignedAt' | 'quietSince' | 'returnAt'> {
  readonly conversationId: string;
}

export interface Wound {
  readonly conversationId: string;
  readonly returnAt: Date | null;
  /** It may be due already. */
  readonly clock: Clock | null;
}

/** Those that agents still have in this team and that are not being closed. */
export async function lockAssigned(
  tx: Queryable,
  { workspaceId }: MatchingLock,
  teamId: string,
  conversationIds: readonly string[],
): Promise<Assigned[]> {
  const { rows } = await tx.query<Assigned>({
    name: 'lock-assigned-of-team',
    text: `SELECT id AS "conversationId", opened_at AS "openedAt", assigned_at AS "assignedAt",
                  quiet_since AS "quietSince", return_at AS "returnAt"
           FROM conversations
           WHERE workspace_id = $1 AND id = ANY($2::uuid[]) AND team_id = $3 AND state = 'assigned'
             AND close_requested_at IS NULL
           ORDER BY id FOR NO KEY UPDATE`,
    values: [workspaceId, conversationIds, teamId],
  });
  return rows;
}

/** The clocks that they should have, by the rules and messages as they are now. */
export async function windAssigned(
  tx: Queryable,
  lock: MatchingLock,
  teamId: string,
  conversations: readonly Assigned[],
): Promise<Wound[]> {
  const ids = conversations.map(({ conversationId }) => conversationId);
  const times = new Map((await readMessageTimes(tx, lock.workspaceId, ids)).map((row) => [row.conversationId, row]));
  return conversations.map((conversation) => {
    const { conversationId, returnAt } = conversation;
    const facts = assignedFacts(lock.nowMs, conversation, times.get(conversationId));
    return { conversationId, returnAt, clock: clockOf(lock, teamId, facts) };
  });
}

export async function writeWound(tx: Queryable, workspaceId: string, wound: readonly Wound[]): Promise<void> {
  if (wound.length === 0) return;
  await tx.query({
    name: 'write-wound-clocks',
    text: `UPDATE conversations v
           SET return_at = to_timestamp(wound.return_ms / 1000), due_kind = wound.due_kind,
               due_at = to_timestamp(wound.due_ms / 1000)
           FROM unnest($2::uuid[], $3::float8[], $4::text[], $5::float8[]) AS wound (id, return_ms, due_kind, due_ms)
           WHERE v.workspace_id = $1 AND v.id = wound.id`,
    values: [
      workspaceId,
      wound.map(({ conversationId }) => conversationId),
      wound.map(({ returnAt }) => returnAt?.getTime() ?? null),
      wound.map(({ clock }) => clock?.kind ?? null),
      wound.map(({ clock }) => clock?.atMs ?? null),
    ],
  });
}
