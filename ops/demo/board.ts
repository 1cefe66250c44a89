import type { FeedEvent } from './client.ts';
import type { Counts, History } from './history.ts';
import type { Roster } from './roster.ts';
import type { Visitors } from './visitors.ts';

/** What there is to see at one moment. */
export interface Board {
  readonly phase: string;
  readonly elapsedMs: number;
  readonly contacts: { readonly written: number; readonly expected: number; readonly served: number };
  readonly accepted: number;
  readonly duplicates: number;
  readonly counts: Counts;
  /** Open → assigned of every conversation so far, waiting included. */
  readonly assignedAfterMs: readonly number[];
  readonly agents: readonly { name: string; presence: string; load: number; capacity: number }[];
  /** The last events, newest last. */
  readonly feed: readonly string[];
}

const keptFeedLines = 30;

export function createBoard(options: {
  history: History;
  visitors: Visitors;
  roster: Roster;
  expectedContacts: number;
}): { read(): Board; setPhase(phase: string): void } {
  const { history, visitors, roster, expectedContacts } = options;
  const startedAtMs = Date.now();
  const feed: string[] = [];
  let phase = '';
  history.onEvent((event) => {
    const line = describeEvent(event, visitors, roster);
    if (line !== null) feed.push(line);
    if (feed.length > keptFeedLines) feed.shift();
  });

  function countServed(): number {
    const open = new Set<string>();
    const closed = new Set<string>();
    for (const { contactId, state } of history.conversations.values())
      (state === 'closed' ? closed : open).add(contactId);
    return [...closed].filter((contactId) => !open.has(contactId)).length;
  }

  return {
    setPhase(next) {
      phase = next;
    },
    read() {
      const answers = visitors.all.flatMap(({ deliveries }) => deliveries.flatMap((delivery) => delivery.answers));
      return {
        phase,
        elapsedMs: Date.now() - startedAtMs,
        contacts: {
          written: visitors.all.filter((visitor) => visitor.contactId() !== null).length,
          expected: expectedContacts,
          served: countServed(),
        },
        accepted: answers.filter(({ duplicate }) => !duplicate).length,
        duplicates: answers.filter(({ duplicate }) => duplicate).length,
        counts: history.count(),
        assignedAfterMs: [...history.conversations.values()].flatMap(({ assignedAtMs, openedAtMs }) =>
          assignedAtMs === null ? [] : [assignedAtMs - openedAtMs],
        ),
        agents: roster.agents(),
        feed,
      };
    },
  };
}

/** Null for what would only fill the screen. */
function describeEvent({ type, contactId, data }: FeedEvent, visitors: Visitors, roster: Roster): string | null {
  const name = visitors.nameOf(contactId ?? '') ?? 'a contact';
  switch (type) {
    case 'conversation.opened':
      return `+ ${name}: conversation opened`;
    case 'conversation.waiting':
      return `… ${name} waits for an agent`;
    case 'conversation.assigned':
      return `→ ${name} goes to ${roster.nameOf(String(data['agentId']))}`;
    case 'conversation.closed':
      return `✔ ${name}: closed${data['category'] === null ? '' : ` (${data['category'] as string})`}`;
    case 'message.received':
      return `“ ${name}: ${visitors.textOf(String(data['messageId'])) ?? '…'}`;
    case 'message.sent':
      return `” ${roster.nameOf(String(data['agentId']))} answers ${name}`;
    default:
      return null;
  }
}
