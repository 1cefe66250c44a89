import { setTimeout as delay } from 'node:timers/promises';

/** What the demo needs of the API, over HTTP only. Every call it makes is idempotent, so a lost one is simply made again. */
export interface Client {
  call<T>(method: 'GET' | 'POST' | 'PUT', path: string, options?: CallOptions): Promise<Answer<T>>;
  /** Insists on success. */
  get<T>(path: string): Promise<T>;
  /** All pages of a list. */
  listAll<T>(path: string): Promise<T[]>;
  /** The event stream: from now on, or after an event. */
  openEventStream(lastEventId: string | null, signal: AbortSignal): Promise<Response>;
}

export interface CallOptions {
  readonly body?: unknown;
  readonly as?: 'ingest' | 'agent';
  readonly attempts?: number;
  /** Called for an attempt that got no answer: what it did is not known. */
  readonly onLost?: () => void;
}

export interface Answer<T> {
  readonly status: number;
  readonly body: T;
}

const timeoutMs = 15_000;

export function createClient(apiUrl: string, keys: { ingest: string; agent: string }): Client {
  async function call<T>(
    method: string,
    path: string,
    { body, as = 'agent', attempts = 5, onLost }: CallOptions = {},
  ): Promise<Answer<T>> {
    for (let attempt = 1; ; attempt += 1) {
      const answer = await tryOnce<T>(method, path, { body, key: keys[as] }).catch((error: unknown) => {
        onLost?.();
        if (attempt >= attempts) throw new Error(`${method} ${path}: ${explain(error)}`, { cause: error });
        return null;
      });
      if (answer !== null && ((answer.status !== 503 && answer.status !== 429) || attempt >= attempts)) return answer;
      await delay(200 * 2 ** attempt);
    }
  }

  async function tryOnce<T>(
    method: string,
    path: string,
    { body, key }: { body: unknown; key: string },
  ): Promise<Answer<T>> {
    const response = await fetch(apiUrl + path, {
      method,
      headers: {
        authorization: `Bearer ${key}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await response.text();
    return { status: response.status, body: (text === '' ? null : JSON.parse(text)) as T };
  }

  async function get<T>(path: string): Promise<T> {
    const { status, body } = await call<T>('GET', path);
    if (status !== 200) throw new Error(`GET ${path}: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  return {
    call,
    get,
    async listAll<T>(path: string) {
      const items: T[] = [];
      for (let cursor: string | null = ''; cursor !== null;) {
        const query = `${path.includes('?') ? '&' : '?'}limit=100${cursor === '' ? '' : `&cursor=${cursor}`}`;
        const page: { items: T[]; nextCursor: string | null } = await get(path + query);
        items.push(...page.items);
        cursor = page.nextCursor;
      }
      return items;
    },
    openEventStream: (lastEventId, signal) =>
      fetch(`${apiUrl}/v1/events`, {
        headers: {
          authorization: `Bearer ${keys.agent}`,
          accept: 'text/event-stream',
          ...(lastEventId === null ? {} : { 'last-event-id': lastEventId }),
        },
        signal,
      }),
  };
}

/** fetch says only "fetch failed"; why is one level down. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause as (Error & { code?: string }) | undefined;
  return cause === undefined ? error.message : `${error.message} (${cause.code ?? cause.message})`;
}

/* What the API answers with, as far as the demo looks at it. */

export interface Agent {
  readonly id: string;
  readonly name: string;
  readonly capacity: number;
  readonly load: number;
  readonly presence: Presence;
}

export type Presence = 'online' | 'away' | 'offline';

export interface Conversation {
  readonly id: string;
  readonly contactId: string;
  readonly state: string;
  readonly agentId: string | null;
  readonly openedAt: string;
  readonly assignedAt: string | null;
  readonly closedAt: string | null;
}

export interface Message {
  readonly id: string;
  readonly contactId: string;
  readonly conversationId: string | null;
  readonly direction: 'inbound' | 'outbound';
  readonly sequence: number;
}

export interface AcceptedMessage {
  readonly messageId: string;
  readonly contactId: string;
  readonly conversationId: string | null;
  readonly sequence: number;
  readonly duplicate: boolean;
}

export interface FeedEvent {
  readonly id: number;
  readonly type: string;
  readonly conversationId: string | null;
  readonly contactId: string | null;
  readonly data: Readonly<Record<string, unknown>>;
  readonly at: string;
}
