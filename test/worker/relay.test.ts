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
import { enqueueNudges } from '../../store/outbox.ts';
import { createRelayMetrics, type RelayMetrics } from '../../worker/relay-metrics.ts';
import { startRelay, type Relay } from '../../worker/relay.ts';
import { contactWorkflowId } from '../../workflows/contract.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';

const logger = createLogger(loadConfig({ LOG_LEVEL: 'silent' }), 'test');
// No worker polls it: whether an actor was told shows on the server, not in what the actor does.
const taskQueue = `relay-${randomBytes(6).toString('hex')}`;
const workspaceId = newId();

let database: TestDatabase;
let connection: Connection;
let told: WorkflowSignalWithStartInput[];
let poisoned: Set<string>;
let relays: Relay[];

beforeEach(async () => {
  database = await createTestDatabase();
  [told, poisoned, relays] = [[], new Set(), []];
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
          async signalWithStart(input, next) {
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

test('a burst for one contact is told with one call; its close has a signal of its own', async () => {
  const [contactId] = newContacts(1);
  const conversationId = newId();
  for (let i = 0; i < 10; i += 1) await enqueue([contactId!]);
  await enqueue([contactId!], conversationId);
  await enqueue([contactId!], conversationId);
  start();
  await untilEmpty();
  expect(told.map((input) => [input.signalName, input.signalArgs])).toEqual([
    ['closeConversation', [{ conversationId }]],
    ['nudge', []],
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

test('while Temporal is away nothing is lost or put off, and afterwards everything is told', async () => {
  const gate = await openGate();
  gate.shut();
  const contacts = newContacts(40);
  await enqueue(contacts);
  const metrics = start(gate.address);
  await eventually('calls fail', async () => (await valueOf(metrics.failed)) >= 1);
  expect(await readOutbox()).toEqual(contacts.map((contactId) => ({ contactId, attempts: 0 })));
  gate.open();
  await untilEmpty();
  expect(new Set(told.map((input) => input.options.workflowId)).size).toBe(40);
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
