/**
 * Rings and the end of waiting for a preferred agent: what time changes about conversations in a queue. A team's due ones are done together,
 * because after each of them the same queue would have to be drained.
 */
import type pg from 'pg';
import { skillsAfter, type Requirements, type Ring } from '../routing/requirements.ts';
import { publishMoment } from './assignment-metrics.ts';
import { clockOf, waitingFacts } from './clocks.ts';
import { transact, type Queryable } from './database.ts';
import { recordAssignmentDecisions } from './decisions.ts';
import { recordEvents, type NewEvent } from './events.ts';
import { lockMatching, type ConversationLock, type MatchingLock } from './locks.ts';
import { drainQueues } from './matching.ts';
import { queueKeyOf } from './queue-key.ts';

/** What a team's transaction takes at most. */
export const maxRelaxed = 200;

/**
 * Lets the rings that are due pass and the waits for a preferred agent that are over end, then drains: others may take those conversations
 * now. Their wait, and the time from which their rings count, stay as they are, also in another team. A fallback that needs the contact is left to
 * `passFallback` (ring-fallbacks.ts).
 *
 * Everything is checked again under the team's lock, so ids that are not due, or no longer in this queue, change nothing.
 */
export async function relaxDue(
  pool: pg.Pool,
  { workspaceId, teamId }: { workspaceId: string; teamId: string },
  conversationIds: readonly string[],
): Promise<void> {
  await transact(pool, async (tx) => {
    const overflowTeamIds = await readDueOverflows(tx, workspaceId, conversationIds);
    const lock = await lockMatching(tx, workspaceId, { teamIds: [teamId, ...overflowTeamIds] });
    const due = await lockDue(tx, lock, teamId, conversationIds);
    if (due.length === 0) return;
    const passed = due.map((conversation) => passClocks(lock, conversation, new Set(overflowTeamIds)));
    await writePassed(tx, lock, passed);
    await recordEvents(tx, workspaceId, passed.flatMap(eventsOf));
    for (const { rings } of passed) for (const { kind } of rings) publishMoment({ kind: 'ring', change: kind });
    const told = passed.filter(({ rings }) => rings.length > 0);
    await recordAssignmentDecisions(
      tx,
      workspaceId,
      told.map((conversation) => ({ conversationId: conversation.conversationId, detail: recordOf(conversation) })),
    );
    // In another team there are others who do not have it. Within one, the record of the ring says what has changed: to explain 200 waits anew
    // made the transaction four times as long.
    const moved = passed.filter(({ teamId: now, from }) => now !== from.teamId);
    await drainQueues(tx, lock, {
      explain: moved.map(({ conversationId }) => conversationId),
      // What is asked now may be what the awaited agent has.
      awaited: [...new Set(passed.map(({ awaitedAgentId }) => awaitedAgentId))].filter((id) => id !== null),
    });
  });
}

interface Waiting {
  readonly conversationId: string;
  readonly contactId: string;
  readonly teamId: string;
  readonly slaSeconds: number | null;
  readonly units: number;
  readonly channel: string | null;
  readonly requirements: Requirements;
  readonly ring: number;
  readonly queuedAt: Date;
  readonly awaitedAgentId: string | null;
  readonly awaitedUntil: Date | null;
  readonly passedOver: readonly string[];
}

/** As it is after its clocks. */
interface Passed extends Waiting {
  readonly from: Waiting;
  /** Those that have passed now. */
  readonly rings: readonly Ring[];
}

/** Whether that is the ring whose time has come. */
export const isDue = (
  { nowMs }: MatchingLock,
  { queuedAt }: Pick<ConversationLock, 'queuedAt'>,
  ring: Ring | undefined,
): ring is Ring => ring !== undefined && queuedAt!.getTime() + ring.afterSeconds * 1_000 <= nowMs;

export type FallbackRing = Extract<Ring, { kind: 'fallback' }>;

/** A fallback that closes the conversation or tells somebody that nobody was available: for that the contact has to be held. */
export const needsContact = (ring: Ring): ring is FallbackRing =>
  ring.kind === 'fallback' && (ring.then === 'close' || ring.text !== undefined || ring.webhookUrl !== undefined);

function passClocks(lock: MatchingLock, from: Waiting, lockedTeamIds: ReadonlySet<string>): Passed {
  let { ring, teamId } = from;
  const rings: Ring[] = [];
  for (;;) {
    const next = from.requirements.rings[ring];
    if (!isDue(lock, from, next) || needsContact(next)) break;
    if (next.kind === 'overflow' && next.teamId !== teamId) {
      // It has become due since the teams were read: it stays due, for the next round.
      if (!lockedTeamIds.has(next.teamId)) break;
      if (lock.teams.has(next.teamId)) ({ teamId } = next);
    }
    ring += 1;
    rings.push(next);
  }
  const isAwaitOver = from.awaitedUntil !== null && from.awaitedUntil.getTime() <= lock.nowMs;
  // Whoever was awaited need not be in the other team.
  const awaitedUntil = isAwaitOver || teamId !== from.teamId ? null : from.awaitedUntil;
  return { ...from, from, ring, teamId, rings, awaitedUntil };
}

