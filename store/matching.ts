/**
 * Matching waiting conversations with agents who have room, under the locks of the teams concerned. Whatever queues a
 * conversation, frees room or widens who may take what calls `drainQueues` in its own transaction, so none waits while an agent who may
 * take it has room (I7), and there is nothing to poll.
 */
import { matchWaiting, type AgentCandidate, type Match, type WaitingConversation } from '../routing/matching.ts';
import { publishMoment } from './assignment-metrics.ts';
import type { Queryable } from './database.ts';
import { recordAssignmentDecisions } from './decisions.ts';
import { readCandidates, type MatchingLock } from './locks.ts';
import { applyMatches, type Decided } from './match-writes.ts';
import { readHeads, readQueued, type QueuedConversation } from './queue-heads.ts';

/**
 * Assigns, or offers, what waits in the held teams' queues until nobody who may take any of it has room. Those of `explain` that still wait
 * then get a record that says why: something has just happened to them, and whoever reads their decisions asks what came of it.
 */
export async function drainQueues(
  tx: Queryable,
  lock: MatchingLock,
  { explain = [], awaited = [] }: DrainOptions = {},
): Promise<void> {
  const teams = await assignWaiting(tx, lock, [...lock.agents.keys(), ...awaited]);
  if (explain.length > 0) await explainWaits(tx, { ...lock, teams }, explain);
}

export interface DrainOptions {
  /** Conversations whose further wait is to be explained. */
  readonly explain?: readonly string[];
  /** Agents whom conversations of these teams await and may now get, besides those held. */
  readonly awaited?: readonly string[];
}

/** @returns the teams, each as its last assignment left it */
async function assignWaiting(
  tx: Queryable,
  lock: MatchingLock,
  awaitedIds: readonly string[],
): Promise<MatchingLock['teams']> {
  const teams = new Map(lock.teams);
  const held = new Map(lock.agents);
  for (let maxRows = rowsToRead(lock); ; maxRows = Math.min(maxRows * 4, mostRows)) {
    const waiting = await readHeads(tx, lock, { awaitedIds, maxRows });
    if (waiting.length === 0) return teams;
    const teamIds = [...new Set(waiting.map((conversation) => conversation.teamId))];
    const agents = await readCandidates(tx, lock.workspaceId, teamIds);
    const decided = decideMatches({ ...lock, teams }, waiting, agents);
    const { matches, isUsedUp } = untilRunUsedUp(waiting, decided.matches, maxRows);
    if (matches.length === 0) return teams;
    await applyMatches(tx, { ...lock, teams, agents: held }, { ...decided, matches, waiting });
    for (const { teamId, agentId } of matches) teams.set(teamId, { ...teams.get(teamId)!, lastAgentId: agentId });
    // From now on they are held too: whoever is chosen in the next round may come before them in the order of ids.
    const chosen = new Set(matches.map((match) => match.agentId));
    for (const agent of agents) if (chosen.has(agent.agentId)) held.set(agent.agentId, agent);
    if (!isUsedUp) return teams;
  }
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

/** Decides without writing; where nobody may and can take a conversation, its match names no agent. */
export function decideMatches(
  lock: MatchingLock,
  waiting: readonly WaitingConversation[],
  agents: readonly AgentCandidate[],
): Decided {
  const startedAt = performance.now();
  const matches = matchWaiting({ nowMs: lock.nowMs, waiting, teams: [...lock.teams.values()], agents });
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

/**
 * Those who got an agent, in the order of serving, up to where the rows read of some run were all given away. There may be more of it, which
 * stand before whoever comes next, so the rest is decided again with those.
 */
function untilRunUsedUp(
  waiting: readonly QueuedConversation[],
  matches: readonly Match[],
  maxRows: number,
): { matches: Match[]; isUsedUp: boolean } {
  const rows = new Map(waiting.map((conversation) => [conversation.conversationId, conversation]));
  const counts = new Map<string, number>();
  const given: Match[] = [];
  for (const match of matches) {
    if (match.agentId === null) continue;
    given.push(match);
    const { teamId, awaitedAgentId, queueKey, priority } = rows.get(match.conversationId)!;
    const run = `${teamId}/${awaitedAgentId}/${priority}/${queueKey}`;
    const count = (counts.get(run) ?? 0) + 1;
    if (count === maxRows) return { matches: given, isUsedUp: true };
    counts.set(run, count);
  }
  return { matches: given, isUsedUp: false };
}
