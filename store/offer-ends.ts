/** Offers that end without the conversation becoming the agent's: the units go back, and the conversation stands in its queue again. */
import { skillsAfter } from '../routing/requirements.ts';
import { passOver } from './queueing.ts';
import { publishMoment, type OfferOutcome } from './assignment-metrics.ts';
import { clockOf, waitingFacts } from './clocks.ts';
import { ConcurrentChange, type Queryable } from './database.ts';
import { recordAssignmentDecisions } from './decisions.ts';
import { recordEvents } from './events.ts';
import type { ConversationLock, MatchingLock } from './locks.ts';
import { queueKeyOf } from './queue-key.ts';

/** A conversation that is offered, as its lock shows it. */
export interface Offered extends Pick<
  ConversationLock,
  | 'contactId'
  | 'slaSeconds'
  | 'units'
  | 'channel'
  | 'requirements'
  | 'ring'
  | 'queuedAt'
  | 'awaitedUntil'
  | 'passedOver'
> {
  readonly conversationId: string;
  readonly teamId: string;
}

/**
 * Ends offers to one agent, as a set: an agent with a large capacity may have many. Each conversation keeps its rings and its wait, and
 * passes the agent over while others exist. The caller holds the agent, the teams and the conversations, and drains afterwards.
 */
export async function endOffers(
  tx: Queryable,
  lock: MatchingLock,
  offers: readonly Offered[],
  end: {
    readonly agentId: string;
    readonly outcome: Exclude<OfferOutcome, 'made' | 'accepted'>;
    readonly reason?: string | null;
  },
): Promise<void> {
  if (offers.length === 0) return;
  const { workspaceId } = lock;
  const { agentId, outcome, reason = null } = end;
  await giveBackUnits(tx, workspaceId, agentId, offers);
  await requeue(
    tx,
    lock,
    offers.map((offer) => ({ ...offer, passedOver: passOver(offer, agentId) })),
  );
  const detail = { offer: outcome, agentId, reason };
  await recordAssignmentDecisions(
    tx,
    workspaceId,
    offers.map(({ conversationId }) => ({ conversationId, detail })),
  );
  const events = offers.map(({ conversationId, contactId }) => {
    const data = { agentId, outcome, ...(reason === null ? {} : { reason }) };
    return { type: 'conversation.offer_ended', conversationId, contactId, data } as const;
  });
  await recordEvents(tx, workspaceId, events);
  for (const { teamId } of offers) publishMoment({ kind: 'offer', outcome, teamId });
}

/** Takes back everything that is offered to an agent who leaves. The caller holds the agent and its teams with those of `readTeamsOfOffers`. */
export async function withdrawOffers(tx: Queryable, lock: MatchingLock, agentId: string): Promise<void> {
  const { rows: offers } = await tx.query<Offered>({
    name: 'lock-offers-of-agent',
    text: `SELECT id AS "conversationId", contact_id AS "contactId", team_id AS "teamId", sla_seconds AS "slaSeconds", units, channel,
                  requirements, ring, queued_at AS "queuedAt", awaited_until AS "awaitedUntil", passed_over AS "passedOver"
           FROM conversations WHERE workspace_id = $1 AND offered_agent_id = $2 ORDER BY id FOR NO KEY UPDATE`,
    values: [lock.workspaceId, agentId],
  });
  if (offers.some((offer) => !lock.teams.has(offer.teamId))) throw new ConcurrentChange('an offer was made meanwhile');
  await endOffers(tx, lock, offers, { agentId, outcome: 'withdrawn', reason: 'agent_left' });
}

/** Whose queues an agent's offers would go back to. An agent may have left the team since. */
export async function readTeamsOfOffers(db: Queryable, workspaceId: string, agentId: string): Promise<string[]> {
  const { rows } = await db.query<{ team_id: string }>({
    name: 'read-teams-of-offers',
    text: 'SELECT DISTINCT team_id FROM conversations WHERE workspace_id = $1 AND offered_agent_id = $2',
    values: [workspaceId, agentId],
  });
  return rows.map((row) => row.team_id);
}

async function giveBackUnits(
  tx: Queryable,
  workspaceId: string,
  agentId: string,
  offers: readonly Offered[],
): Promise<void> {
  const units = offers.reduce((sum, offer) => sum + offer.units, 0);
  const byChannel = new Map<string, number>();
  for (const { channel } of offers) if (channel !== null) byChannel.set(channel, (byChannel.get(channel) ?? 0) + 1);
  await tx.query({
    name: 'give-back-units',
    text: `UPDATE agents a
           SET load = load - $3,
               channel_loads = channel_loads || (
                 SELECT coalesce(jsonb_object_agg(channel, (a.channel_loads ->> channel)::int - count), '{}')
                 FROM unnest($4::text[], $5::int[]) AS freed (channel, count)
               )
           WHERE workspace_id = $1 AND id = $2`,
    values: [workspaceId, agentId, units, [...byChannel.keys()], [...byChannel.values()]],
  });
}

async function requeue(tx: Queryable, lock: MatchingLock, offers: readonly Offered[]): Promise<void> {
  const rows = offers.map((offer) => {
    const { requirements, ring, units, channel, passedOver, slaSeconds } = offer;
    const clock = clockOf(lock, offer.teamId, waitingFacts({ ...offer, offerExpiresAt: null }));
    const queueKey = queueKeyOf({ skills: skillsAfter(requirements, ring), units, channel, passedOver, slaSeconds });
    return { id: offer.conversationId, passedOver: `{${passedOver.join(',')}}`, queueKey, clock };
  });
  await tx.query({
    name: 'requeue-offered',
    text: `UPDATE conversations v
           SET offered_agent_id = NULL, offer_expires_at = NULL, passed_over = ended.passed_over::uuid[],
               queue_key = ended.queue_key, due_kind = ended.due_kind, due_at = to_timestamp(ended.due_ms / 1000),
               version = version + 1, progressed_at = now()
           FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::float8[])
             AS ended (id, passed_over, queue_key, due_kind, due_ms)
           WHERE v.workspace_id = $1 AND v.id = ended.id`,
    values: [
      lock.workspaceId,
      rows.map((row) => row.id),
      rows.map((row) => row.passedOver),
      rows.map((row) => row.queueKey),
      rows.map((row) => row.clock?.kind ?? null),
      rows.map((row) => row.clock?.atMs ?? null),
    ],
  });
}
