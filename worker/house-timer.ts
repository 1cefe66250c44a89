/**
 * What one worker at a time does for all, by a lease: mends what stands still, lets silent agents go away, and reads the gauges
 * that describe the whole system rather than a process.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Logger } from '../platform/logger.ts';
import type { Metrics } from '../platform/metrics.ts';
import { readSilentAgents, setPresence } from '../store/agents.ts';
import { acquireLeases, forgetExpiredLeases, releaseLeases } from '../store/leases.ts';
import { enqueueNudges } from '../store/outbox.ts';
import { readStalled, readSystemGauges, type SystemGauges } from '../store/upkeep.ts';

export interface HouseTimer {
  stop(): Promise<void>;
}

const leaseName = 'house-timer';
const leaseTtlMs = 15_000;
const tickMs = 5_000;
/** Longer than any step takes in health, retries after a lost race included. */
const stalledAfterMs = 30_000;
const heartbeatExpiryMs = 60_000;
const maxRows = 1_000;

export function startHouseTimer({
  pool,
  metrics,
  logger,
}: {
  pool: pg.Pool;
  metrics: Metrics;
  logger: Logger;
}): HouseTimer {
  const owner = randomUUID();
  const stopping = new AbortController();
  const mended = metrics.counter('house_timer_mended_total', 'Contacts found standing still and nudged again.', [
    'kind',
  ]);
  for (const kind of ['pending', 'flow', 'close']) mended.inc({ kind }, 0);
  const expired = metrics.counter('agents_expired_total', 'Agents set away because their heartbeat stopped.');
  const gauges = createSystemGauges(metrics);
  /** Who was nudged when: what stands still for good is nudged again after as long as it took to notice. */
  const nudged = new Map<string, number>();
  const running = run();

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const [held] = await acquireLeases(pool, { names: [leaseName], owner, ttlMs: leaseTtlMs });
        if (held === undefined) {
          gauges.clear();
        } else {
          const values = await readSystemGauges(pool);
          gauges.set(values);
          // While the outbox itself is late, Temporal is away or behind, and more rows in it would mend nothing.
          if (values.outboxOldestSeconds * 1_000 < stalledAfterMs) await mendStalled();
          await expireSilentAgents();
          await forgetExpiredLeases(pool);
        }
      } catch (error) {
        // Old numbers would look like health.
        gauges.clear();
        logger.warn({ err: error }, 'the house timer could not do its round');
      }
      await delay(tickMs, undefined, { signal: stopping.signal }).catch(() => undefined);
    }
    await releaseLeases(pool, { names: [leaseName], owner }).catch(() => undefined);
  }

  async function mendStalled(): Promise<void> {
    const now = performance.now();
    for (const [contactId, nudgedAt] of nudged) if (now - nudgedAt > stalledAfterMs) nudged.delete(contactId);
    const found = await readStalled(pool, { afterMs: stalledAfterMs, maxRows: maxRows + nudged.size });
    const stalled = found.filter(({ contactId }) => !nudged.has(contactId));
    await enqueueNudges(pool, stalled);
    for (const { contactId } of stalled) nudged.set(contactId, now);
    for (const { kind } of stalled) mended.inc({ kind });
    if (stalled.length > 0) logger.warn({ contacts: stalled.length }, 'nudged contacts that stood still');
  }

  async function expireSilentAgents(): Promise<void> {
    for (const agent of await readSilentAgents(pool, { afterMs: heartbeatExpiryMs, maxRows })) {
      if (stopping.signal.aborted) return;
      try {
        const result = await setPresence(pool, { ...agent, status: 'away', ifSilentForMs: heartbeatExpiryMs });
        // Online still: it was heard in between.
        if (result.kind === 'set' && result.agent.presence === 'away') expired.inc();
      } catch (error) {
        logger.warn({ err: error, agentId: agent.agentId }, 'could not set a silent agent away');
      }
    }
  }

  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** Reported by the lease's holder only, so that a sum over all workers is right. */
function createSystemGauges(metrics: Metrics) {
  const outboxDepth = metrics.gauge('outbox_depth', 'Rows of the outbox that wait to be told.');
  const outboxOldest = metrics.gauge('outbox_oldest_seconds', 'Age of the oldest row of the outbox.');
  const conversations = metrics.gauge('conversations_open', 'Open conversations.', ['state']);
  const longestWait = metrics.gauge('waiting_longest_seconds', 'How long the longest waiting conversation has waited.');
  const agents = metrics.gauge('agents', 'Agents.', ['presence']);
  const free = metrics.gauge('agents_free_capacity_units', 'Room of the agents who are online.');
  const oldestTransaction = metrics.gauge(
    'database_oldest_transaction_seconds',
    'Age of the oldest transaction; a long one keeps dead rows of the outbox alive.',
  );
  const single = [outboxDepth, outboxOldest, longestWait, free, oldestTransaction];
  const labelled = [conversations, agents];
  return {
    clear() {
      for (const gauge of single) gauge.remove();
      // remove() wants the labels' values here; reset() leaves none, whereas it would leave a 0 above.
      for (const gauge of labelled) gauge.reset();
    },
    set(values: SystemGauges) {
      outboxDepth.set(values.outboxDepth);
      outboxOldest.set(values.outboxOldestSeconds);
      for (const state of ['enriching', 'routing', 'waiting', 'assigned']) {
        conversations.set({ state }, values.conversationsByState[state] ?? 0);
      }
      longestWait.set(values.longestWaitSeconds);
      for (const presence of ['online', 'away', 'offline']) {
        agents.set({ presence }, values.agentsByPresence[presence] ?? 0);
      }
      free.set(values.freeCapacityUnits);
      oldestTransaction.set(values.oldestTransactionSeconds);
    },
  };
}
