import type { AcceptedMessage, Conversation, FeedEvent, Message } from './client.ts';

/**
 * Looks at everything that the run has sent, what was answered, and what the API tells afterwards, and names every broken promise; an
 * empty list is the only good outcome. A pure function of the evidence: the threads and the feed are two independent tellings, and both
 * must hold.
 */
export function judge(evidence: Evidence): Fault[] {
  return [
    ...judgeDeliveries(evidence),
    ...judgeMessages(evidence),
    ...judgeConversations(evidence),
    ...judgeFeed(evidence),
    ...judgeSequences(evidence),
    ...judgeAgents(evidence),
  ];
}

export interface Evidence {
  readonly deliveries: readonly Delivery[];
  readonly contacts: readonly ContactEvidence[];
  /** Every message that was accepted, as GET /v1/messages/{id} shows it; null where that answers 404. */
  readonly messages: ReadonlyMap<string, Message | null>;
  /** The feed's events of these contacts, in its order. */
  readonly events: readonly FeedEvent[];
  readonly agents: readonly { readonly id: string; readonly name: string; readonly capacity: number }[];
  /** What was seen of agents whose load was above their capacity although nobody forced it. */
  readonly overloads: readonly string[];
}

/** One message of a contact, posted at least once. */
export interface Delivery {
  readonly contactName: string;
  readonly channel: string;
  readonly externalId: string;
  readonly answers: AcceptedMessage[];
  readonly refusals: string[];
  /** Posts that got no answer: whether they were taken in is not known. */
  lost: number;
}

export interface ContactEvidence {
  readonly contactId: string;
  readonly name: string;
  readonly conversations: readonly { readonly conversation: Conversation; readonly thread: readonly Message[] }[];
}

export interface Fault {
  readonly rule: Rule;
  readonly detail: string;
}

export const rules = {
  accepted: 'every message is accepted',
  duplicates: 'the same delivery again is answered with the same ids',
  belonging: 'every accepted message belongs to exactly one conversation',
  openings: 'a contact never has two open conversations',
  closing: 'each conversation is closed once, and takes nothing after the request',
  sequence: "a contact's messages are numbered without a gap",
  capacity: 'no agent has more than its capacity',
} as const;

export type Rule = keyof typeof rules;

function judgeDeliveries({ deliveries }: Evidence): Fault[] {
  return deliveries.flatMap(({ contactName, channel, externalId, answers, refusals, lost }) => {
    const name = `${channel} ${externalId} of ${contactName}`;
    const faults: Fault[] = refusals.map((refusal) => ({
      rule: 'accepted',
      detail: `${name} was refused: ${refusal}`,
    }));
    if (answers.length === 0) {
      return refusals.length > 0 ? faults : [...faults, { rule: 'accepted', detail: `${name} was never answered` }];
    }
    const ids = new Set(answers.map(({ messageId, contactId, sequence }) => `${messageId} ${contactId} ${sequence}`));
    if (ids.size > 1) faults.push({ rule: 'duplicates', detail: `${name} got ${ids.size} identities` });
    const fresh = answers.filter(({ duplicate }) => !duplicate).length;
    if (fresh > 1 || (fresh === 0 && lost === 0)) {
      const detail = `${name} was answered ${answers.length} times, ${fresh} of them as new`;
      faults.push({ rule: 'duplicates', detail });
    }
    return faults;
  });
}

function judgeMessages({ deliveries, contacts, messages, events }: Evidence): Fault[] {
  const inThreads = new Map<string, string[]>();
  for (const { conversation, thread } of contacts.flatMap((contact) => contact.conversations)) {
    for (const { id } of thread) inThreads.set(id, [...(inThreads.get(id) ?? []), conversation.id]);
  }
  const inFeed = new Map<string, string[]>();
  for (const { type, data, conversationId } of events) {
    if (type !== 'message.received') continue;
    const id = String(data['messageId']);
    inFeed.set(id, [...(inFeed.get(id) ?? []), String(conversationId)]);
  }
  const owners = new Map<string, string>();
  return deliveries.flatMap((delivery) => {
    const [first] = delivery.answers;
    if (first === undefined) return [];
    const { messageId } = first;
    const faults: Fault[] = [];
    const report = (detail: string) =>
      faults.push({ rule: 'belonging', detail: `message ${messageId} of ${delivery.contactName} ${detail}` });
    const owner = owners.get(messageId);
    if (owner !== undefined) report(`is the answer to both ${owner} and ${delivery.externalId}`);
    owners.set(messageId, delivery.externalId);
    const threads = inThreads.get(messageId) ?? [];
    if (threads.length !== 1) report(`is in ${threads.length} threads`);
    const told = inFeed.get(messageId) ?? [];
    if (told.length !== 1) report(`was told ${told.length} times by the feed`);
    const stored = messages.get(messageId);
    if (stored === undefined || stored === null) report('is not found');
    else if (stored.conversationId === null) report('belongs to no conversation');
    const answered = delivery.answers.map(({ conversationId }) => conversationId).filter((id) => id !== null);
    const all = new Set([...threads, ...told, ...answered, stored?.conversationId].filter((id) => id != null));
    if (all.size > 1) report(`is told to belong to ${all.size} conversations: ${[...all].join(', ')}`);
    return faults;
  });
}

