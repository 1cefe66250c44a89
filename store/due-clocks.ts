/**
 * Clocks that have run out. Nothing is done because of a clock alone: each reads the facts again under the locks, and acts only if they say
 * so, else it winds the clock anew. So a clock that comes late, or twice from two workers, changes nothing it should not.
 */
import type pg from 'pg';
import type { Clock, ClockKind } from '../routing/clocks.ts';
import { returnToQueue } from './queueing.ts';
import { lockAssigned, windAssigned, writeWound, type Wound } from './assigned-clocks.ts';
import { readNextClock, rearm } from './clocks.ts';
import { closeInactive } from './closing.ts';
import { transact, type Queryable } from './database.ts';
import {
  holdConversation,
  lockMatching,
  type ConversationKey,
  type ConversationLock,
  type HeldConversation,
  type MatchingLock,
} from './locks.ts';
import { drainQueues } from './matching.ts';
import { expireOffer } from './offers.ts';
import { goQuiet } from './quiet.ts';
import { maxRelaxed, relaxDue } from './ring-clocks.ts';
import { passFallback } from './ring-fallbacks.ts';

export interface DueClock extends ConversationKey {
  readonly teamId: string | null;
  readonly kind: ClockKind;
  /** The next ring is a fallback that closes or tells somebody: it is not settled together with others. */
  readonly needsContact: boolean;
  readonly lateSeconds: number;
}

/**
 * Longest due first.
 *
 * @param exceptIds teams to leave out; conversations, where these have no team
 */
export async function readDue(
  db: Queryable,
  { maxRows, exceptIds = [] }: { maxRows: number; exceptIds?: readonly string[] },
): Promise<DueClock[]> {
  const { rows } = await db.query<DueClock>({
    name: 'read-due-clocks',
    text: `SELECT workspace_id AS "workspaceId", id AS "conversationId", contact_id AS "contactId", team_id AS "teamId",
                  due_kind AS kind, extract(epoch FROM now() - due_at)::float8 AS "lateSeconds",
                  due_kind = 'ring'
                    AND coalesce(requirements #>> ARRAY['rings', ring::text, 'kind'] = 'fallback'
                                 AND (requirements #>> ARRAY['rings', ring::text, 'then'] = 'close'
                                      OR requirements #> ARRAY['rings', ring::text] ?| ARRAY['text', 'webhookUrl']), false) AS "needsContact"
           FROM conversations
           WHERE due_at <= now() AND close_requested_at IS NULL AND coalesce(team_id, id) <> ALL($2::uuid[])
           ORDER BY due_at LIMIT $1`,
    values: [maxRows, exceptIds],
  });
  return rows;
}

/** What can be settled in one transaction, of the clocks of one team. Rings first: most wait for them, and they hold the least. */
export function groupDue(due: readonly DueClock[]): DueClock[][] {
  const groups: DueClock[][] = [];
  for (const canJoin of [isRelaxed, isOftenUndue]) {
    const joined = due.filter(canJoin);
    for (let i = 0; i < joined.length; i += maxRelaxed) groups.push(joined.slice(i, i + maxRelaxed));
  }
  for (const clock of due) if (!isRelaxed(clock) && !isOftenUndue(clock)) groups.push([clock]);
  return groups;
}

/** Settles of such a group what can be settled in one transaction. @returns what is left, to be settled one by one */
export async function settleTogether(pool: pg.Pool, group: readonly DueClock[]): Promise<readonly DueClock[]> {
  const [first] = group as [DueClock];
  if (isOftenUndue(first)) return windUndue(pool, first, group);
  if (!isRelaxed(first)) return group;
  await relaxDue(
    pool,
    first,
    group.map(({ conversationId }) => conversationId),
  );
  return [];
}

interface DueInTeam extends DueClock {
  readonly teamId: string;
}

const isRelaxed = (due: DueClock): due is DueInTeam =>
  (due.kind === 'ring' || due.kind === 'awaited') && !due.needsContact && due.teamId !== null;

/** Messages do not move these clocks, so where people write to each other they mostly find nothing to do. */
const isOftenUndue = (due: DueClock): due is DueInTeam =>
  (due.kind === 'silence' || due.kind === 'quiet' || due.kind === 'inactivity') && due.teamId !== null;

/**
 * Winds those anew that are not due after all, without holding the contact and the agent of each.
 *
 * @returns those that are due, with what they are due for
 */
async function windUndue(
  pool: pg.Pool,
  { workspaceId, teamId }: DueInTeam,
  group: readonly DueClock[],
): Promise<DueClock[]> {
  const ids = group.map(({ conversationId }) => conversationId);
  return transact(pool, async (tx) => {
    const lock = await lockMatching(tx, workspaceId, { teamIds: [teamId] });
    const wound = await windAssigned(tx, lock, teamId, await lockAssigned(tx, lock, teamId, ids));
    const isDue = ({ clock }: Wound): boolean => clock !== null && clock.atMs <= lock.nowMs;
    const undue = wound.filter((row) => !isDue(row));
    await writeWound(tx, workspaceId, undue);
    const done = new Set(undue.map(({ conversationId }) => conversationId));
    const kinds = new Map(wound.map(({ conversationId, clock }) => [conversationId, clock?.kind]));
    return group
      .filter(({ conversationId }) => !done.has(conversationId))
      .map((due) => ({ ...due, kind: kinds.get(due.conversationId) ?? due.kind }));
  });
}

