import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { noProgress } from '../routing/flow-progress.ts';
import type { Phase } from '../routing/phase.ts';
import type { Source } from '../routing/conversation.ts';
import { assignOrQueue, giveToAgent, type AssignTarget } from './assignment.ts';
import { refuseAgent } from './agent-room.ts';
import { ConcurrentChange, runStatement, transact, type Queryable } from './database.ts';
import { chooseFlow, readFlowVersions, type FlowChoice } from './flow-choice.ts';
import {
  assertTeamsHeld,
  lockContact,
  lockMatching,
  readConversation,
  readTeamsOfAgents,
  type ContactKey,
} from './locks.ts';
import { enqueueNudges } from './outbox.ts';
import { lookAtContacts, type Pending } from './pending-contacts.ts';
import { handOnInput } from './step-inputs.ts';
import { readDefaultTeam } from './teams.ts';

export interface Opening {
  /** Where the contact is now. */
  readonly phase: Phase;
  readonly opened: boolean;
  /** Triggers that could not be decided and counted as false. */
  readonly triggerErrors: number;
}

/** As `openForContacts`, and as often as it takes: never `pending`. */
export async function openForContact(pool: pg.Pool, contact: ContactKey): Promise<Opening> {
  for (let attempt = 1; attempt <= maxAttempts; attempt += 1) {
    const [opening] = await openForContacts(pool, [contact]);
    if (opening!.phase.kind !== 'pending') return opening!;
  }
  throw new ConcurrentChange('the contact wrote again and again while its conversation was to be opened');
}

const maxAttempts = 10;

/**
 * Opens a conversation for the messages that wait, for each of these contacts unless one is open or none waits. Safe to repeat and to run
 * twice at once.
 *
 * Decided from what was read without a lock, and confirmed under it: the statement that opens locks the contacts in the order of their
 * ids, and leaves out those that have a conversation by then, or have written since (`last_sequence`), or whose messages all went to a
 * conversation that has been closed again meanwhile. Behind it stands the index `conversations_one_open` (I2). So the lock is held
 * for one statement, and two round trips do what took seven, or nine where no flow matched.
 *
 * A contact that is left out is `pending` still, and so is one of several whose lock somebody else holds: one that is held for long must not
 * hold up the others. The caller tries it again alone, which waits for the lock.
 */
export async function openForContacts(pool: pg.Pool, contacts: readonly ContactKey[]): Promise<Opening[]> {
  const looks = await lookAtContacts(pool, contacts);
  const waiting = contacts.flatMap((contact, index) => {
    const { pending } = looks[index]!;
    return pending === null ? [] : [{ contact, pending }];
  });
  const drafts = await draftConversations(pool, waiting);
  const openedIds =
    drafts.length === 0 ? new Set<string>() : await writeConversations(pool, drafts, contacts.length > 1);
  const byContact = new Map(drafts.map((draft) => [draft.contactId, draft]));
  return contacts.map(({ contactId }, index) => {
    const draft = byContact.get(contactId);
    if (draft === undefined || !openedIds.has(draft.conversationId))
      return { phase: looks[index]!.phase, opened: false, triggerErrors: 0 };
    handOn(draft);
    return { phase: phaseOfDraft(draft), opened: true, triggerErrors: draft.flow.triggerErrors.length };
  });
}

interface Draft extends ContactKey {
  readonly conversationId: string;
  readonly pending: Pending;
  readonly flow: FlowChoice;
}

async function draftConversations(
  pool: pg.Pool,
  waiting: readonly { readonly contact: ContactKey; readonly pending: Pending }[],
): Promise<Draft[]> {
  const keys = waiting.flatMap(({ contact: { workspaceId }, pending }) =>
    pending.versionIds.map((versionId) => ({ workspaceId, versionId })),
  );
  const versions = await readFlowVersions(pool, keys);
  return waiting.map(({ contact: { workspaceId, contactId }, pending }) => ({
    workspaceId,
    contactId,
    conversationId: newId(),
    pending,
    flow: chooseFlow(
      pending.versionIds.map((id) => versions.get(id)!),
      pending.facts,
    ),
  }));
}

