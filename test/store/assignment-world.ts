/** A workspace in which the commands of assignment-commands.ts happen, by the functions that the API, the actors and the worker call. */
import type pg from 'pg';
import { newId } from '../../platform/id.ts';
import type { Ring } from '../../routing/requirements.ts';
import { readSilentAgents, recordHeartbeat, setAwayIfSilent, setPresence, updateAgent } from '../../store/agents.ts';
import { assignManually, assignRouted, type AssignTarget } from '../../store/assignment.ts';
import { executeClose, executeCloses, requestClose } from '../../store/closing.ts';
import { readDue, settleDue } from '../../store/due-clocks.ts';
import { ingestMessages } from '../../store/ingest.ts';
import type { ConversationKey } from '../../store/locks.ts';
import { acceptOffer, rejectOffer } from '../../store/offers.ts';
import { openByUser, openForContact } from '../../store/opening.ts';
import { deleteRows } from '../../store/outbox.ts';
import { wakeConversation } from '../../store/quiet.ts';
import { addReply } from '../../store/replies.ts';
import { updateTeam } from '../../store/teams.ts';
import {
  counts,
  type AgentChange,
  type Command,
  type RingKind,
  type RoutedTo,
  type Target,
  type TeamRulesDrawn,
  type Writing,
} from './assignment-commands.ts';
import { createStage, type Stage } from './stage.ts';

export type World = Awaited<ReturnType<typeof createWorld>>;

/** Channels that cost 1, 2 and 3 units; three teams; agents in two of them each, two of whom know languages. */
export async function createWorld(pool: pg.Pool, rules: readonly TeamRulesDrawn[]) {
  const stage = await createStage(pool);
  const { workspaceId } = stage;
  const channels = ['web', await stage.addChannel(2), await stage.addChannel(3)];
  const teams = [stage.defaultTeamId, await stage.addTeam(), await stage.addTeam()];
  for (const [i, rule] of rules.entries()) await updateTeam(pool, { workspaceId, teamId: teams[i]!, ...rule });
  const agents: string[] = [];
  for (let i = 0; i < counts.agents; i += 1) {
    const skills = i < 2 ? { german: 2 + i, spanish: 4 - i } : {};
    agents.push(
      await stage.addAgent(
        initialCapacity,
        teams.filter((_, t) => (i + t) % 3 !== 2),
        { skills, online: i < 3 },
      ),
    );
  }
  const contactIds = Array.from({ length: counts.contacts }, () => newId());
  await pool.query('INSERT INTO contacts (workspace_id, id) SELECT $1, unnest($2::uuid[])', [workspaceId, contactIds]);
  return { stage, workspaceId, channels, teams, agents, contactIds, limits: createHighest() };
}

/** The most that each agent was ever allowed, since what it had then cannot be judged by less. */
function createHighest() {
  const capacities = new Map<string, number>();
  const limited = new Set<string>();
  return {
    note(agentId: string, { capacity, limits }: AgentChange): void {
      if (capacity !== undefined)
        capacities.set(agentId, Math.max(capacities.get(agentId) ?? initialCapacity, capacity));
      if (limits !== undefined) limited.add(agentId);
    },
    /** Those who are allowed less in the end. */
    async loweredAgentIds({ pool, workspaceId }: Stage): Promise<string[]> {
      const { rows } = await pool.query<{ id: string; capacity: number }>(
        'SELECT id, capacity FROM agents WHERE workspace_id = $1',
        [workspaceId],
      );
      const isLowered = (id: string, capacity: number) => capacity < (capacities.get(id) ?? initialCapacity);
      return rows.filter(({ id, capacity }) => limited.has(id) || isLowered(id, capacity)).map(({ id }) => id);
    },
  };
}

const initialCapacity = 3;

/** Does what the command says, as far as it applies; refusals are answers like others. */
export async function perform(world: World, command: Command, pool: pg.Pool = world.stage.pool): Promise<unknown> {
  const { workspaceId, agents, teams } = world;
  switch (command.kind) {
    case 'write':
      return write(world, pool, command);
    case 'writes':
      return writeAll(world, pool, command.writings);
    case 'closes':
      return closeAll(world, pool, command.contacts);
    case 'open': {
      const contactId = world.contactIds[command.contact]!;
      return openByUser(pool, {
        workspaceId,
        contactId,
        source: 'user',
        to: targetOf(world, command.to),
        byAgentId: null,
      });
    }
    case 'presence':
      return setPresence(pool, { workspaceId, agentId: agents[command.agent]!, status: command.status });
    case 'silence':
      return fallSilent(world, pool, agents[command.agent]!);
    case 'agent':
      return changeAgent(world, pool, agents[command.agent]!, command.change);
    case 'team': {
      const { strategy, settings } = command;
      return updateTeam(pool, { workspaceId, teamId: teams[command.team]!, strategy, settings });
    }
    case 'relay':
      return relay(world, pool);
    default: {
      const contactId = world.contactIds[command.contact]!;
      const open = await findOpen(world, pool, contactId);
      return open === undefined ? undefined : performOnOpen(world, pool, command, { contactId, ...open });
    }
  }
}

