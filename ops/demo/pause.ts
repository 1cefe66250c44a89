import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

/** Waits; rejects at once when the run is stopped, so that everything under way comes to an end. */
export type Pause = (ms: number) => Promise<void>;

export function createPause(signal: AbortSignal): Pause {
  // One listener for each that waits: many are no leak.
  setMaxListeners(0, signal);
  return (ms) => delay(ms, undefined, { signal });
}