function judgeConversations({ contacts }: Evidence): Fault[] {
  return contacts.flatMap(({ name, conversations }) => {
    const faults: Fault[] = [];
    const inOrder = conversations
      .map(({ conversation }) => conversation)
      .toSorted((left, right) => Date.parse(left.openedAt) - Date.parse(right.openedAt) || compare(left.id, right.id));
    inOrder.forEach((conversation, index) => {
      const { id, state, closedAt, openedAt } = conversation;
      const next = inOrder[index + 1];
      if (state !== 'closed' || closedAt === null) {
        faults.push({ rule: 'closing', detail: `conversation ${id} of ${name} is still ${state}` });
      }
      if (next !== undefined && (closedAt === null || Date.parse(closedAt) > Date.parse(next.openedAt))) {
        const detail = `${name}: ${next.id} was opened at ${next.openedAt} while ${id} was open (${openedAt} to ${closedAt})`;
        faults.push({ rule: 'openings', detail });
      }
    });
    return faults;
  });
}

/** The order of the feed is the order of happening: it shows what times alone might hide. */
function judgeFeed({ contacts, events }: Evidence): Fault[] {
  const eventsOf = new Map<string | null, FeedEvent[]>();
  for (const event of events) eventsOf.set(event.contactId, [...(eventsOf.get(event.contactId) ?? []), event]);
  return contacts.flatMap(({ contactId, name, conversations }) => {
    const faults: Fault[] = [];
    const opened = new Set<string>();
    const requested = new Set<string>();
    const closed = new Set<string>();
    let open: string | null = null;
    for (const { type, conversationId, id: eventId } of eventsOf.get(contactId) ?? []) {
      if (conversationId === null) continue;
      const report = (rule: Rule, what: string) =>
        faults.push({ rule, detail: `${name}: event ${eventId} ${what} (${conversationId})` });
      if (type === 'conversation.opened') {
        if (opened.has(conversationId)) report('openings', 'opens the same conversation a second time');
        if (open !== null) report('openings', `opens a conversation while ${open} is open`);
        opened.add(conversationId);
        open = conversationId;
      } else if (type === 'conversation.close_requested') {
        requested.add(conversationId);
      } else if (type === 'conversation.closed') {
        if (closed.has(conversationId)) report('closing', 'closes the same conversation a second time');
        closed.add(conversationId);
        if (open === conversationId) open = null;
      } else if (type.startsWith('message.')) {
        if (requested.has(conversationId)) report('closing', 'adds a message after the close request');
        else if (open !== conversationId) report('closing', 'adds a message to a conversation that is not open');
      }
    }
    for (const { conversation } of conversations) {
      const { id } = conversation;
      if (!opened.has(id))
        faults.push({ rule: 'openings', detail: `${name}: the feed never told the opening of ${id}` });
      if (!closed.has(id)) faults.push({ rule: 'closing', detail: `${name}: the feed never told the close of ${id}` });
      opened.delete(id);
    }
    for (const id of opened) faults.push({ rule: 'openings', detail: `${name}: ${id} was opened and is not listed` });
    return faults;
  });
}

function judgeSequences({ contacts, deliveries }: Evidence): Fault[] {
  const answered = new Map(deliveries.flatMap(({ answers }) => answers).map((answer) => [answer.messageId, answer]));
  return contacts.flatMap(({ name, conversations }) => {
    const messages = conversations.flatMap(({ thread }) => thread);
    const numbers = messages.map(({ sequence }) => sequence).toSorted((left, right) => left - right);
    const wrong = numbers.findIndex((sequence, index) => sequence !== index + 1);
    const faults: Fault[] = [];
    if (wrong >= 0) {
      const detail = `${name}: number ${wrong + 1} of its ${numbers.length} messages is ${numbers[wrong]}`;
      faults.push({ rule: 'sequence', detail });
    }
    for (const { id, sequence } of messages) {
      const told = answered.get(id)?.sequence ?? sequence;
      if (told !== sequence) {
        faults.push({ rule: 'sequence', detail: `${name}: message ${id} was answered as ${told} and is ${sequence}` });
      }
    }
    return faults;
  });
}

/** The demo's own conversations alone must fit: other traffic can only take more room. */
function judgeAgents({ events, agents, overloads }: Evidence): Fault[] {
  const faults: Fault[] = overloads.map((detail) => ({ rule: 'capacity', detail }));
  for (const [agentId, most] of countMostAtOnce(events)) {
    const agent = agents.find(({ id }) => id === agentId);
    if (agent !== undefined && most > agent.capacity) {
      faults.push({
        rule: 'capacity',
        detail: `${agent.name} had ${most} at once with a capacity of ${agent.capacity}`,
      });
    }
  }
  return faults;
}

/** By agent: how many of these conversations it had at once, at most. */
export function countMostAtOnce(events: readonly FeedEvent[]): Map<string, number> {
  const agentOf = new Map<string, string>();
  const load = new Map<string, number>();
  const most = new Map<string, number>();
  for (const { type, conversationId, data } of events) {
    if (conversationId === null) continue;
    const isAssigned = type === 'conversation.assigned';
    if (!isAssigned && type !== 'conversation.unassigned' && type !== 'conversation.closed') continue;
    const before = agentOf.get(conversationId);
    if (before !== undefined) load.set(before, (load.get(before) ?? 0) - 1);
    agentOf.delete(conversationId);
    if (!isAssigned) continue;
    const agentId = String(data['agentId']);
    agentOf.set(conversationId, agentId);
    load.set(agentId, (load.get(agentId) ?? 0) + 1);
    most.set(agentId, Math.max(most.get(agentId) ?? 0, load.get(agentId) ?? 0));
  }
  return most;
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
