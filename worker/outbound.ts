/**
 * Tells channels what is said to their contacts, and sends the webhooks of flows. store/deliveries.ts says what is due and in which order; here it is
 * claimed, tried, and settled.
 *
 * - A notification wakes it when something was written, so that a reply is on its way within milliseconds; besides, it polls.
 * - So many are under way in all, so many to one place, and places take turns: nobody waits for the whole queue of a busy one. A place whose last attempt
 *   failed gets two at a time until one succeeds, and all such places together half of the room: those that do not answer, and hold each attempt
 *   until its timeout, hold up no other.
 * - An attempt that failed is repeated after the times of `retryDelaysMs`, over about three days; after the last it has failed for good and stays for
 *   some weeks, for people to look at (`GET /v1/deliveries?state=failed`). 410 fails at once, and so does an address that may not be asked.
 * - A worker that is told to stop claims nothing more, gives what is under way a little time, and gives the rest back. One that is killed leaves its
 *   claims, which end by themselves; what had arrived already is then sent again, with the same `webhook-id`.
 */
import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Logger } from '../platform/logger.ts';
import { createMicroBatcher } from '../platform/micro-batcher.ts';
import {
  claimDeliveries,
  deliveriesChannel,
  releaseDeliveries,
  settleDelivered,
  settleFailed,
  type ClaimedDelivery,
  type FailedAttempt,
} from '../store/deliveries.ts';
import { requireWebhookSecret } from '../store/webhook-secrets.ts';
import type { OutboundMetrics } from './outbound-metrics.ts';
import { attemptDelivery, type AttemptOutcome } from './outbound-request.ts';
import { createBell, ringWhenWritten } from './relay-bell.ts';

export interface OutboundOptions {
  readonly pool: pg.Pool;
  readonly logger: Logger;
  readonly metrics: OutboundMetrics;
  /** As the guarded requests have them. */
  readonly privateCidrs: readonly string[];
  /** After the first attempt, the second, and so on; each varies by a tenth either way. */
  readonly retryDelaysMs?: readonly number[];
  readonly requestTimeoutMs?: number;
  /** Since it was written: what waited for as long behind another that failed is tried once, not for so long again. */
  readonly giveUpAfterMs?: number;
  /** Longer than a request may take, and its settling. */
  readonly leaseMs?: number;
  /** What is under way when it is told to stop may take so long. */
  readonly graceMs?: number;
}

export interface Outbound {
  /** Resolves when nothing is under way and all claims are settled or given back. */
  stop(): Promise<void>;
}

const secondMs = 1_000;
const minuteMs = 60 * secondMs;
const hourMs = 60 * minuteMs;

/** 13 repetitions in 71 hours and 43 minutes. */
export const retryDelaysMs: readonly number[] = [
  secondMs,
  5 * secondMs,
  30 * secondMs,
  2 * minuteMs,
  10 * minuteMs,
  30 * minuteMs,
  hourMs,
  2 * hourMs,
  4 * hourMs,
  8 * hourMs,
  12 * hourMs,
  20 * hourMs,
  24 * hourMs,
];
/** However the pauses vary, what has failed after all attempts is not younger than this, nor is what was written together with it. */
const shortestTrialMs = 0.9 * retryDelaysMs.reduce((sum, ms) => sum + ms, 0);
/** A receiver may ask for more time, but not for so much that its messages are forgotten. */
const maxRetryAfterMs = hourMs;
const maxUnderWay = 64;
const maxUnderWayPerLane = 16;
const maxUnderWayPerAilingLane = 2;
const maxUnderWayAiling = maxUnderWay / 2;
const maxAilingLanes = 1_000;
/** A fallback for lost notifications, and how late a repetition may be. */
const pollMs = 250;
const pauseMs = 500;

export function startOutbound(options: OutboundOptions): Outbound {
  const { pool, logger, leaseMs = 30_000, graceMs = 5_000 } = options;
  const claimedBy = randomUUID();
  const stopping = new AbortController();
  const givingUp = new AbortController();
  setMaxListeners(maxUnderWay + 10, givingUp.signal);
  const bell = createBell();
  const listening = ringWhenWritten(pool, { channel: deliveriesChannel, bell, signal: stopping.signal, logger });
  const lanes = createLaneCounts();
  const errands = createErrands(options, { claimedBy, signal: givingUp.signal });
  const underWay = new Set<Promise<void>>();
  let afterLane: string | null = null;
  const running = run();

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const mayBeMore = underWay.size < maxUnderWay && (await dispatchDue());
        if (!mayBeMore) await bell.wait(pollMs);
      } catch (error) {
        logger.warn({ err: error }, 'deliveries could not be claimed');
        await delay(pauseMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      }
    }
  }

  /** @returns whether there may be more that is due and has room */
  async function dispatchDue(): Promise<boolean> {
    const found = await claimDeliveries(pool, {
      claimedBy,
      leaseMs,
      maxRows: maxUnderWay - underWay.size,
      maxRowsPerLane: maxUnderWayPerLane,
      roomByLane: lanes.room(),
      afterLane,
    });
    const isAround = afterLane !== null && found.afterLane === null;
    ({ afterLane } = found);
    for (const delivery of found.claimed) start(delivery);
    // Behind the last lane comes the first. Of more lanes than one claim looks at, where nothing is due, the next poll looks at more.
    return found.claimed.length > 0 || isAround;
  }

  function start(delivery: ClaimedDelivery): void {
    lanes.begin(delivery.lane);
    const work: Promise<void> = errands.deliver(delivery).then((isWell) => {
      lanes.end(delivery.lane, isWell);
      underWay.delete(work);
      bell.ring();
    });
    underWay.add(work);
  }

  return {
    async stop() {
      stopping.abort();
      bell.ring();
      await running;
      const grace = setTimeout(() => givingUp.abort(), graceMs);
      await Promise.all(underWay);
      clearTimeout(grace);
      await errands.close();
      await listening;
    },
  };
}

