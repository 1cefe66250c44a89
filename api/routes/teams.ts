import { Type, type FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { createTeam, getTeam, listTeams, updateTeam, type TeamRefusal } from '../../store/teams.ts';
import type { ApiDeps } from '../dependencies.ts';
import { problem } from '../problems.ts';
import { Body, decodeCursor, errorResponses, IdParams, listOf, ListQuery, NameText, toPage } from '../schemas.ts';
import { Strategy, teamSettingsSchemas, toTeamSettings } from '../team-settings.ts';
import { TeamView, viewTeam } from '../team-views.ts';

const Name = NameText(200, { examples: ['Billing'] });
const rules = Type.Partial(Type.Object({ strategy: Strategy, ...teamSettingsSchemas })).properties;

export function teamsRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/teams',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Teams'],
          summary: 'Create a team',
          description: 'Left out, the strategy is round_robin, and every other rule is off.',
          body: Body({ name: Name, ...rules }),
          response: { 201: TeamView, ...errorResponses(409, 422) },
        },
      },
      async ({ principal: { workspaceId }, body }, reply) => {
        const { name, strategy = 'round_robin', ...settings } = body;
        const result = await createTeam(pool, { workspaceId, name, strategy, settings: toTeamSettings(settings) });
        if (result.kind !== 'created') throw refuseTeam(result, body);
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
          description:
            'The next decision goes by it, on every worker. Only the members sent are changed, each replaced whole; null switches a ' +
            'rule off. What waits is served in the new order, offers already made keep their time, and `offline` holds for agents ' +
            'who go offline from now on.',
          params: IdParams,
          body: Body({ name: Type.Optional(Name), ...rules }),
          response: { 200: TeamView, ...errorResponses(404, 409, 422) },
        },
      },
      async ({ principal: { workspaceId }, params, body }) => {
        const { name, strategy, ...settings } = body;
        const result = await updateTeam(pool, {
          workspaceId,
          teamId: params.id,
          ...(name === undefined ? {} : { name }),
          ...(strategy === undefined ? {} : { strategy }),
          settings: toTeamSettings(settings),
        });
        if (result.kind === 'not_found') throw problem('not_found');
        if (result.kind !== 'updated') throw refuseTeam(result, body);
        return viewTeam(result.team);
      },
    );
  };
}

function refuseTeam(refusal: TeamRefusal, { name, priorityList = [] }: { name?: string; priorityList?: string[] }) {
  switch (refusal.kind) {
    case 'name_taken':
      return problem('conflict.name_taken', {
        errors: [{ field: '/name', message: `There is a team named ${name} already.`, mend: 'Choose another name.' }],
      });
    case 'unknown_agents':
      return problem('unknown_reference', {
        errors: refusal.agentIds.map((agentId) => ({
          field: `/priorityList/${priorityList.indexOf(agentId)}`,
          message: 'There is no agent with this id.',
          mend: 'Name an agent that GET /v1/agents lists.',
        })),
      });
  }
}
