/** Who gets a conversation: by the flow's last step, or by a person's hand. */
import type pg from 'pg';
import { newId } from '../platform/id.ts';
import type { AgentCandidate } from '../routing/matching.ts';
import { ConcurrentChange, transact, type Queryable } from './database.ts';
import { recordEvents } from './events.ts';
import {
  assertTeamsHeld,
  lockConversation,
  lockMatching,
  readConversation,
  readTeamsOfAgents,
  withLoad,
  type ConversationLock,
} from './locks.ts';
import { applyMatches, decideMatches, drainQueues } from './matching.ts';
import { readDefaultTeam } from './teams.ts';

export interface ConversationKey {
  readonly workspaceId: string;
  readonly contactId: string;
  readonly conversationId: string;
}

export type AssignTarget =
  | { readonly kind: 'agent'; readonly agentId: string; readonly force: boolean }
  | { readonly kind: 'team'; readonly teamId: string }
  /** The queue of its team, else of the workspace's default team. */
  | { readonly kind: 'queue' };

/**
 * The flow's last step: to an agent of the team with room, else into the team's queue. Holding the team's lock from looking for
 * an agent until the conversation is queued, it cannot miss room that is freed at the same moment.
 *
 * @returns false when the conversation is no longer where this step expects it, and nothing was done
 */
export async function assignRouted(pool: pg.Pool, key: ConversationKey): Promise<boolean> {
  const before = await readConversation(pool, key.workspaceId, key.conversationId);
  if (before === null || !awaitsAssignment(before)) return false;
  return transact(pool, async (tx) => {
    const lock = await lockMatching(tx, key.workspaceId, { teamIds: [before.teamId!] });
    const conversation = await lockConversation(tx, key.workspaceId, key.conversationId);
    if (conversation === null || !awaitsAssignment(conversation)) return false;
    if (conversation.teamId !== before.teamId) throw new ConcurrentChange('the team changed');
    const [match] = decideMatches(lock, [
      {
        conversationId: key.conversationId,
        teamId: conversation.teamId!,
        priority: conversation.priority,
        units: conversation.units,
        waitingSinceMs: (conversation.waitingSince ?? conversation.routedAt!).getTime(),
      },
    ]);
    if (match!.agentId === null) {
      await queueConversation(tx, key, conversation.teamId!, match!.explanation);
    } else {
      await applyMatches(tx, lock, [match!]);
    }
    return true;
  });
}

const awaitsAssignment = (conversation: ConversationLock): boolean =>
  conversation.state === 'routing' && conversation.routedAt !== null && conversation.closeRequestedAt === null;

export type ManualAssignResult = {
  readonly kind: 'done' | 'not_found' | 'closed' | 'closing' | 'unknown_agent' | 'unknown_team' | 'no_room';
};

/**
 * A person decides: to an agent, to a team, or back to the queue of its team. It wins over the flow, whose later steps find the
 * conversation moved on and change nothing. Freed room drains the queues of every team it concerns in the same transaction.
 */
export async function assignManually(
  pool: pg.Pool,
  request: {
    workspaceId: string;
    conversationId: string;
    to: AssignTarget;
    note?: string;
    byAgentId: string | null;
  },
): Promise<ManualAssignResult> {
  const { workspaceId, conversationId, to } = request;
  return transact(pool, async (tx): Promise<ManualAssignResult> => {
    const before = await readConversation(tx, workspaceId, conversationId);
    if (before === null) return { kind: 'not_found' };
    const teamId =
      to.kind === 'agent'
        ? null
        : to.kind === 'team'
          ? to.teamId
          : (before.teamId ?? (await readDefaultTeam(tx, workspaceId)));
    const agentIds = [before.agentId, to.kind === 'agent' ? to.agentId : null].filter((id) => id !== null);
    const teamIds = await readTeamsOfAgents(tx, workspaceId, agentIds);
    if (teamId !== null) teamIds.push(teamId);
    const lock = await lockMatching(tx, workspaceId, { teamIds, agentIds });
    for (const agentId of agentIds) assertTeamsHeld(lock, agentId);
    const conversation = (await lockConversation(tx, workspaceId, conversationId))!;
    if (conversation.state === 'closed') return { kind: 'closed' };
    if (conversation.closeRequestedAt !== null) return { kind: 'closing' };
    if (conversation.agentId !== before.agentId || conversation.teamId !== before.teamId) {
      throw new ConcurrentChange('the conversation was assigned meanwhile');
    }
    const key = { workspaceId, contactId: conversation.contactId, conversationId };
    if (to.kind === 'agent') {
      const refusal = refuseAgent(lock.agents.get(to.agentId), conversation, to);
      if (refusal !== null) return { kind: refusal };
      if (conversation.agentId === to.agentId) return { kind: 'done' };
      await freeAgent(tx, key, conversation);
      await giveToAgent(tx, {
        ...key,
        units: conversation.units,
        agentId: to.agentId,
        force: to.force,
        note: request.note ?? null,
        byAgentId: request.byAgentId,
      });
    } else {
      if (!lock.teams.has(teamId!)) return { kind: 'unknown_team' };
      await freeAgent(tx, key, conversation);
      if (conversation.agentId !== null) {
        await recordEvents(tx, workspaceId, [
          {
            type: 'conversation.unassigned',
            conversationId,
            contactId: key.contactId,
            data: { agentId: conversation.agentId, byAgentId: request.byAgentId, note: request.note ?? null },
          },
        ]);
      }
      await queueConversation(tx, key, teamId!, {
        manual: true,
        chosen: null,
        teamId,
        note: request.note ?? null,
        byAgentId: request.byAgentId,
      });
    }
    const freed = withLoad(lock, conversation.agentId ?? '', -conversation.units);
    await drainQueues(tx, to.kind === 'agent' ? withLoad(freed, to.agentId, conversation.units) : freed);
    return { kind: 'done' };
  });
}

