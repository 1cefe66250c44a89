/**
 * The life of a conversation. A person may act in every open state: assign it, put it back into a queue, or close it, while the flow is still at
 * work; the flow's own events (`enriched`, `routed`, `waited`) count only in the state that expects them, so that a late step changes nothing.
 */
export const TRANSITIONS: Readonly<
  Record<ConversationState, Readonly<Record<ConversationEvent, ConversationState | null>>>
> = {
  enriching: {
    enriched: 'routing',
    routed: null,
    waited: null,
    assigned: 'assigned',
    unassigned: 'waiting',
    closed: 'closed',
  },
  routing: {
    enriched: null,
    routed: 'routing',
    waited: 'waiting',
    assigned: 'assigned',
    unassigned: 'waiting',
    closed: 'closed',
  },
  waiting: {
    enriched: null,
    routed: null,
    waited: null,
    assigned: 'assigned',
    unassigned: 'waiting',
    closed: 'closed',
  },
  assigned: {
    enriched: null,
    routed: null,
    waited: null,
    assigned: 'assigned',
    unassigned: 'waiting',
    closed: 'closed',
  },
  closed: { enriched: null, routed: null, waited: null, assigned: null, unassigned: null, closed: null },
};

/** The state after the event, or null when the event means nothing in that state and must be ignored or refused. */
export function nextState(state: ConversationState, event: ConversationEvent): ConversationState | null {
  return TRANSITIONS[state][event];
}

export type ConversationState = 'enriching' | 'routing' | 'waiting' | 'assigned' | 'closed';

/**
 * - `enriched`: the enrichment steps are done, or were given up.
 * - `routed`: the team and priority are chosen.
 * - `waited`: no agent of the team had room.
 * - `assigned`: an agent has it, chosen by the strategy or by a person; from `assigned` it is a reassignment.
 * - `unassigned`: it goes (back) into the queue of a team.
 * - `closed`: the close was executed.
 */
export type ConversationEvent = 'enriched' | 'routed' | 'waited' | 'assigned' | 'unassigned' | 'closed';

/** Who opened the conversation; a flow runs only for `contact`. */
export type Source = 'contact' | 'user' | 'api';

/** Only `online` agents are given work. */
export type Presence = 'online' | 'away' | 'offline';
