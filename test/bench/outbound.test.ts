import { expect, test } from 'vitest';
import { runOutbound } from './outbound.ts';
import { runTiny } from './tiny-bench.ts';

test('outbound delivers all there is, and tells the rate beside the same requests from memory', async () => {
  const cases = [
    { channels: 1, delayMs: 0 },
    { channels: 2, delayMs: 20 },
  ];
  const { report } = await runTiny((bench) => runOutbound(bench, { messages: 40, cases }));
  expect(report.faults).toEqual([]);
  expect(report.figures).toMatchObject(cases);
  for (const { perSecond, ratio } of report.figures as { perSecond: number; ratio: number }[]) {
    expect(perSecond).toBeGreaterThan(1);
    expect(ratio).toBeGreaterThan(0);
  }
});
