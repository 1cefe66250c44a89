import type pg from 'pg';
import type { Config } from '../platform/config.ts';
import type { Logger } from '../platform/logger.ts';
import type { Metrics } from '../platform/metrics.ts';
import type { MicroBatcher } from '../platform/micro-batcher.ts';
import type { EventFeed } from '../store/events.ts';
import type { IngestItem, IngestResult } from '../store/ingest.ts';
import type { KeyCache } from './key-cache.ts';

/** What the routes work with. The caller of `buildApp` makes it, and closes it after the app. */
export interface ApiDeps {
  readonly config: Config;
  readonly pool: pg.Pool;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly ingest: MicroBatcher<IngestItem, IngestResult>;
  readonly feed: EventFeed;
  readonly keys: KeyCache;
}
