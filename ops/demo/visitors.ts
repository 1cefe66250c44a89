import type { AcceptedMessage, Client } from './client.ts';
import type { Delivery } from './judge.ts';
import type { History } from './history.ts';
import { phrases, type Phrases } from './phrases.ts';

/** A contact of the demo: writes, sometimes delivers a message twice, and comes back after a close. */
export interface Visitor {
  readonly name: string;
  readonly phrases: Phrases;
  readonly deliveries: readonly Delivery[];
  contactId(): string | null;
  /** The first message and what follows at once; how many and how is given by the visitor's number. */
  beginWriting(): Promise<void>;
  write(text: string, options?: { copies?: number; channel?: Channel }): Promise<void>;
  /** A delivery that was answered before comes again, as channels do that missed the answer. */
  redeliver(): Promise<void>;
  /** How it behaves at the next close of a conversation of its. */
  takeReturn(): Return;
}

export type Return = 'at the close' | 'later' | 'never';

type Channel = 'web' | 'email';

export interface Visitors {
  readonly all: readonly Visitor[];
  create(): Visitor;
  nameOf(contactId: string): string | undefined;
  textOf(messageId: string): string | undefined;
}

/** @param runId makes the ids of this run its own, so that the demo can be run again and again. */
export function createVisitors(client: Client, history: History, runId: string): Visitors {
  const all: Visitor[] = [];
  const names = new Map<string, string>();
  const texts = new Map<string, string>();
  return {
    all,
    nameOf: (contactId) => names.get(contactId),
    textOf: (messageId) => texts.get(messageId),
    create() {
      const visitor = createVisitor(client, {
        number: all.length,
        runId,
        onAccepted({ contactId, messageId }, text) {
          names.set(contactId, visitor.name);
          texts.set(messageId, text);
          history.claimContact(contactId);
        },
      });
      all.push(visitor);
      return visitor;
    },
  };
}

function createVisitor(
  client: Client,
  options: { number: number; runId: string; onAccepted: (answer: AcceptedMessage, text: string) => void },
): Visitor {
  const { number, runId, onAccepted } = options;
  const spoken = phrases[number % phrases.length] as Phrases;
  const round = Math.floor(number / phrases.length);
  const firstName = pick(spoken.names, round);
  const name = `${firstName} ${number + 1}`;
  const home: Channel = number % 3 === 2 ? 'email' : 'web';
  const returns = [[], ['at the close'], ['later'], ['at the close', 'later']][(number + round) % 4] as Return[];
  const sent: { delivery: Delivery; body: object; text: string }[] = [];
  let contactId: string | null = null;

  async function post(item: (typeof sent)[number]): Promise<void> {
    const { delivery, body, text } = item;
    const { status, body: answer } = await client.call<AcceptedMessage & { title?: string; detail?: string }>(
      'POST',
      '/v1/messages',
      { as: 'ingest', body, onLost: () => (delivery.lost += 1) },
    );
    if (status !== 202) {
      delivery.refusals.push(`${status} ${answer.title ?? ''} ${answer.detail ?? ''}`.trim());
      return;
    }
    delivery.answers.push(answer);
    contactId = answer.contactId;
    onAccepted(answer, text);
  }

  /** On its other channel a contact has another identity, and says who it is. */
  function identify(channel: Channel): object {
    const externalId = channel === 'web' ? `demo-${runId}-${number}` : `demo-${runId}-${number}@example.test`;
    const known = channel === home || contactId === null ? {} : { id: contactId };
    return { externalId, name: firstName, attributes: { language: spoken.language, demo: runId }, ...known };
  }

  async function write(text: string, { copies = 1, channel = home }: { copies?: number; channel?: Channel } = {}) {
    const externalId = `demo-${runId}-${number}-${sent.length + 1}`;
    const delivery: Delivery = { contactName: name, channel, externalId, answers: [], refusals: [], lost: 0 };
    const item = { delivery, text, body: { channel, externalId, contact: identify(channel), text } };
    sent.push(item);
    await Promise.all(Array.from({ length: copies }, () => post(item)));
  }

  return {
    name,
    phrases: spoken,
    get deliveries() {
      return sent.map(({ delivery }) => delivery);
    },
    contactId: () => contactId,
    write,
    async beginWriting() {
      const opening = pick(spoken.openings, round + number);
      // Each in three writes a burst without waiting for any answer; each in four delivers its first message twice at once.
      const burst = number % 3 === 0 ? 2 + (number % 4) : 0;
      const additions = Array.from({ length: burst }, (_, index) => pick(spoken.additions, index));
      await Promise.all([
        write(opening, { copies: number % 4 === 1 ? 2 : 1 }),
        ...additions.map((text, index) => write(text, { copies: index === 0 ? 2 : 1 })),
      ]);
      if (number % 5 === 4) await write(pick(spoken.additions, 0), { channel: home === 'web' ? 'email' : 'web' });
    },
    async redeliver() {
      const [first] = sent;
      if (first !== undefined) await post(first);
    },
    takeReturn: () => returns.shift() ?? 'never',
  };
}

function pick(texts: readonly string[], index: number): string {
  return texts[index % texts.length] as string;
}
