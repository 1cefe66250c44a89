/** What an agent must, may or must not note when closing: the workspace's rule, and its list of categories. */
import { closeNotes, defaultWorkspaceSettings, withDefaultSettings, type WorkspaceSettings } from './settings.ts';

export interface GivenNotes {
  readonly category?: string;
  readonly summary?: string;
}

/** Why one of the notes does not fit. */
export interface NoteFault {
  readonly field: 'category' | 'summary';
  readonly fault: 'not_wanted' | 'missing' | 'unknown';
}

export interface NoteRules {
  readonly notes: WorkspaceSettings['closeNotes'];
  /** The first by name; none when the workspace leaves the choice of words to its agents. */
  readonly categories: readonly string[];
  readonly categoryCount: number;
  /** The name of the category that was given, as it is in the list; null when it is not there. Upper and lower case count as the same. */
  readonly category: string | null;
}

/** Blank text counts as left out. */
export function findNoteFaults(rules: NoteRules, { category, summary }: GivenNotes): NoteFault[] {
  const { notes, categoryCount } = rules;
  const given = { category: !isBlank(category), summary: !isBlank(summary) };
  const faults: NoteFault[] = [];
  for (const field of ['category', 'summary'] as const) {
    if (notes === 'off' && given[field]) faults.push({ field, fault: 'not_wanted' });
    if (requiredFields[notes].has(field) && !given[field]) faults.push({ field, fault: 'missing' });
  }
  const isOneOfThem = categoryCount === 0 || rules.category !== null || category === undefined;
  if (!isOneOfThem && !faults.some(({ field }) => field === 'category')) {
    faults.push({ field: 'category', fault: 'unknown' });
  }
  return faults;
}

/** Under which of the rules these notes have no fault, but for a category that must be in the list: for a statement that has to judge by itself. */
export const findFittingRules = (given: GivenNotes): WorkspaceSettings['closeNotes'][] =>
  closeNotes.filter((notes) => findNoteFaults({ ...anyCategory, notes }, given).length === 0);

const anyCategory = { categories: [], categoryCount: 0, category: null };

/** SQL for whether the rule that a workspace has set is among `findFittingRules`. */
export const isRuleAmongSql = (settings: string, fittingRules: string): string =>
  `coalesce(${settings} ->> 'closeNotes', '${defaultWorkspaceSettings.closeNotes}') = ANY ((SELECT ${fittingRules}::text[])::text[])`;

const isBlank = (text: string | undefined): boolean => text === undefined || text.trim() === '';

const requiredFields: Record<WorkspaceSettings['closeNotes'], ReadonlySet<NoteFault['field']>> = {
  off: new Set(),
  optional: new Set(),
  category_required: new Set(['category']),
  both_required: new Set(['category', 'summary']),
};

/** As many as a reader takes in; the whole list has a call of its own. */
export const maxNamedCategories = 20;

export interface NoteRulesRow extends Omit<NoteRules, 'notes'> {
  readonly settings: Partial<WorkspaceSettings>;
}

/** SQL for the one row of a workspace's rules. Parameters: the workspace, the category given or null, how many categories to name. */
export const noteRulesSql = `
  SELECT w.settings, coalesce(c.names[1:$3], '{}') AS categories, coalesce(cardinality(c.names), 0) AS "categoryCount",
         (SELECT name FROM close_categories
          WHERE workspace_id = $1 AND lower(name) = lower($2::text) ORDER BY name = $2 DESC LIMIT 1) AS category
  FROM workspaces w
  CROSS JOIN LATERAL (SELECT array_agg(name ORDER BY name) AS names FROM close_categories
                      WHERE workspace_id = w.id) c
  WHERE w.id = $1`;

export const toNoteRules = ({ settings, ...rules }: NoteRulesRow): NoteRules => ({
  ...rules,
  notes: withDefaultSettings(settings).closeNotes,
});
