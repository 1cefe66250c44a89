/**
 * No hot statement reads a large table from end to end. The statements are not listed: whatever a whole life of a conversation and the worker's
 * rounds send to PostgreSQL is recorded, and its generic plan looked at, on tables that PostgreSQL takes for a thousand times as large as they are.
 */
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '../../platform/id.ts';
import { createPool } from '../../platform/pool.ts';
import { assignManually, assignRouted } from '../../store/assignment.ts';
import { setPresence } from '../../store/agents.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { findChannelId, updateChannel } from '../../store/channels.ts';
import { getContact, listContacts } from '../../store/contacts.ts';
import { getConversation, listConversations, listDecisions } from '../../store/conversations.ts';
import { withNames } from '../../store/names.ts';
import { claimDeliveries, releaseDeliveries, settleDelivered, settleFailedAttempts } from '../../store/deliveries.ts';
import { listDeliveries, retryDelivery, retryFailedDeliveries } from '../../store/delivery-records.ts';
import { readDue, settleDue } from '../../store/due-clocks.ts';
import { createEventFeed } from '../../store/events.ts';
import { publishFlow } from '../../store/flow-publishing.ts';
import { createFlow } from '../../store/flows.ts';
import { ingestMessages } from '../../store/ingest.ts';
import { forgetEmptiness } from '../../store/message-partitions.ts';
import { getMessage, listMessages } from '../../store/messages.ts';
import { openByUser, openForContact, openForContacts } from '../../store/opening.ts';
import { deleteRows, readDueRows, shardCount } from '../../store/outbox.ts';
import { readPhase } from '../../store/phases.ts';
import { goQuiet, wakeConversation } from '../../store/quiet.ts';
import { readQueuePosition, readTeamQueue } from '../../store/queue-views.ts';
import { addReply } from '../../store/replies.ts';
import { readTeamLoads } from '../../store/team-loads.ts';
import { enrichConversation } from '../../store/enriching.ts';
import { routeByFlow } from '../../store/routing.ts';
import {
  readIdleContacts,
  readOldestNudgeMs,
  readStalled,
  readSystemGauges,
  readWaitingGauges,
} from '../../store/upkeep.ts';
import { makePast } from '../bench/growth-population.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { allRoom } from '../support/lane-room.ts';
import { letTimePass, settleAllDue } from './passing-time.ts';
import { createStage, type Stage } from './stage.ts';

/** With a past of 1,000 contacts: a million contacts and ten million messages. */
const enlargement = 1_000;
const largeTables = [
  'contacts',
  'contact_identities',
  'conversations',
  'messages',
  'message_keys',
  'outbox',
  'deliveries',
  'events',
  'decisions',
];

/** These tell how long a queue is and since when, once in five seconds and by one worker; in health there is hardly anything in it. */
const isAllowed = (scan: string, text: string): boolean =>
  (scan.includes('on outbox') && /SELECT count\(\*\) FROM outbox|min\(created_at\)/.test(text)) ||
  (scan.includes('on deliveries') && /min\(created_at\)/.test(text));

let database: TestDatabase;
let stage: Stage;
const statements = new Set<string>();

beforeAll(async () => {
  database = await createTestDatabase();
  await makePast(database.url, { contacts: 1_000, note: () => undefined });
  record(database.pool);
  stage = await createStage(database.pool);
  await live(stage);
  await ask(await createStage(database.pool));
  await doRounds(database.pool);
  await enlarge(database.pool);
});
afterAll(() => database?.drop());

test('statements were recorded', () => {
  expect(statements.size).toBeGreaterThan(50);
});

test('no hot statement reads a large table, or a whole index of one, from end to end', async () => {
  const faults: string[] = [];
  for (const text of statements) {
    const { rows } = await database.pool.query<{ 'QUERY PLAN': { Plan: PlanNode }[] }>(
      `EXPLAIN (GENERIC_PLAN, FORMAT JSON) ${text}`,
    );
    const scans = findScans(rows[0]!['QUERY PLAN'][0]!.Plan).filter((scan) => !isAllowed(scan, text));
    if (scans.length > 0) faults.push(`${scans.join(', ')}: ${text.replaceAll(/\s+/g, ' ').trim()}`);
  }
  expect(faults).toEqual([]);
});

