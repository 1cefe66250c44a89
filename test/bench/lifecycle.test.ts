import { expect, test } from 'vitest';
import { renderTable, type ScenarioReport } from './figures.ts';
import { runLatency } from './latency.ts';
import { runLifecycle } from './lifecycle.ts';
import type { StepFigures } from './load-figures.ts';
import { runTiny, tinyEnv } from './tiny-bench.ts';

test('lifecycle finds a rate at a tiny size, tells what it costs by component, and all invariants hold', async () => {
  const { report, notes } = await runTiny((bench) =>
    runLifecycle(bench, {
      contacts: 4,
      warmUpRate: 4,
      stepSeconds: 1.5,
      leadInSeconds: 0.5,
      // Two steps: one up, and no looking between.
      search: { startRate: 2, factor: 2, refinements: 0, highestRate: 4 },
      ceilingSeconds: 0,
      env: tinyEnv(),
    }),
  );
  expect(report.faults).toEqual([]);
  expect(report.verdicts.map(({ what }) => what)).toEqual([
    'conversations/s, opened to closed',
    'open→assigned p99 at half of that, ms',
  ]);
  const { found, half } = report.figures as { found: { steps: StepFigures[] }[]; half: StepFigures[] };
  const [first] = found[0]!.steps;
  expect(first).toMatchObject({ rate: 2, refusals: {}, waited: 0, unfinished: 0 });
  expect(first!.openToAssignedMs.p50).toBeGreaterThan(0);
  expect(first!.closeToClosedMs.p50).toBeGreaterThan(0);
  expect(half).toHaveLength(1);
  if (process.platform === 'linux') {
    const cost = first!.cpuPerConversationMs;
    expect(Object.keys(cost)).toEqual(
      expect.arrayContaining(['API', 'worker', 'worker: workflow thread', 'PostgreSQL', 'load generator']),
    );
    expect(cost['worker']).toBeGreaterThan(0);
  }
  expect(renderAll(report)).not.toMatch(/NaN|undefined|Infinity/);
  expect(notes.at(-1)).toBe('checking the invariants');
});

test('latency tells the percentiles of single conversations, of known contacts and of new ones', async () => {
  const { report } = await runTiny((bench) =>
    runLatency(bench, { contacts: 3, warmUpRate: 4, rate: 4, seconds: 2, env: tinyEnv() }),
  );
  expect(report.faults).toEqual([]);
  for (const { value } of report.verdicts) expect(value).toBeGreaterThan(0);
  const { known, strangers } = report.figures as Record<string, { newContacts: number; unfinished: number }[]>;
  expect(known).toMatchObject([{ unfinished: 0 }]);
  expect(strangers![0]!.newContacts).toBeGreaterThan(2);
  expect(renderAll(report)).toContain('new contact: open→assigned');
  expect(renderAll(report)).not.toMatch(/NaN|undefined|Infinity/);
});

const renderAll = ({ tables }: ScenarioReport): string => tables.map(renderTable).join('\n');
