import { Type, type Static } from '@fastify/type-provider-typebox';
import type { Agent } from '../store/agents.ts';
import { Id, OneOf, Timestamp } from './schemas.ts';
import { isoOrNull, NullableTimestamp } from './views.ts';

export const presences = ['online', 'away', 'offline'] as const;

/** Names that a workspace chose, with a whole number for each. */
const Numbers = (description: string) =>
  Type.Unsafe<Readonly<Record<string, number>>>({
    type: 'object',
    additionalProperties: { type: 'integer' },
    description,
  });

export const AgentView = Type.Object({
  id: Id,
  name: Type.String(),
  capacity: Type.Integer({ description: 'How many units of work the agent may have at once' }),
  load: Type.Integer({ description: 'Units that the open conversations of the agent and the offers to it take' }),
  skills: Numbers('Skill to level, 1 to 5'),
  channelLimits: Numbers(
    'Key of a channel to the most conversations from it at once; channels not named are not limited',
  ),
  channelLoads: Numbers('Key of a channel to how many conversations from it there are now'),
  teamIds: Type.Array(Id),
  presence: OneOf(presences),
  presenceChangedAt: NullableTimestamp,
  heartbeatAt: NullableTimestamp,
  lastAssignedAt: NullableTimestamp,
  missedOffers: Type.Integer({ description: 'Offers in a row that ran out unanswered' }),
  createdAt: Timestamp,
});

export function viewAgent(agent: Agent): Static<typeof AgentView> {
  const { id, name, capacity, load, skills, channelLimits, channelLoads, presence, missedOffers } = agent;
  return {
    id,
    name,
    capacity,
    load,
    skills,
    channelLimits,
    channelLoads,
    presence,
    missedOffers,
    teamIds: [...agent.teamIds],
    presenceChangedAt: isoOrNull(agent.presenceChangedAt),
    heartbeatAt: isoOrNull(agent.heartbeatAt),
    lastAssignedAt: isoOrNull(agent.lastAssignedAt),
    createdAt: agent.createdAt.toISOString(),
  };
}
