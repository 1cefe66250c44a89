import type pg from 'pg';
import type { Metrics } from './metrics.ts';

/** What the database connections of this process do, by the pool's name. */
export function measurePools(pools: Readonly<Record<string, pg.Pool>>, metrics: Metrics): void {
  metrics.gauge(
    'database_connections',
    'Database connections of this process, by pool and state',
    ['pool', 'state'],
    function () {
      for (const [name, pool] of Object.entries(pools)) {
        this.set({ pool: name, state: 'idle' }, pool.idleCount);
        this.set({ pool: name, state: 'busy' }, pool.totalCount - pool.idleCount);
      }
    },
  );
  metrics.gauge('database_waiting', 'Callers that wait for a database connection, by pool', ['pool'], function () {
    for (const [name, pool] of Object.entries(pools)) this.set({ pool: name }, pool.waitingCount);
  });
}
