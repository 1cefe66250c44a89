/** Actors share batches, and none of them suffers for another. */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createActivityMetrics } from '../../activities/activity-metrics.ts';
import { createStepBatches } from '../../activities/step-batches.ts';
import { newId } from '../../platform/id.ts';
import { loadConfig } from '../../platform/config.ts';
import { createMetrics, type Metrics } from '../../platform/metrics.ts';
import { createPool } from '../../platform/pool.ts';
import { requestClose } from '../../store/closing.ts';
import { publishFlow } from '../../store/flow-publishing.ts';
import { createFlow } from '../../store/flows.ts';
import type { ConversationRef, StepActivities } from '../../workflows/contract.ts';
import { createStage, findImbalances, type Stage } from '../store/stage.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { countDeadlocks } from '../support/deadlocks.ts';

let database: TestDatabase;
let pools: pg.Pool[];

beforeAll(async () => {
  database = await createTestDatabase();
  const config = loadConfig({ DATABASE_URL: database.url, DATABASE_POOL_SIZE: '6' });
  pools = [1, 2].map(() => createPool(config, { applicationName: 'steps', lockTimeoutMs: 300 }));
});
afterAll(async () => {
  await Promise.all((pools ?? []).map((pool) => pool.end()));
  await database?.drop();
});

/** As in one process. */
function startSteps(pool: pg.Pool) {
  const metrics = createMetrics({ component: 'worker' });
  return { steps: createStepBatches({ pool, metrics: createActivityMetrics(metrics) }), metrics };
}

test('two processes, forty contacts, each contact in both: one conversation each, opened, enriched, routed, assigned, closed', async () => {
  const stage = await createStage(database.pool);
  await publish(stage, { ...flowOf(stage), enrichment: [{ kind: 'set', field: 'seen', value: true }] });
  await stage.addAgent(25);
  await stage.addAgent(25);
  const contacts = await writeMany(stage, 40);
  const processes = pools.map((pool) => startSteps(pool));
  await Promise.all(processes.flatMap(({ steps }) => contacts.map((contact) => advance(steps, contact))));
  for (const { contactId } of contacts) {
    const conversations = await stage.conversationsOf(contactId);
    expect(conversations).toMatchObject([{ state: 'assigned' }]);
    expect(await stage.eventsOf(conversations[0]!.id)).toEqual([
      'conversation.opened',
      'message.received',
      'conversation.enriched',
      'conversation.routed',
      'conversation.assigned',
    ]);
  }
  expect(await findImbalances(database.pool, stage.workspaceId)).toEqual([]);
  for (const { metrics } of processes) {
    const page = await metrics.registry.metrics();
    const read = (what: string) =>
      Number(new RegExp(`step_batch_conversations_${what}{.*step="open".*} (\\d+)`).exec(page)?.[1]);
    // Once for each step at least, of each contact; in far fewer batches.
    expect(read('sum')).toBeGreaterThanOrEqual(contacts.length);
    expect(read('count')).toBeLessThan(read('sum') / 2);
  }

  await Promise.all(
    processes.flatMap(({ steps }) =>
      contacts.map(async ({ workspaceId, contactId }) => {
        const [{ id: conversationId } = { id: '' }] = await stage.conversationsOf(contactId);
        await requestClose(database.pool, { workspaceId, conversationId, agentId: null });
        expect(await steps.closeConversation({ workspaceId, contactId, conversationId })).toEqual({ kind: 'idle' });
      }),
    ),
  );
  expect(await findImbalances(database.pool, stage.workspaceId)).toEqual([]);
  expect(await countDeadlocks(database.pool)).toBe(0);
});

