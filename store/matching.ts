/**
 * Matching waiting conversations with agents who have room, under the locks of the teams concerned. Whatever queues a
 * conversation, frees room or widens who may take what calls `drainQueues` in its own transaction, so none waits while an agent who may
 * take it has room (I7), and there is nothing to poll.
 */
import { matchWaiting, type AgentCandidate, type Match, type WaitingConversation } from '../routing/matching.ts';
import { publishMoment } from './assignment-metrics.ts';
import { ConcurrentChange, type Queryable } from './database.ts';
import { recordAssignmentDecisions } from './decisions.ts';
import { readCandidates, type MatchingLock } from './locks.ts';
import { applyMatches, lockChosen, type Decided, type HeldTeams } from './match-writes.ts';
import { readHeads, readQueued, type QueuedConversation } from './queue-heads.ts';
import { createRooms, type Freed } from './rooms.ts';

/**
 * Assigns, or offers, what waits in the held teams' queues until nobody who may take any of it has room. Those of `explain` that still wait
 * then get a record that says why: something has just happened to them, and whoever reads their decisions asks what came of it.
 */
export async function drainQueues(
  tx: Queryable,
  lock: MatchingLock,
  { explain = [], awaited = [] }: DrainOptions = {},
): Promise<void> {
  const heldIds = [...lock.agents.keys()];
  const teams = await serveQueues(tx, lock, {
    heldIds,
    awaitedIds: [...heldIds, ...awaited],
    maxRows: rowsToRead(lock),
  });
  if (explain.length > 0) await explainWaits(tx, { ...lock, teams }, explain);
}

export interface DrainOptions {
  /** Conversations whose further wait is to be explained. */
  readonly explain?: readonly string[];
  /** Agents whom conversations of these teams await and may now get, besides those held. */
  readonly awaited?: readonly string[];
}

/**
 * The same, after agents have given back several things at once: as if each had been given back, and the queues drained, one after the other in
 * the order given. That decides who gets what where strategies would choose among all who are free by now.
 *
 * @param room how much the agents could take together
 */
export async function drainFreed(
  tx: Queryable,
  lock: HeldTeams,
  { freed, heldIds, room }: { freed: readonly Freed[]; heldIds: readonly string[]; room: number },
): Promise<void> {
  await serveQueues(tx, lock, {
    heldIds,
    awaitedIds: heldIds,
    maxRows: Math.min(Math.max(room, 1) + 1, mostRows),
    freed,
  });
}

/** @returns the teams, each as its last assignment left it */
async function serveQueues(
  tx: Queryable,
  lock: HeldTeams,
  options: { heldIds: readonly string[]; awaitedIds: readonly string[]; maxRows: number; freed?: readonly Freed[] },
): Promise<MatchingLock['teams']> {
  const teams = new Map(lock.teams);
  const held = new Set(options.heldIds);
  let freed = options.freed ?? [];
  for (let { maxRows } = options, isFirst = true; ; maxRows = Math.min(maxRows * 4, mostRows), isFirst = false) {
    const waiting = await readHeads(tx, lock, { awaitedIds: options.awaitedIds, maxRows });
    if (waiting.length === 0) return teams;
    const teamIds = [...new Set(waiting.map((conversation) => conversation.teamId))];
    const agents = await readCandidates(tx, lock.workspaceId, teamIds);
    const served = serveHeads({ ...lock, teams }, { waiting, agents, freed, isFirst, maxRows });
    const { matches, chosen } = served;
    await lockChosen(tx, lock.workspaceId, { chosen, held, waits: false });
    const isGiven = await applyMatches(tx, { ...lock, teams }, { ...served, waiting });
    if (!isGiven) throw new ConcurrentChange('the room was taken meanwhile');
    for (const { teamId, agentId } of matches) teams.set(teamId, { ...teams.get(teamId)!, lastAgentId: agentId });
    if (!served.isUsedUp) return teams;
    // From now on they are held too: whoever is chosen in the next round may come before them in the order of ids.
    for (const agentId of chosen.keys()) held.add(agentId);
    freed = served.freed;
  }
}

interface Heads {
  readonly waiting: readonly QueuedConversation[];
  /** As they are with all that is freed. */
  readonly agents: readonly AgentCandidate[];
  readonly freed: readonly Freed[];
  /** False: something of what was freed before is perhaps left. */
  readonly isFirst: boolean;
  readonly maxRows: number;
}

