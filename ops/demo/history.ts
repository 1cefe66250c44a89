import type { FeedEvent } from './client.ts';

/**
 * What the event feed has told about the demo's own contacts. Other contacts' events are in the feed too. A contact's first events may
 * come before the answer that tells its id, so events of unknown contacts are kept until somebody claims them.
 */
export interface History {
  take(event: FeedEvent): void;
  claimContact(contactId: string): void;
  /** Called for each event of ours, after it is counted. */
  onEvent(listener: (event: FeedEvent) => void): void;
  readonly conversations: ReadonlyMap<string, Trace>;
  /** Messages that the feed has told to belong to a conversation. */
  readonly attachedMessageIds: ReadonlySet<string>;
  /** Agents that somebody gave more than their capacity on purpose. */
  readonly forcedAgentIds: ReadonlySet<string>;
  readonly mostWaiting: number;
  count(): Counts;
  /** Events of ours in their order. */
  listEvents(): FeedEvent[];
  lastEventAtMs(): number;
}

export interface Trace {
  readonly id: string;
  readonly contactId: string;
  state: 'opening' | 'waiting' | 'assigned' | 'closing' | 'closed';
  hasWaited: boolean;
  agentId: string | null;
  readonly openedAtMs: number;
  assignedAtMs: number | null;
}

export type Counts = Record<Trace['state'], number> & { opened: number; open: number };

export function createHistory(): History {
  const own = new Set<string>();
  const unclaimed = new Map<string, FeedEvent[]>();
  const events: FeedEvent[] = [];
  const conversations = new Map<string, Trace>();
  const attachedMessageIds = new Set<string>();
  const forcedAgentIds = new Set<string>();
  const listeners: ((event: FeedEvent) => void)[] = [];
  let mostWaiting = 0;
  let lastEventAtMs = Date.now();

  function count(): Counts {
    const counts: Counts = { opening: 0, waiting: 0, assigned: 0, closing: 0, closed: 0, opened: 0, open: 0 };
    for (const { state } of conversations.values()) {
      counts[state] += 1;
      counts.opened += 1;
      if (state !== 'closed') counts.open += 1;
    }
    return counts;
  }

  function add(event: FeedEvent): void {
    events.push(event);
    lastEventAtMs = Date.now();
    if (event.type === 'message.received') attachedMessageIds.add(String(event.data['messageId']));
    applyEvent(conversations, event);
    if (event.type === 'conversation.waiting') mostWaiting = Math.max(mostWaiting, count().waiting);
    for (const listener of listeners) listener(event);
  }

  return {
    conversations,
    attachedMessageIds,
    forcedAgentIds,
    count,
    get mostWaiting() {
      return mostWaiting;
    },
    lastEventAtMs: () => lastEventAtMs,
    onEvent: (listener) => void listeners.push(listener),
    listEvents: () => events.toSorted((left, right) => left.id - right.id),
    take(event) {
      if (event.data['forced'] === true) forcedAgentIds.add(String(event.data['agentId']));
      const { contactId } = event;
      if (contactId === null) return;
      if (own.has(contactId)) add(event);
      else unclaimed.set(contactId, [...(unclaimed.get(contactId) ?? []), event]);
    },
    claimContact(contactId) {
      if (own.has(contactId)) return;
      own.add(contactId);
      for (const event of unclaimed.get(contactId) ?? []) add(event);
      unclaimed.delete(contactId);
    },
  };
}

function applyEvent(conversations: Map<string, Trace>, event: FeedEvent): void {
  const { type, conversationId: id, contactId, data } = event;
  if (id === null || contactId === null) return;
  const atMs = Date.parse(event.at);
  const known = conversations.get(id);
  if (type === 'conversation.opened' && known === undefined) {
    const opened = { id, contactId, openedAtMs: atMs };
    conversations.set(id, { ...opened, state: 'opening', hasWaited: false, agentId: null, assignedAtMs: null });
  }
  if (known === undefined) return;
  switch (type) {
    case 'conversation.waiting':
      Object.assign(known, { state: 'waiting', hasWaited: true, agentId: null });
      break;
    case 'conversation.assigned':
      Object.assign(known, { agentId: data['agentId'], assignedAtMs: known.assignedAtMs ?? atMs });
      // The feed keeps its order: an assignment never follows the close request.
      known.state = 'assigned';
      break;
    case 'conversation.close_requested':
      known.state = 'closing';
      break;
    case 'conversation.closed':
      known.state = 'closed';
      break;
  }
}
