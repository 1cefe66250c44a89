import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import {
  createAgent,
  getAgent,
  listAgents,
  recordHeartbeat,
  setPresence,
  updateAgent,
  type UnknownReferences,
} from '../../store/agents.ts';
import { AgentView, presences, viewAgent } from '../agent-views.ts';
import type { ApiDeps } from '../dependencies.ts';
import { problem } from '../problems.ts';
import {
  Body,
  decodeCursor,
  errorResponses,
  Id,
  IdParams,
  listOf,
  ListQuery,
  NameText,
  OneOf,
  toPage,
} from '../schemas.ts';
import { escapePointer } from '../text-check.ts';
import { acceptNoBody } from '../validation.ts';

const Name = NameText(200, { examples: ['Ada'] });
const Capacity = Type.Integer({
  minimum: 0,
  maximum: 10_000,
  description: 'Units of work at once; what a conversation takes is set by its channel, 1 without',
});
const TeamIds = Type.Array(Id, { maxItems: 100, uniqueItems: true });
const Skills = Type.Unsafe<Record<string, number>>({
  type: 'object',
  additionalProperties: { type: 'integer', minimum: 1, maximum: 5 },
  propertyNames: NameText(100),
  maxProperties: 100,
  description: 'Skill to level',
  examples: [{ german: 5 }],
});
const ChannelLimits = Type.Unsafe<Record<string, number>>({
  type: 'object',
  additionalProperties: { type: 'integer', minimum: 0, maximum: 1000 },
  maxProperties: 100,
  description:
    'Key of a channel to the most conversations from it at once, beside the capacity; 0: none. Channels not named are not limited',
  examples: [{ phone: 1 }],
});

export function agentsRoutes(deps: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    await app.register(configurationRoutes(deps));
    await app.register(presenceRoutes(deps));
  };
}

function configurationRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/agents',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Agents'],
          summary: 'Create an agent, offline at first',
          body: Body({
            name: Name,
            capacity: Capacity,
            teamIds: Type.Optional(TeamIds),
            skills: Type.Optional(Skills),
            channelLimits: Type.Optional(ChannelLimits),
          }),
          response: { 201: AgentView, ...errorResponses(422) },
        },
      },
      async ({ principal: { workspaceId }, body }, reply) => {
        const { teamIds = [], skills = {} } = body;
        const result = await createAgent(pool, { ...body, workspaceId, teamIds, skills });
        if (result.kind === 'unknown_references') throw unknownReferences(result, teamIds);
        return reply.code(201).send(viewAgent(result.agent));
      },
    );

    app.get(
      '/agents',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Agents'],
          summary: 'List agents with presence and load',
          querystring: ListQuery,
          response: { 200: listOf(AgentView), ...errorResponses() },
        },
      },
      async ({ principal: { workspaceId }, query: { limit, cursor } }) => {
        const rows = await listAgents(pool, { workspaceId, after: decodeCursor(cursor), limit: limit + 1 });
        return toPage(rows, limit, viewAgent);
      },
    );

    app.get(
      '/agents/:id',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Agents'],
          summary: 'Get an agent',
          params: IdParams,
          response: { 200: AgentView, ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId }, params }) => {
        const agent = await getAgent(pool, { workspaceId, agentId: params.id });
        if (agent === null) throw problem('not_found');
        return viewAgent(agent);
      },
    );

    app.patch(
      '/agents/:id',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Agents'],
          summary: 'Change an agent; room that this adds goes to who waits',
          description:
            'A lower capacity or limit takes no conversation away. `teamIds`, `skills` and `channelLimits` replace what was there.',
          params: IdParams,
          body: Body({
            name: Type.Optional(Name),
            capacity: Type.Optional(Capacity),
            teamIds: Type.Optional(TeamIds),
            skills: Type.Optional(Skills),
            channelLimits: Type.Optional(ChannelLimits),
          }),
          response: { 200: AgentView, ...errorResponses(404, 422) },
        },
      },
      async ({ principal: { workspaceId }, params, body }) => {
        const result = await updateAgent(pool, { workspaceId, agentId: params.id, ...body });
        if (result.kind === 'not_found') throw problem('not_found');
        if (result.kind === 'unknown_references') throw unknownReferences(result, body.teamIds ?? []);
        return viewAgent(result.agent);
      },
    );
  };
}

function presenceRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.put(
      '/agents/:id/presence',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Agents'],
          summary: 'Set the presence of an agent',
          description: 'Only online agents are given work. A key that is bound to an agent sets only its own presence.',
          params: IdParams,
          body: Body({ status: OneOf(presences) }),
          response: { 200: AgentView, ...errorResponses(404) },
        },
      },
      async (request) => {
        const result = await setPresence(pool, {
          ...ownAgent(request, request.params.id),
          status: request.body.status,
        });
        if (result.kind === 'not_found') throw problem('not_found');
        return viewAgent(result.agent);
      },
    );

    app.post(
      '/agents/:id/heartbeat',
      {
        config: { scope: 'agent' },
        preValidation: acceptNoBody,
        schema: {
          tags: ['Agents'],
          summary: 'Tell that an agent is still there',
          description:
            'An online agent that has sent one since it came online must go on: after `heartbeatExpirySeconds` of the workspace ' +
            'without (60 unless set), it is set away. An agent that never sends any stays as it is. A third of that time is a good pace.',
          params: IdParams,
          body: Body({}),
          response: { 200: AgentView, ...errorResponses(404) },
        },
      },
      async (request) => {
        const result = await recordHeartbeat(pool, ownAgent(request, request.params.id));
        if (result.kind === 'not_found') throw problem('not_found');
        return viewAgent(result.agent);
      },
    );
  };
}

function ownAgent({ principal }: FastifyRequest, agentId: string): { workspaceId: string; agentId: string } {
  if (principal.agentId !== null && principal.agentId !== agentId) {
    throw problem('forbidden', { detail: 'This key is bound to another agent.' });
  }
  return { workspaceId: principal.workspaceId, agentId };
}

function unknownReferences(unknown: UnknownReferences, teamIds: readonly string[]) {
  const teams = unknown.teamIds.map((teamId) => ({
    field: `/teamIds/${teamIds.indexOf(teamId)}`,
    message: 'There is no team with this id.',
    mend: 'Name a team that GET /v1/teams lists.',
  }));
  const channels = unknown.channels.map((key) => ({
    field: `/channelLimits/${escapePointer(key)}`,
    message: 'There is no channel with this key.',
    mend: 'Name the key of a channel that GET /v1/channels lists.',
  }));
  return problem('unknown_reference', { errors: [...teams, ...channels] });
}