interface OpenConversation {
  readonly contactId: string;
  readonly conversationId: string;
  readonly offeredAgentId: string | null;
}

type OnOpen = Extract<Command, { kind: 'close' | 'request close' | 'reply' | 'answer' | 'assign' | 'later' | 'aged' }>;

async function performOnOpen(world: World, pool: pg.Pool, command: OnOpen, open: OpenConversation): Promise<unknown> {
  const { workspaceId, agents } = world;
  const { conversationId, offeredAgentId, contactId } = open;
  switch (command.kind) {
    case 'request close':
      return requestClose(pool, { workspaceId, conversationId, agentId: null });
    case 'close':
      await requestClose(pool, { workspaceId, conversationId, agentId: null });
      return executeClose(pool, { workspaceId, contactId, conversationId });
    case 'reply':
      return addReply(pool, { workspaceId, conversationId, agentId: agents[0]!, text: 'Hi' });
    case 'answer': {
      const answer = { workspaceId, conversationId, agentId: offeredAgentId ?? agents[0]! };
      return command.accepts ? acceptOffer(pool, answer) : rejectOffer(pool, { ...answer, reason: null });
    }
    case 'assign':
      return assignManually(pool, { workspaceId, conversationId, to: targetOf(world, command.to), byAgentId: null });
    case 'later':
      await letTimePass(pool, conversationId, command.seconds);
      return runClocks(world, pool);
    case 'aged':
      return pool.query(
        `UPDATE conversations SET waiting_since = waiting_since - $2 * interval '1 min' WHERE id = $1`,
        [conversationId, command.minutes],
      );
  }
}

async function findOpen({ workspaceId }: World, pool: pg.Pool, contactId: string) {
  const { rows } = await pool.query<{ conversationId: string; offeredAgentId: string | null }>(
    `SELECT id AS "conversationId", offered_agent_id AS "offeredAgentId" FROM conversations
     WHERE workspace_id = $1 AND contact_id = $2 AND closed_at IS NULL`,
    [workspaceId, contactId],
  );
  return rows[0];
}

function targetOf({ agents, teams }: World, to: Target): AssignTarget {
  switch (to.kind) {
    case 'agent':
      return { kind: 'agent', agentId: agents[to.agent]!, force: to.force };
    case 'team':
      return { kind: 'team', teamId: teams[to.team]! };
    case 'queue':
      return to;
  }
}

/** The contact writes; then its actor does what it can, as the flow would have decided. */
async function write(world: World, pool: pg.Pool, writing: Writing): Promise<void> {
  await act(world, pool, await ingest(world, pool, writing), writing.routed);
}

/** All write; then their actors come to the assignment at once. */
async function writeAll(world: World, pool: pg.Pool, writings: readonly Writing[]): Promise<unknown> {
  const { workspaceId } = world;
  const keys: ConversationKey[] = [];
  for (const writing of writings) {
    const contactId = await ingest(world, pool, writing);
    const { phase, opened } = await openForContact(pool, { workspaceId, contactId });
    if (phase.kind !== 'assigning') continue;
    const { conversationId } = phase;
    if (opened) await route(world, pool, conversationId, writing.routed);
    keys.push({ workspaceId, contactId, conversationId });
  }
  return assignRouted(pool, keys);
}

async function closeAll(world: World, pool: pg.Pool, contacts: readonly number[]): Promise<unknown> {
  const { workspaceId } = world;
  const keys: ConversationKey[] = [];
  for (const contact of contacts) {
    const contactId = world.contactIds[contact]!;
    const open = await findOpen(world, pool, contactId);
    if (open === undefined) continue;
    const { conversationId } = open;
    await requestClose(pool, { workspaceId, conversationId, agentId: null });
    keys.push({ workspaceId, contactId, conversationId });
  }
  return executeCloses(pool, keys);
}

async function ingest(world: World, pool: pg.Pool, { contact, channel }: Writing): Promise<string> {
  const id = world.contactIds[contact]!;
  const item = world.stage.itemOf('', {
    channel: world.channels[channel]!,
    contact: { externalId: `contact-${contact}`, id },
  });
  const [result] = await ingestMessages(pool, [item]);
  if (result?.kind !== 'accepted') throw new Error(result?.kind);
  return id;
}

/** What the contact's actor does until it has to wait. */
export async function act(world: World, pool: pg.Pool, contactId: string, routed?: RoutedTo): Promise<void> {
  const { workspaceId } = world;
  for (;;) {
    const { phase, opened } = await openForContact(pool, { workspaceId, contactId });
    if (phase.kind === 'assigning') {
      const { conversationId } = phase;
      if (opened && routed !== undefined) await route(world, pool, conversationId, routed);
      await assignRouted(pool, { workspaceId, contactId, conversationId });
    } else if (phase.kind === 'closing') {
      await executeClose(pool, { workspaceId, contactId, conversationId: phase.conversationId });
    } else if (phase.kind !== 'pending') return;
  }
}

