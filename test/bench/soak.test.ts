import { expect, test } from 'vitest';
import { renderTable } from './figures.ts';
import type { StepFigures } from './load-figures.ts';
import { runNeighbours } from './neighbours.ts';
import { growthOf, runSoak } from './soak.ts';
import { runTiny, tinyEnv } from './tiny-bench.ts';

test('growth is told by the last third against the third before, and not by the start', () => {
  expect(growthOf([1, 2, 50, 50, 50, 50])).toBe(1);
  expect(growthOf([50, 50, 50, 60, 70, 90])).toBeCloseTo(80 / 55, 0);
});

test('the soak looks at memory, latency and tables each time, at a tiny size, and all invariants hold', async () => {
  const { report } = await runTiny((bench) =>
    runSoak({ ...bench, rate: 3 }, { minutes: 0.05, secondsPerLook: 1, contacts: 4, warmUpRate: 4, env: tinyEnv() }),
  );
  expect(report.faults).toEqual([]);
  const { looks } = report.figures as { looks: { memoryMiB: Record<string, number>; tables: object }[] };
  expect(looks).toHaveLength(3);
  for (const { memoryMiB, tables } of looks) {
    expect(Object.keys(tables)).toEqual(expect.arrayContaining(['outbox', 'messages', 'conversations', 'agents']));
    if (process.platform === 'linux') expect(memoryMiB['worker']).toBeGreaterThan(20);
  }
  expect(report.verdicts.map(({ what }) => what)).toContain('size of outbox, last third to the third before');
  expect(report.tables.map(renderTable).join('\n')).not.toMatch(/NaN|undefined/);
});

test('quiet workspaces are measured alone and beside a burst of another one, at a tiny size, and all invariants hold', async () => {
  const { report } = await runTiny((bench) =>
    runNeighbours(bench, {
      quietWorkspaces: 2,
      quietRate: 3,
      seconds: 2,
      burst: 12,
      everySeconds: 2,
      env: tinyEnv(),
    }),
  );
  expect(report.faults).toEqual([]);
  const { alone, beside, noise } = report.figures as Record<string, StepFigures[]>;
  for (const steps of [alone, beside, noise]) expect(steps![0]).toMatchObject({ unfinished: 0, refusals: {} });
  // One burst in the measured time.
  expect(noise![0]!.newContacts).toBeGreaterThanOrEqual(12);
  expect(report.tables.map(renderTable).join('\n')).toContain('quiet ones beside the noise');
});
