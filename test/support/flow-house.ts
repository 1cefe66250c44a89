/** A workspace for tests of flows: the channel `chat` that sends to a given address, the teams Sales and Support, an agent in each, and one live flow. */
import { randomUUID } from 'node:crypto';
import { createWorkspace, type NewWorkspace } from '../../store/workspaces.ts';
import { createApiClient, type ApiAnswer, type ApiClient } from './api-client.ts';
import { eventually } from './eventually.ts';
import type { TestSystem } from './system.ts';

export interface FlowHouse {
  readonly workspace: NewWorkspace;
  readonly api: ApiClient;
  readonly teams: TeamIds;
  readonly agents: { readonly sales: string; readonly support: string };
  readonly flowId: string;
  /** Makes the document the next version, and that live. @returns its id */
  publish(document: FlowOf): Promise<string>;
  say(contact: string, text: string, externalId?: string): Promise<ApiAnswer<Json>>;
  /** The one that the contact opened last; undefined before there is one. */
  conversationOf(contact: string): Promise<Json>;
  /** Waits until it has these members. */
  conversationWith(contact: string, members: object): Promise<Json>;
  messagesOf(contact: string): Promise<Json[]>;
}

export interface TeamIds {
  readonly sales: string;
  readonly support: string;
}

type FlowOf = (teams: TeamIds) => object;

// Answers are asserted on by the tests; a type for each would only repeat the contract.
type Json = any;

export async function createFlowHouse(
  system: TestSystem,
  { outboundUrl, document }: { outboundUrl?: string; document: FlowOf },
): Promise<FlowHouse> {
  const workspace = await createWorkspace(system.database.pool, { name: 'Flows' });
  const api = createApiClient(system.apis[0]!.url, workspace.keys);
  await api.post('/v1/channels', { key: 'chat', name: 'Chat', ...(outboundUrl && { outboundUrl }) });
  const sales = await createTeam(api, 'Sales');
  const support = await createTeam(api, 'Support');
  const teams = { sales: sales.teamId, support: support.teamId };
  const flow = await api.post('/v1/flows', { name: 'Main', document: document(teams) });
  await api.post(`/v1/flows/${flow.id}/publish`);
  const contactIds = new Map<string, string>();

  async function conversationOf(contact: string): Promise<Json> {
    const { items } = await api.get(`/v1/conversations?contactId=${contactIds.get(contact)!}`);
    return items.toSorted((one: { id: string }, other: { id: string }) => (one.id < other.id ? 1 : -1))[0];
  }

  return {
    workspace,
    api,
    teams,
    agents: { sales: sales.agentId, support: support.agentId },
    flowId: flow.id,
    async publish(next) {
      const patched = await api.call('PATCH', `/v1/flows/${flow.id}`, { document: next(teams) });
      if (patched.status !== 200) throw new Error(JSON.stringify(patched.body));
      return (await api.post(`/v1/flows/${flow.id}/publish`)).id;
    },
    async say(contact, text, externalId = randomUUID()) {
      const message = { channel: 'chat', externalId, contact: { externalId: contact, name: contact }, text };
      const answer = await api.call('POST', '/v1/messages', message, workspace.keys.ingest);
      if (answer.status !== 202) throw new Error(`${answer.status}: ${JSON.stringify(answer.body)}`);
      contactIds.set(contact, answer.body.contactId);
      return answer;
    },
    conversationOf,
    conversationWith(contact, members) {
      let seen: Json;
      return eventually(`${contact} with ${JSON.stringify(members)}`, async () => {
        seen = await conversationOf(contact);
        if (seen !== undefined && hasMembers(seen, members)) return seen;
        throw new Error(`the conversation is ${JSON.stringify(seen)}`);
      });
    },
    async messagesOf(contact) {
      const { id } = await conversationOf(contact);
      return (await api.get(`/v1/conversations/${id}/messages`)).items;
    },
  };
}

async function createTeam(api: ApiClient, name: string): Promise<{ teamId: string; agentId: string }> {
  const team = await api.post('/v1/teams', { name, strategy: 'least_loaded' });
  const agent = await api.post('/v1/agents', {
    name: `${name} agent`,
    capacity: 1_000,
    teamIds: [team.id],
    skills: {},
  });
  const { status } = await api.call('PUT', `/v1/agents/${agent.id}/presence`, { status: 'online' });
  if (status !== 200) throw new Error(`presence answered ${status}`);
  return { teamId: team.id, agentId: agent.id };
}

const hasMembers = (value: Record<string, unknown>, members: object): boolean =>
  Object.entries(members).every(([key, member]) => JSON.stringify(value[key]) === JSON.stringify(member));
