import type pg from 'pg';
import type { Metrics } from './metrics.ts';

/** What the database connections of this process do. */
export function measurePool(pool: pg.Pool, metrics: Metrics): void {
  metrics.gauge('database_connections', 'Database connections of this process, by state', ['state'], function () {
    this.set({ state: 'idle' }, pool.idleCount);
    this.set({ state: 'busy' }, pool.totalCount - pool.idleCount);
  });
  metrics.gauge('database_waiting', 'Callers that wait for a database connection', [], function () {
    this.set(pool.waitingCount);
  });
}