test('a flow that cannot be decided fails its own conversation alone, which then falls back', async () => {
  const [healthy, broken] = [await createStage(database.pool), await createStage(database.pool)];
  await publish(healthy, flowOf(healthy));
  await publishBroken(broken);
  const { steps } = startSteps(pools[0]!);
  const contacts = [
    ...(await writeMany(healthy, 6)),
    ...(await writeMany(broken, 1)),
    ...(await writeMany(healthy, 6)),
  ];
  const outcomes = await Promise.allSettled(
    contacts.map(async (contact) => {
      const phase = await steps.openConversation(contact);
      if (phase.kind !== 'routing') throw new Error(phase.kind);
      return steps.routeConversation({ ...contact, conversationId: phase.conversationId });
    }),
  );
  expect(outcomes.map(({ status }) => status)).toEqual(contacts.map((_, i) => (i === 6 ? 'rejected' : 'fulfilled')));
  const { contactId, workspaceId } = contacts[6]!;
  const [{ id: conversationId } = { id: '' }] = await broken.conversationsOf(contactId);
  const phase = await steps.fallBackToDefaultTeam({ workspaceId, contactId, conversationId }, 'routing failed');
  expect(phase).toEqual({ kind: 'assigning', conversationId });
});

test('a team and a contact that are held for long hold up only their own', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  const slow = await stage.addTeam();
  const document = flowOf(stage);
  await publish(stage, {
    routing: {
      ...document.routing,
      branches: [{ name: 'Slow', when: "message.text == 'slow'", teamId: slow, priority: 0 }],
    },
  });
  const contacts = await writeMany(stage, 8);
  const { contactId } = await stage.write(newId(), { text: 'slow' });
  const { steps } = startSteps(pools[0]!);
  const holder = await database.pool.connect();
  await holder.query('BEGIN');
  await holder.query('SELECT FROM contacts WHERE id = $1 FOR UPDATE', [contacts[3]!.contactId]);
  await holder.query('SELECT FROM teams WHERE id = $1 FOR UPDATE', [slow]);
  let isReleased = false;
  const all = [...contacts, { workspaceId, contactId }].map(async (contact) => {
    await advance(steps, contact);
    return isReleased;
  });
  const free = all.filter((_, i) => i !== 3 && i !== 8);
  expect(await Promise.all(free)).toEqual(free.map(() => false));
  isReleased = true;
  await holder.query('ROLLBACK');
  holder.release();
  expect(await Promise.all([all[3], all[8]])).toEqual([true, true]);
});

test('what was handed on from opening to routing and became untrue is read again', async () => {
  const stage = await createStage(database.pool);
  await publish(stage, flowOf(stage));
  const { steps } = startSteps(pools[0]!);
  const [contact] = await writeMany(stage, 1);
  const phase = await steps.openConversation(contact!);
  if (phase.kind !== 'routing') throw new Error(phase.kind);
  const { conversationId } = phase;
  await touch({ ...contact!, conversationId });
  expect(await steps.routeConversation({ ...contact!, conversationId })).toEqual({ kind: 'assigning', conversationId });
});

test('a condition that cannot be decided is counted once, when what it decided is written: trigger, step, branch', async () => {
  const stage = await createStage(database.pool);
  const { workspaceId } = stage;
  const { routing } = flowOf(stage);
  await publish(stage, { trigger: { condition: undecidable }, routing });
  await publish(stage, {
    enrichment: [{ kind: 'set', field: 'seen', value: true, when: undecidable }],
    routing: { ...routing, branches: [{ name: 'Never', when: undecidable, teamId: stage.defaultTeamId, priority: 2 }] },
  });
  const contact = { workspaceId, contactId: (await stage.write(newId())).contactId };
  const processes = pools.map((pool) => startSteps(pool));
  const { steps } = processes[0]!;

  // Of two who open at once one finds that the other was first.
  const [phase] = await Promise.all(processes.map((process) => process.steps.openConversation(contact)));
  if (phase?.kind !== 'enriching') throw new Error(phase?.kind);
  const conversation = { ...contact, conversationId: phase.conversationId };
  expect(await conditionErrorsIn(processes)).toEqual({ trigger: 1 });

  // What was handed on is out of date: decided twice, written once.
  await touch(conversation);
  expect(await steps.enrichConversation(conversation)).toMatchObject({ kind: 'routing' });
  expect(await conditionErrorsIn(processes)).toEqual({ trigger: 1, step: 1 });
  await touch(conversation);
  expect(await steps.routeConversation(conversation)).toMatchObject({ kind: 'assigning' });
  expect(await conditionErrorsIn(processes)).toEqual({ trigger: 1, step: 1, branch: 1 });

  await steps.openConversation(contact);
  await steps.enrichConversation(conversation);
  await steps.routeConversation(conversation);
  expect(await conditionErrorsIn(processes)).toEqual({ trigger: 1, step: 1, branch: 1 });
});

