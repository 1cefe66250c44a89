import http from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../platform/config.ts';
import { newId } from '../../platform/id.ts';
import { createLogger } from '../../platform/logger.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { createChannel } from '../../store/channels.ts';
import { claimDeliveries, retryDelivery, settleDelivered, settleFailed } from '../../store/deliveries.ts';
import { enrichConversation, readEnrichmentInputs, writeTurns } from '../../store/enriching.ts';
import { fallBack } from '../../store/fallback.ts';
import { createFlow, publishFlow } from '../../store/flows.ts';
import { openForContact } from '../../store/opening.ts';
import { readPhase } from '../../store/phases.ts';
import { addReply } from '../../store/replies.ts';
import { takeTurn } from '../../routing/flow-interpreter.ts';
import { createOutboundMetrics } from '../../worker/outbound-metrics.ts';
import { startOutbound } from '../../worker/outbound.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createStage, type Stage } from './stage.ts';

let database: TestDatabase;
let stage: Stage;
let agentId: string;
beforeAll(async () => {
  database = await createTestDatabase();
  stage = await createStage(database.pool);
  agentId = await stage.addAgent(10_000);
});
afterAll(() => database?.drop());

async function channel(url = 'https://a.example') {
  const key = newId();
  const made = await createChannel(database.pool, { workspaceId: stage.workspaceId, key, name: 'Out', outboundUrl: url });
  if (made.kind !== 'created') throw new Error(made.kind);
  return { key, id: made.channel.id };
}
const reply = (conversationId: string, text: string) =>
  addReply(database.pool, { workspaceId: stage.workspaceId, conversationId, agentId, text });
const claimOne = async (who: string) =>
  (await claimDeliveries(database.pool, { claimedBy: who, leaseMs: 60_000, maxRows: 10, maxRowsPerLane: 10, roomByLane: new Map(), afterLane: null })).claimed;

test('retry of the head', async () => {
  const { key } = await channel();
  const { conversationId } = await stage.open(newId(), { channel: key });
  await reply(conversationId, '1');
  await reply(conversationId, '2');
  const who = newId();
  const [head] = await claimOne(who);
  await settleFailed(database.pool, { claimedBy: who, attempts: [{ id: head!.id, error: 'x', retryAfterMs: 86_400_000 }] });
  await retryDelivery(database.pool, { workspaceId: stage.workspaceId, deliveryId: head!.id });
  const again = await claimOne(who);
  expect(again.map(({ id }) => id)).toEqual([head!.id]);
  await settleDelivered(database.pool, [head!.id]);
  await reply(conversationId, '3');
  const { rows } = await database.pool.query(`SELECT payload->'data'->>'text' AS text, extract(epoch FROM due_at - now())::int AS due FROM deliveries ORDER BY position`);
  console.log('AFTER RETRY', JSON.stringify(rows), 'claimable', (await claimOne(who)).length);
  await database.pool.query('DELETE FROM deliveries');
});

test('lanes starve', async () => {
  let done = 0;
  let fifthAt: number | null = null;
  const server = http.createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      if (request.url === '/fast') { fifthAt ??= done; response.statusCode = 204; response.end(); return; }
      setTimeout(() => { done += 1; response.statusCode = 204; response.end(); }, 150 + Math.random() * 700);
    });
  });
  await new Promise<void>((r) => server.listen(0, '127.0.0.1', r));
  const base = `http://127.0.0.1:${(server.address() as any).port}`;
  const lanes = [];
  for (let i = 0; i < 8; i += 1) lanes.push(await channel(`${base}/slow`));
  const fifth = await channel(`${base}/fast`);
  for (const { key } of lanes) {
    await Promise.all(Array.from({ length: 60 }, async () => {
      const { conversationId } = await stage.open(newId(), { channel: key });
      await reply(conversationId, 's');
    }));
  }
  const { conversationId } = await stage.open(newId(), { channel: fifth.key });
  const logger = createLogger(loadConfig({ LOG_LEVEL: 'silent' }), 'test');
  const outbound = startOutbound({ pool: database.pool, logger, metrics: createOutboundMetrics(createMetrics({ component: 'test' })), privateCidrs: ['127.0.0.0/8'], graceMs: 100 });
  while (done < 70) await new Promise((r) => setTimeout(r, 20));
  const at = done;
  await reply(conversationId, 'f');
  for (let i = 0; i < 100 && fifthAt === null; i += 1) await new Promise((r) => setTimeout(r, 100));
  console.log('fifth written after', at);
  console.log('FIFTH LANE served after', fifthAt, 'of 400 slow ones');
  await outbound.stop();
  server.closeAllConnections(); server.close();
  await database.pool.query('DELETE FROM deliveries');
}, 60_000);

