import { compareText } from './ranking.ts';
import type { TeamSettings } from './team-rules.ts';

/**
 * The order in which the waiting are served: the higher effective priority, then the earlier breach of the target, its own or the team's,
 * then the longer wait, then the smaller id. So whoever has reached the highest priority and is beyond the target stands before everyone who
 * comes later, of whatever team.
 *
 * Of two conversations of a team with the same priority and the same target of their own, or none, the older one always comes first, whatever
 * the slope and the team's target. So a queue can be kept by target, priority and wait, and only the heads of these runs need to be compared with
 * the rules of now.
 */
export function compareWaiting(left: PlacedConversation, right: PlacedConversation): number {
  if (left.effectivePriority !== right.effectivePriority) return right.effectivePriority - left.effectivePriority;
  if (left.breachAtMs !== right.breachAtMs) return left.breachAtMs < right.breachAtMs ? -1 : 1;
  if (left.waitingSinceMs !== right.waitingSinceMs) return left.waitingSinceMs - right.waitingSinceMs;
  return compareText(left.conversationId, right.conversationId);
}

/** What decides over a place in the order of serving. */
export interface PlacedConversation {
  readonly conversationId: string;
  readonly waitingSinceMs: number;
  readonly effectivePriority: number;
  /** When its target is missed, or would be if there were one. */
  readonly breachAtMs: number;
}

/** 0 to 100: the priority it was given, and the points that its wait has earned. */
export function effectivePriority(
  { priority, waitingSinceMs }: { readonly priority: number; readonly waitingSinceMs: number },
  { agingPointsPerMinute }: Pick<TeamSettings, 'agingPointsPerMinute'>,
  nowMs: number,
): number {
  const waitedMs = Math.max(0, nowMs - waitingSinceMs);
  return Math.min(100, Math.floor(priority + (agingPointsPerMinute * waitedMs) / 60_000));
}

/** The wait that is aimed at, or null: what the flow's branch set for the conversation, else the team's. */
export function targetSecondsOf(
  conversation: { readonly slaSeconds: number | null },
  team: Pick<TeamSettings, 'slaSeconds'>,
): number | null {
  return conversation.slaSeconds ?? team.slaSeconds;
}

export function breachAtMs(waitingSinceMs: number, { slaSeconds }: Pick<TeamSettings, 'slaSeconds'>): number {
  return waitingSinceMs + (slaSeconds ?? assumedTargetSeconds) * 1_000;
}

/**
 * What counts in the order where there is no target. Were it never, such a conversation would stand behind all that come with a target, for ever.
 * A day is longer than most targets, so those that have one mostly come first.
 */
export const assumedTargetSeconds = 86_400;
