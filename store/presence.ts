/** What an agent's coming and going means for the conversations that it has, or that are offered to it. */
import type { Presence } from '../routing/conversation.ts';
import { endAwaits } from './affinity.ts';
import { publishMoment } from './assignment-metrics.ts';
import type { Queryable } from './database.ts';
import { recordEvents } from './events.ts';
import type { MatchingLock } from './locks.ts';
import { withdrawOffers } from './offer-ends.ts';

/** Why an agent was set away without asking to be. */
export type AwayReason = 'silent' | 'missed_offers';

/**
 * Sets an agent's presence, if it is another one now. The caller holds the agent with its teams and those of its offers, and drains
 * afterwards: who comes has room, and when one leaves, others whom a conversation had passed over may be all that is left.
 *
 * @param reason `silent`: only if the agent's heartbeat is overdue
 * @returns whether it changed
 */
export async function changePresence(
  tx: Queryable,
  lock: MatchingLock,
  { agentId, status, reason = null }: { agentId: string; status: Presence; reason?: AwayReason | null },
): Promise<boolean> {
  const { workspaceId } = lock;
  // Heartbeats count anew from each time the agent comes online.
  const { rowCount } = await tx.query({
    name: 'set-presence',
    text: `UPDATE agent_presence
           SET status = $3, changed_at = now(), expires_at = NULL,
               heartbeat_at = CASE WHEN $3 = 'online' THEN NULL ELSE heartbeat_at END
           WHERE workspace_id = $1 AND agent_id = $2 AND status <> $3 AND (NOT $4 OR expires_at <= now())`,
    values: [workspaceId, agentId, status, reason === 'silent'],
  });
  if (rowCount === 0) return false;
  if (status === 'online') await forgetMissedOffers(tx, workspaceId, agentId);
  else await withdrawOffers(tx, lock, agentId);
  if (status === 'offline') await endAwaits(tx, lock, agentId);
  if (status === 'offline') await planReturns(tx, workspaceId, agentId);
  else await cancelReturns(tx, workspaceId, agentId);
  const data = reason === null ? { agentId, status } : { agentId, status, reason };
  await recordEvents(tx, workspaceId, [
    { type: 'agent.presence_changed', conversationId: null, contactId: null, data },
  ]);
  if (reason !== null) publishMoment({ kind: 'set_away', reason });
  return true;
}

/** The agent answers again: offers missed before count no more. */
export async function forgetMissedOffers(tx: Queryable, workspaceId: string, agentId: string): Promise<void> {
  await tx.query({
    name: 'forget-missed-offers',
    text: 'UPDATE agents SET missed_offers = 0 WHERE workspace_id = $1 AND id = $2 AND missed_offers > 0',
    values: [workspaceId, agentId],
  });
}

/**
 * By the rule of each conversation's team: kept, or returned after its grace time. A clock that is due before stays; whatever it does,
 * it finds the return planned.
 */
async function planReturns(tx: Queryable, workspaceId: string, agentId: string): Promise<void> {
  await tx.query({
    name: 'plan-returns',
    text: `WITH mine AS (
             SELECT v.id, now() + coalesce((t.settings #>> '{offline,graceSeconds}')::float8, 0) * interval '1 s' AS at
             FROM conversations v JOIN teams t ON t.workspace_id = v.workspace_id AND t.id = v.team_id
             WHERE v.workspace_id = $1 AND v.agent_id = $2 AND v.closed_at IS NULL
               AND t.settings #>> '{offline,then}' = 'return'
             ORDER BY v.id FOR NO KEY UPDATE OF v
           )
           UPDATE conversations v
           SET return_at = mine.at, due_at = least(v.due_at, mine.at),
               due_kind = CASE WHEN v.due_at <= mine.at THEN v.due_kind ELSE 'return' END
           FROM mine WHERE v.workspace_id = $1 AND v.id = mine.id`,
    values: [workspaceId, agentId],
  });
}

/** The clocks stay: one that fires for a return that is no longer planned is wound anew. */
async function cancelReturns(tx: Queryable, workspaceId: string, agentId: string): Promise<void> {
  await tx.query({
    name: 'cancel-returns',
    text: `WITH mine AS (
             SELECT id FROM conversations
             WHERE workspace_id = $1 AND agent_id = $2 AND closed_at IS NULL AND return_at IS NOT NULL
             ORDER BY id FOR NO KEY UPDATE
           )
           UPDATE conversations v SET return_at = NULL FROM mine WHERE v.workspace_id = $1 AND v.id = mine.id`,
    values: [workspaceId, agentId],
  });
}
