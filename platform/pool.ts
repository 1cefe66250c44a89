import pg from 'pg';
import type { PoolClient } from 'pg';
import { ConfigError } from './config.ts';
import type { Config } from './config.ts';
import type { Logger } from './logger.ts';

/**
 * A connection pool. Counts and sequences (int8) arrive as numbers. No statement waits longer than 5 s for a lock, unless
 * told otherwise, or runs longer than 30 s, and a caller gets a connection within 10 s or an error: a stuck database must not look like a slow one.
 */
export function createPool(
  config: Pick<Config, 'databaseUrl' | 'databasePoolSize'>,
  { applicationName, logger, lockTimeoutMs = 5_000, hasGenericPlans = false }: PoolOptions,
): pg.Pool {
  if (config.databaseUrl === undefined) {
    throw new ConfigError([{ variable: 'DATABASE_URL', mend: 'is required here; set it' }]);
  }
  // A server that falls silent at this point is given up like one that cannot be connected to; the types do not know of this limit.
  const settings = { text: writeSettings({ lockTimeoutMs, hasGenericPlans }), query_timeout: connectionTimeoutMs };
  const pool = new pg.Pool({
    connectionString: config.databaseUrl,
    max: config.databasePoolSize,
    application_name: applicationName,
    connectionTimeoutMillis: connectionTimeoutMs,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    // Only bites when the server does not answer at all (its machine or the network is gone).
    query_timeout: 40_000,
    // Waited for before anybody gets the connection, which the types do not tell. One that does not take them is ended, and who asked for
    // it gets the error.
    // oxlint-disable-next-line typescript/no-misused-promises
    onConnect: (client) => client.query(settings),
    types: { getTypeParser },
  });
  // Without a listener the loss of an idle connection would end the process. The pool replaces it by itself.
  pool.on('error', (error) => logger?.warn({ err: error }, 'lost an idle database connection'));
  // The pool listens only while a client is idle; the loss of a busy one rejects its query, and must do no more.
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}

const connectionTimeoutMs = 10_000;

/**
 * Set by a statement, not asked for when the connection is made, although that saves its round trip: PgBouncer refuses connections that ask for
 * `lock_timeout`, or keeps it from the server, both by itself and within `options`; and `options` in DATABASE_URL would take the place of ours.
 */
function writeSettings(options: Required<Pick<PoolOptions, 'lockTimeoutMs' | 'hasGenericPlans'>>): string {
  return [
    `SET lock_timeout = ${options.lockTimeoutMs}`,
    'SET statement_timeout = 30000',
    'SET idle_in_transaction_session_timeout = 60000',
    // What is decided under a lock is read after it.
    `SET default_transaction_isolation = 'read committed'`,
    ...(options.hasGenericPlans ? ['SET plan_cache_mode = force_generic_plan', 'SET enable_seqscan = off'] : []),
  ].join('; ');
}

/**
 * Runs `fn` in one transaction: commits what it did when it returns, rolls back when it throws. A connection whose
 * state is unknown afterwards is destroyed instead of given to the next caller.
 *
 * BEGIN travels alone. Sent together with the first statement, and COMMIT with the last (`pipeline` of node-postgres), a transaction of a lock and an
 * update cost 0.25–0.63 ms of wall time where it cost 0.38–0.94 with four connections, but 1.8–1.9 where it cost 1.0–1.2 with one, and no
 * less CPU time there; and an error at BEGIN would let the first statement take effect by itself. What matters is written as one statement instead.
 */
export async function withTransaction<T>(
  pool: Pick<pg.Pool, 'connect'>,
  fn: (tx: PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query('BEGIN');
    const result = await fn(client);
    const { command } = await client.query('COMMIT');
    // PostgreSQL answers COMMIT with ROLLBACK, and no error, when a statement failed and `fn` swallowed that.
    if (command !== 'COMMIT') throw new Error('The transaction was rolled back: an error inside it was swallowed.');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch((rollbackError: Error) => {
      broken = rollbackError;
    });
    throw error;
  } finally {
    client.release(broken);
  }
}

/**
 * Runs `fn` again when PostgreSQL gave up on a serialization failure, a deadlock or a lock timeout: in all three the whole
 * transaction was undone, so `fn` must contain the whole transaction. At most `attempts` runs, then the last error.
 */
