/** A language model's server on this machine: it speaks the OpenAI chat completions API over real HTTP, and says what it is told to say. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ModelServer {
  /** For CLASSIFY_URL. */
  readonly url: string;
  /** What was asked, in order. */
  readonly requests: readonly ModelRequest[];
  /** From now on the model says this; a number is a status with `text` for a body, `never` no answer at all. */
  says(answer: ModelAnswer | ((request: ModelRequest) => ModelAnswer)): void;
  close(): Promise<void>;
}

export type ModelAnswer =
  /** The content of the answer's message. */
  | { readonly content: string | null }
  | { readonly status: number; readonly text: string; readonly headers?: Record<string, string> }
  | 'never';

export interface ModelRequest {
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: Record<string, unknown>;
  readonly system: string;
  readonly user: string;
}

/** Until told otherwise, the model chooses `label` and is quite sure. */
export async function startModelServer({ label = 'sales' }: { readonly label?: string } = {}): Promise<ModelServer> {
  const requests: ModelRequest[] = [];
  let answer: (request: ModelRequest) => ModelAnswer = () => ({ content: JSON.stringify({ label, confidence: 0.9 }) });
  const server = createServer((incoming, response) => {
    void readRequest(incoming).then((request) => {
      requests.push(request);
      reply(response, answer(request), request.body['model']);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    requests,
    says: (said) => void (answer = typeof said === 'function' ? said : () => said),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function readRequest(incoming: IncomingMessage): Promise<ModelRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  const body = JSON.parse(Buffer.concat(chunks).toString('utf8')) as Record<string, unknown>;
  const messages = body['messages'] as { role: string; content: string }[];
  const contentOf = (role: string): string =>
    messages
      .filter((message) => message.role === role)
      .map(({ content }) => content)
      .join('\n');
  const { url = '', headers } = incoming;
  return {
    path: url,
    authorization: headers.authorization,
    body,
    system: contentOf('system'),
    user: contentOf('user'),
  };
}

function reply(response: ServerResponse, answer: ModelAnswer, model: unknown): void {
  if (answer === 'never') return;
  if ('status' in answer) return void response.writeHead(answer.status, answer.headers).end(answer.text);
  response.setHeader('content-type', 'application/json');
  const message = { role: 'assistant', content: answer.content };
  response.end(
    JSON.stringify({
      id: 'chatcmpl-1',
      object: 'chat.completion',
      created: 1_750_000_000,
      model,
      choices: [{ index: 0, message, finish_reason: 'stop' }],
      usage: { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 },
    }),
  );
}
