import type { Queryable } from '../../platform/pool.ts';

/** Those that PostgreSQL had to break in this database so far. Connections tell of theirs when they end at the latest: end their pools before. */
export async function countDeadlocks(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ deadlocks: number }>(
    'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
  );
  return rows[0]!.deadlocks;
}