function eventsOf({ from, conversationId, contactId, rings }: Passed): NewEvent[] {
  let { teamId } = from;
  return rings.map((ring, i): NewEvent => {
    const number = from.ring + i + 1;
    const data = { ring: number, change: ring.kind, ...detailOf(ring, from.requirements, number, teamId) };
    if (ring.kind === 'overflow') ({ teamId } = ring);
    return { type: 'conversation.ring_passed', conversationId, contactId, data };
  });
}

/** For people: what each ring changed, and in whose queue the conversation is after all of them. */
const recordOf = ({ rings, teamId }: Passed) => ({
  rings: rings.map(({ kind, ...ring }) => ({ change: kind, ...ring })),
  teamId,
});

function detailOf(ring: Ring, requirements: Requirements, number: number, fromTeamId: string): Record<string, unknown> {
  switch (ring.kind) {
    case 'relax':
      return { skills: skillsAfter(requirements, number) };
    case 'overflow':
      return { fromTeamId, teamId: ring.teamId };
    case 'fallback':
      return { then: ring.then };
  }
}

/** To which teams these conversations are about to go: their locks have to be taken with that of their own. */
async function readDueOverflows(
  tx: Queryable,
  workspaceId: string,
  conversationIds: readonly string[],
): Promise<string[]> {
  const { rows } = await tx.query<{ team_id: string }>({
    name: 'read-due-overflows',
    text: `SELECT DISTINCT (r.ring ->> 'teamId')::uuid AS team_id
           FROM conversations v
           CROSS JOIN LATERAL jsonb_array_elements(v.requirements -> 'rings') WITH ORDINALITY AS r (ring, number)
           WHERE v.workspace_id = $1 AND v.id = ANY($2::uuid[]) AND r.number > v.ring AND r.ring ->> 'kind' = 'overflow'
             AND v.queued_at + (r.ring ->> 'afterSeconds')::float8 * interval '1 s' <= clock_timestamp()`,
    values: [workspaceId, conversationIds],
  });
  return rows.map((row) => row.team_id);
}

async function lockDue(
  tx: Queryable,
  lock: MatchingLock,
  teamId: string,
  conversationIds: readonly string[],
): Promise<Waiting[]> {
  const { rows } = await tx.query<Waiting>({
    name: 'lock-due-in-queue',
    text: `SELECT id AS "conversationId", contact_id AS "contactId", team_id AS "teamId", sla_seconds AS "slaSeconds", units, channel,
                  requirements, ring, queued_at AS "queuedAt", awaited_agent_id AS "awaitedAgentId", awaited_until AS "awaitedUntil",
                  passed_over AS "passedOver"
           FROM conversations
           WHERE workspace_id = $1 AND id = ANY($2::uuid[]) AND team_id = $3 AND state = 'waiting'
             AND close_requested_at IS NULL AND offered_agent_id IS NULL AND due_at <= to_timestamp($4::float8 / 1000)
           ORDER BY id FOR NO KEY UPDATE`,
    values: [lock.workspaceId, conversationIds, teamId, lock.nowMs],
  });
  return rows;
}

async function writePassed(tx: Queryable, lock: MatchingLock, passed: readonly Passed[]): Promise<void> {
  const rows = passed.map((conversation) => {
    const { conversationId, teamId, requirements, ring, units, channel, passedOver, slaSeconds, awaitedUntil } =
      conversation;
    const skills = skillsAfter(requirements, ring);
    const queueKey = queueKeyOf({ skills, units, channel, passedOver, slaSeconds });
    const clock = clockOf(lock, teamId, waitingFacts({ ...conversation, offerExpiresAt: null }));
    return { conversationId, teamId, ring, queueKey, clock, isAwaited: awaitedUntil !== null };
  });
  await tx.query({
    name: 'write-passed-clocks',
    text: `UPDATE conversations v
           SET team_id = passed.team_id, ring = passed.ring, queue_key = passed.queue_key,
               awaited_agent_id = CASE WHEN passed.is_awaited THEN v.awaited_agent_id END,
               awaited_until = CASE WHEN passed.is_awaited THEN v.awaited_until END,
               due_kind = passed.due_kind, due_at = to_timestamp(passed.due_ms / 1000),
               version = version + 1, progressed_at = now()
           FROM unnest($2::uuid[], $3::uuid[], $4::smallint[], $5::text[], $6::boolean[], $7::text[], $8::float8[])
             AS passed (id, team_id, ring, queue_key, is_awaited, due_kind, due_ms)
           WHERE v.workspace_id = $1 AND v.id = passed.id`,
    values: [
      lock.workspaceId,
      rows.map((row) => row.conversationId),
      rows.map((row) => row.teamId),
      rows.map((row) => row.ring),
      rows.map((row) => row.queueKey),
      rows.map((row) => row.isAwaited),
      rows.map((row) => row.clock?.kind ?? null),
      rows.map((row) => row.clock?.atMs ?? null),
    ],
  });
}
