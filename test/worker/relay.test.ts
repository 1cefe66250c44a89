import { randomBytes } from 'node:crypto';
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, type Connection, type WorkflowSignalWithStartInput } from '@temporalio/client';
import { afterEach, beforeEach, expect, inject, test } from 'vitest';
import { loadConfig } from '../../platform/config.ts';
import { newId } from '../../platform/id.ts';
import { createLogger } from '../../platform/logger.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { createTemporalClient } from '../../platform/temporal-client.ts';
import { requestClose } from '../../store/closing.ts';
import { enqueueNudges } from '../../store/outbox.ts';
import { goQuiet } from '../../store/quiet.ts';
import { createRelayMetrics, type RelayMetrics } from '../../worker/relay-metrics.ts';
import { startRelay, type Relay } from '../../worker/relay.ts';
import { contactWorkflowId } from '../../workflows/contract.ts';
import { createStage, findImbalances, type Stage } from '../store/stage.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';

const logger = createLogger(loadConfig({ LOG_LEVEL: 'silent' }), 'test');
// No worker polls it: whether an actor was told shows on the server, not in what the actor does. All are told by signal, therefore;
// test/worker/relay-delivery.test.ts has actors that take updates.
const taskQueue = `relay-${randomBytes(6).toString('hex')}`;
const workspaceId = newId();

let database: TestDatabase;
let connection: Connection;
let told: WorkflowSignalWithStartInput[];
let poisoned: Set<string>;
let relays: Relay[];
/** Calls that were begun, and what they wait for before they go out. */
let begun: number;
let unanswered: Promise<void> | undefined;

beforeEach(async () => {
  database = await createTestDatabase();
  [told, poisoned, relays, begun, unanswered] = [[], new Set(), [], 0, undefined];
});
afterEach(async () => {
  await Promise.all(relays.map((relay) => relay.stop()));
  // Not by way of the relay's connection, which may lead nowhere.
  const direct = createTemporalClient(loadConfig({ TEMPORAL_ADDRESS: inject('temporalAddress') }));
  const { client } = direct;
  const workflowIds = new Set(told.map((input) => input.options.workflowId));
  await Promise.allSettled([...workflowIds].map((id) => client.workflow.getHandle(id).terminate('the test is over')));
  await direct.connection.close();
  await connection.close();
  await database.drop();
});

function start(address = inject('temporalAddress')): RelayMetrics {
  if (relays.length === 0) ({ connection } = createTemporalClient(loadConfig({ TEMPORAL_ADDRESS: address })));
  const client = new Client({
    connection,
    interceptors: {
      workflow: [
        {
          // Nobody takes an update; here it need not be waited for.
          startUpdateWithStart: () => Promise.reject(new Error('not taken')),
          async signalWithStart(input, next) {
            begun += 1;
            await unanswered;
            if (poisoned.has(input.options.workflowId)) throw new Error('this one cannot be told');
            const result = await next(input);
            told.push(input);
            return result;
          },
        },
      ],
    },
  });
  const metrics = createRelayMetrics(createMetrics({ component: 'test' }));
  relays.push(startRelay({ pool: database.pool, client, taskQueue, maxHistoryEvents: 2_000, logger, metrics }));
  return metrics;
}

const enqueue = (contactIds: readonly string[], closeConversationId: string | null = null): Promise<void> =>
  enqueueNudges(
    database.pool,
    contactIds.map((contactId) => ({ workspaceId, contactId, closeConversationId })),
  );

async function readOutbox(): Promise<{ contactId: string; attempts: number }[]> {
  const { rows } = await database.pool.query<{ contactId: string; attempts: number }>(
    'SELECT contact_id AS "contactId", attempts FROM outbox ORDER BY id',
  );
  return rows;
}

const untilEmpty = (): Promise<unknown> =>
  eventually('the outbox is empty', async () => (await readOutbox()).length === 0);
const newContacts = (count: number): string[] => Array.from({ length: count }, () => newId());
const valueOf = async (counter: RelayMetrics['delivered']): Promise<number> =>
  (await counter.get()).values[0]?.value ?? 0;

