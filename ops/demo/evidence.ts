import type { Agent, Client, Conversation, Message } from './client.ts';
import type { ContactEvidence, Delivery, Evidence } from './judge.ts';
import type { History } from './history.ts';

/** Reads back, by the API, everything that became of the run's contacts and messages. */
export async function collectEvidence(
  client: Client,
  run: {
    contacts: readonly { contactId: string; name: string }[];
    deliveries: readonly Delivery[];
    history: History;
    agents: readonly Agent[];
    overloads: readonly { agentId: string; detail: string }[];
  },
): Promise<Evidence> {
  const ids = new Set(run.deliveries.flatMap(({ answers }) => answers.map(({ messageId }) => messageId)));
  const messages = new Map<string, Message | null>();
  await forEach([...ids], async (id) => {
    const { status, body } = await client.call<Message>('GET', `/v1/messages/${id}`);
    messages.set(id, status === 200 ? body : null);
  });
  const contacts: ContactEvidence[] = [];
  await forEach(run.contacts, async ({ contactId, name }) => {
    const listed = await client.listAll<Conversation>(`/v1/conversations?contactId=${contactId}`);
    const conversations = await Promise.all(
      listed.map(async (conversation) => ({
        conversation,
        thread: await client.listAll<Message>(`/v1/conversations/${conversation.id}/messages`),
      })),
    );
    contacts.push({ contactId, name, conversations });
  });
  const { history } = run;
  return {
    contacts,
    messages,
    deliveries: run.deliveries,
    events: history.listEvents(),
    // A capacity that somebody exceeded by force proves nothing.
    agents: run.agents.filter(({ id }) => !history.forcedAgentIds.has(id)),
    overloads: run.overloads.filter(({ agentId }) => !history.forcedAgentIds.has(agentId)).map(({ detail }) => detail),
  };
}

/** Some at a time. */
async function forEach<T>(items: readonly T[], visit: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  const work = async (): Promise<void> => {
    for (const item of rest) await visit(item);
  };
  await Promise.all(Array.from({ length: 12 }, work));
}
