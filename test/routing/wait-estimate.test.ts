import { describe, expect, it } from 'vitest';
import { estimateWaitSeconds } from '../../routing/wait-estimate.ts';

describe('the estimate', () => {
  it('is the position divided by the throughput of late', () => {
    expect(estimateWaitSeconds({ position: 1, startedInWindow: 60, windowSeconds: 1_800 })).toBe(30);
    expect(estimateWaitSeconds({ position: 10, startedInWindow: 60, windowSeconds: 1_800 })).toBe(300);
  });

  it('says nothing where nothing was assigned of late', () => {
    expect(estimateWaitSeconds({ position: 1, startedInWindow: 0, windowSeconds: 1_800 })).toBeNull();
  });
});

describe('its error, in a simulated team of 20 agents with conversations of 5 minutes on average', () => {
  const waits = simulateDays(20).filter(({ waitedSeconds }) => waitedSeconds >= 60);

  it.each([
    { name: 'all who waited for a minute or more', longestEstimateSeconds: Infinity, atMost: 0.15 },
    { name: 'those of them who were told of at most five minutes', longestEstimateSeconds: 300, atMost: 0.2 },
  ])('is in the median at most $atMost of the wait: $name', ({ name, longestEstimateSeconds, atMost }) => {
    const errors = waits
      .filter(({ estimateSeconds }) => estimateSeconds <= longestEstimateSeconds)
      .map(({ estimateSeconds, waitedSeconds }) => Math.abs(estimateSeconds - waitedSeconds) / waitedSeconds)
      .toSorted((left, right) => left - right);
    const percent = (part: number) => `${(100 * errors[Math.floor(part * errors.length)]!).toFixed(1)} %`;
    process.stdout.write(`error of the estimated wait, ${name}: median ${percent(0.5)}, p90 ${percent(0.9)}\n`);
    expect(errors.length).toBeGreaterThan(1_000);
    expect(errors[errors.length >> 1]).toBeLessThanOrEqual(atMost);
  });
});

interface Waited {
  readonly estimateSeconds: number;
  readonly waitedSeconds: number;
}

/** Days of eight hours, whose load is drawn anew every half hour between 60 and 120 % of what the team can do. */
function simulateDays(days: number): Waited[] {
  const random = randomNumbers(4);
  return Array.from({ length: days }, () => simulateDay(random)).flat();
}

function simulateDay(random: () => number): Waited[] {
  const servers = 20;
  const meanServiceSeconds = 300;
  const windowSeconds = 900;
  const freeAt = Array.from({ length: servers }, () => 0);
  /** When each conversation was given to an agent, in the order of arrival, which is the order of serving. */
  const startedAt: number[] = [];
  const waits: Waited[] = [];
  let load = 1;
  let loadUntil = 0;
  for (let now = 0; now < 8 * 3_600; now += (exponential(random) * meanServiceSeconds) / servers / load) {
    if (now >= loadUntil) {
      load = 0.6 + 0.6 * random();
      loadUntil = now + 1_800;
    }
    const server = freeAt.indexOf(Math.min(...freeAt));
    const start = Math.max(now, freeAt[server]!);
    // Half of it fixed, so that it varies less than an exponential one, as conversations do.
    freeAt[server] = start + meanServiceSeconds * (0.5 + 0.5 * exponential(random));
    if (start > now && now > windowSeconds) {
      const position = startedAt.filter((at) => at > now).length + 1;
      const startedInWindow = startedAt.filter((at) => at > now - windowSeconds && at <= now).length;
      const estimateSeconds = estimateWaitSeconds({ position, startedInWindow, windowSeconds });
      if (estimateSeconds !== null) waits.push({ estimateSeconds, waitedSeconds: start - now });
    }
    startedAt.push(start);
  }
  return waits;
}

function exponential(random: () => number): number {
  return -Math.log(1 - random());
}

/** The same numbers in each run: mulberry32. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
