import { describe, expect, it } from 'vitest';
import { nextClock, type ClockFacts } from '../../routing/clocks.ts';
import { noRequirements, type Requirements } from '../../routing/requirements.ts';
import { defaultTeamSettings, type TeamSettings } from '../../routing/team-rules.ts';

const minuteMs = 60_000;
const requirements: Requirements = {
  skills: [],
  rings: [
    { afterSeconds: 30, kind: 'relax', levels: [] },
    { afterSeconds: 90, kind: 'fallback', then: 'wait' },
  ],
};

function clockOf(facts: ClockFacts, team: Partial<TeamSettings> = {}, inactivityMinutes: number | null = null) {
  return nextClock(facts, { team: { ...defaultTeamSettings, ...team }, inactivityMinutes });
}

describe('while it waits', () => {
  const waiting = {
    state: 'waiting',
    queuedAtMs: 1_000,
    ring: 0,
    requirements,
    awaitedUntilMs: null,
    offerExpiresAtMs: null,
  } as const;

  it('counts rings from when it came into the queue, one after the other, to the last', () => {
    expect(clockOf(waiting)).toEqual({ kind: 'ring', atMs: 31_000 });
    expect(clockOf({ ...waiting, ring: 1 })).toEqual({ kind: 'ring', atMs: 91_000 });
    expect(clockOf({ ...waiting, ring: 2 })).toBeNull();
    expect(clockOf({ ...waiting, requirements: noRequirements })).toBeNull();
  });

  it('stops awaiting an agent or passes a ring, whichever comes first', () => {
    expect(clockOf({ ...waiting, awaitedUntilMs: 20_000 })).toEqual({ kind: 'awaited', atMs: 20_000 });
    expect(clockOf({ ...waiting, awaitedUntilMs: 40_000 })).toEqual({ kind: 'ring', atMs: 31_000 });
  });

  it('lets nothing but the offer count while an agent is asked', () => {
    expect(clockOf({ ...waiting, awaitedUntilMs: 20_000, offerExpiresAtMs: 99_000 })).toEqual({
      kind: 'offer',
      atMs: 99_000,
    });
  });

  it('knows no clock of an assigned one', () => {
    const team = { silenceMinutes: 1, quietMinutes: 1 };
    expect(clockOf({ ...waiting, requirements: noRequirements }, team, 30)).toBeNull();
  });
});

describe('while an agent has it', () => {
  const assigned = {
    state: 'assigned',
    nowMs: 100 * minuteMs,
    assignedAtMs: 50 * minuteMs,
    returnAtMs: null,
    unansweredSinceMs: 60 * minuteMs,
    lastMessageAtMs: 70 * minuteMs,
    isQuiet: false,
  } as const;

  it('has no clock where no rule asks for one', () => {
    expect(clockOf(assigned)).toBeNull();
  });

  it('counts silence from the oldest unanswered message, at most from the assignment', () => {
    const team = { silenceMinutes: 45 };
    expect(clockOf(assigned, team)).toEqual({ kind: 'silence', atMs: 105 * minuteMs });
    expect(clockOf({ ...assigned, unansweredSinceMs: 10 * minuteMs }, team)).toEqual({
      kind: 'silence',
      atMs: 95 * minuteMs,
    });
  });

  it('looks again after the time of silence where all is answered, as it cannot be due earlier', () => {
    expect(clockOf({ ...assigned, unansweredSinceMs: null }, { silenceMinutes: 45 })).toEqual({
      kind: 'silence',
      atMs: 145 * minuteMs,
    });
  });

  it('becomes quiet once, counted from the last message or the assignment', () => {
    const team = { quietMinutes: 5 };
    expect(clockOf(assigned, team)).toEqual({ kind: 'quiet', atMs: 75 * minuteMs });
    expect(clockOf({ ...assigned, lastMessageAtMs: 0 }, team)).toEqual({ kind: 'quiet', atMs: 55 * minuteMs });
    expect(clockOf({ ...assigned, isQuiet: true }, team)).toBeNull();
  });

  it('closes after inactivity, quiet or not', () => {
    expect(clockOf({ ...assigned, isQuiet: true }, {}, 30)).toEqual({ kind: 'inactivity', atMs: 100 * minuteMs });
    expect(clockOf({ ...assigned, lastMessageAtMs: 0 }, {}, 30)).toEqual({ kind: 'inactivity', atMs: 80 * minuteMs });
  });

  it('goes back when the grace time of its agent ends', () => {
    expect(clockOf({ ...assigned, returnAtMs: 101 * minuteMs })).toEqual({ kind: 'return', atMs: 101 * minuteMs });
  });

  it('names the earliest of all', () => {
    const facts = { ...assigned, returnAtMs: 101 * minuteMs };
    const team = { silenceMinutes: 45, quietMinutes: 32 };
    expect(clockOf(facts, team, 40)).toEqual({ kind: 'return', atMs: 101 * minuteMs });
    expect(clockOf(facts, { ...team, quietMinutes: 30 }, 40)).toEqual({ kind: 'quiet', atMs: 100 * minuteMs });
    expect(clockOf(facts, { ...team, silenceMinutes: 39 }, 40)).toEqual({ kind: 'silence', atMs: 99 * minuteMs });
  });
});
