/**
 * Where a contact's cycle stands, as its actor sees it: derived from the rows, never stored. A step activity returns it, and
 * the actor's next step follows from it alone.
 */
import type { ConversationState } from './conversation.ts';

export type Phase =
  /** No conversation is open and no message waits for one. */
  | { readonly kind: 'idle' }
  /** No conversation is open, but messages wait for one. */
  | { readonly kind: 'pending' }
  | { readonly kind: 'enriching'; readonly conversationId: string; readonly overNetwork: boolean }
  /** A question waits for the contact's answer: after `waitMs`, or when the contact writes, there is something to look at. */
  | { readonly kind: 'asking'; readonly conversationId: string; readonly waitMs: number }
  | { readonly kind: 'routing'; readonly conversationId: string }
  | { readonly kind: 'assigning'; readonly conversationId: string }
  /** Waiting or assigned: the flow has ended, and only a close goes on from here. */
  | { readonly kind: 'open'; readonly conversationId: string }
  /** A close was requested and is to be carried out. */
  | { readonly kind: 'closing'; readonly conversationId: string };

export interface OpenConversation {
  readonly id: string;
  readonly state: ConversationState;
  readonly routed: boolean;
  readonly closeRequested: boolean;
  readonly enrichesOverNetwork: boolean;
  /** How long a question still waits for its answer to come or to be complete; null where none waits. */
  readonly waitMs: number | null;
}

export function phaseOf(open: OpenConversation | null, hasPending: boolean): Phase {
  if (open === null || open.state === 'closed') return { kind: hasPending ? 'pending' : 'idle' };
  const conversationId = open.id;
  if (open.closeRequested) return { kind: 'closing', conversationId };
  switch (open.state) {
    case 'enriching':
      if (open.waitMs !== null && open.waitMs > 0) return { kind: 'asking', conversationId, waitMs: open.waitMs };
      return { kind: 'enriching', conversationId, overNetwork: open.enrichesOverNetwork };
    case 'routing':
      return { kind: open.routed ? 'assigning' : 'routing', conversationId };
    case 'waiting':
    case 'assigned':
      return { kind: 'open', conversationId };
  }
}

/** Nothing is to be done for the contact until something happens. */
export const isResting = (phase: Phase): phase is Extract<Phase, { kind: 'idle' | 'open' | 'asking' }> =>
  phase.kind === 'idle' || phase.kind === 'open' || phase.kind === 'asking';
