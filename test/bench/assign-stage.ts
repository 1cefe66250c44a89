/**
 * One population in a database of its own, and what the measurements do beside what they time: whole sets of conversations come and go by
 * single statements, so that every round finds the same number waiting, of the same kinds, and every agent full.
 */
import type pg from 'pg';
import { newId } from '../../platform/id.ts';
import { createPool } from '../../platform/pool.ts';
import { skillsAfter, type Requirements } from '../../routing/requirements.ts';
import type { ConversationKey } from '../../store/locks.ts';
import { queueKeyOf } from '../../store/queue-key.ts';
import { createWorkspace } from '../../store/workspaces.ts';
import {
  channelUnits,
  createPopulation,
  createRandom,
  type BenchConversation,
  type Population,
  type PopulationSize,
} from './assign-population.ts';

export type AssignStage = Awaited<ReturnType<typeof createAssignStage>>;

export async function createAssignStage(
  databaseUrl: string,
  { size, connections, note }: { size: PopulationSize; connections: number; note: (line: string) => void },
) {
  const open = (databasePoolSize: number) =>
    createPool({ databaseUrl, databasePoolSize }, { applicationName: 'switchyard-bench' });
  const pools = { single: open(1), several: open(connections), aside: open(2) };
  const { aside } = pools;
  const { workspaceId } = await createWorkspace(aside, { name: 'Bench' });
  const population = createPopulation(size);
  await fill(aside, workspaceId, population, note);
  const random = createRandom(7);
  const agentById = new Map(population.agents.map((agent) => [agent.agentId, agent]));
  const agentIds = [...agentById.keys()];
  const held = new Map<string, ConversationRef[]>();
  for (const { agentId, conversationId, contactId } of population.assigned) {
    held.set(agentId!, [...(held.get(agentId!) ?? []), { conversationId, contactId }]);
  }

  /** Some of what agents have, of no agent twice. Who has nothing is passed. */
  function pickHeld(count: number, accepts: (agentId: string) => boolean = () => true): Picked[] {
    const picked = new Map<string, Picked>();
    for (let tries = 0; picked.size < count && tries < count * 50; tries += 1) {
      const agentId = agentIds[Math.floor(random() * agentIds.length)]!;
      const refs = held.get(agentId)!;
      const ref = refs[Math.floor(random() * refs.length)];
      if (ref !== undefined && accepts(agentId)) picked.set(agentId, { agentId, key: { workspaceId, ...ref } });
    }
    return [...picked.values()];
  }

  /** Requests the closes of conversations, one an agent, as if somebody had just asked for them. */
  async function requestCloses(count: number): Promise<Picked[]> {
    const picked = pickHeld(count);
    await requestClosesOf(idsOf(picked));
    return picked;
  }

  async function requestClosesOf(conversationIds: readonly string[]): Promise<void> {
    await aside.query('UPDATE conversations SET close_requested_at = now() WHERE workspace_id = $1 AND id = ANY($2)', [
      workspaceId,
      conversationIds,
    ]);
  }

  /**
   * Looks what these agents have got, and puts one that waits in the place of each that waits no longer: of the same kind, only younger.
   *
   * @returns how many they got
   */
  async function refill(touched: readonly string[]): Promise<number> {
    const got = await rememberHeld(touched);
    const clones = got.map(({ agentId: _holder, ...row }) => ({
      ...row,
      conversationId: newId(),
      contactId: newId(),
      agentId: null,
      waitedSeconds: 0,
    }));
    await insertConversations(aside, workspaceId, 'waiting', clones);
    return got.length;
  }

  /** @returns what is new of it */
  async function rememberHeld(touched: readonly string[]): Promise<BenchConversation[]> {
    const { rows } = await aside.query<BenchConversation>({
      name: 'bench-held',
      text: `SELECT id AS "conversationId", contact_id AS "contactId", team_id AS "teamId", agent_id AS "agentId", priority,
                    channel, units, requirements, ring, passed_over AS "passedOver"
             FROM conversations WHERE workspace_id = $1 AND agent_id = ANY($2) AND closed_at IS NULL`,
      values: [workspaceId, touched],
    });
    const known = new Set(touched.flatMap((agentId) => held.get(agentId)!.map((ref) => ref.conversationId)));
    for (const agentId of touched) held.set(agentId, []);
    for (const { agentId, conversationId, contactId } of rows) held.get(agentId!)!.push({ conversationId, contactId });
    return rows.filter((row) => !known.has(row.conversationId));
  }

  /** Takes a conversation from some who write without giving them anything for it: room for somebody who comes. */
  async function makeRoom(count: number): Promise<{ agentId: string; teamId: string }[]> {
    // Of one team only, so that whoever comes to the team has no room in another one to take instead.
    const picked = pickHeld(count, (agentId) => {
      const { channelLimits, teamIds } = agentById.get(agentId)!;
      return channelLimits['call'] === 0 && teamIds.length === 1;
    });
    await removeConversations(idsOf(picked));
    return picked.map(({ agentId }) => ({ agentId, teamId: agentById.get(agentId)!.teamIds[0]! }));
  }

  /** As if they had never been: what an agent had is no load any more. */
  async function removeConversations(conversationIds: readonly string[]): Promise<void> {
    await aside.query(
      `WITH gone AS (
         UPDATE conversations
         SET state = 'closed', closed_at = now(), close_requested_at = now(), due_at = NULL, due_kind = NULL
         WHERE workspace_id = $1 AND id = ANY($2) RETURNING contact_id, agent_id, units, channel
       ), freed AS (
         UPDATE contacts SET open_conversation_id = NULL
         WHERE workspace_id = $1 AND id IN (SELECT contact_id FROM gone)
       )
       UPDATE agents
       SET load = load - gone.units,
           channel_loads = jsonb_set(channel_loads, ARRAY[gone.channel], to_jsonb((channel_loads ->> gone.channel)::int - 1))
       FROM gone WHERE workspace_id = $1 AND agents.id = gone.agent_id`,
      [workspaceId, conversationIds],
    );
  }

  /** Lets the next ring of some who wait in a team become due this moment. @returns them, as they were before */
  async function makeRingsDue(teamId: string, count: number): Promise<RingsDue> {
    const { rows } = await aside.query<RingBefore & { id: string }>(
      `WITH chosen AS (
         SELECT id, ring, queue_key, queued_at, due_at FROM conversations
         WHERE workspace_id = $1 AND team_id = $2 AND state = 'waiting' AND due_kind = 'ring'
         ORDER BY waiting_since, id LIMIT $3
       )
       UPDATE conversations v SET due_at = now(), queued_at = now() - (chosen.due_at - chosen.queued_at)
       FROM chosen WHERE v.workspace_id = $1 AND v.id = chosen.id
       RETURNING v.id, chosen.ring, chosen.queue_key AS "queueKey", chosen.queued_at AS "queuedAt", chosen.due_at AS "dueAt"`,
      [workspaceId, teamId, count],
    );
    return new Map(rows.map(({ id, ...before }) => [id, before]));
  }

  /** @returns how many had passed a ring */
  async function windBack(due: RingsDue): Promise<number> {
    const rows = [...due].map(([id, before]) => ({ id, ...before }));
    const { rows: passed } = await aside.query(
      `WITH given AS MATERIALIZED (
         SELECT * FROM jsonb_to_recordset($2::jsonb) AS row (
           id uuid, ring int, "queueKey" text, "queuedAt" timestamptz, "dueAt" timestamptz)
       ), passed AS (
         SELECT v.id FROM conversations v JOIN given ON v.id = given.id WHERE v.workspace_id = $1 AND v.ring = given.ring + 1
       ), restored AS (
         UPDATE conversations v
         SET ring = given.ring, queue_key = "queueKey", queued_at = "queuedAt", due_at = "dueAt", due_kind = 'ring'
         FROM given WHERE v.workspace_id = $1 AND v.id = given.id
       )
       SELECT id FROM passed`,
      [workspaceId, JSON.stringify(rows)],
    );
    return passed.length;
  }

  return {
    workspaceId,
    population,
    pools,
    makeRingsDue,
    windBack,
    requestCloses,
    requestClosesOf,
    refill,
    rememberHeld,
    makeRoom,
    removeConversations,
    /** Routed to their teams, and nobody has looked for an agent yet. */
    async insertRouted(rows: readonly BenchConversation[]): Promise<ConversationKey[]> {
      await insertConversations(aside, workspaceId, 'routing', rows);
      return rows.map(({ conversationId, contactId }) => ({ workspaceId, conversationId, contactId }));
    },
    async countWaiting(): Promise<number> {
      const { rows } = await aside.query<{ count: number }>(
        `SELECT count(*) FROM conversations WHERE workspace_id = $1 AND state = 'waiting'`,
        [workspaceId],
      );
      return rows[0]!.count;
    },
    /** I3: over capacity, where nobody has forced anything. */
    async findOverfull(): Promise<string[]> {
      const { rows } = await aside.query<{ what: string }>(
        `SELECT 'agent ' || id || ' has ' || load || ' of ' || capacity AS what FROM agents
         WHERE workspace_id = $1 AND load > capacity`,
        [workspaceId],
      );
      return rows.map(({ what }) => what);
    },
    /** What autovacuum would soon do, and a checkpoint, so that neither falls on one house's first rounds only. */
    async settle(): Promise<void> {
      await aside.query('VACUUM (ANALYZE)');
      // A role that may not only loses some evenness.
      await aside.query('CHECKPOINT').catch(() => undefined);
    },
    async end(): Promise<void> {
      await Promise.all(Object.values(pools).map((pool) => pool.end()));
    },
  };
}

