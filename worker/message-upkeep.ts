/** What the house timer does for the months of messages: makes them ahead, lets them go, and tells how it stands. */
import type pg from 'pg';
import type { Logger } from '../platform/logger.ts';
import type { Metrics } from '../platform/metrics.ts';
import { isConflict } from '../platform/pool.ts';
import {
  createMessagePartitions,
  createMessageRetention,
  forgetEmptiness,
  readPartitionGauges,
  type RetentionOutcome,
} from '../store/message-partitions.ts';

export interface MessageUpkeep {
  round(): Promise<void>;
  /** Another worker does it now. */
  clear(): void;
}

const monthsAhead = 3;
const hourMs = 60 * 60 * 1_000;
/** Of the house timer's round of five seconds: a tenth of one connection's time, whatever there is to forget. */
const budgetMs = 500;

export function createMessageUpkeep({
  pool,
  metrics,
  logger,
  retentionDays,
}: {
  pool: pg.Pool;
  metrics: Metrics;
  logger: Logger;
  /** Undefined: for ever. */
  retentionDays: number | undefined;
}): MessageUpkeep {
  const ahead = metrics.gauge(
    'message_partitions_ahead_seconds',
    'Until the first time for which there is no month of messages.',
  );
  const oldest = metrics.gauge(
    'messages_oldest_month_seconds',
    'Since the end of the oldest month of messages that is kept.',
  );
  const strayed = metrics.gauge(
    'messages_strayed',
    'Messages that fit no month, counted up to 1000; in health there are none.',
  );
  const held = metrics.gauge(
    'message_retention_held',
    'Whether a month of messages is kept beyond its time, by what it holds.',
    ['by'],
  );
  const dropped = metrics.counter('message_partitions_dropped_total', 'Months of messages dropped.');
  const retention = retentionDays === undefined ? null : createMessageRetention(pool, { days: retentionDays });
  let nextHourlyAt = 0;
  let last: RetentionOutcome['kind'] = 'none';

  async function round(): Promise<void> {
    const isHourly = performance.now() >= nextHourlyAt;
    if (isHourly) {
      await makeAhead();
      await forgetEmptiness(pool);
      nextHourlyAt = performance.now() + hourMs;
    }
    // What is under way goes on with every round; else there is something to do once a month.
    if (isHourly || last === 'clearing' || last === 'busy' || last === 'dropped') await retire();
    const gauges = await readPartitionGauges(pool);
    ahead.set(gauges.aheadSeconds);
    oldest.set(gauges.oldestSeconds);
    strayed.set(gauges.strayed);
  }

  async function makeAhead(): Promise<void> {
    try {
      const created = await createMessagePartitions(pool, { monthsAhead });
      if (created.length > 0) logger.info({ partitions: created }, 'made partitions of messages ahead');
    } catch (error) {
      // Somebody held a lock for long. There are months left, so an hour later will do.
      if (!isConflict(error)) throw error;
      logger.warn({ err: error }, 'could not make partitions of messages ahead');
    }
  }

  async function retire(): Promise<void> {
    if (retention === null) return;
    const outcome = await retention.advance({ budgetMs });
    last = outcome.kind;
    const holder = outcome.kind === 'held' ? outcome.by : null;
    for (const by of ['pending', 'open']) held.set({ by }, holder === by ? 1 : 0);
    if (outcome.kind === 'none') return;
    const { kind, partition } = outcome;
    const facts = { partition: partition.name };
    if (kind === 'held') {
      logger.warn({ ...facts, by: holder }, 'a month of messages is kept beyond its time, for what it still holds');
    } else if (kind === 'dropped') {
      dropped.inc();
      logger.info(facts, 'dropped a month of messages, which is older than messages are kept');
    }
  }

  return {
    round,
    clear() {
      for (const gauge of [ahead, oldest, strayed]) gauge.remove();
      held.reset();
    },
  };
}
