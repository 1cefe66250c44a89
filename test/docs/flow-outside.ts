/**
 * What the examples of docs/flows.md meet outside: the channel, other systems and a language model, all of them one HTTP server on this machine.
 * `https://crm.example.com/x` is its `/crm.example.com/x`.
 */
import { Value } from 'typebox/value';
import { webhookBodies } from '../../api/webhooks.ts';
import { completionSaying } from '../support/model-server.ts';
import { startRecordingServer, type RecordedRequest, type ServerAnswer } from '../support/recording-server.ts';
import type { Example } from './flow-example.ts';

export type Outside = Awaited<ReturnType<typeof startOutside>>;

interface Sent {
  readonly type: string;
  readonly data: { readonly text: string; readonly contact: { readonly externalIds: readonly string[] } };
}

function isDescribed({ body }: RecordedRequest): boolean {
  const sent = JSON.parse(body) as { type: keyof typeof webhookBodies };
  return Value.Check(webhookBodies[sent.type], sent);
}

export async function startOutside() {
  let example: Pick<Example, 'systems' | 'model'> = {};
  let isDown = false;
  let number = 0;

  const server = await startRecordingServer((request): ServerAnswer => {
    // As strict as the OpenAPI document: what it does not describe is not taken.
    if (/^\/(chat|hooks\.example\.com)\//.test(request.path)) return { status: isDescribed(request) ? 204 : 410 };
    if (request.path.startsWith('/model/')) return { status: 200, json: answerOfModel(request) };
    if (isDown) return { status: 503 };
    const json = example.systems?.[`${request.method} https://${request.path.slice(1)}`];
    return json === undefined ? { status: 404 } : { status: 200, json };
  });

  function answerOfModel({ body }: RecordedRequest): object {
    const heard = Object.entries(example.model ?? {}).find(([text]) =>
      body.includes(JSON.stringify(text).slice(1, -1)),
    );
    return completionSaying(JSON.stringify(heard?.[1] ?? {}));
  }

  return {
    host: server.host,
    url: server.url,
    channelUrl: `${server.url}/chat/outbound`,
    requests: server.requests,
    /** Begins anew. */
    setExample(next: Pick<Example, 'systems' | 'model'>) {
      example = next;
      isDown = false;
      server.requests.length = 0;
    },
    goDown() {
      isDown = true;
    },
    nextNumber: () => (number += 1),
    reachable: (text: string) => text.replaceAll(/https:\/\/(?=\w+\.example\.com)/g, `${server.url}/`),
    count: () => server.requests.length,
    /** What has come since there were so many requests. */
    since(count: number) {
      const later = server.requests.slice(count);
      const to = (path: string) => later.filter((request) => request.path.startsWith(path));
      return {
        sent: to('/chat/').map(({ body }) => JSON.parse(body) as Sent),
        asked: to('/crm.example.com/'),
        told: to('/hooks.example.com/'),
      };
    },
    close: () => server.close(),
  };
}