export async function retryOnConflict<T>(fn: () => Promise<T>, attempts = 5): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await fn();
    } catch (error) {
      if (attempt >= attempts || !isConflict(error)) throw error;
      // Full jitter: those who collided must not come back together.
      const backoffMs = Math.random() * Math.min(10 * 2 ** attempt, 200);
      await new Promise((resolve) => setTimeout(resolve, backoffMs));
    }
  }
}

/** Whether the transaction lost against another one and may be run again. */
export function isConflict(error: unknown): boolean {
  return conflictStates.has(errorCode(error));
}

/** Whether what it needed was held by others for as long as it may wait. */
export function isLockTimeout(error: unknown): boolean {
  return errorCode(error) === '55P03';
}

/** Whether the database could not be reached or went away, so that trying other rows at once is pointless. */
export function isConnectionFailure(error: unknown): boolean {
  const code = errorCode(error);
  if (code.startsWith('08') || connectionFailureCodes.has(code)) return true;
  return error instanceof Error && connectionFailureMessage.test(error.message);
}

/**
 * Whether the statement may well succeed later: the database is away, out of resources, stopping or read-only for a failover, or
 * others held the locks. SQLSTATE classes 53 (insufficient resources), 57 (operator intervention), 58 (system error) besides.
 */
export function isDatabaseUnavailable(error: unknown): boolean {
  return isConnectionFailure(error) || isConflict(error) || /^(?:53|57|58)...$/.test(errorCode(error));
}

/**
 * Whether one of several rows may be to blame, so that it is worth trying each by itself: it is not while the database is away, but
 * locks that others hold may be in the way of that row alone.
 */
export function mayBeOneRowsFault(error: unknown): boolean {
  return isConflict(error) || !isDatabaseUnavailable(error);
}

export interface PoolOptions {
  /** Shown by PostgreSQL in pg_stat_activity. */
  readonly applicationName: string;
  readonly lockTimeoutMs?: number;
  /**
   * Every named statement is planned once a connection. Left to itself, PostgreSQL plans a statement anew at its first five executions, and one that
   * takes lists at each: `npm run bench -- lifecycle --rate 30` spent 15.3 CPU-ms a conversation in PostgreSQL with that, and 12.9 without. For
   * connections on which all statements have good plans whatever their parameters are; test/store/plans.test.ts looks at these
   * plans. No table is read from end to end where an index will do: planned while a house had twenty contacts and kept, that took 2.2 s for the
   * sixteenth batch of 500 new ones, which takes 50 ms.
   */
  readonly hasGenericPlans?: boolean;
  readonly logger?: Logger;
}

/** Whatever runs one statement: the pool, or a client inside a transaction. */
export type Queryable = Pick<pg.ClientBase, 'query'>;

const getTypeParser = (oid: number, format?: 'text' | 'binary') =>
  (format === 'binary' ? undefined : textParsers.get(oid)) ?? pg.types.getTypeParser(oid, format);

// pg-types has a parser for int8[], but its list of names leaves the oid out.
const int8ArrayOid: number = 1016;
const parseTextArray: (text: string) => (string | null)[] = pg.types.getTypeParser(int8ArrayOid, 'text');
const textParsers = new Map<number, (text: string) => unknown>([
  [pg.types.builtins.INT8, parseInt8],
  [int8ArrayOid, parseInt8Array],
]);

function parseInt8Array(text: string): (number | null)[] {
  return parseTextArray(text).map((item) => (item === null ? null : parseInt8(item)));
}

function parseInt8(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`The int8 ${text} is no safe integer.`);
  return value;
}

function errorCode(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : '';
}

/** serialization_failure, deadlock_detected, lock_not_available */
const conflictStates = new Set(['40001', '40P01', '55P03']);

/**
 * admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections, read_only_sql_transaction (during a failover this is a standby),
 * idle_in_transaction_session_timeout; then what sockets and resolvers report
 */
const connectionFailureCodes = new Set(
  '57P01 57P02 57P03 53300 25006 25P03 ECONNREFUSED ECONNRESET EPIPE ETIMEDOUT EHOSTUNREACH ENETUNREACH ENOTFOUND EAI_AGAIN'.split(
    ' ',
  ),
);

/** node-postgres gives these no code. */
const connectionFailureMessage =
  /^(Connection terminated|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error|Client was closed)/;
