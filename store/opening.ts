import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { joinMessageText, type RoutingFacts } from '../routing/facts.ts';
import { phaseOf, type Phase } from '../routing/phase.ts';
import type { Source } from '../routing/conversation.ts';
import { assignOrQueue, giveToAgent, type AssignTarget } from './assignment.ts';
import { recordDecision } from './decisions.ts';
import { refuseAgent } from './agent-room.ts';
import { transact, type Queryable } from './database.ts';
import { recordEvents } from './events.ts';
import { chooseFlow } from './flow-choice.ts';
import {
  assertTeamsHeld,
  lockContact,
  lockMatching,
  readConversation,
  readTeamsOfAgents,
  type ConversationKey,
} from './locks.ts';
import { enqueueNudges } from './outbox.ts';
import { readPhase } from './phases.ts';
import { readDefaultTeam } from './teams.ts';

/**
 * Opens a conversation for the messages that wait, unless one is open or none waits. Safe to repeat and to run twice at once:
 * everything is decided under the contact's lock, and the index `conversations_one_open` stands behind it (I2).
 *
 * @returns the phase the contact is in now
 */
export async function openForContact(
  pool: pg.Pool,
  ref: { workspaceId: string; contactId: string },
): Promise<{ phase: Phase; opened: boolean }> {
  const phase = await readPhase(pool, ref);
  if (phase.kind !== 'pending') return { phase, opened: false };
  return transact(pool, async (tx) => {
    const contact = await lockContact(tx, ref.workspaceId, ref.contactId);
    const pending = contact?.openConversationId === null ? await readPending(tx, ref) : null;
    if (pending === null) return { phase: await readPhase(tx, ref), opened: false };
    const flow = await chooseFlow(tx, ref.workspaceId, pending.facts);
    const conversationId = newId();
    // Without a flow, or without steps, there is nothing to find out; without a flow there is nothing to decide either.
    const state = flow.kind === 'flow' && flow.hasEnrichment ? 'enriching' : 'routing';
    await insertConversation(tx, {
      ...ref,
      conversationId,
      source: 'contact',
      channel: pending.channel,
      units: pending.units,
      state,
      flowVersionId: flow.kind === 'flow' ? flow.versionId : null,
      teamId: flow.kind === 'flow' ? null : flow.teamId,
    });
    if (flow.kind === 'default_team') {
      const { teamId, failure, triggerErrors } = flow;
      const detail = { teamId, branch: null, reason: failure ?? 'no published flow matches', triggerErrors };
      await recordDecision(tx, { ...ref, conversationId }, 'routing', detail);
      if (failure !== null) await markFallback(tx, { ...ref, conversationId }, { teamId, reason: failure });
    }
    const opened = {
      id: conversationId,
      state,
      routed: flow.kind === 'default_team',
      closeRequested: false,
      enrichesOverNetwork: flow.kind === 'flow' && flow.usesNetwork,
    } as const;
    return { phase: phaseOf(opened, false), opened: true };
  });
}

async function markFallback(
  tx: Queryable,
  { workspaceId, contactId, conversationId }: ConversationKey,
  data: { teamId: string; reason: string },
): Promise<void> {
  await tx.query('UPDATE conversations SET fallback_reason = $3 WHERE workspace_id = $1 AND id = $2', [
    workspaceId,
    conversationId,
    data.reason,
  ]);
  await recordEvents(tx, workspaceId, [{ type: 'conversation.fell_back', conversationId, contactId, data }]);
}

export type OpenByUserResult =
  | { readonly kind: 'opened'; readonly conversationId: string }
  | { readonly kind: 'already_open'; readonly conversationId: string }
  | { readonly kind: 'unknown_contact' | 'unknown_agent' | 'unknown_team' | 'no_room' };

/**
 * Opens a conversation on behalf of a person or a program. No flow runs (I4); messages that wait are attached, and the actor is
 * told, since it will have to close.
 */
