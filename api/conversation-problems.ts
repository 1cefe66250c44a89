import type { NoteFault, NoteRules } from '../store/close-notes.ts';
import { getConversation, type ConversationRow } from '../store/conversations.ts';
import type { NotOffered } from '../store/offers.ts';
import type { ApiDeps } from './dependencies.ts';
import { problem, type FieldFault, type Problem } from './problems.ts';

export async function requireConversation(
  pool: ApiDeps['pool'],
  workspaceId: string,
  conversationId: string,
): Promise<ConversationRow> {
  const conversation = await getConversation(pool, { workspaceId, conversationId });
  if (conversation === null) throw problem('not_found');
  return conversation;
}

export type Refusal =
  'not_found' | 'closed' | 'closing' | 'unknown_contact' | 'unknown_agent' | 'unknown_team' | 'no_room';

/** The problem for what the store refused to do with a conversation. */
export function refuseConversation(kind: Refusal): Problem {
  switch (kind) {
    case 'not_found':
      return problem('not_found');
    case 'closed':
      return problem('conflict.closed');
    case 'closing':
      return problem('conflict.closing');
    case 'no_room':
      return problem('conflict.no_room', {
        errors: [{ field: '/agentId', message: 'has no room', mend: 'Name another agent, or send force: true.' }],
      });
    case 'unknown_contact':
      return unknownReference('/contactId', 'contact');
    case 'unknown_agent':
      return unknownReference('/agentId', 'agent');
    case 'unknown_team':
      return unknownReference('/teamId', 'team');
  }
}

/** The problem for an agent that accepts or rejects what is not offered to it, or no longer. */
export function refuseOfferAnswer({ offeredAgentId, agentId, ended }: NotOffered, askingAgentId: string): Problem {
  const field = '/agentId';
  const extra = { offeredAgentId, agentId };
  if (agentId === askingAgentId) {
    const detail = ended === 'accepted' ? 'This agent has accepted it and has it.' : 'This agent has it.';
    const mend = 'To give it back, send {} to POST /v1/conversations/{id}/assign.';
    return problem('conflict.not_offered', { detail, errors: [{ field, message: 'has it already', mend }], extra });
  }
  const offer = offeredAgentId === null ? '' : ` It is now offered to agent ${offeredAgentId}.`;
  const owner = agentId === null ? '' : ` Agent ${agentId} has it.`;
  const mend =
    agentId === null
      ? 'Wait for the next offer: the event conversation.offered names the agent.'
      : 'Wait for the next offer, or take it with POST /v1/conversations/{id}/assign.';
  const errors = [{ field, message: 'is not the agent to whom it is offered', mend }];
  return problem('conflict.not_offered', { detail: `${describeEnd(ended)}${offer}${owner}`, errors, extra });
}

function describeEnd(ended: NotOffered['ended']): string {
  switch (ended) {
    case null:
      return 'It was never offered to this agent.';
    case 'accepted':
      return 'The agent accepted it, but has it no more.';
    case 'expired':
      return 'The offer to this agent ran out.';
    case 'rejected':
      return 'The agent rejected it.';
    case 'withdrawn':
      return 'The offer to this agent was withdrawn.';
  }
}

function unknownReference(field: string, thing: string): Problem {
  const mend = `Use the id of ${thing === 'agent' ? 'an' : 'a'} ${thing} of this workspace.`;
  return problem('unknown_reference', { errors: [{ field, message: `There is no ${thing} with this id.`, mend }] });
}

/** The problem for a close whose category or summary is not as the workspace's rules have it. */
export const refuseNotes = ({ faults, rules }: { faults: readonly NoteFault[]; rules: NoteRules }): Problem =>
  problem('close_notes', { errors: faults.map((fault) => describeNoteFault(fault, rules)) });

function describeNoteFault({ field: note, fault }: NoteFault, rules: NoteRules): FieldFault {
  const field = `/${note}`;
  switch (fault) {
    case 'not_wanted':
      return { field, message: 'is not wanted in this workspace', mend: 'Leave it out.' };
    case 'missing': {
      const mend = note === 'summary' ? 'Sum up in a sentence what came of it.' : nameCategories(rules);
      return { field, message: 'is required in this workspace', mend };
    }
    case 'unknown':
      return { field, message: 'is none of the close categories', mend: nameCategories(rules) };
  }
}

function nameCategories({ categories, categoryCount }: NoteRules): string {
  if (categoryCount === 0) return 'Say in a word what the conversation was about.';
  const names = categories.map((name) => JSON.stringify(name)).join(', ');
  const unnamed = categoryCount - categories.length;
  const others = `, or one of ${unnamed} more that GET /v1/close-categories lists`;
  return `Use one of: ${names}${unnamed === 0 ? '' : others}.`;
}
