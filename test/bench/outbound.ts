/**
 * How fast one worker tells channels what is said to their contacts, by how many channels there are and how long each takes to answer, beside the
 * same requests sent from memory. The deliverer runs in this process, the channels' system in one of its own.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { loadConfig } from '../../platform/config.ts';
import { newId } from '../../platform/id.ts';
import { createLogger } from '../../platform/logger.ts';
import { createMetrics } from '../../platform/metrics.ts';
import { createPool } from '../../platform/pool.ts';
import { createChannel } from '../../store/channels.ts';
import { transact } from '../../store/database.ts';
import { ingestMessages } from '../../store/ingest.ts';
import { lockContact } from '../../store/locks.ts';
import { openForContacts } from '../../store/opening.ts';
import { sendToContact } from '../../store/outgoing.ts';
import { createWorkspace } from '../../store/workspaces.ts';
import { startOutbound } from '../../worker/outbound.ts';
import { createOutboundMetrics } from '../../worker/outbound-metrics.ts';
import { attemptDelivery } from '../../worker/outbound-request.ts';
import type { BenchContext } from './context.ts';
import { formatFineMs, formatRate, formatRatio, median, type ScenarioReport } from './figures.ts';
import { findPostmaster, readCpuMs } from './process-cpu.ts';

export interface OutboundBenchOptions {
  /** Each to one contact's conversation. */
  readonly messages: number;
  readonly cases: readonly { readonly channels: number; readonly delayMs: number }[];
}

const defaults: OutboundBenchOptions = {
  messages: 4_000,
  cases: [
    { channels: 1, delayMs: 0 },
    { channels: 20, delayMs: 0 },
    { channels: 1, delayMs: 100 },
    { channels: 20, delayMs: 100 },
  ],
};

export async function runOutbound(
  { server, note, runs }: BenchContext,
  { messages, cases }: OutboundBenchOptions = defaults,
): Promise<ScenarioReport> {
  const databaseUrl = await server.createDatabase('outbound');
  const pool = createPool({ databaseUrl, databasePoolSize: 8 }, { applicationName: 'bench-outbound' });
  try {
    const postmaster = await findPostmaster(pool);
    const figures: OutboundFigures[] = [];
    for (const { channels, delayMs } of cases) {
      const receiver = await startReceiver(delayMs);
      try {
        const results: Measured[] = [];
        for (let run = 0; run < runs; run += 1) {
          await enqueue(pool, { url: receiver.url, channels, messages });
          const delivered = await measure(postmaster, messages, () => deliverAll(pool));
          const fromMemory = await measure(postmaster, messages, () => sendFromMemory(receiver.url, messages));
          results.push({ ...delivered, ratio: delivered.perSecond / fromMemory.perSecond });
        }
        const figure = { channels, delayMs, ...medians(results) };
        note(`${channels} channels that take ${delayMs} ms: ${formatRate(figure.perSecond)}/s`);
        figures.push(figure);
      } finally {
        await receiver.stop();
      }
    }
    return { tables: [tableOf(figures)], figures, verdicts: [], faults: await findFaults(pool) };
  } finally {
    await pool.end();
  }
}

interface Measured {
  readonly perSecond: number;
  readonly nodeMs: number;
  readonly postgresMs: number;
  /** Of `perSecond` to that of the same requests from memory. */
  readonly ratio: number;
}

interface OutboundFigures extends Measured {
  readonly channels: number;
  readonly delayMs: number;
}

const privateCidrs = ['127.0.0.0/8'];

async function startReceiver(delayMs: number) {
  const child = fork(fileURLToPath(new URL('./outbound-receiver.ts', import.meta.url)), [JSON.stringify({ delayMs })], {
    execArgv: ['--import', 'tsx'],
  });
  const ended = once(child, 'exit');
  const [port] = (await Promise.race([
    once(child, 'message'),
    ended.then(([code]) => Promise.reject(new Error(`the channels' system ended with exit code ${code}`))),
  ])) as [number];
  return {
    url: `http://127.0.0.1:${port}/out`,
    async stop() {
      child.disconnect();
      await ended;
    },
  };
}

