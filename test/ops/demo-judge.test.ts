import { describe, expect, test } from 'vitest';
import type { AcceptedMessage, Conversation, FeedEvent, Message } from '../../ops/demo/client.ts';
import { countMostAtOnce, judge, type Delivery, type Evidence, type Rule } from '../../ops/demo/judge.ts';

const base = Date.parse('2026-01-01T10:00:00Z');
const at = (second: number): string => new Date(base + second * 1000).toISOString();

test('finds nothing wrong with a run that kept every promise', () => {
  expect(judge(createEvidence())).toEqual([]);
});

test('accepts an answer that was lost: the delivery then only ever answers as a duplicate', () => {
  const evidence = createEvidence();
  evidence.deliveries[0]!.answers.splice(0, 1);
  evidence.deliveries[0]!.lost = 1;
  expect(judge(evidence)).toEqual([]);
});

describe('names what is wrong when', () => {
  const broken: Record<string, [Rule, (evidence: MutableEvidence) => void]> = {
    'a message was refused': ['accepted', ({ deliveries }) => deliveries[0]!.refusals.push('422')],
    'a message was never answered': ['accepted', ({ deliveries }) => deliveries[0]!.answers.splice(0)],
    'the same delivery got two message ids': [
      'duplicates',
      ({ deliveries }) => (deliveries[0]!.answers[1] = { ...deliveries[0]!.answers[1]!, messageId: 'other' }),
    ],
    'the same delivery was taken in twice': [
      'duplicates',
      ({ deliveries }) => (deliveries[0]!.answers[1] = { ...deliveries[0]!.answers[1]!, duplicate: false }),
    ],
    'a new delivery was called a duplicate': [
      'duplicates',
      ({ deliveries }) => (deliveries[1]!.answers[0] = { ...deliveries[1]!.answers[0]!, duplicate: true }),
    ],
    'two deliveries got one message': [
      'belonging',
      ({ deliveries }) => (deliveries[1]!.answers[0] = { ...deliveries[1]!.answers[0]!, messageId: 'm1' }),
    ],
    'a message is in no thread': ['belonging', ({ first }) => first.thread.splice(0, 1)],
    'a message is in two threads': ['belonging', ({ first, second }) => second.thread.push(first.thread[0]!)],
    'a message is in another conversation than it was answered with': [
      'belonging',
      ({ deliveries }) => (deliveries[1]!.answers[0] = { ...deliveries[1]!.answers[0]!, conversationId: 'c1' }),
    ],
    'a message is gone': ['belonging', ({ messages }) => messages.set('m1', null)],
    'a message belongs to no conversation': [
      'belonging',
      ({ messages }) => messages.set('m1', { ...messages.get('m1')!, conversationId: null }),
    ],
    'the feed tells a message twice': ['belonging', ({ events }) => events.push({ ...events[1]!, id: 99 })],
    'the feed never tells a message': ['belonging', ({ events }) => events.splice(1, 1)],
    'two conversations were open at once by their times': [
      'openings',
      ({ second }) => (second.conversation = { ...second.conversation, openedAt: at(5) }),
    ],
    'two conversations were open at once by the feed': ['openings', ({ events }) => move(events, 'c2 opened', 2)],
    'a conversation was opened twice': ['openings', ({ events }) => events.splice(1, 0, { ...events[0]!, id: 1.5 })],
    'the feed never told an opening': ['openings', ({ events }) => events.splice(0, 1)],
    'the feed told an opening that is not listed': ['openings', ({ contact }) => contact.conversations.splice(1, 1)],
    'a conversation is still open': [
      'closing',
      ({ second }) => (second.conversation = { ...second.conversation, state: 'assigned', closedAt: null }),
    ],
    'a conversation was closed twice': ['closing', ({ events }) => events.push({ ...events[5]!, id: 99 })],
    'a message was added after the close request': ['closing', ({ events }) => move(events, 'c1 m1', 5)],
    'a message was added to a closed conversation': [
      'closing',
      ({ events }) => {
        events.splice(4, 1);
        move(events, 'c1 m1', 5);
      },
    ],
    'a sequence has a gap': ['sequence', ({ second }) => (second.thread[0] = { ...second.thread[0]!, sequence: 4 })],
    'a sequence number was given twice': [
      'sequence',
      ({ second }) => (second.thread[0] = { ...second.thread[0]!, sequence: 2 }),
    ],
    'a message was answered with another number than it has': [
      'sequence',
      ({ deliveries }) => (deliveries[1]!.answers[0] = { ...deliveries[1]!.answers[0]!, sequence: 7 }),
    ],
    'an agent had more at once than its capacity': ['capacity', ({ agents }) => (agents[0]!.capacity = 0)],
    'an agent was seen over its capacity': ['capacity', ({ overloads }) => overloads.push('Ana was seen with 6')],
  };

  test.each(Object.entries(broken))('%s', (_, [rule, breakIt]) => {
    const evidence = createEvidence();
    breakIt(evidence);
    expect(judge(evidence).map((fault) => fault.rule)).toContain(rule);
  });
});

