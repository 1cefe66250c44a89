/**
 * - `enriching`, `routing`: the flow is at work.
 * - `waiting`: in a team's queue, until an agent has room.
 * - `assigned`: an agent has it, chosen by the team's strategy or by a person.
 * - `closed`: for good; the contact's next message opens another.
 *
 * A person may assign, queue or close it in every open state. The flow's own steps count only in the state that expects them, so a
 * late one changes nothing; `phase.ts` says which step each state calls for.
 */
export type ConversationState = 'enriching' | 'routing' | 'waiting' | 'assigned' | 'closed';

/** Who opened the conversation; a flow runs only for `contact`. */
export type Source = 'contact' | 'user' | 'api';

/** Only `online` agents are given work. */
export type Presence = 'online' | 'away' | 'offline';
