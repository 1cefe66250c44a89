import { expect, test } from 'vitest';
import { runSteps } from './steps.ts';
import { runTiny } from './tiny-bench.ts';

test('sets and actors serve every contact once, and a set costs fewer round trips for each than contacts one by one', async () => {
  const { report } = await runTiny((bench) => runSteps(bench, { sizes: [1, 8], conversations: 24 }));
  expect(report.faults).toEqual([]);
  const figures = report.figures as { way: string; size: number; roundTrips: number }[];
  const roundTripsOf = (way: string, size: number): number =>
    figures.find((figure) => figure.way === way && figure.size === size)!.roundTrips;
  expect(figures).toHaveLength(4);
  for (const way of ['sets', 'actors']) expect(roundTripsOf(way, 8), way).toBeLessThan(roundTripsOf(way, 1));
});