test('counts what an agent had at once over all conversations, and what was taken away again', () => {
  const assigned = (id: number, conversationId: string, agentId: string) =>
    createEvent(id, 'conversation.assigned', conversationId, { agentId });
  const events = [
    assigned(1, 'a', 'ana'),
    assigned(2, 'b', 'ana'),
    assigned(3, 'a', 'ben'),
    assigned(4, 'c', 'ana'),
    createEvent(5, 'conversation.unassigned', 'b', { agentId: 'ana' }),
    createEvent(6, 'conversation.closed', 'c', {}),
    assigned(7, 'd', 'ana'),
  ];
  expect([...countMostAtOnce(events)]).toEqual([
    ['ana', 2],
    ['ben', 1],
  ]);
});

type Entry = { conversation: Conversation; thread: Message[] };

interface MutableEvidence extends Evidence {
  readonly deliveries: Delivery[];
  readonly contact: { contactId: string; name: string; conversations: Entry[] };
  readonly first: Entry;
  readonly second: Entry;
  readonly messages: Map<string, Message | null>;
  readonly events: FeedEvent[];
  readonly agents: { id: string; name: string; capacity: number }[];
  readonly overloads: string[];
}

/** One contact: m1 (delivered twice) opens c1, r1 answers it, c1 is closed; m2 opens c2, which is closed. */
function createEvidence(): MutableEvidence {
  const m1 = createMessage('m1', 'c1', 1);
  const r1: Message = { ...createMessage('r1', 'c1', 2), direction: 'outbound' };
  const m2 = createMessage('m2', 'c2', 3);
  const first: Entry = { conversation: createConversation('c1', 0, 10), thread: [m1, r1] };
  const second: Entry = { conversation: createConversation('c2', 10, 20), thread: [m2] };
  const contact = { contactId: 'k', name: 'Kim', conversations: [first, second] };
  return {
    deliveries: [
      createDelivery('d1', [createAnswer(m1, null, false), createAnswer(m1, 'c1', true)]),
      createDelivery('d2', [createAnswer(m2, null, false)]),
    ],
    contact,
    first,
    second,
    contacts: [contact],
    messages: new Map([
      ['m1', m1],
      ['m2', m2],
    ]),
    events: [
      createEvent(1, 'conversation.opened', 'c1', {}),
      createEvent(2, 'message.received', 'c1', { messageId: 'm1' }),
      createEvent(3, 'conversation.assigned', 'c1', { agentId: 'ana' }),
      createEvent(4, 'message.sent', 'c1', { messageId: 'r1' }),
      createEvent(5, 'conversation.close_requested', 'c1', {}),
      createEvent(6, 'conversation.closed', 'c1', {}),
      createEvent(7, 'conversation.opened', 'c2', {}),
      createEvent(8, 'message.received', 'c2', { messageId: 'm2' }),
      createEvent(9, 'conversation.assigned', 'c2', { agentId: 'ana' }),
      createEvent(10, 'conversation.close_requested', 'c2', {}),
      createEvent(11, 'conversation.closed', 'c2', {}),
    ],
    agents: [{ id: 'ana', name: 'Ana', capacity: 1 }],
    overloads: [],
  };
}

/** Moves the event named `conversation what` to another place in the feed. */
function move(events: FeedEvent[], name: string, to: number): void {
  const from = events.findIndex(
    ({ type, conversationId, data }) =>
      name === `${conversationId} ${type.split('.')[1]}` || name === `${conversationId} ${String(data['messageId'])}`,
  );
  const [event] = events.splice(from, 1);
  events.splice(to, 0, event!);
}

function createMessage(id: string, conversationId: string, sequence: number): Message {
  return { id, contactId: 'k', conversationId, direction: 'inbound', sequence };
}

function createAnswer(message: Message, conversationId: string | null, duplicate: boolean): AcceptedMessage {
  const { id: messageId, contactId, sequence } = message;
  return { messageId, contactId, conversationId, sequence, duplicate };
}

function createDelivery(externalId: string, answers: AcceptedMessage[]): Delivery {
  return { contactName: 'Kim', channel: 'web', externalId, answers, refusals: [], lost: 0 };
}

function createConversation(id: string, openedSecond: number, closedSecond: number): Conversation {
  const times = { openedAt: at(openedSecond), assignedAt: at(openedSecond + 1), closedAt: at(closedSecond) };
  return { id, contactId: 'k', state: 'closed', agentId: 'ana', ...times };
}

function createEvent(id: number, type: string, conversationId: string, data: Record<string, unknown>): FeedEvent {
  return { id, type, conversationId, contactId: 'k', data, at: at(id) };
}
