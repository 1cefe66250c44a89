import { randomUUID } from 'node:crypto';

export interface ApiAnswer<Body> {
  readonly status: number;
  readonly body: Body;
}

// Answers are asserted on by the tests; a type for each would only repeat the contract.
type Json = any;

export interface ApiClient {
  readonly url: string;
  call(method: string, path: string, body?: unknown, key?: string): Promise<ApiAnswer<Json>>;
  /** Posts a contact's message; `contact` is its external id on `channel`. */
  send(contact: string, text: string, options?: { channel?: string; externalId?: string }): Promise<ApiAnswer<Json>>;
  /** Reads or writes as an administrator and insists on success. */
  get(path: string): Promise<Json>;
  post(path: string, body?: unknown): Promise<Json>;
}

export function createApiClient(url: string, keys: { ingest: string; admin: string }): ApiClient {
  async function call(method: string, path: string, body?: unknown, key = keys.admin): Promise<ApiAnswer<Json>> {
    const response = await fetch(url + path, {
      method,
      headers: {
        authorization: `Bearer ${key}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === '' ? null : JSON.parse(text) };
  }
  async function insist(method: string, path: string, body?: unknown): Promise<Json> {
    const answer = await call(method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }
  return {
    url,
    call,
    send: (contact, text, { channel = 'web', externalId = randomUUID() } = {}) =>
      call('POST', '/v1/messages', { channel, externalId, contact: { externalId: contact }, text }, keys.ingest),
    get: (path) => insist('GET', path),
    post: (path, body) => insist('POST', path, body),
  };
}
