import { asyncLocalStorage, type Context } from '@temporalio/activity';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { createActivityMetrics } from '../../activities/activity-metrics.ts';
import { createNetworkAccess } from '../../activities/network-access.ts';
import { createNetworkEnrichment } from '../../activities/network-enrichment.ts';
import { loadConfig } from '../../platform/config.ts';
import { newId } from '../../platform/id.ts';
import { createLogger } from '../../platform/logger.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { openForContact } from '../../store/opening.ts';
import type { ConversationRef } from '../../workflows/contract.ts';
import { eventually } from '../support/eventually.ts';
import { startRecordingServer, type ServerAnswer } from '../support/recording-server.ts';
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
  expect(Date.now() - startedAt).toBeLessThan(9_000);
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
  expect(Date.now() - startedAt).toBeLessThan(9_000);
  const [conversation] = await scene.conversationsOf(contactId);
  expect(conversation).toMatchObject({ state: 'enriching' });
  await closing.stop();
});

test.for([
  ['answered', { status: 200, json: { tier: 'gold' } }, { errors: 2, fellBack: 0 }],
  ['fallen back', { status: 500 }, { errors: 1, fellBack: 1 }],
] as const)(
  'conditions that cannot be decided count when the turn is written, and once: %s',
  async ([, answer, counts]) => {
    let given: ServerAnswer = 'hold';
    const other = await startRecordingServer(() => given);
    onTestFinished(() => other.close());
    const scene = await actors.enter();
    // Contacts have no such attribute.
    const undecided = { kind: 'set', field: 'grown', value: true, when: 'contact.attributes.age > 17' };
    const http = {
      kind: 'http',
      url: `${other.url}/`,
      timeoutMs: 10_000,
      fields: { tier: '/tier' },
      onFailure: 'fallBack',
    };
    await scene.publish({
      enrichment: [undecided, http, undecided],
      routing: { branches: [], otherwise: { teamId: scene.defaultTeamId, priority: 0 } },
    });
    const contact = { workspaceId: scene.workspaceId, contactId: (await scene.write(newId())).contactId };
    const { phase } = await openForContact(scene.pool, contact);
    if (phase.kind !== 'enriching') throw new Error(phase.kind);
    const conversation = { ...contact, conversationId: phase.conversationId };
    const { enrich, countsNow } = enrichByHand(scene, other.host);

    const superseded = enrich(conversation);
    await eventually('the system is asked', () => other.held > 0);
    await scene.pool.query('UPDATE conversations SET version = version + 1 WHERE workspace_id = $1 AND id = $2', [
      conversation.workspaceId,
      conversation.conversationId,
    ]);
    given = answer;
    other.release();
    expect(await superseded).toMatchObject({ kind: 'enriching' });
    expect(await countsNow()).toEqual({ errors: 0, fellBack: 0 });

    const { kind } = await enrich(conversation);
    expect(kind).not.toBe('enriching');
    expect(await countsNow()).toEqual(counts);
    // As after a worker died that had written.
    expect(await enrich(conversation)).toMatchObject({ kind });
    expect(await countsNow()).toEqual(counts);
  },
);

/** Attempt by attempt, without an actor. */
function enrichByHand({ pool }: Scene, allowedHost: string) {
  const metrics = createActivityMetrics(createMetrics({ component: 'test' }));
  const config = loadConfig({ ENRICHMENT_ALLOWED_HOSTS: allowedHost });
  const network = createNetworkAccess(config, createLogger({ logLevel: 'silent' }, 'test'));
  const { enrichOverNetwork } = createNetworkEnrichment({ pool, metrics, network });
  const context = { heartbeat: () => undefined, cancellationSignal: new AbortController().signal };
  const sumOf = async (counter: { get(): Promise<{ values: { value: number }[] }> }): Promise<number> =>
    (await counter.get()).values.reduce((sum, { value }) => sum + value, 0);
  return {
    enrich: (conversation: ConversationRef) =>
      asyncLocalStorage.run(context as unknown as Context, () => enrichOverNetwork(conversation)),
    countsNow: async () => ({ errors: await sumOf(metrics.conditionErrors), fellBack: await sumOf(metrics.fellBack) }),
  };
}
