/**
 * Closing is a request. The caller's transaction stores it with an outbox row; the actor carries it out. From the request on, new
 * messages stay pending and nobody may reply or reassign, so every message is on one side of it.
 */
import type pg from 'pg';
import { groupBy } from '../platform/group-by.ts';
import { phaseOf, type Phase } from '../routing/phase.ts';
import { publishMoment } from './assignment-metrics.ts';
import { readMessageTimes, rearm } from './clocks.ts';
import { findNoteFaults, type NoteFault, type NoteRules } from './close-notes.ts';
import { requestIfFit, type CloseRequest } from './close-request.ts';
import type { ConversationRow } from './conversations.ts';
import { ConcurrentChange, transact, type Queryable } from './database.ts';
import { changeRoom, sumRoom } from './agent-room.ts';
import { holderOf, holdConversation, lockContact, readConversation, type ConversationKey } from './locks.ts';
import { drainFreed } from './matching.ts';
import { shardSql, wakeRelaysSql } from './outbox.ts';
import { readPhase } from './phases.ts';
import { isQueued } from './queue-heads.ts';
import { tellWithdrawals } from './queueing.ts';
import type { Freed } from './rooms.ts';
import { holdClosing, type HeldClosing, type HeldToClose } from './set-locks.ts';

export type CloseRequestResult =
  /** As it is from now on. */
  | { readonly kind: 'requested'; readonly conversation: ConversationRow }
  | { readonly kind: 'already_requested' | 'already_closed' | 'not_found' | 'unknown_agent' }
  /** The workspace's rules want other notes; nothing was requested. */
  | { readonly kind: 'unfit_notes'; readonly faults: readonly NoteFault[]; readonly rules: NoteRules };

/**
 * The first request wins; later ones change nothing. The workspace's rules about category and summary hold for a request that takes
 * effect, so a repeated one is answered as before whatever they have become.
 *
 * One statement, where there were six round trips, and one more for the answer: it holds the contact, and changes the conversation if that is still open
 * by then and the notes are as the rules want them. A request that took no effect is explained by what the statement has read besides, and by a look at
 * the conversation: what is closed, or to be closed, remains so.
 */
export async function requestClose(pool: pg.Pool, request: CloseRequest): Promise<CloseRequestResult> {
  const { workspaceId, conversationId } = request;
  const judged = await requestIfFit(pool, request);
  if (judged === null) return { kind: 'not_found' };
  if (judged.requested !== null) return { kind: 'requested', conversation: judged.requested };
  if (!judged.knowsAgent) return { kind: 'unknown_agent' };
  const conversation = (await readConversation(pool, workspaceId, conversationId))!;
  if (conversation.state === 'closed') return { kind: 'already_closed' };
  if (conversation.closeRequestedAt !== null) return { kind: 'already_requested' };
  return { kind: 'unfit_notes', faults: findNoteFaults(judged.rules, request), rules: judged.rules };
}

/** Who or what wanted the close: an agent or a program by the API, a branch or a step of its flow, or a rule. */
type CloseReason = 'agent' | 'flow' | 'inactivity' | 'nobody_available';

/**
 * Makes a close request. The caller holds the contact, so that every message is on one side of it. Flows and rules that close are exempt from what
 * the workspace wants to be noted. A question that its flow has asked waits no longer.
 *
 * @returns false when a close was requested before, and nothing was done
 */
export async function writeCloseRequest(
  tx: Queryable,
  { workspaceId, contactId, conversationId }: ConversationKey,
  close: {
    readonly agentId: string | null;
    readonly category: string | null;
    readonly summary: string | null;
    readonly reason: CloseReason;
  },
): Promise<boolean> {
  const { agentId, category, summary, reason } = close;
  const { rowCount } = await tx.query({
    name: 'request-close',
    text: `WITH requested AS (
             UPDATE conversations
             SET close_requested_at = now(), close_category = $4, close_summary = $5, close_reason = $6,
                 awaiting_after_sequence = NULL, answer_until = NULL, version = version + 1, progressed_at = now()
             WHERE workspace_id = $1 AND id = $2 AND close_requested_at IS NULL AND closed_at IS NULL
             RETURNING id
           ), told AS (
             INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
             SELECT $1, 'conversation.close_requested', id, $3, $7::jsonb FROM requested
           ), noted AS (
             INSERT INTO outbox (shard, workspace_id, contact_id, close_conversation_id)
             SELECT ${shardSql('$3::uuid')}, $1, $3, id FROM requested
           )
           SELECT ${wakeRelaysSql} FROM requested`,
    values: [workspaceId, conversationId, contactId, category, summary, reason, JSON.stringify({ agentId, reason })],
  });
  if (rowCount === 0) return false;
  if (reason !== 'agent') publishMoment({ kind: 'closed_by_rule', reason });
  return true;
}