/** One clock in transactions of its own. */
export async function settleDue(pool: pg.Pool, due: DueClock): Promise<void> {
  switch (due.kind) {
    case 'ring':
    case 'awaited':
      return isRelaxed(due) ? relaxDue(pool, due, [due.conversationId]) : passFallback(pool, due);
    case 'offer':
      return expireOffer(pool, due);
    case 'quiet':
      await goQuiet(pool, due);
      return;
    case 'inactivity':
      await closeInactive(pool, due);
      return;
    case 'return':
    case 'silence':
    case 'review':
      return settleAssigned(pool, due);
  }
}

/** One that could not be settled lets the others pass: it comes back in half a minute, unless it was wound anew meanwhile. */
export async function putOff(db: Queryable, { workspaceId, conversationId }: ConversationKey): Promise<void> {
  await db.query({
    name: 'put-off-clock',
    text: `UPDATE conversations SET due_at = now() + interval '30 s'
           WHERE workspace_id = $1 AND id = (
             SELECT id FROM conversations WHERE workspace_id = $1 AND id = $2 AND due_at <= now()
             FOR NO KEY UPDATE SKIP LOCKED
           )`,
    values: [workspaceId, conversationId],
  });
}

/**
 * Others hold what one of a team's clocks needs, so the rest would wait for it too: all that are due there come back in five seconds. What
 * is locked by itself is left out rather than waited for. Without a team it is the conversation alone.
 */
export async function putOffTeam(
  db: Queryable,
  { workspaceId, teamId, conversationId }: Pick<DueClock, 'workspaceId' | 'teamId' | 'conversationId'>,
): Promise<void> {
  await db.query({
    name: 'put-off-clocks-of-team',
    text: `UPDATE conversations SET due_at = now() + interval '5 s'
           WHERE workspace_id = $1 AND id IN (
             SELECT id FROM conversations
             WHERE workspace_id = $1 AND coalesce(team_id, id) = $2 AND due_at <= now() AND close_requested_at IS NULL
             FOR NO KEY UPDATE SKIP LOCKED
           )`,
    values: [workspaceId, teamId ?? conversationId],
  });
}

/** As for clocks: an agent that could not be set away counts as silent again after a while, with all of its teams where `withTeams` says so. */
export async function putOffSilent(
  db: Queryable,
  { workspaceId, agentId }: { workspaceId: string; agentId: string },
  { seconds, withTeams }: { seconds: number; withTeams: boolean },
): Promise<void> {
  await db.query({
    name: 'put-off-silent-agents',
    text: `UPDATE agent_presence SET expires_at = now() + $3 * interval '1 s'
           WHERE workspace_id = $1 AND agent_id IN (
             SELECT p.agent_id FROM agent_presence p
             WHERE p.workspace_id = $1 AND p.status = 'online' AND p.expires_at <= now()
               AND (p.agent_id = $2 OR $4 AND EXISTS (
                 SELECT FROM team_members mine
                 JOIN team_members theirs ON theirs.workspace_id = $1 AND theirs.team_id = mine.team_id
                 WHERE mine.workspace_id = $1 AND mine.agent_id = $2 AND theirs.agent_id = p.agent_id))
             FOR NO KEY UPDATE OF p SKIP LOCKED
           )`,
    values: [workspaceId, agentId, seconds, withTeams],
  });
}

/** Takes a conversation back from an agent who is gone or silent, original wait kept. */
async function settleAssigned(pool: pg.Pool, key: ConversationKey): Promise<void> {
  const { workspaceId, conversationId } = key;
  await transact(pool, async (tx) => {
    const held = await holdConversation(tx, workspaceId, conversationId);
    if (held === null || held.conversation.closeRequestedAt !== null) return;
    const { lock } = held;
    const conversation = await dropStaleReturn(tx, key, held);
    const reason = returnReason(lock, conversation, await readNextClock(tx, lock, key, conversation));
    if (reason === null) {
      await rearm(tx, lock, key, conversation);
      return;
    }
    await returnToQueue(tx, lock, key, conversation, { reason, teamId: conversation.teamId! });
    await drainQueues(tx, lock, { explain: [conversationId] });
  });
}

/** A review may plan a return at the very moment at which the agent comes back, and the rule may have become to keep. */
async function dropStaleReturn(
  tx: Queryable,
  { workspaceId, conversationId }: ConversationKey,
  { lock, conversation }: HeldConversation,
): Promise<ConversationLock> {
  const { returnAt, agentId, teamId } = conversation;
  if (returnAt === null || agentId === null) return conversation;
  const isRule = teamId !== null && lock.teams.get(teamId)!.offline.then === 'return';
  if (isRule && lock.agents.get(agentId)!.presence === 'offline') return conversation;
  await tx.query({
    name: 'drop-stale-return',
    text: 'UPDATE conversations SET return_at = NULL WHERE workspace_id = $1 AND id = $2',
    values: [workspaceId, conversationId],
  });
  return { ...conversation, returnAt: null };
}

function returnReason(
  { nowMs }: MatchingLock,
  { state, teamId }: ConversationLock,
  clock: Clock | null,
): 'agent_offline' | 'silence' | null {
  if (state !== 'assigned' || teamId === null || clock === null || clock.atMs > nowMs) return null;
  if (clock.kind === 'return') return 'agent_offline';
  return clock.kind === 'silence' ? 'silence' : null;
}
