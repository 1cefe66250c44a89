import { expect, inject, test } from 'vitest';
import { runCeiling, type CeilingRunOptions } from './ceiling.ts';
import type { BenchContext } from './context.ts';
import type { Engine } from './engine.ts';
import { renderTable } from './figures.ts';

test('the ceiling is found for local activities by updates and for regular ones by signals, and costs are told by component', async () => {
  const engine: Engine = {
    address: inject('temporalAddress'),
    namespace: 'default',
    facts: { Engine: 'the suite’s own' },
    processes: [],
    stop: () => Promise.resolve(),
  };
  const notes: string[] = [];
  const bench: Omit<BenchContext, 'server'> = {
    note: (line) => notes.push(line),
    runs: 1,
    minutes: null,
    rate: null,
    engine: () => Promise.resolve(engine),
  };
  const options: CeilingRunOptions = {
    variants: ['one-local', 'three-regular'],
    seconds: 0.7,
    warmUpSeconds: 0.7,
    inFlight: 3,
  };
  const report = await runCeiling(bench as BenchContext, options);
  expect(notes).toHaveLength(2);
  const { variants } = report.figures as { variants: { variant: string; conversationsPerSecond: number; cpuMs: [] }[] };
  expect(variants.map(({ variant }) => variant)).toEqual(options.variants);
  for (const { conversationsPerSecond, cpuMs } of variants) {
    expect(conversationsPerSecond).toBeGreaterThan(0.5);
    if (process.platform === 'linux')
      expect(cpuMs).toContainEqual({ name: 'worker', perConversation: expect.any(Number) });
  }
  const text = report.tables.map(renderTable).join('\n');
  expect(text).toContain('three regular activities, by signals');
  expect(text).not.toMatch(/NaN|undefined|Infinity/);
});