/** A workspace whose contacts have one open conversation and one message to be delivered each. */
async function enqueue(
  pool: pg.Pool,
  { url, channels, messages }: { url: string; channels: number; messages: number },
): Promise<void> {
  const { workspaceId } = await createWorkspace(pool, { name: 'Outbound' });
  const keys = Array.from({ length: channels }, (_, place) => `channel-${place}`);
  for (const key of keys) await createChannel(pool, { workspaceId, key, name: key, outboundUrl: url });
  for (let from = 0; from < messages; from += setSize) {
    const items = Array.from({ length: Math.min(setSize, messages - from) }, (_, place) => ({
      workspaceId,
      channel: keys[place % channels]!,
      externalId: newId(),
      contact: { externalId: newId() },
      text: 'Hello',
    }));
    const contacts = (await ingestMessages(pool, items)).map((result) => {
      if (result.kind !== 'accepted') throw new Error(result.kind);
      return { workspaceId, contactId: result.contactId };
    });
    const openings = await openForContacts(pool, contacts);
    await transact(pool, async (tx) => {
      for (const [place, { phase }] of openings.entries()) {
        if (phase.kind !== 'assigning') throw new Error(phase.kind);
        const key = { ...contacts[place]!, conversationId: phase.conversationId };
        await lockContact(tx, key);
        await sendToContact(tx, key, [{ text: 'Thank you, we are looking into it.', agentId: null }]);
      }
    });
  }
}

const setSize = 200;

async function deliverAll(pool: pg.Pool): Promise<void> {
  const logger = createLogger(loadConfig({ LOG_LEVEL: 'silent' }), 'worker');
  const metrics = createOutboundMetrics(createMetrics({ component: 'worker' }));
  const outbound = startOutbound({ pool, logger, metrics, privateCidrs });
  try {
    for (let isDone = false; !isDone;) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      const { rows } = await pool.query<{ isDone: boolean }>(
        `SELECT NOT EXISTS (SELECT FROM deliveries WHERE state = 'pending') AS "isDone"`,
      );
      isDone = rows[0]!.isDone;
    }
  } finally {
    await outbound.stop();
  }
}

/** As many at once as the deliverer has under way at most in one process. */
async function sendFromMemory(url: string, messages: number): Promise<void> {
  const delivery = { lane: '', workspaceId: '', kind: 'message', attempts: 0, triedForMs: 0 } as const;
  const payload = { type: 'message.outbound', data: { text: 'Thank you, we are looking into it.' } };
  const secrets = [`whsec_${Buffer.alloc(24).toString('base64')}`];
  let left = messages;
  const work = async (): Promise<void> => {
    const { signal } = new AbortController();
    while (left-- > 0) {
      const outcome = await attemptDelivery(
        { ...delivery, id: newId(), url, payload, secrets },
        { privateCidrs, timeoutMs: 10_000, signal },
      );
      if (outcome.kind !== 'delivered') throw new Error(JSON.stringify(outcome));
    }
  };
  await Promise.all(Array.from({ length: 64 }, work));
}

async function measure(
  postmaster: number | null,
  messages: number,
  run: () => Promise<void>,
): Promise<Omit<Measured, 'ratio'>> {
  const postgresMs = (): number => (postmaster === null ? NaN : (readCpuMs(postmaster) ?? NaN));
  const before = { at: performance.now(), node: process.cpuUsage(), postgres: postgresMs() };
  await run();
  const { user, system } = process.cpuUsage(before.node);
  return {
    perSecond: (1_000 * messages) / (performance.now() - before.at),
    nodeMs: (user + system) / 1_000 / messages,
    postgresMs: (postgresMs() - before.postgres) / messages,
  };
}

function medians(results: readonly Measured[]): Measured {
  const of = (what: keyof Measured) => median(results.map((result) => result[what]));
  return { perSecond: of('perSecond'), nodeMs: of('nodeMs'), postgresMs: of('postgresMs'), ratio: of('ratio') };
}

const tableOf = (figures: readonly OutboundFigures[]) => ({
  title: 'Messages told to channels, by one worker',
  columns: ['channels', 'answer after', 'a second', 'to the same from memory', 'CPU of Node.js', 'CPU of PostgreSQL'],
  rows: figures.map(({ channels, delayMs, perSecond, ratio, nodeMs, postgresMs }) => [
    String(channels),
    `${delayMs} ms`,
    formatRate(perSecond),
    formatRatio(ratio),
    formatFineMs(nodeMs),
    Number.isNaN(postgresMs) ? '?' : formatFineMs(postgresMs),
  ]),
});

/** Nothing is left to be told, and every message says that it was. */
async function findFaults(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ fault: string }>(
    `SELECT 'message ' || id || ' is ' || coalesce(delivery, 'not told') AS fault
     FROM messages WHERE direction = 'outbound' AND delivery IS DISTINCT FROM 'delivered'
     UNION ALL SELECT 'delivery ' || id || ' is left' FROM deliveries LIMIT 20`,
  );
  return rows.map(({ fault }) => fault);
}
