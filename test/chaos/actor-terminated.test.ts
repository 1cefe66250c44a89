import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { contactWorkflowId } from '../../workflows/contract.ts';
import { eventually } from '../support/eventually.ts';
import { createFlowHouse, type FlowHouse } from '../support/flow-house.ts';
import { assertSoundHistory } from '../support/history-checker.ts';
import { readMetric } from '../support/metrics-page.ts';
import { waitUntilSettled } from '../support/settled.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { fillWorkspace } from '../support/workspace.ts';

let system: TestSystem;
let connection: Connection;
let client: Client;

beforeAll(async () => {
  system = await startSystem();
  await fillWorkspace(system);
  connection = await Connection.connect({ address: system.temporalAddress });
  client = new Client({ connection });
});
afterAll(async () => {
  await connection?.close();
  await system?.stop();
});

interface Conversation {
  readonly id: string;
  readonly state: string;
}

const readConversations = async (contactId: string): Promise<Conversation[]> =>
  (await system.apis[0]!.get(`/v1/conversations?contactId=${contactId}`)).items;

const openConversation = (contactId: string, not: readonly string[]): Promise<Conversation> =>
  eventually('an assigned conversation', async () =>
    (await readConversations(contactId)).find(({ id, state }) => state === 'assigned' && !not.includes(id)),
  );

const terminateActor = async (contactId: string, { workspaceId } = system.workspace): Promise<void> => {
  await client.workflow.getHandle(contactWorkflowId({ workspaceId, contactId })).terminate('by hand');
};

const closeAndWait = async (conversationId: string): Promise<void> => {
  await system.apis[0]!.post(`/v1/conversations/${conversationId}/close`, {});
  const isClosed = async (): Promise<boolean> =>
    (await system.apis[0]!.get(`/v1/conversations/${conversationId}`)).state === 'closed';
  await eventually('closed', isClosed);
};

test('an actor terminated while its conversation is open: the close is carried out, and the next message opens another', async () => {
  const { contactId } = (await system.apis[0]!.send('terminated-open', 'Hello')).body;
  const first = await openConversation(contactId, []);
  await terminateActor(contactId);

  // A message to the open conversation needs no actor.
  const more = await system.apis[0]!.send('terminated-open', 'Are you there?');
  expect(more.body.conversationId).toBe(first.id);

  await closeAndWait(first.id);
  const next = await system.apis[0]!.send('terminated-open', 'One more thing');
  expect(next.body.conversationId).toBeNull();
  const second = await openConversation(contactId, [first.id]);
  await closeAndWait(second.id);
  expect(await readConversations(contactId)).toHaveLength(2);
  await expectSoundHistory();
});

test('an actor terminated while nothing is open: the next message opens a conversation', async () => {
  const { contactId } = (await system.apis[0]!.send('terminated-idle', 'Hello')).body;
  const first = await openConversation(contactId, []);
  await closeAndWait(first.id);
  await terminateActor(contactId);

  await system.apis[0]!.send('terminated-idle', 'One more thing');
  await openConversation(contactId, [first.id]);
  await expectSoundHistory();
});

test('an actor terminated after the close was requested: the close is carried out nevertheless', async () => {
  const { contactId } = (await system.apis[0]!.send('terminated-closing', 'Hello')).body;
  const first = await openConversation(contactId, []);
  await Promise.all([terminateActor(contactId), closeAndWait(first.id)]);
  await system.apis[0]!.send('terminated-closing', 'One more thing');
  await openConversation(contactId, [first.id]);
  await expectSoundHistory();
});

/** Somebody whom the flow has asked something, and whose actor is gone. */
async function askAndTerminate(): Promise<FlowHouse> {
  const choices = [
    { value: 'sales', label: 'Sales' },
    { value: 'support', label: 'Support' },
  ];
  const ask = { kind: 'ask', field: 'purpose', text: 'Sales or support?', choices, giveUp: { value: 'unknown' } };
  const house = await createFlowHouse(system, {
    document: (teams) => ({
      enrichment: [{ ...ask, timeoutSeconds: 600, settleSeconds: 0 }],
      routing: {
        branches: [{ name: 'Sales', when: "fields.purpose == 'sales'", teamId: teams.sales }],
        otherwise: { teamId: teams.support },
      },
    }),
  });
  const { contactId } = (await house.say('alice', 'Hello')).body;
  await house.conversationWith('alice', { state: 'enriching' });
  await eventually('asked', async () => (await house.messagesOf('alice')).length === 2);
  // Else the relay would tell the actor again.
  await eventually('told', async () => {
    const { rows } = await system.database.pool.query('SELECT FROM outbox WHERE workspace_id = $1', [
      house.workspace.workspaceId,
    ]);
    return rows.length === 0;
  });
  await terminateActor(contactId, house.workspace);
  return house;
}

const directionsOf = async (house: FlowHouse): Promise<string[]> =>
  (await house.messagesOf('alice')).map(({ direction }) => direction);

test('an actor terminated while a question waits: the answer is taken, and nothing is asked twice', async () => {
  const house = await askAndTerminate();
  await house.say('alice', 'Sales');
  await house.conversationWith('alice', {
    state: 'assigned',
    teamId: house.teams.sales,
    fields: { purpose: 'sales' },
    fallbackReason: null,
  });
  expect(await directionsOf(house)).toEqual(['inbound', 'outbound', 'inbound']);
  await expectSoundHistory(house.workspace);
});

test('an actor terminated while a question waits that nobody answers: the house timer finds it when its time is over', async () => {
  const house = await askAndTerminate();
  const readMended = (): Promise<number> =>
    readMetric(system.workers[0]!.metricsUrl, 'switchyard_house_timer_mended_total');
  const mended = await readMended();
  // As if an hour had passed. Nobody writes: no timer of an actor, and no message, can tell of it.
  await system.database.pool.query(
    `UPDATE conversations SET answer_until = answer_until - interval '1 h', progressed_at = progressed_at - interval '1 h'
     WHERE workspace_id = $1`,
    [house.workspace.workspaceId],
  );
  await house.conversationWith('alice', {
    state: 'assigned',
    teamId: house.teams.support,
    fields: { purpose: 'unknown' },
    fallbackReason: null,
  });
  expect(await directionsOf(house)).toEqual(['inbound', 'outbound']);
  expect(await readMended()).toBeGreaterThan(mended);
  await expectSoundHistory(house.workspace);
});

async function expectSoundHistory({ workspaceId } = system.workspace): Promise<void> {
  const { pool } = system.database;
  await waitUntilSettled({ pool, workspaceId });
  await assertSoundHistory(pool, { workspaceId });
}
