/** Waiting conversations by the thousand, as the store would have left them: for tests of what only reads queues. */
import type pg from 'pg';
import { newId } from '../../platform/id.ts';
import { withTransaction } from '../../platform/pool.ts';
import type { SkillRequirement } from '../../routing/requirements.ts';
import { queueKeyOf } from '../../store/queue-key.ts';

export interface WaitingRow {
  readonly priority?: number;
  readonly slaSeconds?: number | null;
  readonly waitedSeconds?: number;
  readonly units?: number;
  readonly channel?: string | null;
  readonly skills?: readonly SkillRequirement[];
  readonly passedOver?: readonly string[];
  readonly offeredTo?: string;
}

/** @returns the conversations' ids, in the order of the rows */
export async function insertWaiting(
  pool: pg.Pool,
  { workspaceId, teamId }: { workspaceId: string; teamId: string },
  rows: readonly WaitingRow[],
): Promise<string[]> {
  const stored = rows.map((row) => {
    const {
      priority = 0,
      slaSeconds = null,
      waitedSeconds = 0,
      units = 1,
      channel = 'web',
      skills = [],
      passedOver = [],
    } = row;
    const queueKey = queueKeyOf({ skills, units, channel, passedOver, slaSeconds });
    const requirements = { skills, rings: [] };
    const ids = { id: newId(), contactId: newId(), offeredTo: row.offeredTo ?? null };
    return { ...ids, priority, slaSeconds, waitedSeconds, units, channel, requirements, passedOver, queueKey };
  });
  await insertUnchecked(
    pool,
    `WITH given AS MATERIALIZED (
       SELECT * FROM jsonb_to_recordset($3) AS row (
         id uuid, "contactId" uuid, priority int, "slaSeconds" int, "waitedSeconds" float8, units int, channel text, requirements jsonb,
         "passedOver" uuid[], "queueKey" text, "offeredTo" uuid)
     ), contact AS (
       INSERT INTO contacts (workspace_id, id) SELECT $1, "contactId" FROM given
     )
     INSERT INTO conversations (
       workspace_id, team_id, id, contact_id, state, source, priority, sla_seconds, units, channel, requirements, passed_over, queue_key,
       routed_at, waiting_since, queued_at, offered_agent_id, offer_expires_at)
     SELECT $1, $2, id, "contactId", 'waiting', 'contact', priority, "slaSeconds", units, channel, requirements, "passedOver", "queueKey",
            now(), now() - "waitedSeconds" * interval '1 s', now(), "offeredTo",
            CASE WHEN "offeredTo" IS NOT NULL THEN now() + interval '1 hour' END
     FROM given`,
    [workspaceId, teamId, JSON.stringify(stored)],
  );
  return stored.map((row) => row.id);
}

/** Foreign keys are not checked, which for tens of thousands of rows would take most of the time. */
export async function insertUnchecked(pool: pg.Pool, text: string, values: unknown[]): Promise<void> {
  await withTransaction(pool, async (tx) => {
    await tx.query('SET LOCAL session_replication_role = replica');
    await tx.query(text, values);
  });
}
