/** Contacts who keep writing, and agents who keep closing, over all API processes, until told to stop. */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { ApiAnswer, ApiClient } from './api-client.ts';
import { eventually } from './eventually.ts';
import type { AcceptedMessage } from './history-checker.ts';

export interface TrafficOptions {
  /** Read anew for each call, so that a process started later takes part. */
  readonly apis: () => readonly ApiClient[];
  readonly contacts: number;
  /** Between two messages of a contact. */
  readonly paceMs: number;
  /** Whether a conversation is closed as soon as a message of it is answered with its id. */
  readonly closes: boolean;
  /** Names the contacts; others' traffic uses another. */
  readonly prefix?: string;
}

export interface SentMessage extends AcceptedMessage {
  readonly externalId: string;
  readonly conversationId: string | null;
  readonly duplicate: boolean;
}

export interface Traffic {
  /** The bodies of all 202 answers to messages. */
  readonly accepted: SentMessage[];
  /** Conversations whose close was answered 202. */
  readonly closed: ReadonlySet<string>;
  /** Answers 503 and broken connections, each followed by a repetition. */
  readonly refusals: readonly string[];
  /** Resolves when every delivery under way is accepted and every close answered. */
  stop(): Promise<void>;
}

export function startTraffic({ apis, contacts, paceMs, closes, prefix = 'contact' }: TrafficOptions): Traffic {
  const accepted: Traffic['accepted'] = [];
  const closed = new Set<string>();
  const refusals: string[] = [];
  let stopped = false;
  let calls = 0;
  const nextApi = (): ApiClient => {
    const all = apis();
    return all[(calls += 1) % all.length]!;
  };

  /** As whoever delivers must: the same call again until it is answered. */
  const insist = (what: string, call: (api: ApiClient) => Promise<ApiAnswer<unknown>>): Promise<ApiAnswer<unknown>> =>
    eventually(
      what,
      async () => {
        const answer = await call(nextApi()).catch((error: Error) => {
          refusals.push(error.message);
          throw error;
        });
        if (answer.status === 202) return answer;
        refusals.push(String(answer.status));
        if (answer.status !== 503) throw new Error(`answered ${answer.status}: ${JSON.stringify(answer.body)}`);
        return undefined;
      },
      { everyMs: 20 },
    );

  async function close(conversationId: string): Promise<void> {
    closed.add(conversationId);
    await insist('a close', (api) =>
      api.call('POST', `/v1/conversations/${conversationId}/close`, { category: 'done' }),
    );
  }

  async function write(contact: string): Promise<void> {
    const closing: Promise<void>[] = [];
    for (let i = 1; !stopped; i += 1) {
      const externalId = randomUUID();
      const answer = await insist('a message', (api) => api.send(contact, `message ${i}`, { externalId }));
      const message: SentMessage = { ...(answer.body as SentMessage), externalId };
      accepted.push(message);
      const { conversationId } = message;
      // Not awaited: the contact goes on writing while the close is carried out.
      if (closes && conversationId !== null && !closed.has(conversationId)) closing.push(close(conversationId));
      await delay(paceMs);
    }
    await Promise.all(closing);
  }

  const writing = Promise.all(Array.from({ length: contacts }, (_, i) => write(`${prefix}-${i + 1}`)));
  // Told by stop(); until then it must not count as unheard.
  writing.catch(() => (stopped = true));
  return {
    accepted,
    closed,
    refusals,
    async stop() {
      stopped = true;
      await writing;
    },
  };
}
