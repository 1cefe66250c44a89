import type pg from 'pg';
import { createMicroBatcher, type MicroBatcher } from '../platform/micro-batcher.ts';
import type { Config } from '../platform/config.ts';
import type { Logger } from '../platform/logger.ts';
import { createPool, isLockTimeout, mayBeOneRowsFault } from '../platform/pool.ts';
import type { Metrics } from '../platform/metrics.ts';
import { ingestMessages, type IngestItem, type IngestResult } from '../store/ingest.ts';

/**
 * Gathers the messages of all requests into few transactions: one transaction a message would be ten times slower. A contact's
 * identity is in at most one flight, so that its messages cannot overtake each other.
 */
export function createIngest(pool: pg.Pool, metrics: Metrics): MicroBatcher<IngestItem, IngestResult> {
  const accepted = metrics.counter('messages_accepted_total', 'Messages stored, duplicates not counted');
  const duplicates = metrics.counter('messages_duplicate_total', 'Messages that had been stored before');
  const rows = metrics.histogram(
    'ingest_batch_messages',
    'Messages in one flush',
    [],
    [1, 2, 5, 10, 20, 50, 100, 200, 500],
  );
  const flushSeconds = metrics.histogram(
    'ingest_flush_seconds',
    'Time to store one batch, with its commit',
    [],
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  );
  const failed = metrics.counter(
    'ingest_failed_total',
    'Messages that could not be stored and were answered with an error',
  );

  const batcher = createMicroBatcher<IngestItem, IngestResult>({
    name: 'ingest',
    maxInFlight,
    // Nobody waits for company while a place is free: a single post was answered after 5 ms where it took 8. With load, messages gather behind those
    // under way.
    maxWaitMs: 0,
    maxQueued,
    maxHeldBytes,
    maxFlightBytes,
    groupOf: (item) => item.workspaceId,
    bytesOf: estimateBytes,
    keyOf: (item) => `${item.workspaceId}/${item.channel}/${item.contact.externalId}`,
    async flush(items) {
      const results = await ingestMessages(pool, items);
      for (const result of results) {
        if (result.kind === 'accepted') (result.duplicate ? duplicates : accepted).inc();
      }
      return results.map((value) => ({ ok: true, value }));
    },
    isIsolatable: mayBeOneRowsFault,
    isHeldUp: isLockTimeout,
    onFlush(stats) {
      rows.observe(stats.rows);
      flushSeconds.observe(stats.durationMs / 1000);
      if (stats.failedRows > 0) failed.inc(stats.failedRows);
    },
  });
  metrics.gauge('ingest_queued_messages', 'Messages that wait for a flush', [], function () {
    this.set(batcher.queued);
  });
  metrics.gauge('ingest_held_bytes', 'Estimated size of the messages that wait or are being stored', [], function () {
    this.set(batcher.heldBytes);
  });
  return batcher;
}

/**
 * Connections of its own, so that no other work of the API delays ingest, and with less patience for locks: one contact that is
 * held for long must not hold up the batch its message travels in.
 */
export function createIngestPool(config: Config, logger: Logger): pg.Pool {
  const size = { ...config, databasePoolSize: maxInFlight };
  return createPool(size, {
    applicationName: 'switchyard-ingest',
    lockTimeoutMs: 1_000,
    hasGenericPlans: true,
    logger,
  });
}

/**
 * What the message holds in memory while it waits: its texts, and an allowance of 1.5 KB for the promise, the request and the
 * reply around it. Attributes and attachments are counted by their longest form only as far as looking at them is cheap.
 */
function estimateBytes({ contact, text, attachments }: IngestItem): number {
  let bytes = 1_500 + 2 * (text?.length ?? 0);
  if (attachments !== undefined) bytes += attachments.length * maxAttachmentBytes;
  if (contact.attributes !== undefined) bytes += Object.keys(contact.attributes).length * maxAttributeBytes;
  return bytes;
}

/** Of each: as the schema of a message allows it. */
const maxAttachmentBytes = 2_560;
const maxAttributeBytes = 1_088;

/** One workspace may have half of it when it is alone: four seconds' worth at 5,000 messages a second. */
const maxQueued = 40_000;
/** Waiting and being stored: small messages are bounded by their number, large ones by this. */
const maxHeldBytes = 64 * 1024 * 1024;
/** A flight of 500 messages of full length would be 16 MiB for PostgreSQL to read at once, and would hold up the short ones. */
const maxFlightBytes = 4 * 1024 * 1024;

/** More transactions at once gain nothing: they wait for each other's commits. */
const maxInFlight = 4;
