/** What agents say a conversation was about when they close it. Closed conversations keep the name, whatever becomes of the category. */
import type pg from 'pg';
import { newId } from '../platform/id.ts';
import { transact, type Queryable } from './database.ts';

export interface CloseCategory {
  readonly id: string;
  readonly name: string;
  readonly createdAt: Date;
}

/** People choose from them in one list; and every close reads them. */
export const maxCloseCategories = 500;

export async function createCloseCategory(
  pool: pg.Pool,
  { workspaceId, name }: { workspaceId: string; name: string },
): Promise<{ kind: 'created'; category: CloseCategory } | { kind: 'name_taken'; name: string } | { kind: 'too_many' }> {
  return transact(pool, async (tx) => {
    // One at a time in a workspace, or two could both be the last one that there is room for.
    await tx.query('SELECT FROM workspaces WHERE id = $1 FOR NO KEY UPDATE', [workspaceId]);
    const { rows: existing } = await tx.query<{ name: string }>(
      'SELECT name FROM close_categories WHERE workspace_id = $1',
      [workspaceId],
    );
    // Compared here, as what the database takes for the lower case of a letter depends on how it was set up.
    const taken = existing.find((category) => category.name.toLowerCase() === name.toLowerCase());
    if (taken !== undefined) return { kind: 'name_taken', name: taken.name };
    if (existing.length >= maxCloseCategories) return { kind: 'too_many' };
    const { rows } = await tx.query<CloseCategory>(
      `INSERT INTO close_categories (workspace_id, id, name) VALUES ($1, $2, $3)
       RETURNING id, name, created_at AS "createdAt"`,
      [workspaceId, newId(), name],
    );
    return { kind: 'created', category: rows[0]! };
  });
}

/** In the order in which they were made. */
export async function listCloseCategories(
  db: Queryable,
  { workspaceId, after, limit }: { workspaceId: string; after: string | null; limit: number },
): Promise<CloseCategory[]> {
  const { rows } = await db.query<CloseCategory>({
    name: 'list-close-categories',
    text: `SELECT id, name, created_at AS "createdAt" FROM close_categories
           WHERE workspace_id = $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3`,
    values: [workspaceId, after, limit],
  });
  return rows;
}

export async function deleteCloseCategory(
  db: Queryable,
  { workspaceId, categoryId }: { workspaceId: string; categoryId: string },
): Promise<{ kind: 'deleted' | 'not_found' }> {
  const { rowCount } = await db.query('DELETE FROM close_categories WHERE workspace_id = $1 AND id = $2', [
    workspaceId,
    categoryId,
  ]);
  return { kind: rowCount === 1 ? 'deleted' : 'not_found' };
}
