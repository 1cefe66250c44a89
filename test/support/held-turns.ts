/**
 * Turns of flows, held by the database at their commit: all of one is written, and nobody sees it. So a worker can be killed in the middle of it.
 * PostgreSQL does not notice that before it answers: a turn that is let go then is committed without its worker.
 */
import type pg from 'pg';
import { eventually } from './eventually.ts';

export interface HeldTurn {
  readonly conversationId: string;
  /** Of the connection that writes it, alone or with others. */
  readonly pid: number;
  /** Of the transaction. */
  readonly xid: string;
}

export interface TurnHold {
  read(): Promise<HeldTurn[]>;
  /** Cuts the connection, which undoes its turns. */
  undo(pid: number): Promise<void>;
  /** Resolves when somebody waits for what that connection has locked. */
  awaitRival(pid: number): Promise<void>;
  /** Those that come to their end from now on are not held. */
  letOthersPass(): Promise<void>;
  /** Lets go those of a workspace, and holds no more of them. */
  release(workspaceId: string): Promise<void>;
}

/** Once for a database. A turn is what changes the version; an answer that comes in changes the row as well. The worker would give up waiting for a lock after half a second; here it has no limit. */
export async function installTurnHold(pool: pg.Pool): Promise<void> {
  await pool.query(`
    CREATE TABLE held_workspaces (id uuid PRIMARY KEY);
    CREATE FUNCTION wait_while_held() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$
    BEGIN
      IF EXISTS (SELECT FROM held_workspaces WHERE id = NEW.workspace_id) THEN
        PERFORM pg_advisory_xact_lock_shared(hashtext(NEW.workspace_id::text));
      END IF;
      RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER wait_while_held AFTER UPDATE ON conversations DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.state = 'enriching' AND OLD.version <> NEW.version) EXECUTE FUNCTION wait_while_held()`);
}

/** Holds the turns of these workspaces, and lets them go when the task has ended. */
export async function withHeldTurns(
  pool: pg.Pool,
  workspaceIds: readonly string[],
  task: (hold: TurnHold) => Promise<void>,
): Promise<void> {
  const holder = await pool.connect();
  try {
    await holder.query('SELECT pg_advisory_lock(hashtext(id)) FROM unnest($1::text[]) AS id', [workspaceIds]);
    await holder.query('INSERT INTO held_workspaces SELECT unnest($1::uuid[])', [workspaceIds]);
    await task(createTurnHold(pool, holder));
  } finally {
    await pool.query('DELETE FROM held_workspaces');
    // The locks end with their session.
    holder.release(true);
  }
}

function createTurnHold(pool: pg.Pool, holder: pg.PoolClient): TurnHold {
  const read = () => readHeldTurns(pool);
  return {
    read,
    async undo(pid) {
      await pool.query('SELECT pg_terminate_backend($1)', [pid]);
      await eventually('the turns are undone', async () => (await read()).every((turn) => turn.pid !== pid));
    },
    async awaitRival(pid) {
      const rivals = () => pool.query('SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))', [pid]);
      await eventually('somebody waits for the turn', async () => (await rivals()).rows.length > 0);
    },
    async letOthersPass() {
      await pool.query('DELETE FROM held_workspaces');
    },
    async release(workspaceId) {
      await pool.query('DELETE FROM held_workspaces WHERE id = $1', [workspaceId]);
      await holder.query('SELECT pg_advisory_unlock(hashtext($1))', [workspaceId]);
    },
  };
}

/** A row names the transaction that is writing its next version, and PostgreSQL knows whose that is. */
async function readHeldTurns(pool: pg.Pool): Promise<HeldTurn[]> {
  const { rows } = await pool.query<HeldTurn>(
    `SELECT v.id AS "conversationId", a.pid, a.backend_xid::text AS xid
     FROM conversations v JOIN pg_stat_activity a ON a.backend_xid = v.xmax
     WHERE a.datname = current_database() AND a.wait_event_type = 'Lock' AND a.wait_event = 'advisory'
     ORDER BY v.id`,
  );
  return rows;
}
