/** How actors are told, with real actors: by update where one takes it, by signal whatever else. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { openProcessRegistry } from '../../ops/processes.ts';
import { startTemporalDevServer, type TemporalDevServer } from '../../ops/temporal-server.ts';
import { newId } from '../../platform/id.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { requestClose } from '../../store/closing.ts';
import type { OutboxRow } from '../../store/outbox.ts';
import { createDelivery, type Delivery } from '../../worker/relay-delivery.ts';
import { createRelayMetrics, type RelayMetrics } from '../../worker/relay-metrics.ts';
import { retireSignal } from '../../workflows/contract.ts';
import { bundleStepwiseActors } from '../support/stepwise-bundle.ts';
import { eventually } from '../support/eventually.ts';
import { startActors, type Actors, type ActorsOptions, type Scene } from '../workflows/actors.ts';

let actors: Actors;
let stopped: Actors | undefined;
let scene: Scene;
let metrics: RelayMetrics;
let delivery: Delivery;

afterEach(() => stopActors());

/** Twice is once: a test with a server of its own must stop them before it. */
async function stopActors(): Promise<void> {
  const stopping = actors;
  if (stopping !== stopped) await stopping.stop();
  stopped = stopping;
}

async function begin(options: ActorsOptions & { maxHistoryEvents?: number } = {}): Promise<void> {
  actors = await startActors(options);
  scene = await actors.enter();
  metrics = createRelayMetrics(createMetrics({ component: 'test' }));
  const { client, taskQueue } = actors;
  delivery = createDelivery({ client, taskQueue, maxHistoryEvents: options.maxHistoryEvents ?? 2_000, metrics });
}

/** Tells as the relay does: after what it is about was committed. */
async function tell(contactId: string, closeIds: readonly string[] = []): Promise<void> {
  actors.workflowIds.add(scene.handleOf(contactId).workflowId);
  const row = { id: 1, attempts: 0, workspaceId: scene.workspaceId, contactId, wakeConversationId: null };
  const closes = closeIds.map((closeConversationId): OutboxRow => ({ ...row, closeConversationId }));
  await delivery.tellActor(closes.length === 0 ? [{ ...row, closeConversationId: null }] : closes);
}

async function say(contact: string): Promise<string> {
  const { contactId } = await scene.write(contact);
  await tell(contactId);
  return contactId;
}

async function close(contactId: string, conversationId: string): Promise<void> {
  await requestClose(scene.pool, { workspaceId: scene.workspaceId, conversationId, agentId: null });
  await tell(contactId, [conversationId]);
}

async function calls(): Promise<{ update: number; signal: number }> {
  const { values } = await metrics.told.get();
  const of = (by: string): number => values.find(({ labels }) => labels['by'] === by)?.value ?? 0;
  return { update: of('update'), signal: of('signal') };
}

test('an actor that runs, or starts by it, takes an update, and what it is about is done when it is answered', async () => {
  await begin();
  const contact = newId();
  const contactId = await say(contact);
  const [first] = await scene.conversationsOf(contactId);
  expect(first).toMatchObject({ state: 'waiting' });
  await close(contactId, first!.id);
  expect(await scene.conversation(first!.id)).toMatchObject({ state: 'closed' });
  await say(contact);
  expect(await scene.conversationsOf(contactId)).toMatchObject([{ state: 'closed' }, { state: 'waiting' }]);
  expect(await calls()).toEqual({ update: 3, signal: 0 });
  // The price: one local activity and two events of the update a waking, in one workflow task.
  const { events } = await scene.handleOf(contactId).fetchHistory();
  expect(events!.length).toBe(1 + 3 * 6);
});

test('several closes told together, stale ones among them, close the open conversation and no other', async () => {
  await begin();
  const contactId = await say(newId());
  const conversationId = await scene.untilOpen(contactId);
  const stranger = await scene.untilOpen(await say(newId()));
  await requestClose(scene.pool, { workspaceId: scene.workspaceId, conversationId, agentId: null });
  await tell(contactId, [newId(), conversationId, stranger]);
  expect(await scene.conversation(conversationId)).toMatchObject({ state: 'closed' });
  expect(await scene.conversation(stranger)).toMatchObject({ state: 'waiting' });
});

test('a worker of the build before refuses the update: it is told by signal, at once, and nothing happens twice', async () => {
  await begin({ earlierBundle: await bundleStepwiseActors() });
  const beganAt = performance.now();
  const contactId = await say(newId());
  const conversationId = await scene.untilOpen(contactId);
  await close(contactId, conversationId);
  await scene.untilIdle(contactId);
  expect(await scene.conversationsOf(contactId)).toEqual([{ id: conversationId, state: 'closed' }]);
  expect(await calls()).toEqual({ update: 0, signal: 2 });
  expect(performance.now() - beganAt).toBeLessThan(10_000);
});