test('a statement that does is noticed', async () => {
  const { rows } = await database.pool.query<{ 'QUERY PLAN': { Plan: PlanNode }[] }>(
    `EXPLAIN (GENERIC_PLAN, FORMAT JSON) SELECT FROM messages WHERE text = $1`,
  );
  expect(findScans(rows[0]!['QUERY PLAN'][0]!.Plan)).not.toEqual([]);
});

test('nor does a function’s statement, whose plan EXPLAIN does not show', async () => {
  const plans = await watchFunctionPlans(database.url, async (pool) => {
    const ingest = () => ingestMessages(pool, [stage.itemOf(newId()), stage.itemOf(newId())]);
    await ingest();
    await ingest();
  });
  expect(plans.filter(({ text }) => text.includes('INSERT INTO message_keys'))).not.toEqual([]);
  expect(plans.flatMap(({ plan, text }) => findScans(plan).map((scan) => `${scan}: ${text}`))).toEqual([]);
});

// Plans are made once a connection, by a process that may have started before there was anything to count. Joined as PostgreSQL then thinks best,
// 500 messages into 2,000 open conversations took 789 ms; they take 40.
test('a batch is quick before there are statistics', async () => {
  const fresh = await createTestDatabase();
  try {
    const { itemOf, ...scene } = await createStage(fresh.pool);
    const config = { databaseUrl: fresh.url, databasePoolSize: 1 };
    const pool = createPool(config, { applicationName: 'switchyard-test', hasGenericPlans: true });
    try {
      const contacts = Array.from({ length: 2_000 }, () => newId());
      const ingestAll = (some: readonly string[]) =>
        ingestMessages(
          pool,
          some.map((contact) => itemOf(contact)),
        );
      for (let from = 0; from < contacts.length; from += 500) await ingestAll(contacts.slice(from, from + 500));
      const { rows } = await fresh.pool.query<{ id: string }>('SELECT id FROM contacts WHERE workspace_id = $1', [
        scene.workspaceId,
      ]);
      await openForContacts(
        pool,
        rows.map(({ id }) => ({ workspaceId: scene.workspaceId, contactId: id })),
      );
      const tookMs: number[] = [];
      for (let from = 0; from < contacts.length; from += 500) {
        const startedMs = performance.now();
        await ingestAll(contacts.slice(from, from + 500));
        tookMs.push(performance.now() - startedMs);
      }
      expect(Math.min(...tookMs)).toBeLessThan(400);
    } finally {
      await pool.end();
    }
  } finally {
    await fresh.drop();
  }
});

// The first analysis comes with the fiftieth message of whoever tries it out; plans made then were kept while the house filled, and read all of it.
test('a batch stays quick on plans made while there was next to nothing', async () => {
  const fresh = await createTestDatabase();
  try {
    const { itemOf } = await createStage(fresh.pool);
    const config = { databaseUrl: fresh.url, databasePoolSize: 1 };
    const pool = createPool(config, { applicationName: 'switchyard-test', hasGenericPlans: true });
    try {
      const ingestNew = (count: number) =>
        ingestMessages(
          pool,
          Array.from({ length: count }, () => itemOf(newId())),
        );
      await ingestNew(20);
      await fresh.pool.query('ANALYZE');
      const tookMs: number[] = [];
      for (let batch = 0; batch < 10; batch += 1) {
        const startedMs = performance.now();
        await ingestNew(500);
        tookMs.push(performance.now() - startedMs);
      }
      // 1,400 ms and rising, where they read everything.
      expect(Math.min(...tookMs.slice(-3))).toBeLessThan(600);
    } finally {
      await pool.end();
    }
  } finally {
    await fresh.drop();
  }
});

