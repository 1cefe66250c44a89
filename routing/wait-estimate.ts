/**
 * How long a waiting conversation will go on waiting: its position in the order of serving, divided by the team's throughput of late. Null
 * when nothing was assigned of late, so that nothing can be said.
 */
export function estimateWaitSeconds({ position, startedInWindow, windowSeconds }: WaitFacts): number | null {
  if (startedInWindow <= 0 || windowSeconds <= 0) return null;
  return Math.round((position * windowSeconds) / startedInWindow);
}

export interface WaitFacts {
  /** From 1: how many assignments it takes until it is served. */
  readonly position: number;
  /** How many conversations of the team were given to agents in the window that ends now. */
  readonly startedInWindow: number;
  readonly windowSeconds: number;
}
