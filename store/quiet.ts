/**
 * Quiet conversations: nobody has written for the time that the team sets, so they take nothing of their agent's capacity until the
 * contact writes again. They stay their agent's all the while.
 *
 * What may go wrong, and why it does not:
 * - A message arrives while the conversation goes quiet: both hold the contact. If the message is first, it is seen here and nothing
 *   goes quiet; if it is second, ingest sees that the conversation is quiet and leaves an outbox row.
 * - A wake comes twice, or so late that the conversation was woken, moved and went quiet again: it acts only on a conversation that is
 *   quiet and has had a message since.
 * - A wake meets a transfer or a close: all hold the conversation, and the second finds what the first has left.
 */
import type pg from 'pg';
import { publishMoment } from './assignment-metrics.ts';
import { addConversationOn, refuseAgent, releaseHolder } from './agent-room.ts';
import { returnToQueue } from './queueing.ts';
import { readMessageTimes, rearm } from './clocks.ts';
import { ConcurrentChange, transact, type Queryable } from './database.ts';
import { recordEvents } from './events.ts';
import {
  holdConversation,
  lockContact,
  readConversation,
  type ConversationKey,
  type ConversationLock,
} from './locks.ts';
import { drainQueues } from './matching.ts';
import { readDefaultTeam } from './teams.ts';

/**
 * When the quiet clock has run out: gives back what the conversation takes, unless somebody wrote or the team changed its rule meanwhile.
 * Then the clock is set anew.
 *
 * @returns whether this call made it quiet
 */
export async function goQuiet(pool: pg.Pool, key: ConversationKey): Promise<boolean> {
  const { workspaceId, contactId, conversationId } = key;
  const wentQuiet = await transact(pool, async (tx) => {
    await lockContact(tx, { workspaceId, contactId });
    const held = await holdConversation(tx, workspaceId, conversationId);
    if (held === null) return false;
    const { lock, conversation } = held;
    const { state, agentId, assignedAt, quietSince, teamId, units } = conversation;
    if (state !== 'assigned' || conversation.closeRequestedAt !== null) return false;
    const minutes = teamId === null ? null : lock.teams.get(teamId)!.quietMinutes;
    const [times] = await readMessageTimes(tx, workspaceId, [conversationId]);
    const lastMs = Math.max(assignedAt!.getTime(), times?.lastMessageAtMs ?? 0);
    if (quietSince !== null || minutes === null || lastMs + minutes * 60_000 > lock.nowMs) {
      await rearm(tx, lock, key, conversation);
      return false;
    }
    await releaseHolder(tx, key, conversation);
    await markQuiet(tx, key);
    const data = { agentId, units };
    await recordEvents(tx, workspaceId, [{ type: 'conversation.quiet', conversationId, contactId, data }]);
    await rearm(tx, lock, key, { ...conversation, quietSince: new Date(lock.nowMs) });
    await drainQueues(tx, lock);
    return true;
  });
  if (wentQuiet) publishMoment({ kind: 'quiet' });
  return wentQuiet;
}

/** The clock is read while the contact is held: later than all messages there are, and before any that find it quiet. */
async function markQuiet(tx: Queryable, { workspaceId, conversationId }: ConversationKey): Promise<void> {
  await tx.query({
    name: 'mark-quiet',
    text: `UPDATE conversations SET quiet_since = clock_timestamp(), version = version + 1, progressed_at = now()
           WHERE workspace_id = $1 AND id = $2`,
    values: [workspaceId, conversationId],
  });
}

type WakeOutcome = 'kept' | 'returned' | 'unchanged';

/**
 * The contact of a quiet conversation has written: it counts again, if its agent is online and has room. Else it goes back to the queue,
 * where its place is by its first wait. Doubled and late calls change nothing.
 */
export async function wakeConversation(pool: pg.Pool, key: ConversationKey): Promise<WakeOutcome> {
  const before = await readConversation(pool, key.workspaceId, key.conversationId);
  if (before === null || !awaitsWaking(before)) return 'unchanged';
  const outcome = await transact(pool, (tx) => wakeInTransaction(tx, key));
  if (outcome !== 'unchanged') publishMoment({ kind: 'woken', outcome });
  return outcome;
}

const awaitsWaking = ({ state, quietSince, closeRequestedAt }: ConversationLock): boolean =>
  state === 'assigned' && quietSince !== null && closeRequestedAt === null;

async function wakeInTransaction(tx: Queryable, key: ConversationKey): Promise<WakeOutcome> {
  const { workspaceId, contactId, conversationId } = key;
  // One that was given to its agent by hand when it was opened has no team.
  const defaultTeamId = await readDefaultTeam(tx, workspaceId);
  const before = (await readConversation(tx, workspaceId, conversationId))!;
  const teamId = before.teamId ?? defaultTeamId;
  const { lock, conversation } = (await holdConversation(tx, workspaceId, conversationId, { teamIds: [teamId] }))!;
  if (conversation.teamId !== before.teamId) throw new ConcurrentChange('it was moved to another team meanwhile');
  if (!awaitsWaking(conversation) || !(await hasWrittenSince(tx, key))) return 'unchanged';
  const { units } = conversation;
  const agentId = conversation.agentId!;
  const agent = lock.agents.get(agentId)!;
  // Its agent holds nothing for it, so it needs as much room as a new one.
  const refusal = refuseAgent(agent, { ...conversation, agentId: null }, { agentId, force: false });
  if (agent.presence !== 'online' || refusal !== null) {
    await returnToQueue(tx, lock, key, conversation, { reason: 'woken_without_room', teamId });
    await drainQueues(tx, lock, { explain: [conversationId] });
    return 'returned';
  }
  await countAgain(tx, key, { ...conversation, agentId });
  const data = { agentId, units };
  await recordEvents(tx, workspaceId, [{ type: 'conversation.woken', conversationId, contactId, data }]);
  await rearm(tx, lock, key, { ...conversation, quietSince: null });
  return 'kept';
}

/** A late call, for a message that came before it went quiet, finds none. */
async function hasWrittenSince(tx: Queryable, { workspaceId, conversationId }: ConversationKey): Promise<boolean> {
  const { rows } = await tx.query<{ since: boolean }>({
    name: 'read-written-since-quiet',
    text: `SELECT m.received_at >= v.quiet_since AS since
           FROM conversations v
           JOIN messages m ON m.workspace_id = v.workspace_id AND m.conversation_id = v.id AND m.direction = 'inbound'
           WHERE v.workspace_id = $1 AND v.id = $2
           ORDER BY m.sequence DESC LIMIT 1`,
    values: [workspaceId, conversationId],
  });
  return rows[0]?.since ?? false;
}

/** The caller holds agent and conversation and has checked for room. */
async function countAgain(
  tx: Queryable,
  { workspaceId, conversationId }: ConversationKey,
  { agentId, units, channel }: Pick<ConversationLock, 'units' | 'channel'> & { agentId: string },
): Promise<void> {
  await tx.query({
    name: 'count-again',
    text: `WITH taken AS (
             UPDATE agents
             SET load = load + $4,
                 channel_loads = ${addConversationOn('$5')}
             WHERE workspace_id = $1 AND id = $3
           )
           UPDATE conversations SET quiet_since = NULL, version = version + 1, progressed_at = now()
           WHERE workspace_id = $1 AND id = $2`,
    values: [workspaceId, conversationId, agentId, units, channel],
  });
}
