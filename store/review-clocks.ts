/**
 * A rule that clocks depend on was changed: `review_at` of the team or of the workspace is set, and the clocks of all that is assigned there
 * are wound anew, page by page, each page in transactions of its own. The mark goes when all pages are done, unless the rules changed again
 * meanwhile; whoever dies in between leaves it to the next, who begins anew.
 *
 * A team's rules are read under its lock, so whatever was wound by the old ones is there to be seen. A workspace's are not: a transaction that
 * has read the old ones may commit after its page was done. Therefore a workspace's mark goes only after a round that began `reviewGraceMs` after the
 * change, when no such transaction can run any more.
 */
import type pg from 'pg';
import { groupBy } from '../platform/group-by.ts';
import { isDatabaseUnavailable } from '../platform/pool.ts';
import { lockAssigned, windAssigned, writeWound, type Assigned } from './assigned-clocks.ts';
import { transact, type Queryable } from './database.ts';
import { settleDue } from './due-clocks.ts';
import { lockMatching, type MatchingLock } from './locks.ts';

const pageRows = 500;
export const reviewGraceMs = 10_000;

export interface Review {
  readonly workspaceId: string;
  /** Null: the rules of the workspace. */
  readonly teamId: string | null;
  /** As the database writes it, to the microsecond. */
  readonly reviewAt: string;
  readonly ageMs: number;
}

export async function readReviews(db: Queryable, { maxRows }: { maxRows: number }): Promise<Review[]> {
  const { rows } = await db.query<Review>({
    name: 'read-reviews',
    text: `SELECT "workspaceId", "teamId", review_at::text AS "reviewAt",
                  extract(epoch FROM now() - review_at)::float8 * 1000 AS "ageMs"
           FROM (
             SELECT id AS "workspaceId", NULL::uuid AS "teamId", review_at FROM workspaces WHERE review_at IS NOT NULL
             UNION ALL
             SELECT workspace_id, id, review_at FROM teams WHERE review_at IS NOT NULL
           ) marked
           ORDER BY review_at LIMIT $1`,
    values: [maxRows],
  });
  return rows;
}

/** Whether a round that begins now may take the mark away. */
export const isLastRound = ({ teamId, ageMs }: Review): boolean => teamId !== null || ageMs >= reviewGraceMs;

export interface ReviewedPage {
  /** Where it ended; null when it was the last. */
  readonly after: string | null;
  /** What could not be wound, and is left as it is so that it does not keep the others from the changed rules. */
  readonly skipped: readonly { readonly conversationId: string; readonly error: unknown }[];
}

/**
 * Winds the clocks of one page anew.
 *
 * @param after where the page before ended; null at first
 */
export async function reviewPage(pool: pg.Pool, review: Review, after: string | null): Promise<ReviewedPage> {
  const page = await readPage(pool, review, after);
  const skipped = [];
  for (const rows of groupBy(page, (row) => row.teamId).values())
    skipped.push(...(await reviewRows(pool, review.workspaceId, rows)));
  return { after: page.length < pageRows ? null : page.at(-1)!.conversationId, skipped };
}

/** Of one team together. Where that fails, one by one; the database's own troubles are not theirs, and end the page. */
async function reviewRows(
  pool: pg.Pool,
  workspaceId: string,
  rows: readonly PageRow[],
): Promise<ReviewedPage['skipped']> {
  const [first] = rows as [PageRow];
  const { conversationId, teamId } = first;
  try {
    if (teamId !== null) await reviewTeam(pool, { workspaceId, teamId }, rows);
    // Given to an agent by hand when it was opened: there is no team whose lock keeps it still.
    else
      for (const row of rows)
        await settleDue(pool, { ...row, workspaceId, kind: 'review', needsContact: false, lateSeconds: 0 });
    return [];
  } catch (error) {
    if (isDatabaseUnavailable(error)) throw error;
    if (rows.length === 1) return [{ conversationId, error }];
    const skipped = [];
    for (const row of rows) skipped.push(...(await reviewRows(pool, workspaceId, [row])));
    return skipped;
  }
}

