import type { Queryable } from './database.ts';

/** Whether the database takes writes: a standby, or a primary that was made read-only, answers reads and refuses messages. */
export async function isWritable(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ writable: boolean }>({
    name: 'read-writability',
    text: `SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS writable`,
  });
  return rows[0]?.writable === true;
}