/** Without a flow, or without steps, there is nothing to find out; without a flow there is nothing to decide either. */
function phaseOfDraft({ conversationId, flow }: Draft): Phase {
  if (flow.kind === 'default_team') return { kind: 'assigning', conversationId };
  return flow.hasEnrichment
    ? { kind: 'enriching', conversationId, overNetwork: flow.usesNetwork }
    : { kind: 'routing', conversationId };
}

const stateOf = (draft: Draft): 'enriching' | 'routing' =>
  phaseOfDraft(draft).kind === 'enriching' ? 'enriching' : 'routing';

/** The flow's steps decide by the same facts as its trigger, a moment later. */
function handOn(draft: Draft): void {
  const { conversationId, flow, pending } = draft;
  if (flow.kind !== 'flow') return;
  const { id: flowVersionId, number: flowVersionNumber, document } = flow.version;
  const input = { version: 1, flow: document, flowVersionId, flowVersionNumber, facts: pending.facts };
  const { lastSequence } = pending;
  const start = { progress: noProgress, heard: { kind: 'nothing' }, lastSequence } as const;
  handOnInput(conversationId, { state: stateOf(draft), input: { ...input, ...start } });
}

/** @returns the ids of those that were opened */
async function writeConversations(pool: pg.Pool, drafts: readonly Draft[], skipHeld: boolean): Promise<Set<string>> {
  const decisions = drafts.map(decisionOf);
  const { rows } = await runStatement<{ id: string }>(pool, {
    name: skipHeld ? 'open-conversations' : 'open-conversation',
    text: skipHeld ? openConversationsSql : openConversationSql,
    values: [
      drafts.map(({ workspaceId }) => workspaceId),
      drafts.map(({ contactId }) => contactId),
      drafts.map(({ pending }) => pending.lastSequence),
      drafts.map(({ conversationId }) => conversationId),
      drafts.map(stateOf),
      drafts.map(({ flow }) => (flow.kind === 'flow' ? flow.version.id : null)),
      drafts.map(({ flow, pending }) => (flow.kind === 'default_team' ? pending.defaultTeamId : null)),
      drafts.map(({ pending }) => pending.channel),
      drafts.map(({ pending }) => pending.units),
      drafts.map(({ flow }) => (flow.kind === 'default_team' ? flow.failure : null)),
      decisions.map((decision) => (decision === null ? null : newId())),
      decisions.map((decision) => (decision === null ? null : JSON.stringify(decision))),
    ],
  });
  return new Set(rows.map(({ id }) => id));
}

/** That a flow was chosen is told by what the flow decides; here only if a trigger asked before its own failed, and might have been meant. */
function decisionOf({ flow, pending: { defaultTeamId: teamId } }: Draft): object | null {
  const { triggerErrors } = flow;
  if (flow.kind === 'default_team')
    return { teamId, branch: null, reason: flow.failure ?? 'no published flow matches', triggerErrors };
  if (triggerErrors.length === 0) return null;
  const { id: flowVersionId, number: flowVersionNumber } = flow.version;
  return { flowVersionId, flowVersionNumber, triggerErrors };
}