interface Served extends Decided {
  /** Those chosen, as the transaction found them. */
  readonly chosen: ReadonlyMap<string, AgentCandidate>;
  /** The rows read of some run were all given away: there may be more of it, which stand before whoever comes next. */
  readonly isUsedUp: boolean;
  /** What no turn has come to yet. */
  readonly freed: readonly Freed[];
}

/** Those who get an agent, in order, up to where a run is used up. */
function serveHeads(lock: HeldTeams, { waiting, agents, freed, isFirst, maxRows }: Heads): Served {
  const rooms = createRooms(lock, agents, freed);
  const found = new Map(agents.map((agent) => [agent.agentId, agent]));
  const left = new Map(waiting.map((conversation) => [conversation.conversationId, conversation]));
  const counts = new Map<string, number>();
  const matches: Match[] = [];
  const chosen = new Map<string, AgentCandidate>();
  const end = (isUsedUp: boolean, turn: number): Served => ({
    matches,
    chosen,
    isUsedUp,
    freed: freed.slice(turn),
    tookMs: rooms.tookMs(),
  });
  for (let turn = isFirst && freed.length > 0 ? 1 : 0; turn <= freed.length; turn += 1) {
    const teamIds = turn === 0 ? null : rooms.free(freed[turn - 1]!);
    const concerned = [...left.values()].filter(({ teamId }) => teamIds === null || teamIds.includes(teamId));
    for (const match of concerned.length === 0 ? [] : rooms.decide(concerned)) {
      if (match.agentId === null) continue;
      const conversation = left.get(match.conversationId)!;
      rooms.take({ ...conversation, agentId: match.agentId });
      left.delete(match.conversationId);
      matches.push(match);
      chosen.set(match.agentId, found.get(match.agentId)!);
      const { teamId, awaitedAgentId, queueKey, priority } = conversation;
      const run = `${teamId}/${awaitedAgentId}/${priority}/${queueKey}`;
      const count = (counts.get(run) ?? 0) + 1;
      if (count === maxRows) return end(true, turn);
      counts.set(run, count);
    }
  }
  return end(false, freed.length);
}

/** The queues are drained, so whoever is decided here finds nobody. */
async function explainWaits(tx: Queryable, lock: MatchingLock, conversationIds: readonly string[]): Promise<void> {
  const waiting = await readQueued(tx, lock, conversationIds);
  if (waiting.length === 0) return;
  const teamIds = [...new Set(waiting.map((conversation) => conversation.teamId))];
  const { matches, tookMs } = decideMatches(lock, waiting, await readCandidates(tx, lock.workspaceId, teamIds));
  const flowVersionIds = new Map(
    waiting.map((conversation) => [conversation.conversationId, conversation.flowVersionId]),
  );
  const decisions = matches.map(({ conversationId, explanation }) => ({
    conversationId,
    detail: { ...explanation, flowVersionId: flowVersionIds.get(conversationId), tookMs },
  }));
  await recordAssignmentDecisions(tx, lock.workspaceId, decisions);
}

/**
 * Decides without writing; where nobody may and can take a conversation, its match names no agent.
 *
 * @param order `given`: one after the other as they stand in `waiting`, each seeing what those before it have left
 */
export function decideMatches(
  lock: HeldTeams,
  waiting: readonly WaitingConversation[],
  agents: readonly AgentCandidate[],
  order: 'serving' | 'given' = 'serving',
): Decided {
  const startedAt = performance.now();
  const matches = matchWaiting({ nowMs: lock.nowMs, waiting, teams: [...lock.teams.values()], agents, order });
  const ms = performance.now() - startedAt;
  publishMoment({ kind: 'decision', seconds: ms / 1_000 });
  return { matches, tookMs: Number((ms / matches.length).toFixed(3)) };
}

/**
 * One more than the held agents could take, so that the row that found nobody ends the drain: with just as many, the queue was read once more
 * only to find that (31 ms a close instead of 13). Where none is held, somebody else may have become one who may: mostly nobody has.
 */
function rowsToRead({ agents }: MatchingLock): number {
  let room = 0;
  for (const agent of agents.values()) if (agent.presence === 'online') room += agent.capacity - agent.load;
  return Math.min(Math.max(room, 1) + 1, mostRows);
}

const mostRows = 50;
