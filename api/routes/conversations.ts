import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { assignManually, type AssignTarget } from '../../store/assignment.ts';
import { requestClose } from '../../store/closing.ts';
import { listConversations, listDecisions } from '../../store/conversations.ts';
import { withNames } from '../../store/names.ts';
import { openByUser } from '../../store/opening.ts';
import type { ApiDeps } from '../dependencies.ts';
import { refuseConversation, refuseNotes, requireConversation } from '../conversation-problems.ts';
import { actingAgent } from '../principal.ts';
import { problem, type FieldFault } from '../problems.ts';
import {
  Body,
  decodeCursor,
  errorResponses,
  Id,
  IdParams,
  listOf,
  ListQuery,
  listQueryProperties,
  OneOf,
  SafeText,
  toPage,
} from '../schemas.ts';
import { acceptNoBody } from '../validation.ts';
import { conversationStates, ConversationView, DecisionView, viewConversation, viewDecision } from '../views.ts';

const tags = ['Conversations'];
const Force = Type.Boolean({ description: 'Assign to the agent even where that exceeds the capacity; it is recorded' });

export function conversationsRoutes(deps: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    for (const createRoutes of [readRoutes, openRoutes, assignRoutes, closeRoutes]) {
      await app.register(createRoutes(deps));
    }
  };
}

function readRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/conversations',
      {
        config: { scope: 'agent' },
        schema: {
          tags,
          summary: 'List conversations, newest first',
          querystring: Type.Object(
            {
              ...listQueryProperties,
              state: Type.Optional(OneOf(conversationStates)),
              contactId: Type.Optional(Id),
              teamId: Type.Optional(Id),
              agentId: Type.Optional(Id),
            },
            { additionalProperties: false },
          ),
          response: { 200: listOf(ConversationView), ...errorResponses() },
        },
      },
      async ({ principal: { workspaceId }, query: { limit, cursor, ...filter } }) => {
        const after = decodeCursor(cursor);
        const rows = await listConversations(pool, { workspaceId, filter, after, limit: limit + 1 });
        return toPage(rows, limit, viewConversation);
      },
    );

    app.get(
      '/conversations/:id',
      {
        config: { scope: 'agent' },
        schema: {
          tags,
          summary: 'Get a conversation',
          params: IdParams,
          response: { 200: ConversationView, ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId }, params }) =>
        viewConversation(await requireConversation(pool, workspaceId, params.id)),
    );

    app.get(
      '/conversations/:id/decisions',
      {
        config: { scope: 'agent' },
        schema: {
          tags,
          summary: 'List what was decided about a conversation and why, oldest first',
          params: IdParams,
          querystring: ListQuery,
          response: { 200: listOf(DecisionView), ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId }, params, query: { limit, cursor } }) => {
        const after = decodeCursor(cursor);
        await requireConversation(pool, workspaceId, params.id);
        const key = { workspaceId, conversationId: params.id };
        const page = toPage(await listDecisions(pool, { ...key, after, limit: limit + 1 }), limit, viewDecision);
        const summaries = await withNames(
          pool,
          workspaceId,
          page.items.map(({ summary }) => summary),
        );
        return { ...page, items: page.items.map((item, place) => ({ ...item, summary: summaries[place]! })) };
      },
    );
  };
}

function openRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/conversations',
      {
        config: { scope: 'agent' },
        schema: {
          tags,
          summary: 'Open a conversation with a contact',
          description:
            'No flow runs. It goes to the agent, else into the queue of the team, else into that of the default team. ' +
            'Where one is open already, the answer is 409 with its id as `conversationId`.',
          body: Body({
            contactId: Id,
            source: Type.Optional(
              OneOf(['user', 'api'], { description: 'Who opens it: a person (default) or a program' }),
            ),
            agentId: Type.Optional(Id),
            teamId: Type.Optional(Id),
            force: Type.Optional(Force),
          }),
          response: { 201: ConversationView, ...errorResponses(409, 422) },
        },
      },
      async ({ principal, body }, reply) => {
        const { workspaceId, agentId: byAgentId } = principal;
        const { contactId, source = 'user' } = body;
        const result = await openByUser(pool, { workspaceId, contactId, source, to: targetOf(body), byAgentId });
        if (result.kind === 'already_open') {
          throw problem('conflict.already_open', { extra: { conversationId: result.conversationId } });
        }
        if (result.kind !== 'opened') throw refuseConversation(result.kind);
        const conversation = await requireConversation(pool, workspaceId, result.conversationId);
        return reply.code(201).send(viewConversation(conversation));
      },
    );
  };
}

function assignRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/conversations/:id/assign',
      {
        config: { scope: 'agent' },
        preValidation: acceptNoBody,
        schema: {
          tags,
          summary: 'Assign by hand, or put back into a queue',
          description:
            'To the agent, or into the queue of the team; with neither, back into the queue of its team. ' +
            'It keeps its place by the time it has waited. The flow does not run again.',
          params: IdParams,
          body: Body({
            agentId: Type.Optional(Id),
            teamId: Type.Optional(Id),
            force: Type.Optional(Force),
            note: Type.Optional(SafeText(2000, { minLength: 0 })),
          }),
          response: { 200: ConversationView, ...errorResponses(404, 409, 422) },
        },
      },
      async ({ principal, params, body }) => {
        const { workspaceId, agentId: byAgentId } = principal;
        const key = { workspaceId, conversationId: params.id };
        const note = body.note === undefined ? {} : { note: body.note };
        const result = await assignManually(pool, { ...key, to: targetOf(body), byAgentId, ...note });
        if (result.kind !== 'done') throw refuseConversation(result.kind);
        return viewConversation(await requireConversation(pool, workspaceId, params.id));
      },
    );
  };
}

function closeRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/conversations/:id/close',
      {
        config: { scope: 'agent' },
        preValidation: acceptNoBody,
        schema: {
          tags,
          summary: 'Ask for a conversation to be closed',
          description:
            'From here on, what the contact writes opens the next conversation. The first request decides category and ' +
            'summary; a later one, or one for a closed conversation, changes nothing. The workspace sets ' +
            'whether they are wanted (`closeNotes`); once it has close categories, a category must be one of them.',
          params: IdParams,
          body: Body({
            category: Type.Optional(SafeText(200)),
            summary: Type.Optional(SafeText(MAX_SUMMARY_LENGTH, { minLength: 0 })),
            agentId: Type.Optional(Id),
          }),
          response: { 202: ConversationView, ...errorResponses(404, 422) },
        },
      },
      async (request, reply) => {
        const { workspaceId } = request.principal;
        const { agentId: named, ...closing } = request.body;
        const agentId = actingAgent(request, named);
        const conversationId = request.params.id;
        const result = await requestClose(pool, { workspaceId, conversationId, agentId, ...closing });
        if (result.kind === 'not_found' || result.kind === 'unknown_agent') throw refuseConversation(result.kind);
        if (result.kind === 'unfit_notes') throw refuseNotes(result);
        const conversation =
          result.kind === 'requested'
            ? result.conversation
            : await requireConversation(pool, workspaceId, conversationId);
        return reply.code(202).send(viewConversation(conversation));
      },
    );
  };
}

const MAX_SUMMARY_LENGTH = 16_384;

function targetOf({
  agentId,
  teamId,
  force = false,
}: {
  agentId?: string;
  teamId?: string;
  force?: boolean;
}): AssignTarget {
  const errors: FieldFault[] = [];
  if (agentId !== undefined && teamId !== undefined) {
    errors.push({ field: '/teamId', message: 'cannot stand beside agentId', mend: 'Name the agent or the team.' });
  }
  if (force && teamId !== undefined) {
    errors.push({
      field: '/force',
      message: 'cannot stand beside teamId',
      mend: 'Leave it out, or name only an agent.',
    });
  } else if (force && agentId === undefined) {
    errors.push({ field: '/force', message: 'needs an agentId', mend: 'Leave it out, or name the agent.' });
  }
  if (errors.length > 0) throw problem('invalid_request', { errors });
  if (agentId !== undefined) return { kind: 'agent', agentId, force };
  return teamId === undefined ? { kind: 'queue' } : { kind: 'team', teamId };
}