test('with nobody at work each is told durably; after some in vain no update is tried for a while', async () => {
  await begin();
  await actors.stopWorker();
  const contacts = await Promise.all(Array.from({ length: 70 }, () => scene.write(newId())));
  await Promise.all(contacts.map(({ contactId }) => tell(contactId)));
  expect(await calls()).toEqual({ update: 0, signal: 70 });
  const { contactId } = await scene.write(newId());
  const beganAt = performance.now();
  await tell(contactId);
  // An update in vain takes 5 s, a signal 10 ms, and on a machine that is overloaded a second or two.
  expect(performance.now() - beganAt).toBeLessThan(4_500);
  const { events } = await scene.handleOf(contactId).fetchHistory();
  expect(events!.filter((event) => event.workflowExecutionSignaledEventAttributes != null)).toHaveLength(1);
});

test('while actors continue as new, every message told ends in a conversation, and each conversation closes once', async () => {
  await begin({ maxHistoryEvents: 20 });
  const contact = newId();
  const { contactId } = await scene.write(contact);
  await tell(contactId);
  const firstRun = (await scene.handleOf(contactId).describe()).runId;
  let last: string | undefined;
  for (let cycle = 0; cycle < 12; cycle += 1) {
    last = await scene.untilOpen(contactId, last);
    await requestClose(scene.pool, { workspaceId: scene.workspaceId, conversationId: last, agentId: null });
    await scene.write(contact);
    // As two relays that overlap for a moment would.
    await Promise.all([tell(contactId, [last]), tell(contactId), tell(contactId, [last]), tell(contactId)]);
  }
  await scene.untilOpen(contactId, last);
  const conversations = await scene.conversationsOf(contactId);
  expect(conversations.map(({ state }) => state)).toEqual([...Array<string>(12).fill('closed'), 'waiting']);
  expect((await scene.handleOf(contactId).describe()).runId).not.toBe(firstRun);
});

test('an update that meets a run just ending reaches the next one', async () => {
  await begin();
  const contact = newId();
  const contactId = await say(contact);
  for (let cycle = 1; cycle <= 15; cycle += 1) {
    await close(contactId, await scene.untilOpen(contactId));
    await scene.write(contact);
    await Promise.all([scene.handleOf(contactId).signal(retireSignal), delay(cycle % 5).then(() => tell(contactId))]);
    await eventually('the message has its conversation', async () => {
      const messages = await scene.messagesOf(contactId);
      return messages.length === cycle + 1 && messages.every(({ conversationId }) => conversationId !== null);
    });
  }
  expect(await scene.conversationsOf(contactId)).toHaveLength(16);
});

test('a run that has had nearly all the updates it may have continues as new before one is refused', async () => {
  const temporal = await startStrictTemporal({ 'history.maxTotalUpdates': 3 });
  try {
    await begin({ temporalAddress: temporal.address });
    const contactId = await say(newId());
    const { runId } = await scene.handleOf(contactId).describe();
    for (let i = 0; i < 8; i += 1) await tell(contactId);
    expect(await calls()).toEqual({ update: 9, signal: 0 });
    expect((await scene.handleOf(contactId).describe()).runId).not.toBe(runId);
    await stopActors();
  } finally {
    await temporal.stop();
  }
});

test('a server that takes no updates is told by signals', async () => {
  const temporal = await startStrictTemporal({ 'frontend.enableUpdateWorkflowExecution': false });
  try {
    await begin({ temporalAddress: temporal.address });
    const contactId = await say(newId());
    await close(contactId, await scene.untilOpen(contactId));
    await scene.untilIdle(contactId);
    expect(await calls()).toEqual({ update: 0, signal: 2 });
    await stopActors();
  } finally {
    await temporal.stop();
  }
});

/** A development server of the test's own, with other limits. */
async function startStrictTemporal(limits: Readonly<Record<string, number | boolean>>): Promise<TemporalDevServer> {
  const stateDir = await mkdtemp(join(tmpdir(), 'switchyard-strict-'));
  const log = (): void => undefined;
  const registry = await openProcessRegistry({ file: join(stateDir, 'processes.json'), log });
  const more = Object.entries(limits).flatMap(([key, value]) => ['--dynamic-config-value', `${key}=${value}`]);
  const server = await startTemporalDevServer({
    stateDir,
    log,
    uiPort: null,
    processes: { ...registry, start: (request) => registry.start({ ...request, args: [...request.args, ...more] }) },
  });
  return {
    ...server,
    async stop() {
      await registry.stopAll();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
}
