import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import {
  createChannel,
  getChannel,
  listChannels,
  rotateChannelSecret,
  updateChannel,
  type Channel,
  type MadeSecret,
} from '../../store/channels.ts';
import { isRefusedAddress, literalAddressOf } from '../../platform/private-addresses.ts';
import { withoutQuery } from '../../routing/web-address.ts';
import type { ApiDeps } from '../dependencies.ts';
import type { Scope } from '../principal.ts';
import { problem } from '../problems.ts';
import {
  Body,
  Id,
  IdParams,
  ListQuery,
  NameText,
  Nullable,
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
const viewProperties = {
  id: Id,
  key: Type.String(),
  name: Type.String(),
  units: Units,
  outboundUrl: Nullable(
    Type.String({
      description:
        'Where what is said to its contacts is sent; null: it is only stored. Keys that are not admin see it without its query, in which ' +
        'there are often secrets',
    }),
  ),
  createdAt: Timestamp,
};
const ChannelView = Type.Object(viewProperties);
const MadeChannelView = Type.Object({
  ...viewProperties,
  outboundSecret: Nullable(
    Type.String({
      description:
        'What signs the requests to `outboundUrl`, as Standard Webhooks has it. Shown by the call that makes it and never again; ' +
        'null: none was made now',
    }),
  ),
});

const OutboundUrl = Nullable(
  Type.String({
    maxLength: 2048,
    // Neither user info nor a fragment; what else is wrong is looked at below.
    pattern: '^https?://[^/?#@\\\\\\s]+(?:[/?][^#\\s]*)?$',
    description:
      'Replies of agents and texts of flows are sent there, signed, in the order of each conversation, and again until they are ' +
      'answered 2xx. http or https, without user name and fragment; a private address only where the operator allows it',
    fault: 'is no http or https address without user name and fragment',
    mend: 'Send an address such as https://chat.example.com/switchyard, or null.',
    examples: ['https://chat.example.com/switchyard'],
  }),
);

const ChannelKey = Type.String({
  maxLength: 64,
  pattern: '^[A-Za-z0-9][A-Za-z0-9._:-]*$',
  description: 'letters, digits and . _ : -, beginning with a letter or digit; messages name the channel by it',
  fault: 'is no key of a channel',
  mend: 'Send letters, digits and . _ : -, beginning with a letter or digit.',
  examples: ['webchat'],
});

export function channelsRoutes({ pool, config }: ApiDeps): FastifyPluginAsyncTypebox {
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
            outboundUrl: Type.Optional(OutboundUrl),
          }),
          response: { 201: MadeChannelView, ...errorResponses(409) },
        },
      },
      async (request, reply) => {
        const { workspaceId } = request.principal;
        requireUsableUrl(request.body.outboundUrl, config.outboundPrivateCidrs);
        const outcome = await createChannel(pool, { workspaceId, ...request.body });
        if (outcome.kind === 'key_taken') {
          throw problem('conflict.key_taken', {
            errors: [{ field: '/key', message: 'is the key of another channel', mend: 'Choose another key.' }],
          });
        }
        return reply.code(201).send(viewMadeChannel(outcome.channel));
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
        return toPage(rows, limit, (channel) => viewChannel(channel, request.principal.scope));
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
        const { workspaceId, scope } = request.principal;
        const channel = await getChannel(pool, { workspaceId, channelId: request.params.id });
        if (channel === null) throw problem('not_found');
        return viewChannel(channel, scope);
      },
    );

    app.patch(
      '/channels/:id',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Channels'],
          summary: 'Rename a channel, set what its conversations cost, or where its messages are sent',
          description:
            "A channel's key never changes. The first `outboundUrl` brings a secret; it stays when the URL changes, until it is rotated.",
          params: IdParams,
          body: Body({
            name: Type.Optional(NameText(256)),
            units: Type.Optional(Units),
            outboundUrl: Type.Optional(OutboundUrl),
          }),
          response: { 200: MadeChannelView, ...errorResponses(404) },
        },
      },
      async (request) => {
        const { workspaceId } = request.principal;
        requireUsableUrl(request.body.outboundUrl, config.outboundPrivateCidrs);
        const outcome = await updateChannel(pool, { workspaceId, channelId: request.params.id, ...request.body });
        if (outcome.kind === 'not_found') throw problem('not_found');
        return viewMadeChannel(outcome.channel);
      },
    );

    await app.register(secretRoutes(pool));
  };
}

function secretRoutes(pool: ApiDeps['pool']): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/channels/:id/rotate-secret',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Channels'],
          summary: 'Make another secret for the requests to the outbound URL',
          description: 'For 24 hours, requests bear a signature with the one before as well.',
          params: IdParams,
          response: { 200: MadeChannelView, ...errorResponses(404) },
        },
      },
      async (request) => {
        const { workspaceId } = request.principal;
        const channel = await rotateChannelSecret(pool, { workspaceId, channelId: request.params.id });
        if (channel === null) throw problem('not_found');
        return viewMadeChannel(channel);
      },
    );
  };
}

/**
 * The pattern lets through what only a parser refuses, such as ports that are none. A private address would be refused at each delivery; whether
 * a name leads to one is known only then.
 */
function requireUsableUrl(url: string | null | undefined, privateCidrs: readonly string[]): void {
  if (url === undefined || url === null) return;
  const fault = faultOfUrl(url, privateCidrs);
  if (fault !== null) throw problem('invalid_request', { errors: [{ field: '/outboundUrl', ...fault }] });
}

function faultOfUrl(url: string, privateCidrs: readonly string[]): { message: string; mend: string } | null {
  if (!URL.canParse(url)) {
    return { message: 'is no address', mend: 'Send an address such as https://chat.example.com/switchyard, or null.' };
  }
  const literal = literalAddressOf(new URL(url));
  if (literal === null || !isRefusedAddress(literal, privateCidrs)) return null;
  const mend =
    'Send a public address, or have the operator of this installation put this one into OUTBOUND_PRIVATE_CIDRS.';
  return { message: 'is a private address, which may not be reached', mend };
}

function viewChannel({ id, key, name, units, outboundUrl, createdAt }: Channel, scope: Scope) {
  const url = scope === 'admin' || outboundUrl === null ? outboundUrl : withoutQuery(outboundUrl);
  return { id, key, name, units, outboundUrl: url, createdAt: createdAt.toISOString() };
}

/** For admins only. */
function viewMadeChannel(channel: Channel & MadeSecret) {
  return { ...viewChannel(channel, 'admin'), outboundSecret: channel.outboundSecret };
}
