import { expect, test } from 'vitest';
import type { StepFigures } from './load-figures.ts';
import { findHighestRate, keepsUp } from './rate-search.ts';

const search = { startRate: 20, factor: 1.4, refinements: 3 };

/** A system that carries so much, and completes that much when more is offered. */
function stepOf(rate: number, capacity: number): StepFigures {
  const backlog = Math.max(0, rate - capacity) * 10;
  const none = { p50: 1, p95: 1, p99: 1 };
  return {
    rate,
    completedPerSecond: Math.min(rate, capacity),
    completedShare: Math.min(1, capacity / rate),
    openToAssignedMs: none,
    openToSeenMs: none,
    postToAnswerMs: none,
    closeToClosedMs: none,
    underWay: { first: 4, last: 4 + backlog },
    ...{ newContacts: 0, refusals: {}, waited: 0, unfinished: 0, cpuPerConversationMs: {} },
  };
}

test.each([3, 20, 33, 100, 700])('a capacity of %i/s is found from below, to a tenth', async (capacity) => {
  const asked: number[] = [];
  const found = await findHighestRate((rate) => {
    asked.push(rate);
    return Promise.resolve(stepOf(rate, capacity));
  }, search);
  expect(found.highest).toBeLessThanOrEqual(capacity * 1.0205);
  expect(found.highest).toBeGreaterThan(capacity * 0.9);
  expect(found.mostCompleted).toBeLessThanOrEqual(capacity);
  expect(asked.length).toBeLessThan(18);
});

test('where not even the lowest rate is kept up with, none is claimed', async () => {
  const found = await findHighestRate((rate) => Promise.resolve(stepOf(rate, 0.3)), search);
  expect(found).toMatchObject({ highest: null, mostCompleted: 0.3 });
});

test('who completes nearly all while more and more are on the way, refuses some or leaves some behind does not keep up', () => {
  const good = stepOf(20, 30);
  expect(keepsUp(good)).toBe(true);
  expect(keepsUp({ ...good, completedShare: 0.97 })).toBe(false);
  expect(keepsUp({ ...good, completedShare: 0.99, underWay: { first: 20, last: 40 } })).toBe(false);
  expect(keepsUp({ ...good, refusals: { 503: 1 } })).toBe(false);
  expect(keepsUp({ ...good, unfinished: 1 })).toBe(false);
});
