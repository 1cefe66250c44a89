import type { ApiClient } from './api-client.ts';

export interface WorkspaceContents {
  readonly teamId: string;
  readonly agentIds: readonly string[];
}

/**
 * What a scenario needs to begin: the channel `web`, one team with agents who are online, and a published flow that enriches
 * and then routes everything to that team.
 */
export async function fillWorkspace(
  { apis }: { readonly apis: readonly ApiClient[] },
  { agents = 1, capacity = 1_000 }: { agents?: number; capacity?: number } = {},
): Promise<WorkspaceContents> {
  const api: ApiClient = apis[0]!;
  await api.post('/v1/channels', { key: 'web', name: 'Web' });
  const team = await api.post('/v1/teams', { name: 'Support', strategy: 'least_loaded' });
  const agentIds: string[] = [];
  for (let i = 1; i <= agents; i += 1) {
    const agent = await api.post('/v1/agents', { name: `Agent ${i}`, capacity, teamIds: [team.id], skills: {} });
    const { status } = await api.call('PUT', `/v1/agents/${agent.id}/presence`, { status: 'online' });
    if (status !== 200) throw new Error(`presence answered ${status}`);
    agentIds.push(agent.id);
  }
  const keywords = { kind: 'keywords', field: 'purpose', rules: [{ value: 'billing', keywords: ['invoice'] }] };
  const flow = await api.post('/v1/flows', {
    name: 'Main',
    document: {
      enrichment: [{ ...keywords, otherwise: 'general' }],
      routing: { branches: [], otherwise: { teamId: team.id, priority: 0 } },
    },
  });
  await api.post(`/v1/flows/${flow.id}/publish`);
  return { teamId: team.id, agentIds };
}