// The conversation, its messages, the contact's pointer, what is told and why appear together or not at all. The time is that under the
// contact's lock: by `now()`, a statement that had waited for a close would have opened before it. That all hangs on `attached`, and not
// on `held`, is for the contact that somebody else served and closed between this statement's snapshot and its lock: PostgreSQL looks
// at a message's newest row before it changes it, and finds none that waits.
const writeSql = (locking: string): string => `
  WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::uuid[], $7::uuid[], $8::text[],
                         $9::int[], $10::text[], $11::uuid[], $12::jsonb[])
      AS draft (workspace_id, contact_id, last_sequence, id, state, flow_version_id, team_id, channel, units, failure,
                decision_id, decision)
  ), held AS MATERIALIZED (
    SELECT locked.*, clock_timestamp() AS at
    FROM (
      SELECT asked.*
      FROM asked JOIN contacts c ON c.workspace_id = asked.workspace_id AND c.id = asked.contact_id
      WHERE c.open_conversation_id IS NULL AND c.last_sequence = asked.last_sequence
      ORDER BY c.id FOR NO KEY UPDATE OF c ${locking}
    ) locked
  ), attached AS (
    UPDATE messages m SET conversation_id = held.id
    FROM held
    WHERE m.workspace_id = held.workspace_id AND m.contact_id = held.contact_id AND m.conversation_id IS NULL
    RETURNING m.workspace_id, m.contact_id, m.conversation_id, m.id, m.sequence
  ), opened AS (
    INSERT INTO conversations
      (workspace_id, id, contact_id, state, source, flow_version_id, team_id, opened_at, routed_at, channel, units, fallback_reason)
    SELECT workspace_id, id, contact_id, state, 'contact', flow_version_id, team_id, at,
           CASE WHEN team_id IS NOT NULL THEN at END, channel, units, failure
    FROM held WHERE id IN (SELECT conversation_id FROM attached)
    RETURNING workspace_id, id, contact_id, flow_version_id, team_id, fallback_reason
  ), pointed AS (
    UPDATE contacts c SET open_conversation_id = opened.id
    FROM opened WHERE c.workspace_id = opened.workspace_id AND c.id = opened.contact_id
  ), decided AS (
    INSERT INTO decisions (workspace_id, id, conversation_id, kind, detail)
    SELECT held.workspace_id, held.decision_id, held.id, 'routing', held.decision
    FROM held JOIN opened USING (id) WHERE held.decision_id IS NOT NULL
  ), told AS (
    INSERT INTO events (workspace_id, type, conversation_id, contact_id, data)
    SELECT workspace_id, type, conversation_id, contact_id, data
    FROM (
      SELECT workspace_id, 0 AS sequence, 'conversation.opened' AS type, id AS conversation_id, contact_id,
             jsonb_build_object('source', 'contact', 'flowVersionId', flow_version_id) AS data
      FROM opened
      UNION ALL
      SELECT workspace_id, sequence, 'message.received', conversation_id, contact_id,
             jsonb_build_object('messageId', id, 'sequence', sequence)
      FROM attached
      UNION ALL
      SELECT workspace_id, 9223372036854775807, 'conversation.fell_back', id, contact_id,
             jsonb_build_object('teamId', team_id, 'reason', fallback_reason)
      FROM opened WHERE fallback_reason IS NOT NULL
    ) event
    ORDER BY contact_id, sequence
  )
  SELECT id FROM opened`;

const openConversationSql = writeSql('');
const openConversationsSql = writeSql('SKIP LOCKED');

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
    const contact = await lockContact(tx, { workspaceId, contactId });
    if (contact === null) return { kind: 'unknown_contact' };
    if (contact.openConversationId !== null)
      return { kind: 'already_open', conversationId: contact.openConversationId };
    const teamId = to.kind === 'agent' ? null : to.kind === 'team' ? to.teamId : await readDefaultTeam(tx, workspaceId);
    const agentIds = to.kind === 'agent' ? [to.agentId] : [];
    const teamIds = teamId === null ? await readTeamsOfAgents(tx, workspaceId, agentIds) : [teamId];
    const lock = await lockMatching(tx, workspaceId, { teamIds, agentIds });
    assertTeamsHeld(lock);
    if (teamId !== null && !lock.teams.has(teamId)) return { kind: 'unknown_team' };
    const [look] = await lookAtContacts(tx, [request]);
    const { channel, units } = look!.pending ?? { channel: null, units: 1 };
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
