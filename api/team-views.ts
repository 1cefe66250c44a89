import { Type, type Static } from '@fastify/type-provider-typebox';
import type { Team } from '../store/teams.ts';
import { Id, Timestamp } from './schemas.ts';
import { Strategy, teamSettingsSchemas } from './team-settings.ts';

export const TeamView = Type.Object({
  id: Id,
  name: Type.String(),
  strategy: Strategy,
  ...teamSettingsSchemas,
  isDefault: Type.Boolean({ description: 'Gets what no flow decides' }),
  version: Type.Integer({ description: 'Grows with every change of what matching uses' }),
  createdAt: Timestamp,
});

export function viewTeam(team: Team): Static<typeof TeamView> {
  return { ...team, priorityList: [...team.priorityList], createdAt: team.createdAt.toISOString() };
}
