import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { acceptOffer, rejectOffer } from '../../store/offers.ts';
import type { ApiDeps } from '../dependencies.ts';
import { refuseConversation, refuseOfferAnswer, requireConversation } from '../conversation-problems.ts';
import { requireActingAgent } from '../principal.ts';
import { Body, errorResponses, Id, IdParams, SafeText } from '../schemas.ts';
import { acceptNoBody } from '../validation.ts';
import { ConversationView, viewConversation } from '../views.ts';

const tags = ['Conversations'];
const AgentId = { ...Id, description: 'Who answers the offer. Required unless the key is bound to an agent.' };
const MAX_REASON_LENGTH = 500;

export function offersRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/conversations/:id/accept',
      {
        config: { scope: 'agent' },
        preValidation: acceptNoBody,
        schema: {
          tags,
          summary: 'Accept an offered conversation',
          description:
            'Only the agent to whom it is offered, until the offer runs out: else 409, saying who it is offered to or how the offer ended. ' +
            'Accepting again what one has changes nothing.',
          params: IdParams,
          body: Body({ agentId: Type.Optional(AgentId) }),
          response: { 200: ConversationView, ...errorResponses(404, 409, 422) },
        },
      },
      async (request) => {
        const { workspaceId } = request.principal;
        const conversationId = request.params.id;
        const agentId = requireActingAgent(request, request.body.agentId);
        const result = await acceptOffer(pool, { workspaceId, conversationId, agentId });
        if (result.kind === 'not_offered') throw refuseOfferAnswer(result, agentId);
        if (result.kind !== 'done') throw refuseConversation(result.kind);
        return viewConversation(await requireConversation(pool, workspaceId, conversationId));
      },
    );

    app.post(
      '/conversations/:id/reject',
      {
        config: { scope: 'agent' },
        preValidation: acceptNoBody,
        schema: {
          tags,
          summary: 'Reject an offered conversation',
          description:
            'It goes to the next; who rejected it is passed over while others exist. The reason is kept in the decisions and in the feed.',
          params: IdParams,
          body: Body({ agentId: Type.Optional(AgentId), reason: Type.Optional(SafeText(MAX_REASON_LENGTH)) }),
          response: { 200: ConversationView, ...errorResponses(404, 409, 422) },
        },
      },
      async (request) => {
        const { workspaceId } = request.principal;
        const conversationId = request.params.id;
        const agentId = requireActingAgent(request, request.body.agentId);
        const reason = request.body.reason ?? null;
        const result = await rejectOffer(pool, { workspaceId, conversationId, agentId, reason });
        if (result.kind === 'not_offered') throw refuseOfferAnswer(result, agentId);
        if (result.kind !== 'done') throw refuseConversation(result.kind);
        return viewConversation(await requireConversation(pool, workspaceId, conversationId));
      },
    );
  };
}
