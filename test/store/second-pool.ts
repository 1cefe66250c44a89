import type pg from 'pg';
import { loadConfig } from '../../platform/config.ts';
import { createPool } from '../../platform/pool.ts';
import type { TestDatabase } from '../support/database.ts';

/** Connections as another process has them. The caller ends the pool. */
export const connectAnother = (database: TestDatabase): pg.Pool =>
  createPool(loadConfig({ DATABASE_URL: database.url, DATABASE_POOL_SIZE: '10' }), { applicationName: 'another' });
