import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { getMessage, listMessages } from '../../store/messages.ts';
import { addReply } from '../../store/replies.ts';
import type { ApiDeps } from '../dependencies.ts';
import { refuseConversation, requireConversation } from '../conversation-problems.ts';
import { requireActingAgent } from '../principal.ts';
import { Body, decodeCursor, errorResponses, Id, IdParams, listOf, ListQuery, SafeText, toPage } from '../schemas.ts';
import { MessageView, viewMessage } from '../views.ts';

const MAX_TEXT_LENGTH = 16_384;

export function conversationMessagesRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/conversations/:id/messages',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Conversations'],
          summary: 'List the messages and replies of a conversation in their order',
          params: IdParams,
          querystring: ListQuery,
          response: { 200: listOf(MessageView), ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId }, params, query: { limit, cursor } }) => {
        const afterSequence = Number(decodeCursor(cursor, /^[0-9]{1,15}$/) ?? 0);
        await requireConversation(pool, workspaceId, params.id);
        const key = { workspaceId, conversationId: params.id };
        const rows = await listMessages(pool, { ...key, afterSequence, limit: limit + 1 });
        // The thread's order is the sequence, not the id: ids are made by many machines.
        return toPage(rows, limit, viewMessage, ({ sequence }) => String(sequence));
      },
    );

    app.post(
      '/conversations/:id/messages',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Conversations'],
          summary: 'Reply to the contact',
          description:
            'It is sent to the `outboundUrl` of the channel on which the contact wrote last; `delivery` tells how that stands. With an ' +
            '`externalId`, sending it again answers with the reply that was stored first.',
          params: IdParams,
          body: Body({
            text: SafeText(MAX_TEXT_LENGTH),
            externalId: Type.Optional(SafeText(256)),
            agentId: Type.Optional({
              ...Id,
              description: 'Who replies. Required unless the key is bound to an agent.',
            }),
          }),
          response: { 201: MessageView, ...errorResponses(404, 409, 422) },
        },
      },
      async (request, reply) => {
        const { workspaceId } = request.principal;
        const { agentId: named, ...content } = request.body;
        const agentId = requireActingAgent(request, named);
        const result = await addReply(pool, { workspaceId, conversationId: request.params.id, agentId, ...content });
        if (result.kind !== 'stored') throw refuseConversation(result.kind);
        const message = await getMessage(pool, { workspaceId, messageId: result.messageId });
        if (message === null) throw new Error(`Reply ${result.messageId} is gone`);
        return reply.code(201).send(viewMessage(message));
      },
    );
  };
}
