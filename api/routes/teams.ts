import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { createTeam, getTeam, listTeams, updateTeam } from '../../store/teams.ts';
import type { ApiDeps } from '../dependencies.ts';
import { problem } from '../problems.ts';
import {
  Body,
  decodeCursor,
  errorResponses,
  IdParams,
  listOf,
  ListQuery,
  OneOf,
  SafeText,
  toPage,
} from '../schemas.ts';
import { strategies, TeamView, viewTeam } from '../views.ts';

const Name = SafeText(200, { examples: ['Billing'] });
const Strategy = OneOf(strategies, {
  description: 'round_robin: in turn; least_loaded: who has the largest part of the capacity free',
});

export function teamsRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/teams',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Teams'],
          summary: 'Create a team',
          body: Body({ name: Name, strategy: Type.Optional(Strategy) }),
          response: { 201: TeamView, ...errorResponses(409) },
        },
      },
      async ({ principal: { workspaceId }, body: { name, strategy = 'round_robin' } }, reply) => {
        const result = await createTeam(pool, { workspaceId, name, strategy });
        if (result.kind === 'name_taken') throw nameTaken(name);
        return reply.code(201).send(viewTeam(result.team));
      },
    );

    app.get(
      '/teams',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Teams'],
          summary: 'List teams',
          querystring: ListQuery,
          response: { 200: listOf(TeamView), ...errorResponses() },
        },
      },
      async ({ principal: { workspaceId }, query: { limit, cursor } }) => {
        const rows = await listTeams(pool, { workspaceId, after: decodeCursor(cursor), limit: limit + 1 });
        return toPage(rows, limit, viewTeam);
      },
    );

    app.get(
      '/teams/:id',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Teams'],
          summary: 'Get a team',
          params: IdParams,
          response: { 200: TeamView, ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId }, params }) => {
        const team = await getTeam(pool, { workspaceId, teamId: params.id });
        if (team === null) throw problem('not_found');
        return viewTeam(team);
      },
    );

    app.patch(
      '/teams/:id',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Teams'],
          summary: 'Change a team',
          params: IdParams,
          body: Body({ name: Type.Optional(Name), strategy: Type.Optional(Strategy) }),
          response: { 200: TeamView, ...errorResponses(404, 409) },
        },
      },
      async ({ principal: { workspaceId }, params, body }) => {
        const result = await updateTeam(pool, { workspaceId, teamId: params.id, ...body });
        if (result.kind === 'not_found') throw problem('not_found');
        if (result.kind === 'name_taken') throw nameTaken(body.name);
        return viewTeam(result.team);
      },
    );
  };
}

function nameTaken(name: string | undefined) {
  return problem('conflict.name_taken', {
    errors: [{ field: '/name', message: `There is a team named ${name} already.`, mend: 'Choose another name.' }],
  });
}
