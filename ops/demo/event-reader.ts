import { setTimeout as delay } from 'node:timers/promises';
import type { Client, FeedEvent } from './client.ts';

/**
 * Follows the event feed as Server-Sent Events until the signal is aborted. A connection that breaks is made again from the last event
 * seen, so that none is missed. Resolves once the server has told its place: what happens after that will be seen.
 */
export async function followEvents(
  client: Client,
  take: (event: FeedEvent) => void,
  signal: AbortSignal,
): Promise<void> {
  let lastEventId: string | null = null;
  let markReady: () => void = () => undefined;
  let giveUp: (error: Error) => void = () => undefined;
  const ready = new Promise<void>((resolve, reject) => {
    markReady = resolve;
    giveUp = reject;
  });
  const read = async (): Promise<void> => {
    for await (const { id, data } of readStream(await client.openEventStream(lastEventId, signal))) {
      if (id !== null) {
        lastEventId = id;
        markReady();
      }
      if (data !== null) take(JSON.parse(data) as FeedEvent);
    }
  };
  const followUntilAborted = async (): Promise<void> => {
    while (!signal.aborted) {
      try {
        await read();
      } catch (error) {
        // Before the first answer there is no place to go on from.
        if (lastEventId === null) giveUp(new Error('The event feed could not be read', { cause: error }));
      }
      await delay(300, undefined, { signal }).catch(() => undefined);
    }
  };
  void followUntilAborted();
  await ready;
}

interface StreamedEvent {
  readonly id: string | null;
  readonly data: string | null;
}

async function* readStream(response: Response): AsyncGenerator<StreamedEvent> {
  if (response.status !== 200 || response.body === null) throw new Error(`GET /v1/events: ${response.status}`);
  let text = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body) {
    text += decoder.decode(chunk as Uint8Array, { stream: true });
    const blocks = text.split('\n\n');
    text = blocks.pop() ?? '';
    for (const block of blocks) yield parseBlock(block);
  }
}

function parseBlock(block: string): StreamedEvent {
  const lines = block.split('\n');
  const read = (field: string) => {
    const found = lines.filter((line) => line.startsWith(`${field}: `)).map((line) => line.slice(field.length + 2));
    return found.length === 0 ? null : found.join('\n');
  };
  return { id: read('id'), data: read('data') };
}
