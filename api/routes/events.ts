import { Readable } from 'node:stream';
import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ApiDeps } from '../dependencies.ts';
import { createEventStreams, type EventStreams } from '../event-streams.ts';
import { problem } from '../problems.ts';
import { errorResponses, listQueryProperties } from '../schemas.ts';
import { createStreamPlaces } from '../stream-places.ts';
import { EventView, viewEvent } from '../views.ts';

const CURSOR = /^[0-9]{1,15}$/;

/** How long a client may take to read the end of its stream when the server shuts down. */
const CLOSE_GRACE_MS = 1000;

/** How often a stream asks whether its key still holds: that much longer than requests it may go on after a revocation. */
const KEY_CHECK_MS = 1_000;

export function eventsRoutes(deps: ApiDeps): FastifyPluginAsyncTypebox {
  const { feed, logger, metrics } = deps;
  return async (app) => {
    const open = new Set<OpenStream>();
    const places = createStreamPlaces(metrics);
    const streams = createEventStreams({
      feed,
      formatEvent: (event) => `id: ${event.id}\ndata: ${JSON.stringify(viewEvent(event))}\n\n`,
      onPollError: (error) => logger.warn({ err: error }, 'could not look for new events'),
    });

    // Before the server waits for its connections: a stream would hold it for ever.
    app.addHook('preClose', async () => {
      await Promise.all([...open].map((stream) => stream.close()));
      await streams.close();
    });

    app.get(
      '/events',
      {
        config: { scope: 'agent' },
        // It would run the handler, and a stream has no end.
        exposeHeadRoute: false,
        schema: {
          tags: ['Events'],
          summary: 'Read the feed of everything that happens',
          description:
            'As JSON: the events after the cursor `after`, from the beginning without it. `nextCursor` is always there: ' +
            'send it as `after` to go on, also when there was nothing new.\n\n' +
            'With `Accept: text/event-stream`: Server-Sent Events, first those after `Last-Event-ID` (or `after`), then ' +
            'those to come; without either, only those to come. Each has the id as `id:` and the event as JSON in `data:`. ' +
            'A comment comes every 15 s where nothing happens. A key may have 100 streams open (429), a process 1,000 (503).\n\n' +
            'No event is skipped: one appears only when none before it can appear any more.',
          querystring: Type.Object(
            {
              after: Type.Optional(Type.String({ pattern: CURSOR.source, description: 'id of the last event seen' })),
              limit: listQueryProperties.limit,
            },
            { additionalProperties: false },
          ),
          response: {
            200: {
              description: 'The next events',
              content: {
                'application/json': {
                  schema: Type.Object({
                    items: Type.Array(EventView),
                    nextCursor: Type.String({ description: 'Where to go on' }),
                  }),
                },
                'text/event-stream': { schema: Type.String() },
              },
            },
            ...errorResponses(),
          },
        },
      },
      async (request, reply) => {
        if (wantsStream(request)) {
          const after = readCursor(request, request.query.after);
          // There is nobody to answer any more.
          if (!places.take(request.principal.keyId, request.raw.socket)) return reply.hijack();
          const stream = openStream(deps, streams, { request, reply, after });
          open.add(stream);
          void stream.closed.then(() => open.delete(stream));
          return reply;
        }
        const { after, limit } = request.query;
        const events = await feed.readEvents(request.principal.workspaceId, Number(after ?? 0), limit);
        return { items: events.map(viewEvent), nextCursor: String(events.at(-1)?.id ?? after ?? 0) };
      },
    );
  };
}

interface OpenStream {
  /** Resolves when the connection has closed. */
  readonly closed: Promise<void>;
  close(): Promise<void>;
}

/**
 * Fastify pipes the stream, and so reads it only as fast as the client does. It ends when the client leaves, the key is revoked, or
 * the server closes; a client that does not read its end is cut off. The connection must be open, and ends with the stream.
 */
function openStream(
  { keys, logger }: ApiDeps,
  streams: EventStreams,
  { request, reply, after }: { request: FastifyRequest; reply: FastifyReply; after: number | null },
): OpenStream {
  const { socket } = request.raw;
  const ending = new AbortController();
  const events = Readable.from(streams.listen(request.principal.workspaceId, after, ending.signal));
  const key = request.headers.authorization?.replace(/^Bearer +/i, '').trim() ?? '';
  const keyCheck = setInterval(() => {
    keys.authenticate(key).then(
      (principal) => principal === null && ending.abort(),
      (error: unknown) => logger.warn({ err: error }, 'could not check the key of an event stream'),
    );
  }, KEY_CHECK_MS);
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => {
      clearInterval(keyCheck);
      ending.abort();
      // Fastify does it only for an answer whose turn on its connection has come.
      events.destroy();
      resolve();
    });
  });
  reply
    .header('content-type', 'text/event-stream; charset=utf-8')
    .header('cache-control', 'no-store')
    // Else a closing server would wait for the connection to be used again, and the place would stay taken.
    .header('connection', 'close')
    // For nginx, which otherwise collects what should arrive at once.
    .header('x-accel-buffering', 'no')
    .send(events);
  return {
    closed,
    close: async () => {
      ending.abort();
      const cutOff = setTimeout(() => socket.destroy(), CLOSE_GRACE_MS);
      await closed;
      clearTimeout(cutOff);
    },
  };
}

function wantsStream(request: FastifyRequest): boolean {
  return request.headers.accept?.includes('text/event-stream') === true;
}

/** A browser that reconnects sends the header beside the address it began with: the header is newer. */
function readCursor(request: FastifyRequest, after: string | undefined): number | null {
  const header = request.headers['last-event-id'];
  if (header === undefined || header === '') return after === undefined ? null : Number(after);
  if (typeof header !== 'string' || !CURSOR.test(header)) {
    throw problem('invalid_request', {
      errors: [{ field: 'Last-Event-ID', message: 'is not the id of an event', mend: 'Send the last `id:` received.' }],
    });
  }
  return Number(header);
}