type RingsDue = ReadonlyMap<string, RingBefore>;

interface RingBefore {
  readonly ring: number;
  readonly queueKey: string;
  readonly queuedAt: Date;
  readonly dueAt: Date;
}

interface ConversationRef {
  readonly conversationId: string;
  readonly contactId: string;
}

interface Picked {
  readonly agentId: string;
  readonly key: ConversationKey;
}

const idsOf = (picked: readonly Picked[]): string[] => picked.map(({ key }) => key.conversationId);

async function fill(
  pool: pg.Pool,
  workspaceId: string,
  population: Population,
  note: (line: string) => void,
): Promise<void> {
  const { teams, agents, assigned, waiting } = population;
  await pool.query(
    `INSERT INTO channels (workspace_id, id, key, name, units)
     SELECT $1, gen_random_uuid(), key, key, units::int FROM jsonb_each_text($2) AS channel (key, units)`,
    [workspaceId, JSON.stringify(channelUnits)],
  );
  await pool.query(
    `INSERT INTO teams (workspace_id, id, name, strategy, settings)
     SELECT $1, ("teamId")::uuid, "teamId", strategy, jsonb_build_object('agingPointsPerMinute', "agingPointsPerMinute", 'slaSeconds', "slaSeconds")
     FROM jsonb_to_recordset($2) AS row ("teamId" text, strategy text, "agingPointsPerMinute" float8, "slaSeconds" int)`,
    [workspaceId, JSON.stringify(teams)],
  );
  await pool.query(
    `WITH given AS MATERIALIZED (
       SELECT * FROM jsonb_to_recordset($2) AS row (
         "agentId" uuid, capacity int, load int, skills jsonb, "channelLimits" jsonb, "channelLoads" jsonb, "teamIds" uuid[])
     ), agent AS (
       INSERT INTO agents (workspace_id, id, name, capacity, load, skills, channel_limits, channel_loads)
       SELECT $1, "agentId", 'Agent', capacity, load, skills, "channelLimits", "channelLoads" FROM given
     ), presence AS (
       INSERT INTO agent_presence (workspace_id, agent_id, status) SELECT $1, "agentId", 'online' FROM given
     )
     INSERT INTO team_members (workspace_id, agent_id, team_id) SELECT $1, "agentId", unnest("teamIds") FROM given`,
    [workspaceId, JSON.stringify(agents)],
  );
  await insertConversations(pool, workspaceId, 'assigned', assigned, note);
  await insertConversations(pool, workspaceId, 'waiting', waiting, note);
}

