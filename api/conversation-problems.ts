import { getConversation, type ConversationRow } from '../store/conversations.ts';
import type { ApiDeps } from './dependencies.ts';
import { problem, type Problem } from './problems.ts';

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

function unknownReference(field: string, thing: string): Problem {
  return problem('unknown_reference', { errors: [{ field, message: `There is no ${thing} with this id.` }] });
}
