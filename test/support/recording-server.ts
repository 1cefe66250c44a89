/** Other systems, as far as a test needs them: a real HTTP server on this machine that keeps what it was asked and answers as it is told. */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface RecordedRequest {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** The bytes, as they came. */
  readonly body: string;
}

export type ServerAnswer =
  | {
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      /** The body; without it that is `text`, or empty. */
      readonly json?: unknown;
      readonly text?: string;
    }
  /** No answer before `release` is called. */
  | 'hold'
  /** The connection ends without an answer. */
  | 'hang up';

export interface RecordingServer {
  /** `127.0.0.1:port`. */
  readonly host: string;
  readonly url: string;
  readonly requests: RecordedRequest[];
  /** Requests that wait for an answer. */
  readonly held: number;
  /** Asks again how to answer those that are held. */
  release(): void;
  close(): Promise<void>;
}

export async function startRecordingServer(
  answerTo: (request: RecordedRequest) => ServerAnswer,
): Promise<RecordingServer> {
  const requests: RecordedRequest[] = [];
  let waiting: Asked[] = [];
  const settle = (asked: Asked): void => {
    const answer = answerTo(asked.request);
    if (answer === 'hold') waiting.push(asked);
    else if (answer === 'hang up') asked.response.destroy();
    else reply(asked.response, answer);
  };
  const server = createServer((message, response) => {
    void readRequest(message).then((request) => {
      requests.push(request);
      const asked = { request, response };
      response.once('close', () => (waiting = waiting.filter((other) => other !== asked)));
      settle(asked);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    url: `http://${host}`,
    requests,
    get held() {
      return waiting.length;
    },
    release() {
      for (const asked of waiting.splice(0)) settle(asked);
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Asked {
  readonly request: RecordedRequest;
  readonly response: ServerResponse;
}

async function readRequest(message: IncomingMessage): Promise<RecordedRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  const { method, url, headers } = message;
  return { method: method!, path: url!, headers, body: Buffer.concat(chunks).toString('utf8') };
}

function reply(response: ServerResponse, { status, headers, json, text }: Exclude<ServerAnswer, string>): void {
  const type = json === undefined ? {} : { 'content-type': 'application/json' };
  response.writeHead(status, { ...type, ...headers });
  response.end(json === undefined ? text : JSON.stringify(json));
}
