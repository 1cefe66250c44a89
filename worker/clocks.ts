/**
 * What time alone changes, done by one worker at a time by a lease: rings, offers that run out, agents who are gone or silent,
 * conversations nobody writes in. Two that overlap for a moment do no harm: every clock is checked again under the locks.
 *
 * No team waits for another. A team's clocks run one after another, beside those of a few other teams, and no round waits for them; what meets a lock
 * that others do not let go soon is put off with all of its team.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { groupBy } from '../platform/group-by.ts';
import type { Logger } from '../platform/logger.ts';
import type { Metrics } from '../platform/metrics.ts';
import { isConflict, isConnectionFailure } from '../platform/pool.ts';
import type { ClockKind } from '../routing/clocks.ts';
import { readSilentAgents, setAwayIfSilent } from '../store/agents.ts';
import { withAttempts } from '../store/database.ts';
import {
  groupDue,
  putOff,
  putOffSilent,
  putOffTeam,
  readDue,
  settleDue,
  settleTogether,
  type DueClock,
} from '../store/due-clocks.ts';
import { acquireLeases, releaseLeases } from '../store/leases.ts';
import { createClockReviews } from './clock-reviews.ts';

export interface Clocks {
  stop(): Promise<void>;
}

const leaseName = 'clocks';
const leaseTtlMs = 15_000;
/** How long a lease is believed, or another's is left alone, without asking again: a write four times a second would say nothing new. */
const leaseTrustMs = 3_000;
const tickMs = 250;
const afterFailureMs = 2_000;
const maxRows = 1_000;
/** Teams at once. */
const maxTeams = 4;
/** Who comes back in seconds need not wait out a lock as often as a person's request does. */
const maxAttempts = 2;
const kinds = [
  'ring',
  'awaited',
  'offer',
  'return',
  'silence',
  'quiet',
  'inactivity',
  'review',
] as const satisfies ClockKind[];

