/** A team whose conversations go quiet after ten minutes, and short ways to make that happen. */
import type pg from 'pg';
import { newId } from '../../platform/id.ts';
import { assignManually, type AssignTarget } from '../../store/assignment.ts';
import { goQuiet, wakeConversation } from '../../store/quiet.ts';
import { createStage, findImbalances } from './stage.ts';

export type QuietStage = Awaited<ReturnType<typeof createQuietStage>>;

export interface Opened {
  readonly contact: string;
  readonly contactId: string;
  readonly conversationId: string;
}

export async function createQuietStage(pool: pg.Pool) {
  const stage = await createStage(pool);
  const { workspaceId } = stage;
  const teamId = await stage.addTeam('least_loaded', { quietMinutes: 10 });

  async function open(channel?: string): Promise<Opened> {
    const contact = newId();
    return { contact, ...(await stage.open(contact, channel === undefined ? { teamId } : { teamId, channel })) };
  }

  const keyOf = ({ contactId, conversationId }: Opened) => ({ workspaceId, contactId, conversationId });

  /** As if all that has happened had happened so much earlier. */
  async function age({ conversationId }: Opened, minutes: number): Promise<void> {
    const values = [conversationId, minutes];
    await pool.query(
      `UPDATE messages SET received_at = received_at - $2 * interval '1 min' WHERE conversation_id = $1`,
      values,
    );
    await pool.query(
      `UPDATE conversations
       SET assigned_at = assigned_at - $2 * interval '1 min', quiet_since = quiet_since - $2 * interval '1 min'
       WHERE id = $1`,
      values,
    );
  }

  const quiet = (opened: Opened) => goQuiet(pool, keyOf(opened));
  const wake = (opened: Opened) => wakeConversation(pool, keyOf(opened));

  /** One that its agent has, and in which nobody has written for long enough. */
  async function openQuiet(channel?: string): Promise<Opened> {
    const opened = await open(channel);
    await age(opened, 11);
    if (!(await quiet(opened))) throw new Error('it did not go quiet');
    return opened;
  }

  /** What its contact's rows in the outbox wake, without the nudge that opened it. */
  async function wakesOf({ contactId }: Opened): Promise<(string | null)[]> {
    const { rows } = await pool.query<{ wakes: string | null }>(
      `SELECT wake_conversation_id AS wakes FROM outbox
       WHERE contact_id = $1 AND id > (SELECT min(id) FROM outbox WHERE contact_id = $1) ORDER BY id`,
      [contactId],
    );
    return rows.map((row) => row.wakes);
  }

  return {
    ...stage,
    teamId,
    open,
    openQuiet,
    keyOf,
    age,
    quiet,
    wake,
    wakesOf,
    assign: ({ conversationId }: Opened, to: AssignTarget) =>
      assignManually(pool, { workspaceId, conversationId, to, byAgentId: null }),
    imbalances: () => findImbalances(pool, workspaceId),
    countEvents: async ({ conversationId }: Opened, type: string): Promise<number> =>
      (await stage.eventsOf(conversationId)).filter((event) => event === type).length,
    close: ({ contactId, conversationId }: Opened) => stage.close({ contactId, conversationId }),
  };
}