const maxRows = 5_000;

/** As the store leaves them in this state, with their contacts. */
async function insertConversations(
  pool: pg.Pool,
  workspaceId: string,
  state: 'routing' | 'waiting' | 'assigned',
  conversations: readonly BenchConversation[],
  note: (line: string) => void = () => undefined,
): Promise<void> {
  for (let from = 0; from < conversations.length; from += maxRows) {
    const rows = conversations.slice(from, from + maxRows).map((conversation) => ({
      ...conversation,
      queueKey:
        state === 'waiting' ? queueKeyOf({ ...conversation, slaSeconds: null, skills: skillsNow(conversation) }) : '',
      dueSeconds:
        state === 'waiting' ? (conversation.requirements.rings[conversation.ring]?.afterSeconds ?? null) : null,
    }));
    await pool.query({ name: 'bench-insert', text: insertSql, values: [workspaceId, state, JSON.stringify(rows)] });
    note(`${from + rows.length} of ${conversations.length} ${state}`);
  }
}

const skillsNow = ({ requirements, ring }: { requirements: Requirements; ring: number }) =>
  skillsAfter(requirements, ring);

const insertSql = `
  WITH given AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($3::jsonb) AS row (
      "conversationId" uuid, "contactId" uuid, "teamId" uuid, "agentId" uuid, priority int, channel text, units int,
      requirements jsonb, ring int, "passedOver" uuid[], "waitedSeconds" float8, "queueKey" text, "dueSeconds" float8)
  ), contact AS (
    INSERT INTO contacts (workspace_id, id, open_conversation_id) SELECT $1, "contactId", "conversationId" FROM given
  )
  INSERT INTO conversations (
    workspace_id, id, contact_id, state, source, priority, units, channel, team_id, agent_id, requirements, ring, passed_over,
    queue_key, opened_at, routed_at, waiting_since, queued_at, assigned_at, due_at, due_kind)
  SELECT $1, "conversationId", "contactId", $2, 'contact', priority, units, channel, "teamId", "agentId", requirements, ring,
         "passedOver", "queueKey", now() - "waitedSeconds" * interval '1 s', now() - "waitedSeconds" * interval '1 s',
         CASE WHEN $2 = 'waiting' THEN now() - "waitedSeconds" * interval '1 s' END,
         CASE WHEN $2 = 'waiting' THEN now() END, CASE WHEN $2 = 'assigned' THEN now() END,
         now() + "dueSeconds" * interval '1 s', CASE WHEN "dueSeconds" IS NOT NULL THEN 'ring' END
  FROM given`;