/**
 * When the inactivity clock has run out: asks for the close of a conversation in which neither side has written for as long as the workspace
 * sets, counted at the earliest from its assignment. If somebody wrote or the rule changed meanwhile, the clock is set anew.
 *
 * @returns whether this call asked for it
 */
export async function closeInactive(pool: pg.Pool, key: ConversationKey): Promise<boolean> {
  const { workspaceId, contactId, conversationId } = key;
  return transact(pool, async (tx) => {
    await lockContact(tx, { workspaceId, contactId });
    const held = await holdConversation(tx, workspaceId, conversationId);
    if (held === null) return false;
    const { lock, conversation } = held;
    if (conversation.state !== 'assigned' || conversation.closeRequestedAt !== null) return false;
    const { inactivityMinutes } = lock.settings;
    const [times] = await readMessageTimes(tx, workspaceId, [conversationId]);
    const lastMs = Math.max(conversation.assignedAt!.getTime(), times?.lastMessageAtMs ?? 0);
    if (inactivityMinutes === null || lastMs + inactivityMinutes * 60_000 > lock.nowMs) {
      await rearm(tx, lock, key, conversation);
      return false;
    }
    return writeCloseRequest(tx, key, { agentId: null, category: null, summary: null, reason: 'inactivity' });
  });
}

export interface Closed {
  /** Where the contact is now. */
  readonly phase: Phase;
  /** Whether this call closed it. */
  readonly closed: boolean;
}

/**
 * Carries closes out, one or many: the contacts are free for their next conversations, and the agents' room goes to whoever waits for it, in the
 * same transaction. Safe to repeat; a conversation that is closed, or another contact's, is left alone.
 *
 * Many are closed as if one after the other in the order given, in one transaction for each workspace. Its statements are as many for a
 * hundred as for one (`npm run bench -- assign`): four round trips, three more where somebody waits for the room; they were thirteen and more. In
 * sets of a hundred a close takes 0.1 ms of PostgreSQL's CPU where it took 2.3.
 */
export async function executeCloses(pool: pg.Pool, keys: readonly ConversationKey[]): Promise<Closed[]> {
  const outcomes: Closed[] = [];
  for (const [workspaceId, places] of groupBy([...keys.keys()], (place) => keys[place]!.workspaceId)) {
    const members = places.map((place) => keys[place]!);
    const closed = await transact(pool, (tx) => closeInWorkspace(tx, workspaceId, members));
    for (const [i, place] of places.entries()) outcomes[place] = closed[i]!;
  }
  return outcomes;
}

/** The same for one. */
export async function executeClose(pool: pg.Pool, key: ConversationKey): Promise<Closed> {
  return (await executeCloses(pool, [key]))[0]!;
}

async function closeInWorkspace(
  tx: Queryable,
  workspaceId: string,
  keys: readonly ConversationKey[],
): Promise<readonly Closed[]> {
  const held = await holdClosing(tx, workspaceId, keys);
  const closing = new Map<string, HeldToClose>();
  for (const { contactId, conversationId } of keys) {
    const conversation = held.conversations.get(conversationId);
    if (conversation?.contactId === contactId) closing.set(contactId, conversation);
  }
  const pendingIds = await closeHeld(tx, held, [...closing.values()]);
  const outcomes: Closed[] = [];
  for (const key of keys) {
    const isNow = closing.get(key.contactId)?.conversationId === key.conversationId;
    const phase = isNow ? phaseOf(null, pendingIds.has(key.contactId)) : await readPhase(tx, key);
    // One that is named twice is closed the first time.
    outcomes.push({ phase, closed: isNow && held.conversations.delete(key.conversationId) });
  }
  return outcomes;
}

