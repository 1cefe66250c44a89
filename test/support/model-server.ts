/** A language model's server on this machine: it speaks the OpenAI chat completions API over real HTTP, and says what it is told to say. */
import { startRecordingServer, type RecordedRequest, type ServerAnswer } from './recording-server.ts';

export interface ModelServer {
  /** For CLASSIFY_URL. */
  readonly url: string;
  /** What was asked, in order. */
  readonly requests: readonly ModelRequest[];
  /** From now on the model says this. */
  says(answer: ModelAnswer | ((request: ModelRequest) => ModelAnswer)): void;
  close(): Promise<void>;
}

export type ModelAnswer =
  /** The content of the answer's message. */
  | { readonly content: string | null }
  | { readonly status: number; readonly text: string; readonly headers?: Record<string, string> }
  /** No answer at all. */
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
  let answer: (request: ModelRequest) => ModelAnswer = () => ({ content: JSON.stringify({ label, confidence: 0.9 }) });
  const server = await startRecordingServer((request) => serverAnswerOf(answer(modelRequestOf(request))));
  return {
    url: `${server.url}/v1`,
    get requests() {
      return server.requests.map(modelRequestOf);
    },
    says: (said) => void (answer = typeof said === 'function' ? said : () => said),
    close: () => server.close(),
  };
}

/** The body of an answer whose message has this content. */
export function completionSaying(content: string | null): object {
  return {
    id: 'chatcmpl-1',
    object: 'chat.completion',
    created: 1_750_000_000,
    model: 'small',
    choices: [{ index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' }],
    usage: { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 },
  };
}

function serverAnswerOf(answer: ModelAnswer): ServerAnswer {
  if (answer === 'never') return 'hold';
  return 'status' in answer ? answer : { status: 200, json: completionSaying(answer.content) };
}

function modelRequestOf({ path, headers, body: text }: RecordedRequest): ModelRequest {
  const body = JSON.parse(text) as Record<string, unknown>;
  const messages = body['messages'] as { role: string; content: string }[];
  const contentOf = (role: string): string =>
    messages
      .filter((message) => message.role === role)
      .map(({ content }) => content)
      .join('\n');
  return { path, authorization: headers.authorization, body, system: contentOf('system'), user: contentOf('user') };
}