function refuseAgent(
  agent: AgentCandidate | undefined,
  conversation: ConversationLock,
  to: { agentId: string; force: boolean },
): 'unknown_agent' | 'no_room' | null {
  if (agent === undefined) return 'unknown_agent';
  if (conversation.agentId === to.agentId || to.force) return null;
  return agent.load + conversation.units > agent.capacity ? 'no_room' : null;
}

/** Gives back what an assigned conversation costs its agent. The caller holds both, and drains afterwards. */
export async function freeAgent(tx: Queryable, key: ConversationKey, conversation: ConversationLock): Promise<void> {
  if (conversation.agentId === null) return;
  await tx.query({
    name: 'free-agent',
    text: 'UPDATE agents SET load = load - $3 WHERE workspace_id = $1 AND id = $2',
    values: [key.workspaceId, conversation.agentId, conversation.units],
  });
}

/** Assigns by hand. The caller holds agent and conversation and has checked for room; `force` goes over it, and is recorded. */
export async function giveToAgent(
  tx: Queryable,
  gift: ConversationKey & {
    units: number;
    agentId: string;
    force: boolean;
    note: string | null;
    byAgentId: string | null;
  },
): Promise<void> {
  const { rows } = await tx.query<{ forced: boolean }>({
    name: 'give-to-agent',
    text: `WITH taken AS (
             UPDATE agents SET load = load + $5
             WHERE workspace_id = $1 AND id = $3 AND ($4 OR load + $5 <= capacity)
             RETURNING load > capacity AS forced
           )
           UPDATE conversations
           SET state = 'assigned', agent_id = $3, assigned_at = now(), forced = taken.forced, version = version + 1,
               progressed_at = now()
           FROM taken WHERE workspace_id = $1 AND id = $2
           RETURNING conversations.forced`,
    values: [gift.workspaceId, gift.conversationId, gift.agentId, gift.force, gift.units],
  });
  if (rows.length === 0) throw new ConcurrentChange('room was taken meanwhile');
  const { forced } = rows[0]!;
  await recordDecision(tx, gift, 'assignment', {
    manual: true,
    chosen: gift.agentId,
    forced,
    note: gift.note,
    byAgentId: gift.byAgentId,
  });
  await recordEvents(tx, gift.workspaceId, [
    {
      type: 'conversation.assigned',
      conversationId: gift.conversationId,
      contactId: gift.contactId,
      data: { agentId: gift.agentId, manual: true, forced, byAgentId: gift.byAgentId, note: gift.note },
    },
  ]);
}

/** Puts a conversation into a team's queue. Its wait counts from the first time it was to be assigned, also after a return. */
export async function queueConversation(
  tx: Queryable,
  key: ConversationKey,
  teamId: string,
  explanation: unknown,
): Promise<void> {
  await tx.query({
    name: 'queue-conversation',
    text: `UPDATE conversations
           SET state = 'waiting', team_id = $3, agent_id = NULL, assigned_at = NULL, forced = false,
               routed_at = coalesce(routed_at, now()), waiting_since = coalesce(waiting_since, routed_at, now()),
               version = version + 1, progressed_at = now()
           WHERE workspace_id = $1 AND id = $2`,
    values: [key.workspaceId, key.conversationId, teamId],
  });
  await recordDecision(tx, key, 'assignment', explanation);
  await recordEvents(tx, key.workspaceId, [
    { type: 'conversation.waiting', conversationId: key.conversationId, contactId: key.contactId, data: { teamId } },
  ]);
}

/** Why it is as it is: read by people at `GET /v1/conversations/{id}/decisions`. */
export async function recordDecision(
  tx: Queryable,
  key: ConversationKey,
  kind: 'enrichment' | 'routing' | 'assignment',
  detail: unknown,
): Promise<void> {
  await tx.query({
    name: 'record-decision',
    text: 'INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail) VALUES ($1, $2, $3, $4, $5)',
    values: [key.workspaceId, newId(), key.conversationId, kind, JSON.stringify(detail)],
  });
}