export async function openByUser(
  pool: pg.Pool,
  request: {
    workspaceId: string;
    contactId: string;
    source: Exclude<Source, 'contact'>;
    to: AssignTarget;
    byAgentId: string | null;
  },
): Promise<OpenByUserResult> {
  const { workspaceId, contactId, to } = request;
  return transact(pool, async (tx): Promise<OpenByUserResult> => {
    const contact = await lockContact(tx, workspaceId, contactId);
    if (contact === null) return { kind: 'unknown_contact' };
    if (contact.openConversationId !== null)
      return { kind: 'already_open', conversationId: contact.openConversationId };
    const teamId = to.kind === 'agent' ? null : to.kind === 'team' ? to.teamId : await readDefaultTeam(tx, workspaceId);
    const agentIds = to.kind === 'agent' ? [to.agentId] : [];
    const teamIds = teamId === null ? await readTeamsOfAgents(tx, workspaceId, agentIds) : [teamId];
    const lock = await lockMatching(tx, workspaceId, { teamIds, agentIds });
    assertTeamsHeld(lock);
    if (teamId !== null && !lock.teams.has(teamId)) return { kind: 'unknown_team' };
    const pending = await readPending(tx, request);
    const { channel, units } = pending ?? { channel: null, units: 1 };
    if (to.kind === 'agent') {
      const refusal = refuseAgent(lock.agents.get(to.agentId), { channel, units, agentId: null }, to);
      if (refusal !== null) return { kind: refusal };
    }
    const conversationId = newId();
    const ref = { workspaceId, contactId, conversationId };
    const { source } = request;
    await insertConversation(tx, { ...ref, source, state: 'routing', flowVersionId: null, teamId, channel, units });
    const conversation = (await readConversation(tx, workspaceId, conversationId))!;
    if (to.kind === 'agent') {
      const { byAgentId } = request;
      await giveToAgent(tx, lock, {
        ...ref,
        conversation,
        agentId: to.agentId,
        force: to.force,
        note: null,
        byAgentId,
      });
    } else {
      await assignOrQueue(tx, lock, ref, conversation);
    }
    await enqueueNudges(tx, [{ workspaceId, contactId, closeConversationId: null }]);
    return { kind: 'opened', conversationId };
  });
}

interface Pending {
  /** What the trigger looks at: the first messages that wait, and who wrote them. */
  readonly facts: RoutingFacts;
  /** Where the first of them came in, and what a conversation there costs. */
  readonly channel: string;
  readonly units: number;
}

async function readPending(
  tx: Queryable,
  { workspaceId, contactId }: { workspaceId: string; contactId: string },
): Promise<Pending | null> {
  const { rows } = await tx.query<PendingRow>({
    name: 'read-pending-messages',
    text: `SELECT m.text, ch.key, ch.name AS channel_name, ch.units, c.name, c.attributes
           FROM messages m
           JOIN channels ch ON ch.workspace_id = m.workspace_id AND ch.id = m.channel_id
           JOIN contacts c ON c.workspace_id = m.workspace_id AND c.id = m.contact_id
           WHERE m.workspace_id = $1 AND m.contact_id = $2 AND m.conversation_id IS NULL
           ORDER BY m.sequence LIMIT 10`,
    values: [workspaceId, contactId],
  });
  const first = rows[0];
  if (first === undefined) return null;
  return {
    facts: {
      conversation: { source: 'contact', priority: 0 },
      contact: { id: contactId, name: first.name, attributes: first.attributes },
      channel: { key: first.key, name: first.channel_name },
      message: { text: joinMessageText(rows.map((row) => row.text)) },
      fields: {},
    },
    channel: first.key,
    units: first.units,
  };
}

interface PendingRow {
  text: string | null;
  key: string;
  channel_name: string;
  units: number;
  name: string | null;
  attributes: Record<string, unknown>;
}

interface NewConversation {
  readonly workspaceId: string;
  readonly contactId: string;
  readonly conversationId: string;
  readonly source: Source;
  readonly state: 'enriching' | 'routing';
  readonly channel: string | null;
  /** What it takes of an agent's capacity. */
  readonly units: number;
  readonly flowVersionId: string | null;
  /** Set where no flow decides: the conversation counts as routed at once. */
  readonly teamId: string | null;
}

// One statement: the conversation, its messages and the contact's pointer appear together or not at all. The time is that under the contact's
// lock: by `now()`, a transaction that had waited for a close would have opened before it.
const insertConversationSql = `
  WITH opened AS (
    INSERT INTO conversations
      (workspace_id, id, contact_id, state, source, flow_version_id, team_id, opened_at, routed_at, channel, units)
    SELECT $1, $2, $3, $4, $5, $6, $7::uuid, at, CASE WHEN $7::uuid IS NOT NULL THEN at END, $8, $9
    FROM clock_timestamp() AS at
    RETURNING id, source, flow_version_id
  ), attached AS (
    UPDATE messages SET conversation_id = $2
    WHERE workspace_id = $1 AND contact_id = $3 AND conversation_id IS NULL
    RETURNING id, sequence
  ), pointed AS (
    UPDATE contacts SET open_conversation_id = $2 WHERE workspace_id = $1 AND id = $3
  )
  INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
  SELECT $1, type, $2, $3, data
  FROM (
    SELECT 0 AS sequence, 'conversation.opened' AS type,
           jsonb_build_object('source', source, 'flowVersionId', flow_version_id) AS data
    FROM opened
    UNION ALL
    SELECT sequence, 'message.received', jsonb_build_object('messageId', id, 'sequence', sequence) FROM attached
  ) event
  ORDER BY sequence`;

async function insertConversation(tx: Queryable, row: NewConversation): Promise<void> {
  await tx.query({
    name: 'insert-conversation',
    text: insertConversationSql,
    values: [
      row.workspaceId,
      row.conversationId,
      row.contactId,
      row.state,
      row.source,
      row.flowVersionId,
      row.teamId,
      row.channel,
      row.units,
    ],
  });
}
