import { afterAll, beforeAll, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { startSystem, type TestSystem } from '../support/system.ts';

let system: TestSystem;

beforeAll(async () => {
  system = await startSystem();
});
afterAll(() => system?.stop());

test('a message opens a conversation, which is enriched, routed, assigned, answered and closed; the next opens another', async () => {
  const [api] = system.apis;
  if (api === undefined) throw new Error('no API');
  await api.post('/v1/channels', { key: 'web', name: 'Web' });
  const team = await api.post('/v1/teams', { name: 'Billing', strategy: 'round_robin' });
  const agent = await api.post('/v1/agents', { name: 'Ada', capacity: 2, teamIds: [team.id], skills: {} });
  expect((await api.call('PUT', `/v1/agents/${agent.id}/presence`, { status: 'online' })).status).toBe(200);
  const flow = await api.post('/v1/flows', {
    name: 'Main',
    document: {
      enrichment: [
        {
          kind: 'keywords',
          field: 'purpose',
          rules: [{ value: 'billing', keywords: ['invoice'] }],
          otherwise: 'general',
        },
      ],
      routing: {
        branches: [{ name: 'Billing', when: "fields.purpose == 'billing'", teamId: team.id, priority: 10 }],
        otherwise: { teamId: system.workspace.defaultTeamId, priority: 0 },
      },
    },
  });
  await api.post(`/v1/flows/${flow.id}/publish`);

  const sent = await api.send('contact-1', 'Where is my invoice?');
  expect(sent.status).toBe(202);
  expect(sent.body).toMatchObject({ conversationId: null, sequence: 1, duplicate: false });
  const conversation = await eventually('assigned', async () => {
    const { items } = await api.get(`/v1/conversations?contactId=${sent.body.contactId}`);
    return items[0]?.state === 'assigned' && items[0];
  });
  expect(conversation).toMatchObject({ source: 'contact', teamId: team.id, agentId: agent.id, priority: 10 });
  expect(conversation.fields).toEqual({ purpose: 'billing' });

  await api.post(`/v1/conversations/${conversation.id}/messages`, { text: 'It is on its way.', agentId: agent.id });
  const closed = await api.call('POST', `/v1/conversations/${conversation.id}/close`, { category: 'invoice' });
  expect(closed.status).toBe(202);
  await eventually('closed', async () => (await api.get(`/v1/conversations/${conversation.id}`)).state === 'closed');

  const again = await api.send('contact-1', 'One more thing');
  const next = await eventually('the next conversation', async () => {
    const { items } = await api.get(`/v1/conversations?contactId=${again.body.contactId}&state=waiting`);
    return items[0];
  });
  expect(next.id).not.toBe(conversation.id);
  expect(again.body.sequence).toBe(3);
});
