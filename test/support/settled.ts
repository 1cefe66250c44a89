import type pg from 'pg';
import { eventually } from './eventually.ts';

/** Resolves when nothing is under way: no message pending, no flow running, no close to carry out, and the outbox empty. */
export async function waitUntilSettled({ pool, workspaceId }: Workspace): Promise<void> {
  const timeoutMs = 120_000;
  let left: UnderWay | undefined;
  try {
    await eventually(
      'settled',
      async () => {
        left = await readUnderWay(pool, workspaceId);
        return Object.values(left).every((count) => count === 0);
      },
      { timeoutMs, everyMs: 50 },
    );
  } catch (error) {
    throw new Error(`not settled within ${timeoutMs} ms: ${JSON.stringify(left)}`, { cause: error });
  }
}

/** Resolves when nothing is under way and all that went out has arrived: what came outside by then is all that came. */
export async function waitUntilAllSent({ pool, workspaceId }: Workspace): Promise<void> {
  await waitUntilSettled({ pool, workspaceId });
  await eventually('nothing is left to be sent', async () => {
    const { rows } = await pool.query(
      'SELECT kind, state, last_error FROM deliveries WHERE workspace_id = $1 LIMIT 1',
      [workspaceId],
    );
    if (rows.length > 0) throw new Error(`left: ${JSON.stringify(rows)}`);
    return true;
  });
}

interface Workspace {
  readonly pool: pg.Pool;
  readonly workspaceId: string;
}

type UnderWay = Readonly<Record<'pending' | 'running' | 'closing' | 'outbox', number>>;

/** One statement, hence one moment. */
async function readUnderWay(pool: pg.Pool, workspaceId: string): Promise<UnderWay> {
  const { rows } = await pool.query<UnderWay>(
    `SELECT (SELECT count(*) FROM messages WHERE workspace_id = $1 AND conversation_id IS NULL) AS pending,
            (SELECT count(*) FROM conversations WHERE workspace_id = $1 AND state IN ('enriching', 'routing')) AS running,
            (SELECT count(*) FROM conversations
             WHERE workspace_id = $1 AND close_requested_at IS NOT NULL AND closed_at IS NULL) AS closing,
            (SELECT count(*) FROM outbox WHERE workspace_id = $1) AS outbox`,
    [workspaceId],
  );
  return rows[0]!;
}