/** What statements inside functions were planned as, while `work` ran. */
async function watchFunctionPlans(url: string, work: (pool: pg.Pool) => Promise<void>) {
  const config = { databaseUrl: url, databasePoolSize: 1 };
  const pool = createPool(config, { applicationName: 'switchyard-test', hasGenericPlans: true });
  const plans: { readonly text: string; readonly plan: PlanNode }[] = [];
  try {
    const client = await pool.connect();
    client.on('notice', ({ message = '' }) => {
      const { 'Query Text': text, Plan: plan } = JSON.parse(message.slice(message.indexOf('{'))) as {
        'Query Text': string;
        Plan: PlanNode;
      };
      plans.push({ text: text.replaceAll(/\s+/g, ' ').trim(), plan });
    });
    await client.query(`
      LOAD 'auto_explain';
      SET auto_explain.log_min_duration = 0;
      SET auto_explain.log_nested_statements = on;
      SET auto_explain.log_format = json;
      SET auto_explain.log_level = notice`);
    client.release();
    await work(pool);
  } finally {
    await pool.end();
  }
  return plans;
}

/** Every statement that reads or writes rows, whoever sends it. */
function record(pool: pg.Pool): void {
  pool.on('connect', (client) => {
    const send = client.query.bind(client) as (...args: unknown[]) => unknown;
    const recording = (...args: unknown[]): unknown => {
      const [first] = args;
      const text = typeof first === 'string' ? first : (first as { text?: string } | undefined)?.text;
      if (text !== undefined && /^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b/.test(text)) statements.add(text);
      return send(...args);
    };
    Object.assign(client, { query: recording });
  });
}

/** The contact and another system are told that nobody was available. */
async function waitInVain({ pool, workspaceId, addTeam, open }: Stage): Promise<void> {
  const fallback = { text: 'Nobody is free', webhookUrl: 'https://hooks.example.com/' };
  for (const then of ['wait', 'close'] as const) {
    const rings = [{ kind: 'fallback', afterSeconds: 30, then, ...fallback } as const];
    const { conversationId } = await open(newId(), { teamId: await addTeam(), slaSeconds: 60, rings });
    await letTimePass(pool, conversationId, 31);
    await settleAllDue(pool, workspaceId);
  }
}

/** A flow's conversation with a reply, a queue, a transfer, silence and the close, as actor, API and clocks go through it. */
async function live({ pool, workspaceId, defaultTeamId, ...scene }: Stage): Promise<void> {
  await waitInVain({ pool, workspaceId, defaultTeamId, ...scene });
  const teamId = await scene.addTeam('least_loaded', { quietMinutes: 1 });
  const document = {
    enrichment: [
      { kind: 'keywords', field: 'purpose', rules: [{ value: 'x', keywords: ['x'] }], otherwise: 'general' },
    ],
    routing: { branches: [], otherwise: { teamId, priority: 1 } },
  };
  const flow = await createFlow(pool, { workspaceId, name: 'Main', description: '', document });
  if (flow.kind !== 'created') throw new Error(JSON.stringify(flow));
  await publishFlow(pool, { workspaceId, flowId: flow.flow.id });
  const contact = newId();
  const item = scene.itemOf(contact);
  const [first] = await ingestMessages(pool, [item, scene.itemOf(newId(), { attachments: [{}] })]);
  await ingestMessages(pool, [item]);
  if (first?.kind !== 'accepted') throw new Error(first?.kind);
  const { contactId, messageId } = first;
  const ref = { workspaceId, contactId };
  await openForContact(pool, ref);
  const [conversation] = await scene.conversationsOf(contactId);
  const conversationId = conversation!.id;
  const key = { ...ref, conversationId };
  await enrichConversation(pool, key);
  await routeByFlow(pool, key);
  await assignRouted(pool, key);
  await readTeamQueue(pool, { workspaceId, teamId });
  await readQueuePosition(pool, { workspaceId, conversationId });
  await readTeamLoads(pool, [{ workspaceId, teamId }]);
  const agentId = await scene.addAgent(3, [teamId, defaultTeamId], { skills: { spanish: 5 } });
  await readPhase(pool, ref);
  await scene.write(contact);
  await addReply(pool, { workspaceId, conversationId, agentId, text: 'Hello', externalId: newId() });
  await assignManually(pool, { workspaceId, conversationId, to: { kind: 'queue' }, byAgentId: agentId });
  await assignManually(pool, {
    workspaceId,
    conversationId,
    to: { kind: 'agent', agentId, force: false },
    byAgentId: null,
  });
  await pool.query(`UPDATE messages SET received_at = now() - interval '1 hour' WHERE workspace_id = $1 AND id = $2`, [
    workspaceId,
    messageId,
  ]);
  await goQuiet(pool, key);
  await scene.write(contact);
  await wakeConversation(pool, key);
  await setPresence(pool, { workspaceId, agentId, status: 'away' });
  await setPresence(pool, { workspaceId, agentId, status: 'online' });
  await getMessage(pool, { workspaceId, messageId });
  await listMessages(pool, { workspaceId, conversationId, afterSequence: 0, limit: 50 });
  await listDecisions(pool, { workspaceId, conversationId, after: null, limit: 50 });
  await withNames(pool, workspaceId, [`agent ${agentId}`]);
  await getConversation(pool, { workspaceId, conversationId });
  for (const filter of [{}, { agentId }, { teamId }, { contactId }, { state: 'assigned' as const }]) {
    await listConversations(pool, { workspaceId, filter, after: null, limit: 50 });
  }
  await getContact(pool, ref);
  await listContacts(pool, { workspaceId, after: null, limit: 50 });
  await requestClose(pool, { workspaceId, conversationId, agentId });
  await executeClose(pool, key);
  await createEventFeed(pool).readEvents(workspaceId, 0, 50);
  const again = await scene.write(contact);
  await openByUser(pool, {
    ...ref,
    contactId: again.contactId,
    source: 'user',
    to: { kind: 'queue' },
    byAgentId: null,
  });
}