const ask = { kind: 'ask', field: 'purpose', text: 'Sales or support?', retryText: 'Again: sales or support?',
  choices: [{ value: 'sales', label: 'Sales' }, { value: 'support', label: 'Support' }], maxQuestions: 2, timeoutSeconds: 600, settleSeconds: 0,
  giveUp: { text: 'Bye' } };

async function asked(s: Stage) {
  const { workspaceId, defaultTeamId: teamId } = s;
  const document = { enrichment: [ask], routing: { branches: [], otherwise: { teamId } } };
  const created = await createFlow(database.pool, { workspaceId, name: 'A', description: '', document });
  if (created.kind !== 'created') throw new Error(JSON.stringify(created));
  await publishFlow(database.pool, { workspaceId, flowId: created.flow.id });
  const contact = newId();
  const { contactId } = await s.write(contact);
  const { phase } = await openForContact(database.pool, { workspaceId, contactId });
  if (phase.kind !== 'enriching') throw new Error(phase.kind);
  const key = { workspaceId, contactId, conversationId: phase.conversationId };
  await enrichConversation(database.pool, key);
  return { key, say: (text: string) => s.write(contact, { text }) };
}
const turnOf = async (key: any) => {
  const [input] = await readEnrichmentInputs(database.pool, [key]);
  return { key, input: input!, turn: takeTurn(input!.flow, input!.facts, input!.progress, input!.heard) as any };
};
const outboundTexts = async (key: any) => (await database.pool.query(`SELECT text FROM messages WHERE conversation_id = $1 AND direction='outbound' ORDER BY sequence`, [key.conversationId])).rows.map((r) => r.text);

test('an answer slips between read and write', async () => {
  const s = await createStage(database.pool);
  const { key, say } = await asked(s);
  await say('hm');
  const taken = await turnOf(key);
  await say('sales');
  console.log('WRITE', JSON.stringify(await writeTurns(database.pool, [taken])));
  const phase = await readPhase(database.pool, key);
  const step = await enrichConversation(database.pool, key);
  console.log('PHASE AFTER', JSON.stringify(phase), JSON.stringify(step), await outboundTexts(key));
});

test('a fallback of an attempt that was overtaken', async () => {
  const s = await createStage(database.pool);
  const { key, say } = await asked(s);
  await say('hm'); await enrichConversation(database.pool, key);
  await say('hm');
  const taken = await turnOf(key);
  console.log('WRITE', JSON.stringify(await writeTurns(database.pool, [taken])));
  console.log('FALLBACK of the other attempt', await fallBack(database.pool, key, 'step 1 failed', taken.turn.messages), await outboundTexts(key));
  const t = await createStage(database.pool);
  const one = await asked(t);
  console.log('while asking', await fallBack(database.pool, one.key, 'step 1 failed', []), JSON.stringify(await readPhase(database.pool, one.key)));
});

test('icu', async () => {
  const { migrate } = await import('../../store/migrate.ts');
  console.log(Object.keys(await import('../../store/migrate.ts')));
  const { queueKeyOf } = await import('../../store/queue-key.ts');
  const key = queueKeyOf({ skills: [], units: 1, channel: 'webchat', passedOver: [newId(), newId(), newId()], slaSeconds: null });
  console.log('KEY', key);
  const { slaInQueueSql } = await import('../../store/queue-key.ts');
  const sql = `SELECT ${slaInQueueSql('q')} FROM (SELECT $1::text COLLATE "en-US-x-icu" AS queue_key) q`;
  let failed = 0;
  for (let i = 0; i < 50; i += 1) {
    const k = queueKeyOf({ skills: [], units: 1, channel: 'webchat', passedOver: [newId(), newId(), newId()], slaSeconds: null });
    await database.pool.query(sql, [k]).catch((e) => { failed += 1; if (failed === 1) console.log(e.message); });
  }
  console.log('FAILED', failed, 'of 50');
});

