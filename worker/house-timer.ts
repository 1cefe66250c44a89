/**
 * What one worker at a time does for all, by a lease: mends what stands still, keeps the months of messages, and reads the gauges that
 * describe the whole system rather than a process.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Logger } from '../platform/logger.ts';
import type { Metrics } from '../platform/metrics.ts';
import { forgetFailedDeliveries } from '../store/delivery-records.ts';
import { acquireLeases, forgetExpiredLeases, releaseLeases } from '../store/leases.ts';
import { enqueueNudges } from '../store/outbox.ts';
import { readOldestNudgeMs, readStalled, readSystemGauges, readWaitingGauges } from '../store/upkeep.ts';
import { createMessageUpkeep } from './message-upkeep.ts';
import { createSystemGauges } from './system-gauges.ts';

export interface HouseTimer {
  stop(): Promise<void>;
}

const leaseName = 'house-timer';
const leaseTtlMs = 15_000;
const tickMs = 5_000;
/** Longer than any step takes in health, retries after a lost race included. */
const stalledAfterMs = 30_000;
const maxRows = 1_000;
/** Failed deliveries are for people to look at, and to send again; messages may have to go sooner. */
const failedDeliveryDays = 30;

export function startHouseTimer({
  pool,
  metrics,
  logger,
  maxTeams,
  messageRetentionDays,
}: {
  pool: pg.Pool;
  metrics: Metrics;
  logger: Logger;
  /** With more teams than this, the gauges do not tell them apart. */
  maxTeams: number;
  messageRetentionDays: number | undefined;
}): HouseTimer {
  const owner = randomUUID();
  const stopping = new AbortController();
  const mended = metrics.counter('house_timer_mended_total', 'Contacts found standing still and nudged again.', [
    'kind',
  ]);
  for (const kind of ['pending', 'flow', 'close']) mended.inc({ kind }, 0);
  const gauges = createSystemGauges(metrics);
  const messages = createMessageUpkeep({ pool, metrics, logger, retentionDays: messageRetentionDays });
  /** Who was nudged when: what stands still for good is nudged again after as long as it took to notice. */
  const nudged = new Map<string, number>();
  const running = run();

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const [held] = await acquireLeases(pool, { names: [leaseName], owner, ttlMs: leaseTtlMs });
        if (held === undefined) {
          gauges.clear();
          messages.clear();
        } else {
          await readGauges();
          // While nudges themselves are late, Temporal is away or behind, and more of them would mend nothing.
          if ((await readOldestNudgeMs(pool)) < stalledAfterMs) await mendStalled();
          await messages.round();
          const olderThanDays = Math.min(failedDeliveryDays, messageRetentionDays ?? failedDeliveryDays);
          // What is left is forgotten with the next rounds.
          await forgetFailedDeliveries(pool, { olderThanDays, maxRows });
          await forgetExpiredLeases(pool);
        }
      } catch (error) {
        // Old numbers would look like health.
        gauges.clear();
        messages.clear();
        logger.warn({ err: error }, 'the house timer could not do its round');
      }
      await delay(tickMs, undefined, { signal: stopping.signal }).catch(() => undefined);
    }
    await releaseLeases(pool, { names: [leaseName], owner }).catch(() => undefined);
  }

  /** A number that cannot be read must not keep what stands still from being mended. */
  async function readGauges(): Promise<void> {
    try {
      gauges.set(await readSystemGauges(pool), await readWaitingGauges(pool, { maxTeams }));
    } catch (error) {
      gauges.clear();
      logger.warn({ err: error }, 'the gauges could not be read');
    }
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

  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
