/**
 * The one clock of a conversation: the next moment at which time alone changes something, stored as `due_at` and `due_kind`. Whoever
 * changes a conversation's state writes both. Messages do not move it: when it fires, the facts are read again (store/due-clocks.ts).
 */
import { nextClock, type Clock, type ClockFacts } from '../routing/clocks.ts';
import { defaultTeamSettings } from '../routing/team-rules.ts';
import type { Queryable } from './database.ts';
import { type ConversationKey, type ConversationLock, type MatchingLock } from './locks.ts';

/** What the clock depends on, besides messages. */
export type ClockedConversation = Pick<
  ConversationLock,
  | 'state'
  | 'teamId'
  | 'requirements'
  | 'ring'
  | 'queuedAt'
  | 'awaitedUntil'
  | 'offerExpiresAt'
  | 'openedAt'
  | 'assignedAt'
  | 'returnAt'
  | 'quietSince'
>;

/**
 * Winds a conversation's clock anew, by the facts as they are now. The caller holds the conversation and its team, and passes it as
 * its transaction leaves it.
 */
export async function rearm(
  tx: Queryable,
  lock: MatchingLock,
  key: ConversationKey,
  conversation: ClockedConversation,
): Promise<Clock | null> {
  const clock = await readNextClock(tx, lock, key, conversation);
  await tx.query({
    name: 'rearm',
    text: `UPDATE conversations SET due_kind = $3, due_at = to_timestamp($4::float8 / 1000) WHERE workspace_id = $1 AND id = $2`,
    values: [key.workspaceId, key.conversationId, clock?.kind ?? null, clock?.atMs ?? null],
  });
  return clock;
}

/** The clock that a held conversation should have; it may be due already. */
export async function readNextClock(
  tx: Queryable,
  lock: MatchingLock,
  key: ConversationKey,
  conversation: ClockedConversation,
): Promise<Clock | null> {
  switch (conversation.state) {
    case 'waiting':
      return clockOf(lock, conversation.teamId, waitingFacts(conversation));
    case 'assigned': {
      const [times] = await readMessageTimes(tx, key.workspaceId, [key.conversationId]);
      return clockOf(lock, conversation.teamId, assignedFacts(lock.nowMs, conversation, times));
    }
    case 'enriching':
    case 'routing':
    case 'closed':
      return null;
  }
}

/** By the rules of the team that is held, and of its workspace. */
export function clockOf(
  { teams, settings }: Pick<MatchingLock, 'teams' | 'settings'>,
  teamId: string | null,
  facts: ClockFacts,
): Clock | null {
  const team = (teamId === null ? undefined : teams.get(teamId)) ?? defaultTeamSettings;
  return nextClock(facts, { team, inactivityMinutes: settings.inactivityMinutes });
}

export const waitingFacts = (
  conversation: Pick<ClockedConversation, 'queuedAt' | 'ring' | 'requirements' | 'awaitedUntil' | 'offerExpiresAt'>,
): ClockFacts => ({
  state: 'waiting',
  queuedAtMs: conversation.queuedAt!.getTime(),
  ring: conversation.ring,
  requirements: conversation.requirements,
  awaitedUntilMs: conversation.awaitedUntil?.getTime() ?? null,
  offerExpiresAtMs: conversation.offerExpiresAt?.getTime() ?? null,
});

export const assignedFacts = (
  nowMs: number,
  conversation: Pick<ClockedConversation, 'assignedAt' | 'openedAt' | 'returnAt' | 'quietSince'>,
  times: MessageTimes | undefined,
): ClockFacts => ({
  state: 'assigned',
  nowMs,
  assignedAtMs: conversation.assignedAt!.getTime(),
  returnAtMs: conversation.returnAt?.getTime() ?? null,
  unansweredSinceMs: times?.unansweredSinceMs ?? null,
  lastMessageAtMs: times?.lastMessageAtMs ?? conversation.openedAt.getTime(),
  isQuiet: conversation.quietSince !== null,
});

export interface MessageTimes {
  readonly conversationId: string;
  /** Null: nobody has written in it. */
  readonly lastMessageAtMs: number | null;
  /** When the contact wrote what nobody has replied to since; null when all is answered. */
  readonly unansweredSinceMs: number | null;
}

/** One row a conversation, whether or not anybody has written in it. Each time is found by a step along the thread's index. */
export async function readMessageTimes(
  db: Queryable,
  workspaceId: string,
  conversationIds: readonly string[],
): Promise<MessageTimes[]> {
  const { rows } = await db.query<MessageTimes>({
    name: 'read-message-times',
    text: `SELECT asked.id AS "conversationId",
                  extract(epoch FROM last.received_at)::float8 * 1000 AS "lastMessageAtMs",
                  extract(epoch FROM unanswered.received_at)::float8 * 1000 AS "unansweredSinceMs"
           FROM unnest($2::uuid[]) AS asked (id)
           LEFT JOIN LATERAL (
             SELECT m.received_at FROM messages m
             WHERE m.workspace_id = $1 AND m.conversation_id = asked.id ORDER BY m.sequence DESC LIMIT 1
           ) last ON true
           LEFT JOIN LATERAL (
             SELECT coalesce(max(m.sequence), 0) AS sequence FROM (
               SELECT r.sequence FROM messages r
               WHERE r.workspace_id = $1 AND r.conversation_id = asked.id AND r.direction = 'outbound'
               ORDER BY r.sequence DESC LIMIT 1
             ) m
           ) replied ON true
           LEFT JOIN LATERAL (
             SELECT m.received_at FROM messages m
             WHERE m.workspace_id = $1 AND m.conversation_id = asked.id AND m.direction = 'inbound'
               AND m.sequence > replied.sequence
             ORDER BY m.sequence LIMIT 1
           ) unanswered ON true`,
    values: [workspaceId, conversationIds],
  });
  return rows;
}
