/** A workspace with people in it, for tests of the store: short ways to write, to open, and to look. */
import type pg from 'pg';
import { newId } from '../../platform/id.ts';
import { noRequirements, type Requirements } from '../../routing/requirements.ts';
import type { Strategy, TeamSettings } from '../../routing/team-rules.ts';
import { createAgent, setPresence } from '../../store/agents.ts';
import { assignRouted } from '../../store/assignment.ts';
import { createChannel } from '../../store/channels.ts';
import { executeClose, requestClose } from '../../store/closing.ts';
import { ingestMessages, type AcceptedMessage, type IngestItem } from '../../store/ingest.ts';
import { openForContact } from '../../store/opening.ts';
import { createTeam } from '../../store/teams.ts';
import { findNeedlessWaits, findWrongLoads } from '../support/balance.ts';
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

  /** Without a flow, as the actor would do it step by step: to the default team, unless told what a flow would have decided. */
  async function open(contact: string, routed: Routed = {}): Promise<{ contactId: string; conversationId: string }> {
    const { contactId } = await write(contact, routed.channel === undefined ? {} : { channel: routed.channel });
    const { phase } = await openForContact(pool, { workspaceId, contactId });
    if (phase.kind !== 'assigning') throw new Error(phase.kind);
    const { conversationId } = phase;
    const { teamId = defaultTeamId, priority = 0, slaSeconds = null, skills = [], rings = [] } = routed;
    const requirements: Requirements = { ...noRequirements, skills, rings };
    await pool.query(
      `UPDATE conversations SET team_id = $3, priority = $4, requirements = $5, sla_seconds = $6
       WHERE workspace_id = $1 AND id = $2`,
      [workspaceId, conversationId, teamId, priority, JSON.stringify(requirements), slaSeconds],
    );
    await assignRouted(pool, { workspaceId, contactId, conversationId });
    return { contactId, conversationId };
  }

  async function addChannel(units: number): Promise<string> {
    const key = newId();
    await createChannel(pool, { workspaceId, key, name: 'Another' });
    await pool.query('UPDATE channels SET units = $3 WHERE workspace_id = $1 AND key = $2', [workspaceId, key, units]);
    return key;
  }

  async function addTeam(strategy: Strategy = 'round_robin', settings: Partial<TeamSettings> = {}): Promise<string> {
    const result = await createTeam(pool, { workspaceId, name: newId(), strategy });
    if (result.kind !== 'created') throw new Error(result.kind);
    await setRules(result.team.id, settings);
    return result.team.id;
  }

  /** For what the API would refuse as unwise, such as seconds of silence. */
  async function setRules(teamId: string, settings: Partial<TeamSettings>): Promise<void> {
    await pool.query('UPDATE teams SET settings = settings || $3 WHERE workspace_id = $1 AND id = $2', [
      workspaceId,
      teamId,
      JSON.stringify(settings),
    ]);
  }

  async function addAgent(
    capacity: number,
    teamIds: readonly string[] = [defaultTeamId],
    { online = true, skills = {}, channelLimits = {} }: AgentOptions = {},
  ): Promise<string> {
    const result = await createAgent(pool, { workspaceId, name: 'Agent', capacity, teamIds, skills });
    if (result.kind !== 'created') throw new Error(result.kind);
    const agentId = result.agent.id;
    await pool.query('UPDATE agents SET channel_limits = $3 WHERE workspace_id = $1 AND id = $2', [
      workspaceId,
      agentId,
      JSON.stringify(channelLimits),
    ]);
    if (online) await setPresence(pool, { workspaceId, agentId, status: 'online' });
    return agentId;
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
              close_requested_at AS "closeRequestedAt", waiting_since AS "waitingSince", fields, units, channel, ring,
              offered_agent_id AS "offeredAgentId", awaited_agent_id AS "awaitedAgentId", passed_over AS "passedOver",
              quiet_since AS "quietSince", return_at AS "returnAt", queued_at AS "queuedAt",
              due_kind AS "dueKind", due_at AS "dueAt", close_reason AS "closeReason"
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
    addChannel,
    addTeam,
    setRules,
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

/** What a flow's branch would have decided. */
interface Routed {
  readonly channel?: string;
  readonly teamId?: string;
  readonly priority?: number;
  readonly slaSeconds?: number | null;
  readonly skills?: Requirements['skills'];
  readonly rings?: Requirements['rings'];
}

interface AgentOptions {
  readonly online?: boolean;
  readonly skills?: Readonly<Record<string, number>>;
  readonly channelLimits?: Readonly<Record<string, number>>;
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
  readonly units: number;
  readonly channel: string | null;
  readonly ring: number;
  readonly offeredAgentId: string | null;
  readonly awaitedAgentId: string | null;
  readonly passedOver: readonly string[];
  readonly quietSince: Date | null;
  readonly returnAt: Date | null;
  readonly queuedAt: Date | null;
  readonly dueKind: string | null;
  readonly dueAt: Date | null;
  readonly closeReason: string | null;
}

/** I3 and I7 for a workspace at rest: loads are what is held, and nobody waits beside an agent who may take it and has room. */
export async function findImbalances(pool: pg.Pool, workspaceId: string): Promise<unknown[]> {
  return [...(await findWrongLoads(pool, workspaceId)), ...(await findNeedlessWaits(pool, workspaceId))];
}
