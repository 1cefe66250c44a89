import type { Socket } from 'node:net';
import type { Metrics } from '../platform/metrics.ts';
import { problem } from './problems.ts';

/**
 * A slow reader holds a page of 100 events and what its socket buffers, some 100 KB at the most, so that all of them together stay below
 * 100 MB; and one key must not take the places of all.
 */
const MAX_STREAMS = 1_000;
export const MAX_STREAMS_PER_KEY = 100;

export interface StreamPlaces {
  /**
   * Takes a place until the connection closes. Throws the problems `too_many_streams` and `streams_full`.
   * @returns false where the client has left already; nothing is taken then.
   */
  take(keyId: string, socket: Socket): boolean;
}

/**
 * Counts the event streams that are open. A place belongs to the connection and not to the answer: an answer does not tell that it is
 * closed when its client left while the key was looked up, or when it stood behind another one on the same connection.
 */
export function createStreamPlaces(metrics: Metrics): StreamPlaces {
  let taken = 0;
  const takenByKey = new Map<string, number>();
  metrics.gauge('event_streams_open', 'Event streams that clients have open', [], function () {
    this.set(taken);
  });

  function free(keyId: string): void {
    taken -= 1;
    const left = takenByKey.get(keyId)! - 1;
    if (left === 0) takenByKey.delete(keyId);
    else takenByKey.set(keyId, left);
  }

  return {
    take(keyId, socket) {
      // A socket that is destroyed may have told so before anybody listened; one that is not will tell.
      if (socket.destroyed) return false;
      const ofKey = takenByKey.get(keyId) ?? 0;
      if (ofKey >= MAX_STREAMS_PER_KEY) throw problem('too_many_streams');
      if (taken >= MAX_STREAMS) throw problem('streams_full');
      taken += 1;
      takenByKey.set(keyId, ofKey + 1);
      socket.once('close', () => free(keyId));
      return true;
    },
  };
}