/** @returns the contacts for whom messages wait */
async function closeHeld(
  tx: Queryable,
  { lock, agents }: HeldClosing,
  closing: readonly HeldToClose[],
): Promise<ReadonlySet<string>> {
  if (closing.length === 0) return new Set();
  const { workspaceId, teams } = lock;
  await tellWithdrawals(tx, workspaceId, closing, 'closed');
  const freed = closing.flatMap((conversation): Freed[] => {
    const agentId = holderOf(conversation);
    return agentId === null ? [] : [{ ...conversation, agentId }];
  });
  const given = sumRoom(freed, -1);
  const { rows } = await tx.query<{ pendingIds: string[]; queuedIds: string[]; otherTeams: boolean }>({
    name: 'close-held',
    text: closeHeldSql,
    values: [
      workspaceId,
      closing.map(({ conversationId }) => conversationId),
      closing.map(({ contactId }) => contactId),
      given.agentIds,
      given.units,
      given.channels,
      [...agents.keys()],
      [...teams.keys()],
    ],
  });
  const { pendingIds, queuedIds, otherTeams } = rows[0]!;
  if (otherTeams) throw new ConcurrentChange('memberships changed');
  if (freed.length > 0 && queuedIds.length > 0) {
    let room = 0;
    for (const { capacity, load } of agents.values()) room += Math.max(0, capacity - load);
    for (const { units } of freed) room += units;
    const queued = { ...lock, teams: new Map(queuedIds.map((teamId) => [teamId, teams.get(teamId)!])) };
    await drainFreed(tx, queued, { freed, heldIds: [...agents.keys()], room });
  }
  return new Set(pendingIds);
}

// Everything that it reads besides is as committed now, under the locks: which of the contacts have written meanwhile, in which of the teams
// anybody waits, and whether the agents have joined a team that is not held. The look into each queue is one step along its index, in
// whatever state the planner's statistics are. Why the lists are hidden in sub-selects: `readCandidates` in locks.ts.
const closeHeldSql = `
  WITH closing AS (
    SELECT * FROM unnest((SELECT $2::uuid[]), (SELECT $3::uuid[])) WITH ORDINALITY AS c (id, contact_id, place)
  ), freed AS (
    UPDATE agents a SET ${changeRoom('a', 'change')}
    FROM unnest((SELECT $4::uuid[]), (SELECT $5::int[]), (SELECT $6::jsonb[])) AS change (agent_id, units, channels)
    WHERE a.workspace_id = $1 AND a.id = change.agent_id
  ), closed AS (
    UPDATE conversations v
    SET state = 'closed', closed_at = clock_timestamp(), close_requested_at = coalesce(close_requested_at, now()),
        offered_agent_id = NULL, offer_expires_at = NULL, awaited_agent_id = NULL, awaited_until = NULL,
        return_at = NULL, awaiting_after_sequence = NULL, answer_until = NULL, due_at = NULL, due_kind = NULL,
        version = version + 1, progressed_at = now()
    FROM closing
    WHERE v.workspace_id = $1 AND v.id = closing.id
    RETURNING v.id, v.contact_id, v.agent_id, v.team_id, v.close_category, closing.place
  ), unbound AS (
    UPDATE contacts c SET open_conversation_id = NULL FROM closing WHERE c.workspace_id = $1 AND c.id = closing.contact_id
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT $1, 'conversation.closed', id, contact_id,
           jsonb_build_object('agentId', agent_id, 'teamId', team_id, 'category', close_category)
    FROM closed ORDER BY place
  )
  SELECT ARRAY(
           SELECT contact_id FROM closing
           WHERE EXISTS (SELECT FROM messages m
                         WHERE m.workspace_id = $1 AND m.contact_id = closing.contact_id AND m.conversation_id IS NULL)
         ) AS "pendingIds",
         ARRAY(
           SELECT team_id FROM unnest((SELECT $8::uuid[])) AS team_id
           WHERE (SELECT v.id FROM conversations v WHERE v.workspace_id = $1 AND v.team_id = team_id.team_id AND ${isQueued('v')}
                  ORDER BY coalesce(v.awaited_agent_id, '00000000-0000-0000-0000-000000000000'::uuid), v.queue_key, v.priority
                  LIMIT 1) IS NOT NULL
         ) AS "queuedIds",
         EXISTS (
           SELECT FROM team_members m
           WHERE m.workspace_id = $1 AND m.agent_id = ANY ((SELECT $7::uuid[])::uuid[]) AND m.team_id <> ALL ((SELECT $8::uuid[])::uuid[])
         ) AS "otherTeams"`;