export async function finishReview(db: Queryable, { workspaceId, teamId, reviewAt }: Review): Promise<void> {
  if (teamId === null) {
    await db.query({
      name: 'finish-workspace-review',
      text: 'UPDATE workspaces SET review_at = NULL WHERE id = $1 AND review_at = $2',
      values: [workspaceId, reviewAt],
    });
  } else {
    await db.query({
      name: 'finish-team-review',
      text: 'UPDATE teams SET review_at = NULL WHERE workspace_id = $1 AND id = $2 AND review_at = $3',
      values: [workspaceId, teamId, reviewAt],
    });
  }
}

interface PageRow {
  readonly conversationId: string;
  readonly contactId: string;
  readonly teamId: string | null;
}

async function readPage(db: Queryable, { workspaceId, teamId }: Review, after: string | null): Promise<PageRow[]> {
  // By the index of what is open in a state, or in a team.
  const ofTeam = teamId === null ? 'true' : 'team_id = $4';
  const { rows } = await db.query<PageRow>({
    name: teamId === null ? 'read-review-page-of-workspace' : 'read-review-page-of-team',
    text: `SELECT id AS "conversationId", contact_id AS "contactId", team_id AS "teamId" FROM conversations
           WHERE workspace_id = $1 AND ${ofTeam} AND state = 'assigned' AND closed_at IS NULL
             AND id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
           ORDER BY id LIMIT $3`,
    values: [workspaceId, after, pageRows, ...(teamId === null ? [] : [teamId])],
  });
  return rows;
}

async function reviewTeam(
  pool: pg.Pool,
  { workspaceId, teamId }: { workspaceId: string; teamId: string },
  rows: readonly PageRow[],
): Promise<void> {
  const ids = rows.map(({ conversationId }) => conversationId);
  await transact(pool, async (tx) => {
    const lock = await lockMatching(tx, workspaceId, { teamIds: [teamId] });
    const assigned = await planReturns(tx, lock, teamId, await lockAssigned(tx, lock, teamId, ids));
    await writeWound(tx, workspaceId, await windAssigned(tx, lock, teamId, assigned));
  });
}

/**
 * What an agent who is offline had when it went is returned by the rule as it is now; what a person gave it afterwards stays. Who has them need
 * not be of the team that is held, so this is a statement of its own: its snapshot is taken after the conversations were locked. Whoever
 * goes offline since then waits for them and plans anew; a return planned for one who has just come back is dropped when it is due.
 */
async function planReturns(
  tx: Queryable,
  { workspaceId, teams }: MatchingLock,
  teamId: string,
  conversations: readonly Assigned[],
): Promise<Assigned[]> {
  const rule = teams.get(teamId)?.offline;
  if (rule?.then !== 'return') return conversations.map((conversation) => ({ ...conversation, returnAt: null }));
  const { rows } = await tx.query<{ conversationId: string; returnAt: Date }>({
    name: 'read-returns-by-rule',
    text: `SELECT v.id AS "conversationId", p.changed_at + coalesce($3::float8, 0) * interval '1 s' AS "returnAt"
           FROM conversations v
           JOIN agent_presence p ON p.workspace_id = v.workspace_id AND p.agent_id = v.agent_id
           WHERE v.workspace_id = $1 AND v.id = ANY($2::uuid[]) AND p.status = 'offline'
             AND (v.return_at IS NOT NULL OR v.assigned_at <= p.changed_at)`,
    values: [workspaceId, conversations.map(({ conversationId }) => conversationId), rule.graceSeconds],
  });
  const returns = new Map(rows.map((row) => [row.conversationId, row.returnAt]));
  return conversations.map((conversation) => ({
    ...conversation,
    returnAt: returns.get(conversation.conversationId) ?? null,
  }));
}