async function route({ workspaceId, teams }: World, pool: pg.Pool, conversationId: string, routed: RoutedTo) {
  const { team, priority, skills, slaSeconds } = routed;
  const rings = routed.rings.map((kind, i) => ringOf(kind, i, { teams, team, skills }));
  await pool.query(
    `UPDATE conversations SET team_id = $3, priority = $4, requirements = $5, sla_seconds = $6
     WHERE workspace_id = $1 AND id = $2 AND state = 'routing'`,
    [workspaceId, conversationId, teams[team], priority, JSON.stringify({ skills, rings }), slaSeconds],
  );
}

function ringOf(
  kind: RingKind,
  index: number,
  { teams, team, skills }: Pick<RoutedTo, 'team' | 'skills'> & { teams: readonly string[] },
): Ring {
  const afterSeconds = 30 * (index + 1);
  switch (kind) {
    case 'relax':
      return { afterSeconds, kind: 'relax', levels: skills.map(({ skill, level }) => ({ skill, level: level - 1 })) };
    case 'drop':
      return { afterSeconds, kind: 'relax', levels: skills.map(({ skill }) => ({ skill, level: 0 })) };
    case 'overflow':
      return { afterSeconds, kind: 'overflow', teamId: teams[(team + 1) % teams.length]! };
    case 'wait':
    case 'close':
      return { afterSeconds, kind: 'fallback', then: kind };
  }
}

async function fallSilent({ workspaceId }: World, pool: pg.Pool, agentId: string): Promise<void> {
  await recordHeartbeat(pool, { workspaceId, agentId });
  await pool.query(
    `UPDATE agent_presence SET expires_at = now() - interval '1 s'
     WHERE workspace_id = $1 AND agent_id = $2 AND expires_at IS NOT NULL`,
    [workspaceId, agentId],
  );
  for (const silent of await readSilentAgents(pool, { maxRows: 100 })) await setAwayIfSilent(pool, silent);
}

async function changeAgent(world: World, pool: pg.Pool, agentId: string, change: AgentChange): Promise<unknown> {
  const { workspaceId, channels, teams } = world;
  const { capacity, skills, limits } = change;
  world.limits.note(agentId, change);
  const entries = limits?.flatMap((limit, i) => (limit === null ? [] : [[channels[i]!, limit] as const]));
  return updateAgent(pool, {
    workspaceId,
    agentId,
    ...(capacity !== undefined && { capacity }),
    ...(skills !== undefined && { skills }),
    ...(change.teams !== undefined && { teamIds: change.teams.map((team) => teams[team]!) }),
    ...(entries !== undefined && { channelLimits: Object.fromEntries(entries) }),
  });
}

/** Everything about the conversation but its wait is so much longer ago. */
async function letTimePass(pool: pg.Pool, conversationId: string, seconds: number): Promise<void> {
  await pool.query(
    `WITH earlier AS (SELECT $2 * interval '1 s' AS by), written AS (
       UPDATE messages SET received_at = received_at - earlier.by FROM earlier WHERE conversation_id = $1
     )
     UPDATE conversations v
     SET queued_at = queued_at - by, awaited_until = awaited_until - by, offer_expires_at = offer_expires_at - by,
         return_at = return_at - by, assigned_at = assigned_at - by, due_at = due_at - by
     FROM earlier WHERE v.id = $1 AND v.closed_at IS NULL`,
    [conversationId, seconds],
  );
}

export async function runClocks({ workspaceId }: World, pool: pg.Pool): Promise<void> {
  const due = await readDue(pool, { maxRows: 10_000 });
  for (const clock of due) if (clock.workspaceId === workspaceId) await settleDue(pool, clock);
}

/** What the relay and the actors do. */
export async function relay(world: World, pool: pg.Pool): Promise<void> {
  const { workspaceId } = world;
  const { rows } = await pool.query<{ id: number; contactId: string; wakeId: string | null }>(
    `SELECT id, contact_id AS "contactId", wake_conversation_id AS "wakeId" FROM outbox WHERE workspace_id = $1 ORDER BY id`,
    [workspaceId],
  );
  for (const { contactId, wakeId } of rows) {
    if (wakeId === null) await act(world, pool, contactId);
    else await wakeConversation(pool, { workspaceId, contactId, conversationId: wakeId });
  }
  await deleteRows(
    pool,
    rows.map(({ id }) => id),
  );
}

/** When all have ended: what was asked for is done, so that the history can be judged. */
export async function settle(world: World, pool: pg.Pool): Promise<void> {
  const { workspaceId } = world;
  for (const contactId of world.contactIds) await act(world, pool, contactId);
  for (let left = 1; left > 0;) {
    await relay(world, pool);
    const { rows } = await pool.query<{ left: number }>('SELECT count(*) AS left FROM outbox WHERE workspace_id = $1', [
      workspaceId,
    ]);
    left = rows[0]!.left;
  }
}

/** Nobody is to find this world's clocks any more. */
export const stopClocks = ({ workspaceId }: World, pool: pg.Pool) =>
  pool.query('UPDATE conversations SET due_at = NULL, due_kind = NULL WHERE workspace_id = $1', [workspaceId]);
