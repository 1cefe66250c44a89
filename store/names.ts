import type { Queryable } from './database.ts';

/**
 * Sentences about decisions, with what agents and teams are called now in place of their ids: `agent <id>` becomes `Ada`, `team <id>` becomes
 * `team “Billing”`. An id of nobody in the workspace stays.
 */
export async function withNames(db: Queryable, workspaceId: string, sentences: readonly string[]): Promise<string[]> {
  const ids = sentences.flatMap((sentence) => [...sentence.matchAll(THING)].map(([, , id]) => id!));
  if (ids.length === 0) return [...sentences];
  const { rows } = await db.query<{ id: string; name: string }>({
    name: 'read-names',
    text: `SELECT id, name FROM agents WHERE workspace_id = $1 AND id = ANY($2::uuid[])
           UNION ALL SELECT id, '“' || name || '”' FROM teams WHERE workspace_id = $1 AND id = ANY($2::uuid[])`,
    values: [workspaceId, [...new Set(ids)]],
  });
  const names = new Map(rows.map(({ id, name }) => [id, name]));
  return sentences.map((sentence) =>
    sentence.replaceAll(THING, (as: string, thing: string, id: string) => {
      const name = names.get(id);
      if (name === undefined) return as;
      return thing === 'team' ? `team ${name}` : name;
    }),
  );
}

const THING = /\b([Aa]gent|team) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b/g;
