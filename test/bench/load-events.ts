/** What the load generator learns of its conversations: the event feed of a workspace, as Server-Sent Events. */
import { get, type IncomingMessage } from 'node:http';

export interface LoadEvent {
  readonly type: string;
  readonly conversationId: string;
  readonly contactId: string;
  /** By the database's clock, which is this machine's. */
  readonly atMs: number;
}

const wanted = /"type":"conversation\.(?:assigned|closed|waiting)"/;

/** Follows the feed from now on; after a broken connection, from the last event seen. Resolves once the server has told its place. */
export function followFeed(url: string, key: string, take: (event: LoadEvent) => void): Promise<{ stop(): void }> {
  let lastId: string | null = null;
  let stopped = false;
  let current: IncomingMessage | null = null;

  function takeBlock(block: string): void {
    const id = /^id: (\d+)$/m.exec(block)?.[1];
    if (id !== undefined) lastId = id;
    // Most events tell nothing that is needed here, and reading JSON is what this process would do most.
    if (!wanted.test(block)) return;
    const event = JSON.parse(block.slice(block.indexOf('data: ') + 6)) as Omit<LoadEvent, 'atMs'> & { at: string };
    take({ ...event, atMs: Date.parse(event.at) });
  }

  return new Promise((resolve, reject) => {
    const open = (): void => {
      if (stopped) return;
      const request = get(`${url}/v1/events`, {
        agent: false,
        headers: {
          authorization: `Bearer ${key}`,
          accept: 'text/event-stream',
          ...(lastId === null ? {} : { 'last-event-id': lastId }),
        },
      });
      const again = (): void => void setTimeout(open, 100);
      request.on('error', again);
      request.on('response', (response) => {
        if (response.statusCode !== 200) reject(new Error(`the event feed answered ${response.statusCode}`));
        current = response;
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          const blocks = (text + chunk).split('\n\n');
          text = blocks.pop()!;
          blocks.forEach(takeBlock);
          resolve({
            stop() {
              stopped = true;
              current?.destroy();
            },
          });
        });
        response.on('error', () => undefined);
        response.on('close', again);
      });
    };
    open();
  });
}