/** Contacts have no such attribute. */
const undecidable = 'contact.attributes.age > 17';

/** By where the condition stands. */
async function conditionErrorsIn(processes: readonly { readonly metrics: Metrics }[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { metrics } of processes) {
    const page = await metrics.registry.getSingleMetricAsString('switchyard_flow_condition_errors_total');
    for (const [, where, count] of page.matchAll(/where="(\w+)".* (\d+)$/gm))
      counts[where!] = (counts[where!] ?? 0) + Number(count);
  }
  return counts;
}

/** Somebody else changes it. */
async function touch({ workspaceId, conversationId }: ConversationRef): Promise<void> {
  await database.pool.query('UPDATE conversations SET version = version + 1 WHERE workspace_id = $1 AND id = $2', [
    workspaceId,
    conversationId,
  ]);
}

/** As an actor does, and as often as Temporal would repeat what lost against a lock. */
async function advance(steps: StepActivities, contact: { workspaceId: string; contactId: string }): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    try {
      const phase = await steps.openConversation(contact);
      if (phase.kind === 'open') return;
      if (!('conversationId' in phase)) throw new Error(`nothing is open: ${phase.kind}`);
      const conversation = { ...contact, conversationId: phase.conversationId };
      if (phase.kind === 'enriching') await steps.enrichConversation(conversation);
      if (phase.kind === 'routing') await steps.routeConversation(conversation);
      if (phase.kind === 'assigning') await steps.assignConversation(conversation);
    } catch (error) {
      if ((error as { code?: string }).code !== '55P03') throw error;
    }
  }
  throw new Error('the contact never came to rest');
}

const writeMany = (stage: Stage, count: number) =>
  Promise.all(
    Array.from({ length: count }, async () => ({
      workspaceId: stage.workspaceId,
      contactId: (await stage.write(newId())).contactId,
    })),
  );

const flowOf = ({ defaultTeamId: teamId }: Stage) => ({
  routing: { branches: [], otherwise: { teamId, priority: 1 } },
});

async function publish({ workspaceId }: Stage, document: unknown): Promise<string> {
  const created = await createFlow(database.pool, { workspaceId, name: newId(), description: '', document });
  if (created.kind !== 'created') throw new Error(JSON.stringify(created));
  await publishFlow(database.pool, { workspaceId, flowId: created.flow.id });
  return created.flow.id;
}

/** A version whose trigger can be read and whose routing cannot, as a later release might have written it. */
async function publishBroken(stage: Stage): Promise<void> {
  const flowId = await publish(stage, flowOf(stage));
  await database.pool.query(
    `WITH made AS (
       INSERT INTO flow_versions (workspace_id, id, flow_id, number, document, uses_network)
       SELECT workspace_id, $3, flow_id, number + 1, document || '{"routing": null}', false
       FROM flow_versions WHERE workspace_id = $1 AND flow_id = $2
       RETURNING id
     )
     UPDATE flows SET published_version_id = made.id FROM made WHERE workspace_id = $1 AND flows.id = $2`,
    [stage.workspaceId, flowId, newId()],
  );
}