export function startClocks({ pool, metrics, logger }: { pool: pg.Pool; metrics: Metrics; logger: Logger }): Clocks {
  const stopping = new AbortController();
  const { signal } = stopping;
  const lease = createLease(pool);
  const counts = createCounts(metrics);
  const { oldest } = counts;
  const parts = { pool, logger, counts, signal };
  const settleTeam = createTeamClocks(parts);
  const reviews = createClockReviews({ pool, logger, countSkipped: (count) => counts.failed.inc(count) });
  const teams = createWork();
  const errands = createWork();
  const running = run();

  async function run(): Promise<void> {
    while (!signal.aborted) {
      let pauseMs = tickMs;
      try {
        if (!(await lease.isHeld())) oldest.remove();
        else if (await settleRound()) pauseMs = 0;
      } catch (error) {
        // An old number would look like health.
        oldest.remove();
        pauseMs = afterFailureMs;
        logger.warn({ err: error }, 'the clocks could not be read or acted on');
      }
      if (pauseMs > 0) await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    }
    await Promise.all([teams.untilBelow(1), errands.untilBelow(1)]);
    oldest.remove();
    await lease.release().catch(() => undefined);
  }

  /** @returns whether there is more to do at once */
  async function settleRound(): Promise<boolean> {
    for (const work of [teams, errands]) work.throwFailure();
    const due = await readDue(pool, { maxRows, exceptIds: teams.names() });
    oldest.set(Math.max(due[0]?.lateSeconds ?? 0, teams.oldestSeconds()));
    errands.begin('silence', () => setSilentAway(parts));
    errands.begin('reviews', advanceReviews);
    // In the order of the longest due of each. What has no team is by itself.
    for (const [teamId, clocks] of groupBy(due, (clock) => clock.teamId ?? clock.conversationId)) {
      await teams.untilBelow(maxTeams);
      if (signal.aborted || teams.hasFailed()) return false;
      teams.begin(teamId, () => settleTeam(clocks), clocks[0]!.lateSeconds);
    }
    return due.length === maxRows;
  }

  async function advanceReviews(): Promise<void> {
    await withAttempts(maxAttempts, async () => {
      while (await reviews.advance(signal));
    });
  }

  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

interface Parts {
  readonly pool: pg.Pool;
  readonly logger: Logger;
  readonly counts: ReturnType<typeof createCounts>;
  readonly signal: AbortSignal;
}

function createCounts(metrics: Metrics) {
  const fired = metrics.counter('clocks_fired_total', 'Clocks of conversations that ran out and were acted on.', [
    'kind',
  ]);
  for (const kind of kinds) fired.inc({ kind }, 0);
  const failed = metrics.counter('clocks_failed_total', 'Clocks that could not be acted on and were put off.');
  failed.inc(0);
  const contended = metrics.counter(
    'clocks_contended_total',
    'Times that the clocks of a team were put off because others held what they needed.',
  );
  contended.inc(0);
  const oldest = metrics.gauge(
    'clocks_oldest_due_seconds',
    'How late the latest clock is; told by the worker that keeps them.',
  );
  // Else a worker that does not keep them would tell 0.
  oldest.remove();
  return { fired, failed, contended, oldest };
}

function createTeamClocks({ pool, logger, counts, signal }: Parts) {
  /** One group after another, as the team's lock would have them anyway. */
  async function settleTeam(clocks: readonly DueClock[]): Promise<void> {
    const { workspaceId, teamId, conversationId } = clocks[0]!;
    try {
      await withAttempts(maxAttempts, async () => {
        for (const group of groupDue(clocks)) await settleGroup(group);
      });
    } catch (error) {
      if (!isConflict(error)) throw error;
      counts.contended.inc();
      logger.warn({ err: error, workspaceId, teamId }, 'others hold what clocks of this team need; all are put off');
      await putOffTeam(pool, { workspaceId, teamId, conversationId });
    }
  }

  /** What could not be done together is tried one by one, so that what cannot be done harms only itself. */
  async function settleGroup(group: readonly DueClock[]): Promise<void> {
    if (signal.aborted) return;
    const left = await settleTogether(pool, group).catch((error: unknown) => {
      if (isConflict(error) || isConnectionFailure(error)) throw error;
      return group;
    });
    const leftIds = new Set(left.map(({ conversationId }) => conversationId));
    for (const { kind, conversationId } of group) if (!leftIds.has(conversationId)) counts.fired.inc({ kind });
    for (const due of left) if (!signal.aborted) await settleAlone(due);
  }

  async function settleAlone(due: DueClock): Promise<void> {
    const { conversationId, kind } = due;
    try {
      await settleDue(pool, due);
      counts.fired.inc({ kind });
    } catch (error) {
      if (isConflict(error) || isConnectionFailure(error)) throw error;
      counts.failed.inc();
      logger.error({ err: error, conversationId, kind }, 'a clock could not be acted on and is put off');
      await putOff(pool, due);
    }
  }

  return settleTeam;
}

async function setSilentAway({ pool, logger, signal }: Parts): Promise<void> {
  for (const agent of await readSilentAgents(pool, { maxRows })) {
    if (signal.aborted) return;
    try {
      await withAttempts(maxAttempts, () => setAwayIfSilent(pool, agent));
    } catch (error) {
      if (isConnectionFailure(error)) throw error;
      logger.warn({ err: error, ...agent }, 'could not set a silent agent away; it is put off');
      const isContended = isConflict(error);
      await putOffSilent(
        pool,
        agent,
        isContended ? { seconds: 5, withTeams: true } : { seconds: 30, withTeams: false },
      );
      // Others of its teams are in this list, too: the next one is without them.
      if (isContended) return;
    }
  }
}

/** What runs beside the rounds, nothing twice at once. */
function createWork() {
  const running = new Map<string, { readonly done: Promise<void>; readonly dueAt: number }>();
  let failure: { readonly error: unknown } | null = null;
  return {
    names: (): string[] => [...running.keys()],
    /** How late the latest is of what runs. */
    oldestSeconds: (): number =>
      Math.max(0, ...[...running.values()].map(({ dueAt }) => (performance.now() - dueAt) / 1_000)),
    begin(name: string, task: () => Promise<void>, lateSeconds = 0): void {
      if (running.has(name)) return;
      const done = task()
        .catch((error: unknown) => {
          failure = { error };
        })
        .finally(() => running.delete(name));
      running.set(name, { done, dueAt: performance.now() - lateSeconds * 1_000 });
    },
    async untilBelow(count: number): Promise<void> {
      while (running.size >= count) await Promise.race([...running.values()].map(({ done }) => done));
    },
    hasFailed: (): boolean => failure !== null,
    /** Once for what has failed since the last call. */
    throwFailure(): void {
      const found = failure;
      failure = null;
      if (found !== null) throw found.error;
    },
  };
}

function createLease(pool: pg.Pool) {
  const owner = randomUUID();
  let isOurs = false;
  let askedAt = -Infinity;
  return {
    async isHeld(): Promise<boolean> {
      const now = performance.now();
      if (now - askedAt < leaseTrustMs) return isOurs;
      const [held] = await acquireLeases(pool, { names: [leaseName], owner, ttlMs: leaseTtlMs });
      isOurs = held !== undefined;
      askedAt = now;
      return isOurs;
    },
    release: () => releaseLeases(pool, { names: [leaseName], owner }),
  };
}
