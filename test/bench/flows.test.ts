import { expect, test } from 'vitest';
import type { FlowParts } from './flow-parts.ts';
import { ratiosOf, runFlows } from './flows.ts';
import type { StepFigures } from './load-figures.ts';
import { runTiny, tinyEnv } from './tiny-bench.ts';

test('flows takes turns between the shortest flow and a long one, and tells what each costs', async () => {
  const { report } = await runTiny((bench) =>
    runFlows(bench, { contacts: 3, warmUpRate: 4, rate: 3, seconds: 2, turns: 1, env: tinyEnv() }),
  );
  expect(report.faults).toEqual([]);
  const { minimal, long, parts } = report.figures as Record<'minimal' | 'long', StepFigures[]> & { parts: FlowParts };
  expect([...minimal, ...long]).toMatchObject([{ unfinished: 0 }, { unfinished: 0 }]);
  for (const figure of Object.values(parts)) expect(figure).toBeGreaterThan(0);
  if (process.platform === 'linux') expect(report.verdicts[0]!.value).toBeGreaterThan(0.2);
});

test('the ratio is the median of all turns, and its spread that of the runs’ own medians', () => {
  const minimal = Array.from({ length: 9 }, () => 10);
  // Three runs of three turns, each with a turn that the machine spoilt.
  const long = [10, 9, 30, 11, 5, 12, 13, 12, 40];
  expect(ratiosOf({ minimal, long }, 3)).toEqual({ median: 1.2, lowest: 1, highest: 1.3 });
  expect(ratiosOf({ minimal: [10, 10], long: [11, 11] }, 1)).toEqual({ median: 1.1, lowest: 1.1, highest: 1.1 });
});