/** A flow that asks the contact twice, with a channel to which questions and the text of the branch are delivered. */
async function ask({ pool, workspaceId, defaultTeamId: teamId, ...scene }: Stage): Promise<void> {
  const channelId = await findChannelId(pool, { workspaceId, key: 'web' });
  await updateChannel(pool, { workspaceId, channelId: channelId!, outboundUrl: 'https://channel.example/' });
  const step = {
    kind: 'ask',
    field: 'purpose',
    text: 'Why?',
    choices: [{ value: 'x', label: 'X' }],
    timeoutSeconds: 5,
  };
  const document = {
    trigger: { on: 'conversation.opened', condition: "message.text == 'ask me'" },
    enrichment: [
      { kind: 'contact', fields: { earlier: 'conversationCount' } },
      { ...step, settleSeconds: 0 },
    ],
    routing: {
      branches: [{ name: 'Busy', when: 'team.waiting > 1000', teamId }],
      otherwise: { teamId, text: 'One moment', webhookUrl: 'https://hooks.example.com/' },
    },
  };
  const flow = await createFlow(pool, { workspaceId, name: 'Asking', description: '', document });
  if (flow.kind !== 'created') throw new Error(JSON.stringify(flow));
  await publishFlow(pool, { workspaceId, flowId: flow.flow.id });
  const contact = newId();
  const { contactId } = await scene.write(contact, { text: 'ask me' });
  const { phase } = await openForContact(pool, { workspaceId, contactId });
  if (phase.kind !== 'enriching') throw new Error(phase.kind);
  const key = { workspaceId, contactId, conversationId: phase.conversationId };
  await enrichConversation(pool, key);
  for (const text of ['what?', 'x']) {
    await scene.write(contact, { text });
    await readPhase(pool, key);
    await enrichConversation(pool, key);
  }
  if ((await routeByFlow(pool, key)) === null) throw new Error('not routed');
  await deliver(pool, workspaceId);
}

