import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { eventually } from '../support/eventually.ts';
import { startActors, type Actors, type Scene } from '../workflows/actors.ts';
import { startEnrichmentServer, type EnrichmentServer } from './enrichment-server.ts';

let server: EnrichmentServer;
let actors: Actors;

beforeAll(async () => {
  server = await startEnrichmentServer();
  actors = await startActors({ env: { ENRICHMENT_ALLOWED_HOSTS: server.host } });
});
afterAll(async () => {
  server?.release();
  await actors?.stop();
  await server?.close();
});

/** A flow that asks `url`, and sends gold customers to a team of their own. */
async function enterAsking(url: string, timeoutMs = 5_000): Promise<Scene & { goldTeamId: string }> {
  const scene = await actors.enter();
  const goldTeamId = await scene.addTeam();
  await scene.publish({
    enrichment: [
      { kind: 'set', field: 'known', value: true },
      { kind: 'http', url, timeoutMs, fields: { tier: '/customer/tier', orders: '/customer/orders' } },
    ],
    routing: {
      branches: [{ name: 'Gold', when: "'tier' in fields && fields.tier == 'gold'", teamId: goldTeamId, priority: 7 }],
      otherwise: { teamId: scene.defaultTeamId, priority: 0 },
    },
  });
  return { ...scene, goldTeamId };
}

const failuresOf = async (scene: Scene, conversationId: string): Promise<string[]> => {
  const { rows } = await scene.pool.query<{ failures: string[] }>(
    `SELECT detail->'failures' AS failures FROM decisions
     WHERE workspace_id = $1 AND conversation_id = $2 AND kind = 'enrichment'`,
    [scene.workspaceId, conversationId],
  );
  return rows[0]!.failures;
};

test('another system’s answer gives fields, which route the conversation', async () => {
  const scene = await enterAsking(`${server.url}/customer`);
  const contactId = await scene.say(newId(), 'Hello there');
  const conversationId = await scene.untilOpen(contactId);
  expect(await scene.conversation(conversationId)).toMatchObject({
    teamId: scene.goldTeamId,
    priority: 7,
    fields: { known: true, tier: 'gold', orders: 3 },
    fallbackReason: null,
  });
  const asked = server.requests.filter(({ body }) => body['conversationId'] === conversationId);
  expect(asked).toHaveLength(1);
  expect(asked[0]!.body).toMatchObject({ text: 'Hello there', contact: { id: contactId }, fields: { known: true } });
});

test.for([
  ['answers with an error', '/broken', 'answered 500'],
  ['answers with something else than JSON', '/text', 'no JSON'],
  ['answers too much', '/large', 'bytes'],
  ['sends elsewhere', '/away', 'redirect'],
  ['does not answer in time', '/slow', 'no answer in time'],
] as const)('a system that %s fails softly: the conversation goes on without its fields', async ([, path, reason]) => {
  const scene = await enterAsking(server.url + path, path === '/slow' ? 100 : 5_000);
  const conversationId = await scene.untilOpen(await scene.say(newId()));
  expect(await scene.conversation(conversationId)).toMatchObject({
    state: 'waiting',
    teamId: scene.defaultTeamId,
    fields: { known: true },
    fallbackReason: null,
  });
  expect(await failuresOf(scene, conversationId)).toEqual([expect.stringContaining(reason)]);
});

test('a host that the operator did not allow is never asked', async () => {
  const elsewhere = await startEnrichmentServer();
  const scene = await enterAsking(`${elsewhere.url}/customer`);
  const conversationId = await scene.untilOpen(await scene.say(newId()));
  expect(await failuresOf(scene, conversationId)).toEqual([expect.stringContaining('not among')]);
  expect(elsewhere.requests).toEqual([]);
  await elsewhere.close();
});

test('a close during a slow request does not wait for it, and the late answer changes nothing', async () => {
  const scene = await enterAsking(`${server.url}/slow`, 10_000);
  const contactId = await scene.say(newId());
  const conversationId = await eventually('the system is asked', async () => {
    const { phase } = await scene.stateOf(contactId);
    if (phase.kind !== 'enriching') return undefined;
    return server.requests.some(({ body }) => body['conversationId'] === phase.conversationId) && phase.conversationId;
  });
  const startedAt = Date.now();
  await scene.requestClose(contactId, conversationId);
  await scene.untilIdle(contactId);
  expect(Date.now() - startedAt).toBeLessThan(5_000);
  server.release();
  expect(await scene.conversation(conversationId)).toMatchObject({ state: 'closed', fields: {} });
});

test('each step of a conversation has an idempotency key of its own', async () => {
  const scene = await actors.enter();
  const step = { kind: 'http', url: `${server.url}/customer`, timeoutMs: 5_000, fields: { tier: '/customer/tier' } };
  await scene.publish({
    enrichment: [step, { ...step, fields: { orders: '/customer/orders' } }],
    routing: { branches: [], otherwise: { teamId: scene.defaultTeamId, priority: 0 } },
  });
  const conversationId = await scene.untilOpen(await scene.say(newId()));
  const asked = server.requests.filter(({ body }) => body['conversationId'] === conversationId);
  expect(asked.map((request) => request.idempotencyKey)).toEqual([
    expect.stringMatching(new RegExp(`^${conversationId}/0/`)),
    expect.stringMatching(new RegExp(`^${conversationId}/1/`)),
  ]);
});

test('a worker that closes leaves a slow request to the others: the flow goes on, with its fields', async () => {
  const closing = await startActors({ env: { ENRICHMENT_ALLOWED_HOSTS: server.host } });
  const scene = await closing.enter();
  await scene.publish({
    enrichment: [{ kind: 'http', url: `${server.url}/slow`, timeoutMs: 10_000, fields: { tier: '/customer/tier' } }],
    routing: { branches: [], otherwise: { teamId: scene.defaultTeamId, priority: 0 } },
  });
  const contactId = await scene.say(newId());
  await eventually('the system is asked', () =>
    Promise.resolve(
      server.requests.some(({ body }) => (body['contact'] as { id: string } | undefined)?.id === contactId),
    ),
  );
  const startedAt = Date.now();
  await closing.stopWorker();
  expect(Date.now() - startedAt).toBeLessThan(5_000);
  const [conversation] = await scene.conversationsOf(contactId);
  expect(conversation).toMatchObject({ state: 'enriching' });
  await closing.stop();
});
