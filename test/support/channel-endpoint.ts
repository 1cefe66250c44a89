/** The system behind a channel, as far as tests need it: it takes what is said to contacts, checks who signed it, and answers as it is told. */
import { Webhook } from 'standardwebhooks';
import { startRecordingServer, type RecordedRequest, type ServerAnswer } from './recording-server.ts';

export interface TakenDelivery {
  /** `webhook-id`. */
  readonly id: string;
  readonly path: string;
  readonly type: string;
  readonly data: Readonly<Record<string, any>>;
  readonly request: RecordedRequest;
}

export type ChannelEndpoint = Awaited<ReturnType<typeof startChannelEndpoint>>;

export async function startChannelEndpoint() {
  let answerTo: (delivery: TakenDelivery) => ServerAnswer = () => ({ status: 204 });
  const server = await startRecordingServer((request) => answerTo(takeDelivery(request)));
  const taken = () => server.requests.map(takeDelivery);
  return {
    url: `${server.url}/out`,
    get held() {
      return server.held;
    },
    release: () => server.release(),
    answerWith(answer: (delivery: TakenDelivery) => ServerAnswer) {
      answerTo = answer;
    },
    /** Each request, in the order in which they came. */
    taken,
    texts: () => taken().map(({ data }) => data['text'] as string),
    /** How often each came. */
    countById() {
      const counts = new Map<string, number>();
      for (const { id } of taken()) counts.set(id, (counts.get(id) ?? 0) + 1);
      return counts;
    },
    close: () => server.close(),
  };
}

/** Throws unless a signature of it is of this secret; by the reference implementation, which shares no code with ours. */
export function verifyDelivery({ request }: TakenDelivery, secret: string): unknown {
  return new Webhook(secret).verify(request.body, request.headers as Record<string, string>);
}

function takeDelivery(request: RecordedRequest): TakenDelivery {
  const { type, data } = JSON.parse(request.body) as Pick<TakenDelivery, 'type' | 'data'>;
  return { id: String(request.headers['webhook-id']), path: request.path, type, data, request };
}
