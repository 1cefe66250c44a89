import type { Requirements } from './requirements.ts';
import type { TeamSettings } from './team-rules.ts';

/**
 * The next moment at which time alone may change something about a conversation: the earliest of all that apply. Null: nothing will.
 *
 * Messages do not move a clock. When one fires, the facts are read again, and what is not due after all gets a new one.
 */
export function nextClock(facts: ClockFacts, rules: ClockRules): Clock | null {
  const clocks = facts.state === 'waiting' ? clocksOfWaiting(facts) : clocksOfAssigned(facts, rules);
  let first: Clock | null = null;
  for (const clock of clocks) if (first === null || clock.atMs < first.atMs) first = clock;
  return first;
}

/**
 * - `ring`: what it asks for is relaxed, or another team gets it.
 * - `awaited`: it stops waiting for the agent whom it prefers.
 * - `offer`: the agent did not accept in time.
 * - `return`: its agent has been offline for the grace time.
 * - `silence`: its agent has not answered for so long.
 * - `quiet`: nobody has written for so long; it stops taking capacity.
 * - `inactivity`: nobody has written for so long that it is closed.
 * - `review`: a rule changed; the facts are to be looked at again. `nextClock` never gives it.
 */
export type ClockKind = 'ring' | 'awaited' | 'offer' | 'return' | 'silence' | 'quiet' | 'inactivity' | 'review';

export interface Clock {
  readonly kind: ClockKind;
  readonly atMs: number;
}

export type ClockFacts = WaitingFacts | AssignedFacts;

interface WaitingFacts {
  readonly state: 'waiting';
  /** When it came into the queue this time: rings count from it. */
  readonly queuedAtMs: number;
  /** How many rings have passed. */
  readonly ring: number;
  readonly requirements: Requirements;
  readonly awaitedUntilMs: number | null;
  /** Set while an agent is asked: nothing else counts until that is answered. */
  readonly offerExpiresAtMs: number | null;
}

interface AssignedFacts {
  readonly state: 'assigned';
  readonly nowMs: number;
  readonly assignedAtMs: number;
  /** Set while its agent is offline and the team grants a grace time. */
  readonly returnAtMs: number | null;
  /** The oldest message of the contact that the agent has not answered; null when all are. */
  readonly unansweredSinceMs: number | null;
  readonly lastMessageAtMs: number;
  readonly isQuiet: boolean;
}

interface ClockRules {
  readonly team: TeamSettings;
  readonly inactivityMinutes: number | null;
}

function clocksOfWaiting({ queuedAtMs, ring, requirements, awaitedUntilMs, offerExpiresAtMs }: WaitingFacts): Clock[] {
  if (offerExpiresAtMs !== null) return [{ kind: 'offer', atMs: offerExpiresAtMs }];
  const clocks: Clock[] = [];
  const next = requirements.rings[ring];
  if (next !== undefined) clocks.push({ kind: 'ring', atMs: queuedAtMs + next.afterSeconds * 1_000 });
  if (awaitedUntilMs !== null) clocks.push({ kind: 'awaited', atMs: awaitedUntilMs });
  return clocks;
}

function clocksOfAssigned(facts: AssignedFacts, { team, inactivityMinutes }: ClockRules): Clock[] {
  const { nowMs, assignedAtMs, returnAtMs, unansweredSinceMs, lastMessageAtMs, isQuiet } = facts;
  const clocks: Clock[] = [];
  if (returnAtMs !== null) clocks.push({ kind: 'return', atMs: returnAtMs });
  if (team.silenceMinutes !== null) {
    // All answered: the earliest that it can be due is when the contact writes right now.
    const sinceMs = unansweredSinceMs === null ? nowMs : Math.max(assignedAtMs, unansweredSinceMs);
    clocks.push({ kind: 'silence', atMs: sinceMs + team.silenceMinutes * MINUTE_MS });
  }
  const lastMs = Math.max(assignedAtMs, lastMessageAtMs);
  if (team.quietMinutes !== null && !isQuiet) {
    clocks.push({ kind: 'quiet', atMs: lastMs + team.quietMinutes * MINUTE_MS });
  }
  if (inactivityMinutes !== null) clocks.push({ kind: 'inactivity', atMs: lastMs + inactivityMinutes * MINUTE_MS });
  return clocks;
}

const MINUTE_MS = 60_000;