interface LaneCounts {
  begin(lane: string): void;
  /** @param isWell null: it was not tried to its end */
  end(lane: string, isWell: boolean | null): void;
  /** Of those that have less than the usual. */
  room(): Map<string, number>;
}

function createLaneCounts(): LaneCounts {
  const counts = new Map<string, number>();
  const ailing = new Set<string>();
  return {
    begin(lane) {
      counts.set(lane, (counts.get(lane) ?? 0) + 1);
    },
    end(lane, isWell) {
      const left = counts.get(lane)! - 1;
      if (left === 0) counts.delete(lane);
      else counts.set(lane, left);
      if (isWell !== null) ailing.delete(lane);
      // At the end again: the first ones come first when room is given.
      if (isWell === false) ailing.add(lane);
      // Forgotten, it would get more again, once; kept for ever, they would be many.
      if (ailing.size > maxAilingLanes) ailing.delete([...ailing][0]!);
    },
    room() {
      let left = maxUnderWayAiling;
      for (const lane of ailing) left -= counts.get(lane) ?? 0;
      const room = new Map<string, number>();
      for (const lane of ailing) {
        const given = Math.max(0, Math.min(left, maxUnderWayPerAilingLane - (counts.get(lane) ?? 0)));
        room.set(lane, given);
        left -= given;
      }
      for (const [lane, count] of counts) {
        if (!ailing.has(lane)) room.set(lane, Math.max(0, maxUnderWayPerLane - count));
      }
      return room;
    },
  };
}

interface Errands {
  /** Never rejects: what cannot be settled is due again when the claim ends. @returns whether the receiver is well; null: unknown */
  deliver(delivery: ClaimedDelivery): Promise<boolean | null>;
  close(): Promise<void>;
}

function createErrands(
  options: OutboundOptions,
  { claimedBy, signal }: { claimedBy: string; signal: AbortSignal },
): Errands {
  const { pool, logger, metrics, privateCidrs, requestTimeoutMs = 10_000, giveUpAfterMs = shortestTrialMs } = options;
  const delays = options.retryDelaysMs ?? retryDelaysMs;
  const settlements = createSettlements(pool, claimedBy);

  async function attempt(delivery: ClaimedDelivery): Promise<AttemptOutcome> {
    const { url, kind, workspaceId } = delivery;
    if (url === null) return { kind: 'failed', error: 'has no outbound URL', isFinal: true, retryAfterMs: null };
    const secrets =
      delivery.secrets.length === 0 && kind === 'webhook'
        ? [await requireWebhookSecret(pool, workspaceId)]
        : delivery.secrets;
    const stopTimer = metrics.duration.startTimer();
    const outcome = await attemptDelivery(
      { ...delivery, url, secrets },
      { privateCidrs, timeoutMs: requestTimeoutMs, signal },
    );
    stopTimer();
    return outcome;
  }

  async function settle({ id, attempts, triedForMs }: ClaimedDelivery, outcome: AttemptOutcome): Promise<void> {
    if (outcome.kind === 'cancelled') return releaseDeliveries(pool, { claimedBy, ids: [id] });
    if (outcome.kind === 'delivered') {
      await settlements.add({ id, failed: null });
      metrics.deliveries.inc({ outcome: 'delivered' });
      return;
    }
    const { error, isFinal, retryAfterMs: wishedMs } = outcome;
    const delayMs = isFinal || triedForMs >= giveUpAfterMs ? undefined : delays[attempts];
    const retryAfterMs =
      delayMs === undefined ? null : Math.max(varied(delayMs), Math.min(wishedMs ?? 0, maxRetryAfterMs));
    await settlements.add({ id, failed: { id, error, retryAfterMs } });
    metrics.deliveries.inc({ outcome: retryAfterMs === null ? 'failed' : 'retried' });
    if (retryAfterMs === null) logger.warn({ deliveryId: id, attempts: attempts + 1, error }, 'a delivery has failed');
  }

  return {
    async deliver(delivery) {
      try {
        const outcome = await attempt(delivery);
        await settle(delivery, outcome);
        return outcome.kind === 'cancelled' ? null : outcome.kind === 'delivered';
      } catch (error) {
        logger.error({ err: error, deliveryId: delivery.id }, 'a delivery could not be settled; it is repeated');
        return null;
      }
    },
    close: () => settlements.close(),
  };
}

interface Settlement {
  readonly id: string;
  /** Null: it was delivered. */
  readonly failed: FailedAttempt | null;
}

/** What ends at about the same time is written down together: at once if nothing else is being written, else with the next. */
const createSettlements = (pool: pg.Pool, claimedBy: string) =>
  createMicroBatcher<Settlement, void>({
    name: 'ended deliveries',
    keyOf: ({ id }) => id,
    async flush(ended) {
      const delivered = ended.filter(({ failed }) => failed === null).map(({ id }) => id);
      const attempts = ended.flatMap(({ failed }) => (failed === null ? [] : [failed]));
      if (delivered.length > 0) await settleDelivered(pool, delivered);
      if (attempts.length > 0) await settleFailed(pool, { claimedBy, attempts });
      return ended.map(() => ({ ok: true, value: undefined }));
    },
    maxWaitMs: 0,
    maxInFlight: 1,
  });

/** What failed together must not all come back together. */
const varied = (ms: number): number => ms * (0.9 + Math.random() * 0.2);
