import type { Queryable } from './database.ts';

/** Rules of a whole workspace. */
export interface WorkspaceSettings {
  /** Whether agents tell category and summary when they close. */
  readonly closeNotes: CloseNotes;
  /** Assigned conversations without any message for so long are closed; null: never. */
  readonly inactivityMinutes: number | null;
  /** A contact who writes so soon after the close prefers the same agent; null: not. */
  readonly reopenMinutes: number | null;
  /** How long an agent who sends heartbeats may be silent before it is set away. */
  readonly heartbeatExpirySeconds: number;
}

export type CloseNotes = (typeof closeNotes)[number];
export const closeNotes = ['off', 'optional', 'category_required', 'both_required'] as const;

export const defaultWorkspaceSettings: WorkspaceSettings = {
  closeNotes: 'optional',
  inactivityMinutes: null,
  reopenMinutes: null,
  heartbeatExpirySeconds: 60,
};

/** What was never set has its default. */
export const withDefaultSettings = (stored: Partial<WorkspaceSettings>): WorkspaceSettings => ({
  ...defaultWorkspaceSettings,
  ...stored,
});

export interface Workspace extends WorkspaceSettings {
  readonly id: string;
  readonly name: string;
}

export async function getWorkspace(db: Queryable, workspaceId: string): Promise<Workspace> {
  const { rows } = await db.query<WorkspaceRow>({
    name: 'get-workspace',
    text: 'SELECT id, name, settings FROM workspaces WHERE id = $1',
    values: [workspaceId],
  });
  return toWorkspace(rows[0]!);
}

/**
 * Only the settings named are replaced. They are read with every decision and every close, so they hold for the next one; another time
 * of inactivity also for the conversations that are open, whose clocks are set anew by whoever keeps them.
 */
export async function updateWorkspaceSettings(
  db: Queryable,
  { workspaceId, name, settings }: { workspaceId: string; name?: string; settings: Partial<WorkspaceSettings> },
): Promise<Workspace> {
  const { rows } = await db.query<WorkspaceRow>({
    name: 'update-workspace-settings',
    text: `UPDATE workspaces
           SET name = coalesce($2, name), settings = settings || $3::jsonb,
               review_at = CASE WHEN (settings || $3::jsonb) ->> 'inactivityMinutes'
                                     IS DISTINCT FROM settings ->> 'inactivityMinutes'
                                THEN clock_timestamp() ELSE review_at END
           WHERE id = $1
           RETURNING id, name, settings`,
    values: [workspaceId, name ?? null, JSON.stringify(settings)],
  });
  return toWorkspace(rows[0]!);
}

interface WorkspaceRow {
  readonly id: string;
  readonly name: string;
  readonly settings: Partial<WorkspaceSettings>;
}

const toWorkspace = ({ settings, ...row }: WorkspaceRow): Workspace => ({ ...withDefaultSettings(settings), ...row });
