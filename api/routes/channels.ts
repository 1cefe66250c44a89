import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { createChannel, getChannel, listChannels, updateChannel, type Channel } from '../../store/channels.ts';
import type { ApiDeps } from '../dependencies.ts';
import { problem } from '../problems.ts';
import {
  Body,
  Id,
  IdParams,
  ListQuery,
  NameText,
  Timestamp,
  decodeCursor,
  errorResponses,
  listOf,
  toPage,
} from '../schemas.ts';

const Units = Type.Integer({
  minimum: 1,
  maximum: 100,
  description:
    "Units of an agent's capacity that a conversation which begins on this channel takes; 1 unless set. Conversations that are open " +
    'already keep what they cost',
  examples: [5],
});
const ChannelView = Type.Object({
  id: Id,
  key: Type.String(),
  name: Type.String(),
  units: Units,
  createdAt: Timestamp,
});

const ChannelKey = Type.String({
  maxLength: 64,
  pattern: '^[A-Za-z0-9][A-Za-z0-9._:-]*$',
  description: 'letters, digits and . _ : -, beginning with a letter or digit; messages name the channel by it',
  fault: 'is no key of a channel',
  mend: 'Send letters, digits and . _ : -, beginning with a letter or digit.',
  examples: ['webchat'],
});

export function channelsRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/channels',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Channels'],
          summary: 'Make a channel',
          body: Body({
            key: ChannelKey,
            name: NameText(256, { examples: ['Chat on our site'] }),
            units: Type.Optional(Units),
          }),
          response: { 201: ChannelView, ...errorResponses(409) },
        },
      },
      async (request, reply) => {
        const { workspaceId } = request.principal;
        const outcome = await createChannel(pool, { workspaceId, ...request.body });
        if (outcome.kind === 'key_taken') {
          throw problem('conflict.key_taken', {
            errors: [{ field: '/key', message: 'is the key of another channel', mend: 'Choose another key.' }],
          });
        }
        return reply.code(201).send(viewChannel(outcome.channel));
      },
    );

    app.get(
      '/channels',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Channels'],
          summary: 'List the channels',
          querystring: ListQuery,
          response: { 200: listOf(ChannelView), ...errorResponses() },
        },
      },
      async (request) => {
        const { limit, cursor } = request.query;
        const after = decodeCursor(cursor);
        const rows = await listChannels(pool, { workspaceId: request.principal.workspaceId, after, limit: limit + 1 });
        return toPage(rows, limit, viewChannel);
      },
    );

    app.get(
      '/channels/:id',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Channels'],
          summary: 'Read a channel',
          params: IdParams,
          response: { 200: ChannelView, ...errorResponses(404) },
        },
      },
      async (request) => {
        const { workspaceId } = request.principal;
        const channel = await getChannel(pool, { workspaceId, channelId: request.params.id });
        if (channel === null) throw problem('not_found');
        return viewChannel(channel);
      },
    );

    app.patch(
      '/channels/:id',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Channels'],
          summary: 'Rename a channel, or set what its conversations cost',
          description: "A channel's key never changes.",
          params: IdParams,
          body: Body({ name: Type.Optional(NameText(256)), units: Type.Optional(Units) }),
          response: { 200: ChannelView, ...errorResponses(404) },
        },
      },
      async (request) => {
        const { workspaceId } = request.principal;
        const outcome = await updateChannel(pool, { workspaceId, channelId: request.params.id, ...request.body });
        if (outcome.kind === 'not_found') throw problem('not_found');
        return viewChannel(outcome.channel);
      },
    );
  };
}

function viewChannel({ id, key, name, units, createdAt }: Channel) {
  return { id, key, name, units, createdAt: createdAt.toISOString() };
}
