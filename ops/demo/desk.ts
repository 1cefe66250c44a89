import type { Client } from './client.ts';
import type { History, Trace } from './history.ts';
import type { Pause } from './pause.ts';
import { categories } from './phrases.ts';
import type { Visitor, Visitors } from './visitors.ts';

/** The agents at work: each conversation that is assigned to one of them is answered after a while and closed. */
export interface Desk {
  repliesStored(): number;
  /** Conversations being served now. */
  busy(): number;
  /** What went wrong at the desk itself, such as an API that answers no more. */
  failure(): unknown;
  /** Resolves when nobody at the desk does anything any more. */
  rest(): Promise<void>;
}

export function openDesk(options: { client: Client; history: History; visitors: Visitors; pause: Pause }): Desk {
  const { client, history, visitors, pause } = options;
  const taken = new Set<string>();
  const atWork = new Set<Promise<void>>();
  let replies = 0;
  let failure: unknown = null;

  history.onEvent(({ type, conversationId, contactId }) => {
    if (type !== 'conversation.assigned' || conversationId === null || taken.has(conversationId)) return;
    const conversation = history.conversations.get(conversationId);
    const visitor = visitors.all.find((candidate) => candidate.contactId() === contactId);
    if (conversation === undefined || visitor === undefined) return;
    taken.add(conversationId);
    const work = serve(conversation, visitor)
      .catch((error: unknown) => {
        failure ??= error;
      })
      .finally(() => atWork.delete(work));
    atWork.add(work);
  });

  async function serve(conversation: Trace, visitor: Visitor): Promise<void> {
    const number = taken.size;
    await pause(500 + (number % 5) * 200);
    await reply(conversation, visitor.phrases.reply, 1);
    if (number % 2 === 0) {
      await pause(300);
      await visitor.write(visitor.phrases.thanks);
      await reply(conversation, '👍', 2);
    }
    await pause(300 + (number % 3) * 200);
    const comesBack = visitor.takeReturn();
    const close = client.call('POST', `/v1/conversations/${conversation.id}/close`, {
      body: {
        category: categories[number % categories.length],
        summary: `Answered in ${visitor.phrases.language}`,
        ...(conversation.agentId === null ? {} : { agentId: conversation.agentId }),
      },
    });
    // At this very moment: on which side of the close the message falls is not known, only that it falls on one.
    const writing = comesBack === 'at the close' ? visitor.write(visitor.phrases.again, { copies: 2 }) : null;
    await Promise.all([close, writing]);
    if (number % 2 === 1) await visitor.redeliver();
    if (comesBack === 'later') {
      await pause(400 + (number % 4) * 300);
      await visitor.write(visitor.phrases.again);
    }
  }

  /** Somebody else may have closed it or taken it meanwhile; that is no fault. */
  async function reply({ id, agentId }: Trace, text: string, count: number): Promise<void> {
    if (agentId === null) return;
    const body = { text, agentId, externalId: `demo-${count}` };
    const { status } = await client.call('POST', `/v1/conversations/${id}/messages`, { body });
    if (status === 201) replies += 1;
    else if (status !== 409) throw new Error(`POST /v1/conversations/${id}/messages: ${status}`);
  }

  return {
    repliesStored: () => replies,
    busy: () => atWork.size,
    failure: () => failure,
    async rest() {
      while (atWork.size > 0) await Promise.all(atWork);
    },
  };
}