test('what is written while it runs is told at once, and starts the actor', async () => {
  start();
  const [contactId] = newContacts(1);
  await enqueue([contactId!]);
  await untilEmpty();
  const workflowId = contactWorkflowId({ workspaceId, contactId: contactId! });
  const description = await new Client({ connection }).workflow.getHandle(workflowId).describe();
  expect(description).toMatchObject({ type: 'contactWorkflow', taskQueue, status: { name: 'RUNNING' } });
});

test('a burst for one contact is told with one call, its close among it', async () => {
  const [contactId] = newContacts(1);
  const conversationId = newId();
  for (let i = 0; i < 10; i += 1) await enqueue([contactId!]);
  await enqueue([contactId!], conversationId);
  await enqueue([contactId!], conversationId);
  start();
  await untilEmpty();
  expect(told.map((input) => [input.signalName, input.signalArgs])).toEqual([
    ['closeConversation', [{ conversationId }]],
  ]);
});

test('what is written for a contact while it is being told is told when that has ended, together', async () => {
  const [contactId] = newContacts(1);
  let answer = (): void => undefined;
  unanswered = new Promise<void>((resolve) => (answer = resolve));
  start();
  await enqueue([contactId!]);
  await eventually('it is being told', () => Promise.resolve(begun === 1));
  const conversationIds = [newId(), newId()];
  for (const id of conversationIds) await enqueue([contactId!], id);
  const [other] = newContacts(1);
  unanswered = undefined;
  await enqueue([other!]);
  await eventually('another is told meanwhile', async () =>
    (await readOutbox()).every((row) => row.contactId !== other),
  );
  expect(await readOutbox()).toHaveLength(3);
  answer();
  await untilEmpty();
  const ofContact = told.filter(
    (input) => input.options.workflowId === contactWorkflowId({ workspaceId, contactId: contactId! }),
  );
  expect(ofContact.map((input) => input.signalArgs)).toEqual([
    [],
    ...conversationIds.map((id) => [{ conversationId: id }]),
  ]);
});

test('a contact that cannot be told is put off, alone, and told when it can be', async () => {
  const healthy = newContacts(30);
  const [sick] = newContacts(1);
  poisoned.add(contactWorkflowId({ workspaceId, contactId: sick! }));
  await enqueue([sick!, ...healthy.slice(0, 15)]);
  start();
  await eventually('the others are told', async () => (await readOutbox()).length === 1);
  await eventually('tried again', async () => (await readOutbox())[0]!.attempts >= 2);
  await enqueue(healthy.slice(15));
  await eventually('the next are told', async () => (await readOutbox()).length === 1);
  expect(new Set(told.map((input) => input.options.workflowId)).size).toBe(30);
  poisoned.clear();
  await untilEmpty();
});

test('two relays share the outbox: all is told, by both', async () => {
  const metrics = [start(), start()];
  // One takes all shards at first and gives half of them back when it notices the other.
  await eventually(
    'both have shards',
    async () => {
      await enqueue(newContacts(16));
      const delivered = await Promise.all(metrics.map(({ delivered }) => valueOf(delivered)));
      return delivered.every((count) => count > 0);
    },
    { everyMs: 400 },
  );
  await untilEmpty();
});

test('while Temporal is away nothing is lost or put off, quiet conversations are woken all the same, and afterwards everything is told', async () => {
  const stage = await createStage(database.pool);
  await stage.addAgent(10);
  const quiet = [];
  for (let i = 0; i < 10; i += 1) quiet.push(await openQuiet(stage));
  const gate = await openGate();
  gate.shut();
  // More than are told at a time.
  const contacts = newContacts(80);
  await enqueue(contacts);
  const metrics = start(gate.address);
  await eventually('calls fail', async () => (await valueOf(metrics.failed)) >= 1);
  for (const { contact } of quiet) await stage.write(contact);
  await eventually('woken', async () => (await valueOf(metrics.woken)) === 10);
  for (const each of quiet) expect(await isQuiet(stage, each)).toBe(false);
  expect(await readOutbox()).toEqual(contacts.map((contactId) => ({ contactId, attempts: 0 })));
  expect(await valueOf(metrics.delivered)).toBe(0);
  gate.open();
  await untilEmpty();
  expect(new Set(told.map((input) => input.options.workflowId)).size).toBe(80);
  await Promise.all(relays.splice(0).map((relay) => relay.stop()));
  await gate.close();
});

