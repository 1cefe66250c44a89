/** A workspace with people in it, for tests of the store: short ways to write, to open, and to look. */
import type pg from 'pg';
import { newId } from '../../platform/id.ts';
import type { Strategy } from '../../routing/matching.ts';
import { createAgent, setPresence } from '../../store/agents.ts';
import { assignRouted } from '../../store/assignment.ts';
import { createChannel } from '../../store/channels.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { ingestMessages, type AcceptedMessage, type IngestItem } from '../../store/ingest.ts';
import { openForContact } from '../../store/opening.ts';
import { createTeam } from '../../store/teams.ts';
import { createWorkspace } from '../../store/workspaces.ts';

export type Stage = Awaited<ReturnType<typeof createStage>>;

export async function createStage(pool: pg.Pool) {
  const { workspaceId, defaultTeamId } = await createWorkspace(pool, { name: 'Stage' });
  await createChannel(pool, { workspaceId, key: 'web', name: 'Web' });

  const itemOf = (contact: string, more: Partial<IngestItem> = {}): IngestItem => ({
    workspaceId,
    channel: 'web',
    externalId: newId(),
    contact: { externalId: contact },
    text: 'Hello',
    ...more,
  });

  async function write(contact: string, more: Partial<IngestItem> = {}): Promise<AcceptedMessage> {
    const [result] = await ingestMessages(pool, [itemOf(contact, more)]);
    if (result?.kind !== 'accepted') throw new Error(result?.kind);
    return result;
  }

  /** Without a flow: to the default team, as the actor would do it step by step. */
  async function open(contact: string): Promise<{ contactId: string; conversationId: string }> {
    const { contactId } = await write(contact);
    const { phase } = await openForContact(pool, { workspaceId, contactId });
    if (phase.kind !== 'assigning') throw new Error(phase.kind);
    const { conversationId } = phase;
    await assignRouted(pool, { workspaceId, contactId, conversationId });
    return { contactId, conversationId };
  }

  async function addTeam(strategy: Strategy = 'round_robin'): Promise<string> {
    const result = await createTeam(pool, { workspaceId, name: newId(), strategy });
    if (result.kind !== 'created') throw new Error(result.kind);
    return result.team.id;
  }

  async function addAgent(capacity: number, teamIds: readonly string[] = [defaultTeamId], online = true) {
    const result = await createAgent(pool, { workspaceId, name: 'Agent', capacity, teamIds, skills: {} });
    if (result.kind !== 'created') throw new Error(result.kind);
    if (online) await setPresence(pool, { workspaceId, agentId: result.agent.id, status: 'online' });
    return result.agent.id;
  }

  async function close(ref: { contactId: string; conversationId: string }): Promise<void> {
    const { conversationId } = ref;
    await requestClose(pool, { workspaceId, conversationId, agentId: null });
    await executeClose(pool, { workspaceId, ...ref });
  }

  async function conversation(id: string): Promise<StoredConversation> {
    const { rows } = await pool.query<StoredConversation>(
      `SELECT state, source, priority, team_id AS "teamId", agent_id AS "agentId", forced,
              fallback_reason AS "fallbackReason", close_category AS category, close_summary AS summary,
              close_requested_at AS "closeRequestedAt", waiting_since AS "waitingSince", fields
       FROM conversations WHERE workspace_id = $1 AND id = $2`,
      [workspaceId, id],
    );
    return rows[0]!;
  }

  async function conversationsOf(contactId: string): Promise<{ id: string; state: string }[]> {
    const { rows } = await pool.query<{ id: string; state: string }>(
      'SELECT id, state FROM conversations WHERE workspace_id = $1 AND contact_id = $2 ORDER BY id',
      [workspaceId, contactId],
    );
    return rows;
  }

  /** In the order of their sequence. */
  async function messagesOf(
    contactId: string,
  ): Promise<{ id: string; sequence: number; conversationId: string | null }[]> {
    const { rows } = await pool.query<{ id: string; sequence: number; conversationId: string | null }>(
      `SELECT id, sequence, conversation_id AS "conversationId" FROM messages
       WHERE workspace_id = $1 AND contact_id = $2 ORDER BY sequence`,
      [workspaceId, contactId],
    );
    return rows;
  }

  async function eventsOf(conversationId: string): Promise<string[]> {
    const { rows } = await pool.query<{ type: string }>(
      'SELECT type FROM events WHERE workspace_id = $1 AND conversation_id = $2 ORDER BY id',
      [workspaceId, conversationId],
    );
    return rows.map((row) => row.type);
  }

  async function nudgesOf(contactId: string): Promise<(string | null)[]> {
    const { rows } = await pool.query<{ closes: string | null }>(
      'SELECT close_conversation_id AS closes FROM outbox WHERE workspace_id = $1 AND contact_id = $2 ORDER BY id',
      [workspaceId, contactId],
    );
    return rows.map((row) => row.closes);
  }

  async function loadOf(agentId: string): Promise<number> {
    const { rows } = await pool.query<{ load: number }>('SELECT load FROM agents WHERE workspace_id = $1 AND id = $2', [
      workspaceId,
      agentId,
    ]);
    return rows[0]!.load;
  }

  return {
    pool,
    workspaceId,
    defaultTeamId,
    itemOf,
    write,
    open,
    addTeam,
    addAgent,
    close,
    conversation,
    conversationsOf,
    messagesOf,
    eventsOf,
    nudgesOf,
    loadOf,
  };
}

interface StoredConversation {
  readonly state: string;
  readonly source: string;
  readonly priority: number;
  readonly teamId: string | null;
  readonly agentId: string | null;
  readonly forced: boolean;
  readonly fallbackReason: string | null;
  readonly category: string | null;
  readonly summary: string | null;
  readonly closeRequestedAt: Date | null;
  readonly waitingSince: Date | null;
  readonly fields: Record<string, unknown>;
}

/** I3 and I7 for a workspace at rest: loads are what open conversations cost, and nobody waits beside room. */
export async function findImbalances(pool: pg.Pool, workspaceId: string): Promise<unknown[]> {
  const { rows } = await pool.query(
    `SELECT 'load' AS kind, a.id::text, a.load, coalesce(sum(v.units), 0) AS cost
     FROM agents a
     LEFT JOIN conversations v ON v.workspace_id = a.workspace_id AND v.agent_id = a.id AND v.state = 'assigned'
     WHERE a.workspace_id = $1
     GROUP BY a.id, a.load HAVING a.load <> coalesce(sum(v.units), 0)
     UNION ALL
     SELECT DISTINCT 'waits beside room', v.id::text, a.load, a.capacity
     FROM conversations v
     JOIN team_members m ON m.workspace_id = v.workspace_id AND m.team_id = v.team_id
     JOIN agents a ON a.workspace_id = m.workspace_id AND a.id = m.agent_id
     JOIN agent_presence p ON p.workspace_id = a.workspace_id AND p.agent_id = a.id
     WHERE v.workspace_id = $1 AND v.state = 'waiting' AND v.close_requested_at IS NULL
       AND p.status = 'online' AND a.load + v.units <= a.capacity`,
    [workspaceId],
  );
  return rows;
}
