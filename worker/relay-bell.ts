/** What wakes the relay and the deliverer: something was written, or something that was under way has ended. */
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Logger } from '../platform/logger.ts';

export interface Bell {
  ring(): void;
  wait(timeoutMs: number): Promise<void>;
}

/** Wakes one waiter, or the next one to wait: a ring while nobody waits is not lost. */
export function createBell(): Bell {
  let rung = false;
  let wake: (() => void) | null = null;
  return {
    ring: () => {
      rung = true;
      wake?.();
    },
    wait: async (timeoutMs) => {
      if (!rung) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, timeoutMs);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      rung = false;
      wake = null;
    },
  };
}

export interface RingOptions {
  /** PostgreSQL's, not a customer's. */
  readonly channel: string;
  readonly bell: Bell;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** Rings at each notification, over a connection of its own, until the signal aborts; without it, there is still polling. */
export async function ringWhenWritten(pool: pg.Pool, { channel, bell, signal, logger }: RingOptions): Promise<void> {
  while (!signal.aborted) {
    try {
      const client = await pool.connect();
      try {
        client.on('notification', () => bell.ring());
        await client.query(`LISTEN ${channel}`);
        await lossOf(client, signal);
      } finally {
        client.release(true);
      }
    } catch (error) {
      logger.warn({ err: error }, 'cannot listen for notifications; polling');
    }
    if (!signal.aborted) await delay(1_000, undefined, { signal }).catch(() => undefined);
  }
}

/** Resolves when the connection is lost or the signal aborts, also when it has done so already. */
function lossOf(client: pg.PoolClient, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      signal.removeEventListener('abort', end);
      resolve();
    };
    client.once('error', end);
    client.once('end', end);
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
  });
}
