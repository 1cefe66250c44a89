import { Type, type FastifyPluginAsyncTypebox, type Static } from '@fastify/type-provider-typebox';
import {
  estimateWindowSeconds,
  readQueuePosition,
  readTeamQueue,
  type QueueGroup,
  type TeamQueue,
} from '../../store/queue-views.ts';
import type { ApiDeps } from '../dependencies.ts';
import { problem } from '../problems.ts';
import { errorResponses, Id, IdParams, Nullable, NullableId, OneOf } from '../schemas.ts';
import { conversationStates, SkillView } from '../views.ts';

export function queuesRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/teams/:id/queue',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Teams'],
          summary: 'What waits for a team',
          description: `As of now, counted at each call. ${estimateMethod}`,
          params: IdParams,
          response: { 200: QueueView, ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId }, params }) => {
        const queue = await readTeamQueue(pool, { workspaceId, teamId: params.id });
        if (queue === null) throw problem('not_found');
        return viewQueue(params.id, queue);
      },
    );

    app.get(
      '/conversations/:id/position',
      {
        config: { scope: 'agent' },
        schema: {
          tags: ['Conversations'],
          summary: 'Place and estimated wait of a conversation in the queue of its team',
          description:
            'Those are served first whose priority, grown with their wait by the slope of the team, is higher; among equals those who ' +
            `miss their target earlier, then who have waited longer. One that does not wait has no place: \`position\` is null. ${estimateMethod}`,
          params: IdParams,
          response: { 200: PositionView, ...errorResponses(404) },
        },
      },
      async ({ principal: { workspaceId }, params }) => {
        const position = await readQueuePosition(pool, { workspaceId, conversationId: params.id });
        if (position === null) throw problem('not_found');
        return { conversationId: params.id, ...position };
      },
    );
  };
}

const estimateMethod =
  `The estimated wait is the place in the queue divided by the rate at which agents got conversations of the team in the last ` +
  `${estimateWindowSeconds / 60} minutes (those opened within the last day count). It is null where they got none. It knows neither skills ` +
  `nor who comes or goes; docs/assignment.md tells its measured error.`;

const Seconds = Type.Integer({ minimum: 0 });
const Count = Type.Integer({ minimum: 0 });
const EstimatedWait = Nullable(Type.Integer({ minimum: 0, description: 'null where nothing was taken lately' }));

const QueueGroupView = Type.Object({
  skills: Type.Array(SkillView, { description: 'As relaxed by now' }),
  channel: Nullable(Type.String({ description: 'Key of the channel; null where nothing had been written' })),
  units: Type.Integer({ description: "What each takes of an agent's capacity" }),
  depth: Count,
  longestWaitSeconds: Seconds,
  qualifiedOnline: Type.Integer({
    description: 'Agents of the team who are online and have the required skills, with or without room',
  }),
});

const QueueView = Type.Object({
  teamId: Id,
  depth: Type.Integer({ minimum: 0, description: 'Waiting, and not being offered to anybody right now' }),
  offered: Type.Integer({ minimum: 0, description: 'Waiting, and being offered to an agent right now' }),
  longestWaitSeconds: Type.Integer({
    minimum: 0,
    description: 'Of all that wait, offered or not; 0 when nothing does',
  }),
  sla: Nullable(
    Type.Object(
      {
        targetSeconds: Nullable(Type.Number({ description: "The team's; null where it has none" })),
        breached: Type.Integer({
          description:
            "Have waited as long as their target or longer: `slaSeconds` of the conversation, else the team's",
        }),
        atRisk: Type.Integer({ description: "Will have, within the last fifth of the target's time" }),
      },
      { description: 'Of all that wait, offered or not; null where neither the team nor any of these has a target' },
    ),
  ),
  byRequirement: Type.Array(QueueGroupView, {
    description: 'What is in the queue by what it asks for, the largest group first, at most 100',
  }),
  others: Nullable(
    Type.Object(
      { depth: Count, longestWaitSeconds: Seconds },
      { description: 'What the groups do not tell; else null' },
    ),
  ),
  onlineAgents: Count,
  freeUnits: Type.Integer({ minimum: 0, description: 'Room of the agents who are online' }),
  estimatedWaitSeconds: EstimatedWait,
});

function viewQueue(teamId: string, { byRequirement, ...queue }: TeamQueue): Static<typeof QueueView> {
  return { teamId, ...queue, byRequirement: byRequirement.map(viewGroup) };
}

function viewGroup({ skills, ...group }: QueueGroup): Static<typeof QueueGroupView> {
  return { skills: [...skills], ...group };
}

const PositionView = Type.Object({
  conversationId: Id,
  state: OneOf(conversationStates),
  teamId: NullableId,
  position: Nullable(
    Type.Integer({
      minimum: 0,
      description:
        'From 1, among all that wait in the queue of the team, whatever they ask for; 0 while it is being offered to an agent; null ' +
        'when it does not wait, or is about to be closed',
    }),
  ),
  waitedSeconds: Nullable(Type.Integer({ minimum: 0, description: 'null when it does not wait' })),
  estimatedWaitSeconds: EstimatedWait,
});
