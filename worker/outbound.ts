/**
 * Tells channels what is said to their contacts, and sends the webhooks of flows. store/deliveries.ts says what is due and in which order; here it is
 * claimed, tried, and settled.
 *
 * - A notification wakes it when something was written, so that a reply is on its way within milliseconds; besides, it polls.
 * - So many are under way in all, so many to one place, and places take turns: nobody waits for the whole queue of a busy one. A place whose last attempt
 *   failed gets two at a time until one succeeds; all such places, and those that take seconds to answer, together get half of the room. So they
 *   hold up no other for longer than it takes to know them.
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
  settleFailedAttempts,
  type ClaimedDelivery,
  type FailedAttempt,
  type LaneRoom,
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
  /** An answer that takes longer is a slow one. */
  readonly slowMs?: number;
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
const maxUnderWayPerFailingLane = 2;
const maxUnderWayAiling = maxUnderWay / 2;
const maxAilingLanes = 1_000;
/** A fallback for lost notifications, and how late a repetition may be. */
const pollMs = 250;
const pauseMs = 500;
/** What gets room meanwhile is claimed together: a claim costs about the same for one row as for ten. */
const claimEveryMs = 10;

export function startOutbound(options: OutboundOptions): Outbound {
  const { pool, logger, leaseMs = 30_000, graceMs = 5_000, slowMs = 2_000 } = options;
  const claimedBy = randomUUID();
  const stopping = new AbortController();
  const givingUp = new AbortController();
  setMaxListeners(maxUnderWay + 10, givingUp.signal);
  const bell = createBell();
  const listening = ringWhenWritten(pool, { channel: deliveriesChannel, bell, signal: stopping.signal, logger });
  const lanes = createLanes(slowMs);
  const errands = createErrands(options, { claimedBy, signal: givingUp.signal });
  const underWay = new Set<Promise<void>>();
  let afterLane: string | null = null;
  /** Whether the round under way began at the first lane, and has found nothing so far. */
  let isEmptyRound = true;
  const running = run();

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const mayBeMore = underWay.size < maxUnderWay && (await dispatchDue());
        if (mayBeMore) await delay(claimEveryMs);
        else await bell.wait(pollMs);
      } catch (error) {
        logger.warn({ err: error }, 'deliveries could not be claimed');
        await delay(pauseMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      }
    }
  }

  /** @returns whether there may be more that is due and has room */
  async function dispatchDue(): Promise<boolean> {
    if (afterLane === null) isEmptyRound = true;
    const found = await claimDeliveries(pool, {
      claimedBy,
      leaseMs,
      maxRows: maxUnderWay - underWay.size,
      maxRowsPerLane: maxUnderWayPerLane,
      room: lanes.room(),
      afterLane,
    });
    if (found.claimed.length > 0) isEmptyRound = false;
    ({ afterLane } = found);
    for (const delivery of found.claimed) start(delivery);
    // Behind the last lane comes the first.
    return afterLane !== null || !isEmptyRound;
  }

  function start(delivery: ClaimedDelivery): void {
    const end = lanes.begin(delivery.lane);
    const work: Promise<void> = errands.deliver(delivery).then((isWell) => {
      end(isWell);
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

interface Lanes {
  /** One more is under way. @returns what ends it: with whether the receiver is well, null where nothing was learnt of it */
  begin(lane: string): (isWell: boolean | null) => void;
  room(): LaneRoom;
}

function createLanes(slowMs: number): Lanes {
  /** What each has under way, by when it began, the oldest first. */
  const underWay = new Map<string, Set<{ readonly startedAt: number }>>();
  /** What each may have under way, the one that was tried last at the end. */
  const ailing = new Map<string, number>();

  /** One that does not answer is known before its attempts have ended. */
  function findSlow(now: number): void {
    for (const [lane, attempts] of underWay) {
      const [oldest] = attempts;
      if (!ailing.has(lane) && now - oldest!.startedAt > slowMs) ailing.set(lane, maxUnderWayPerLane);
    }
  }

  return {
    begin(lane) {
      const attempts = underWay.get(lane) ?? new Set();
      const attempt = { startedAt: performance.now() };
      underWay.set(lane, attempts.add(attempt));
      return (isWell) => {
        attempts.delete(attempt);
        if (attempts.size === 0) underWay.delete(lane);
        if (isWell !== null) ailing.delete(lane);
        if (isWell === false) ailing.set(lane, maxUnderWayPerFailingLane);
        else if (isWell === true && performance.now() - attempt.startedAt > slowMs)
          ailing.set(lane, maxUnderWayPerLane);
        // Forgotten, it would get more again, once; kept for ever, they would be many.
        if (ailing.size > maxAilingLanes) ailing.delete(ailing.keys().next().value!);
      };
    },
    room() {
      findSlow(performance.now());
      const sizeOf = (lane: string): number => underWay.get(lane)?.size ?? 0;
      let ailingRoom = maxUnderWayAiling;
      for (const lane of ailing.keys()) ailingRoom -= sizeOf(lane);
      const roomByLane = new Map<string, number>();
      // Which of them have anything that is due is not known here, so each is offered whatever room there is.
      for (const [lane, most] of ailing) roomByLane.set(lane, Math.max(0, Math.min(ailingRoom, most - sizeOf(lane))));
      for (const [lane, { size }] of underWay) {
        if (!ailing.has(lane)) roomByLane.set(lane, Math.max(0, maxUnderWayPerLane - size));
      }
      return { roomByLane, ailingLanes: [...ailing.keys()], ailingRoom: Math.max(0, ailingRoom) };
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
      if (attempts.length > 0) await settleFailedAttempts(pool, { claimedBy, attempts });
      return ended.map(() => ({ ok: true, value: undefined }));
    },
    maxWaitMs: 0,
    maxInFlight: 1,
  });

/** What failed together must not all come back together. */
const varied = (ms: number): number => ms * (0.9 + Math.random() * 0.2);