/** The way to the Temporal server, which can be shut: connections are then refused, as when the server is down. */
async function openGate() {
  const [host, port] = inject('temporalAddress').split(':');
  const sockets = new Set<Socket>();
  let shut = false;
  const server: Server = createServer((near) => {
    if (shut) return void near.destroy();
    const far = connect(Number(port), host);
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => other.destroy());
      socket.on('close', () => sockets.delete(socket));
    }
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    shut: () => {
      shut = true;
      for (const socket of sockets) socket.destroy();
    },
    open: () => (shut = false),
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        for (const socket of sockets) socket.destroy();
      }),
  };
}

test('a relay that is told to stop while it starts ends at once', async () => {
  start();
  const stopped = relays[0]!.stop().then(() => true);
  expect(await Promise.race([stopped, delay(5_000, false, { ref: false })])).toBe(true);
});

/** A conversation that has gone quiet, with nothing in the outbox. */
async function openQuiet(stage: Stage) {
  const contact = newId();
  const opened = await stage.open(contact);
  const key = { workspaceId: stage.workspaceId, ...opened };
  await stage.setRules(stage.defaultTeamId, { quietMinutes: 0 });
  expect(await goQuiet(database.pool, key)).toBe(true);
  await database.pool.query('DELETE FROM outbox WHERE contact_id = $1', [opened.contactId]);
  return { contact, ...key };
}

const isQuiet = async (stage: Stage, { conversationId }: { conversationId: string }): Promise<boolean> =>
  (await stage.conversation(conversationId)).quietSince !== null;

test('a quiet conversation to which its contact writes counts again, and no actor is told', async () => {
  const stage = await createStage(database.pool);
  const agentId = await stage.addAgent(1);
  const quiet = await openQuiet(stage);
  const metrics = start();
  await stage.write(quiet.contact);
  await stage.write(quiet.contact);
  await untilEmpty();
  expect(await isQuiet(stage, quiet)).toBe(false);
  expect(await stage.loadOf(agentId)).toBe(1);
  expect(told).toEqual([]);
  expect(await valueOf(metrics.woken)).toBeGreaterThan(0);
  expect(await valueOf(metrics.delivered)).toBe(0);
});

test('nudges, the close and wakes of one contact are all carried out, and what is being closed is not woken', async () => {
  const stage = await createStage(database.pool);
  const agentId = await stage.addAgent(1);
  const { workspaceId, contactId, conversationId, contact } = await openQuiet(stage);
  await stage.write(contact);
  await requestClose(database.pool, { workspaceId, conversationId, agentId: null });
  await stage.write(contact);
  expect(await readOutbox()).toHaveLength(3);
  start();
  await untilEmpty();
  expect(told.map((input) => [input.options.workflowId, input.signalName])).toEqual([
    [contactWorkflowId({ workspaceId, contactId }), 'closeConversation'],
  ]);
  expect(await stage.conversation(conversationId)).toMatchObject({ state: 'assigned', quietSince: expect.any(Date) });
  expect(await stage.loadOf(agentId)).toBe(0);
  expect(await findImbalances(database.pool, workspaceId)).toEqual([]);
});

test('a wake that fails is put off, alone, and repeated', async () => {
  const stage = await createStage(database.pool);
  const [agentId, sick] = [await stage.addAgent(1), await openQuiet(stage)];
  const loads = `UPDATE agents SET channel_loads = $2 WHERE id = $1`;
  await database.pool.query(loads, [agentId, '{"web": "broken"}']);
  const other = await createStage(database.pool);
  await other.addAgent(5);
  const healthy = [await openQuiet(other), await openQuiet(other)];
  await stage.write(sick.contact);
  for (const { contact } of healthy) await other.write(contact);
  const metrics = start();
  await eventually('tried again', async () => {
    const [first, ...more] = await readOutbox();
    return more.length === 0 && first!.attempts >= 2;
  });
  expect(await valueOf(metrics.wakeFailures)).toBeGreaterThan(1);
  expect(await valueOf(metrics.failed)).toBe(0);
  for (const each of healthy) expect(await isQuiet(other, each)).toBe(false);
  await database.pool.query(loads, [agentId, '{"web": 0}']);
  await untilEmpty();
  expect(await isQuiet(stage, sick)).toBe(false);
});