/** One delivery succeeds, one is given up and tried again, the rest is left. */
async function deliver(pool: pg.Pool, workspaceId: string): Promise<void> {
  const claimedBy = newId();
  const claim = {
    claimedBy,
    leaseMs: 30_000,
    maxRows: 10,
    maxRowsPerLane: 10,
    room: allRoom,
    afterLane: null,
  };
  const [first, second, ...others] = (await claimDeliveries(pool, claim)).claimed;
  await settleDelivered(pool, [first!.id]);
  await settleFailedAttempts(pool, { claimedBy, attempts: [{ id: second!.id, error: 'gone', retryAfterMs: null }] });
  await releaseDeliveries(pool, { claimedBy, ids: others.map(({ id }) => id) });
  await listDeliveries(pool, { workspaceId, state: 'failed', after: null, limit: 50 });
  await retryDelivery(pool, { workspaceId, deliveryId: second!.id });
  await retryFailedDeliveries(pool, { workspaceId, channelId: null });
}

/** What workers do for all: relay, clocks, house timer. */
async function doRounds(pool: pg.Pool): Promise<void> {
  const shards = Array.from({ length: shardCount }, (_, shard) => shard);
  const { nudges } = await readDueRows(pool, {
    shards,
    nudges: { busyIds: [], heldRowIds: [], maxRowsPerQueue: 100, afterWorkspaceId: null },
    wakes: { busyIds: [], maxRowsPerShard: 100 },
  });
  await deleteRows(pool, [nudges[0]!.id]);
  const { workspaceId, contactId } = nudges[0]!;
  for (const due of await readDue(pool, { maxRows: 100 })) await settleDue(pool, due);
  await readStalled(pool, { afterMs: 30_000, maxRows: 1_000 });
  await readOldestNudgeMs(pool);
  await readSystemGauges(pool);
  await readWaitingGauges(pool, { maxTeams: 100 });
  await readIdleContacts(pool, { contacts: [{ workspaceId, contactId }], idleMs: 1_000 });
}

/**
 * PostgreSQL multiplies the rows a page by the pages there are. More rows a page make a table look large and yet quick to read,
 * so a plan without a scan here has none on a table of true size either.
 */
async function enlarge(pool: pg.Pool): Promise<void> {
  await pool.query('ANALYZE');
  await forgetEmptiness(pool);
  // Partitions, too, and the indexes: partial ones of what is open stay as small as they are.
  await pool.query(
    `SELECT pg_restore_relation_stats('schemaname', 'public', 'relname', c.relname::text, 'relpages', c.relpages,
                                      'reltuples', (c.reltuples * $2)::real)
     FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
     WHERE c.relkind IN ('r', 'i') AND c.reltuples > 0 AND coalesce(i.indpred IS NULL, true)
       AND coalesce(i.indrelid, c.oid) IN (
         SELECT t.oid FROM pg_class t WHERE t.relname = ANY($1::text[])
         UNION SELECT inhrelid FROM pg_inherits WHERE inhparent = 'messages'::regclass)`,
    [largeTables, enlargement],
  );
}

interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Index Cond'?: string;
  readonly Plans?: readonly PlanNode[];
}

const isLarge = (name: string | undefined): boolean =>
  name !== undefined && (largeTables.includes(name) || name.startsWith('messages_'));

/** Indexes of what is open only, small however much is closed: to read one of these from end to end is no scan of the table. */
const smallIndexes =
  /^(conversations_(one_open|queue|stalled|offered|due|open_by_agent|open_by_team|open_by_state)|messages_pending|messages_\w+_workspace_id_contact_id_sequence_idx|messages_before_pending|outbox_wakes)/;

function findScans(node: PlanNode): string[] {
  const { 'Node Type': type, 'Relation Name': table, 'Index Name': index, 'Index Cond': condition } = node;
  const isSequential = type === 'Seq Scan' && isLarge(table);
  const isWholeIndex =
    /^Index (Only )?Scan$/.test(type) && isLarge(table) && condition === undefined && !smallIndexes.test(index ?? '');
  return [
    ...(isSequential || isWholeIndex ? [`${type} on ${table} ${index ?? ''}`.trim()] : []),
    ...(node.Plans ?? []).flatMap(findScans),
  ];
}