test('icugauges', async () => {
  const { readWaitingGauges } = await import('../../store/upkeep.ts');
  const { queueKeyOf } = await import('../../store/queue-key.ts');
  const { conversationId } = await stage.open(newId());
  const k = queueKeyOf({ skills: [], units: 1, channel: 'webchat', passedOver: [newId(), newId(), newId()], slaSeconds: null });
  await database.pool.query(`ALTER TABLE conversations ALTER COLUMN queue_key TYPE text COLLATE "en-US-x-icu"`);
  await database.pool.query(`UPDATE conversations SET state='waiting', team_id=$2, queue_key=$3, waiting_since=now(), queued_at=now(), routed_at=now(), agent_id=null WHERE id=$1`, [conversationId, stage.defaultTeamId, k]);
  console.log(await readWaitingGauges(database.pool, { maxTeams: 10 }).then(() => 'GAUGES OK', (e) => 'GAUGES ' + e.message));
});
test('retryrace', async () => {
  const { key } = await channel();
  const { conversationId } = await stage.open(newId(), { channel: key });
  await reply(conversationId, '1');
  const { rows: [d] } = await database.pool.query(`SELECT id FROM deliveries LIMIT 1`);
  const a = await database.pool.connect();
  await a.query('BEGIN');
  await a.query(`UPDATE deliveries SET claimed_by = $1, due_at = now() + interval '30 s' WHERE id = $2`, [newId(), d.id]);
  const retry = retryDelivery(database.pool, { workspaceId: stage.workspaceId, deliveryId: d.id });
  await new Promise((r) => setTimeout(r, 300));
  await a.query('COMMIT'); a.release();
  await retry;
  const again = await claimOne(newId());
  console.log('RETRYRACE claimed a second time while in flight:', again.length);
  await database.pool.query('DELETE FROM deliveries');
});
test('heldset', async () => {
  const { enrichConversations } = await import('../../store/enriching.ts');
  const { createPool } = await import('../../platform/pool.ts');
  const { withAttempts } = await import('../../store/database.ts');
  const s = await createStage(database.pool);
  const { workspaceId, defaultTeamId: teamId } = s;
  const document = { enrichment: [ask], routing: { branches: [], otherwise: { teamId } } };
  const created = await createFlow(database.pool, { workspaceId, name: 'A', description: '', document });
  if (created.kind !== 'created') throw new Error();
  await publishFlow(database.pool, { workspaceId, flowId: created.flow.id });
  const keys = [];
  for (let i = 0; i < 3; i += 1) {
    const { contactId } = await s.write(newId());
    const { phase } = await openForContact(database.pool, { workspaceId, contactId });
    keys.push({ workspaceId, contactId, conversationId: (phase as any).conversationId });
  }
  const pool = createPool(loadConfig({ DATABASE_URL: database.url }), { applicationName: 'x', lockTimeoutMs: 500 } as any);
  const a = await database.pool.connect();
  await a.query('BEGIN');
  await a.query('SELECT FROM contacts WHERE id = $1 FOR NO KEY UPDATE', [keys[0]!.contactId]);
  const at = Date.now();
  const out = await withAttempts(3, () => enrichConversations(pool, keys)).then((r) => JSON.stringify(r), (e) => 'ERR ' + e.message);
  const { rows } = await database.pool.query('SELECT count(*) FROM messages WHERE workspace_id=$1 AND direction=$2', [workspaceId, 'outbound']);
  console.log('HELDSET', Date.now() - at, 'ms', out, 'questions sent', JSON.stringify(rows));
  await a.query('ROLLBACK'); a.release(); await pool.end();
});
