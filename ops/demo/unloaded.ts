import type { Conversation } from './client.ts';
import type { Stage } from './scenario.ts';

/** Milliseconds from open to assigned with one conversation at a time, told twice. */
export interface UnloadedTimes {
  /** `openedAt` → `assignedAt` of the conversation, as the server has recorded them. */
  readonly recordedMs: number[];
  /** From the answer to the POST until GET shows the conversation as assigned: what a client can see. */
  readonly observedMs: number[];
}

export const observeEveryMs = 5;
const warmUpConversations = 2;
const timeoutMs = 20_000;

export async function measureUnloaded(stage: Stage, conversations: number): Promise<UnloadedTimes> {
  const times: UnloadedTimes = { recordedMs: [], observedMs: [] };
  for (let index = 0; index < warmUpConversations + conversations; index += 1) {
    const visitor = stage.visitors.create();
    await visitor.write(visitor.phrases.openings[index % visitor.phrases.openings.length] as string);
    const answeredAtMs = performance.now();
    const contactId = visitor.contactId();
    if (contactId === null) throw new Error(`The first message was refused: ${visitor.deliveries[0]?.refusals.join()}`);
    const assigned = await observe(stage, contactId, 'assigned');
    const observedMs = performance.now() - answeredAtMs;
    if (index >= warmUpConversations) {
      times.observedMs.push(observedMs);
      times.recordedMs.push(Date.parse(assigned.assignedAt ?? '') - Date.parse(assigned.openedAt));
    }
    await stage.client.call('POST', `/v1/conversations/${assigned.id}/close`, {
      body: { category: 'question', ...(assigned.agentId === null ? {} : { agentId: assigned.agentId }) },
    });
    await observe(stage, contactId, 'closed');
  }
  return times;
}

async function observe({ client, pause }: Stage, contactId: string, state: string): Promise<Conversation> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const path = `/v1/conversations?contactId=${contactId}&limit=1`;
    const { items } = await client.get<{ items: Conversation[] }>(path);
    const [newest] = items;
    if (newest?.state === state) return newest;
    if (Date.now() > deadline) {
      const found = newest === undefined ? 'no conversation was opened' : `it is ${newest.state}`;
      throw new Error(
        `A conversation was not ${state} within ${timeoutMs / 1000} s: ${found}.${mends[newest?.state ?? ''] ?? ''}`,
      );
    }
    await pause(observeEveryMs);
  }
}

const mends: Readonly<Record<string, string>> = {
  waiting: ' All agents of its team are full: close some conversations.',
  enriching: ' A flow that asks or calls others has taken it: put the demo’s own before it, or unpublish that one.',
};
