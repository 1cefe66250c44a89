import { expect, inject, test } from 'vitest';
import { startBenchServer } from './bench-server.ts';
import { renderTable } from './figures.ts';
import { runIngest } from './ingest.ts';

test('the bench of ingest runs at a tiny size, and everything it was told as stored is there', async () => {
  const server = await startBenchServer(inject('postgresUrl'), () => undefined);
  const notes: string[] = [];
  try {
    const report = await runIngest(
      {
        server,
        note: (line) => notes.push(line),
        runs: 1,
        minutes: null,
        rate: null,
        engine: () => Promise.reject(new Error('ingest needs no engine')),
      },
      { contacts: 30, connections: 4, batchConnections: 2, batch: 20, seconds: 0.4, warmUpSeconds: 0.1 },
    );
    expect(report.faults).toEqual([]);
    expect(report.verdicts.map(({ value }) => value > 0 && Number.isFinite(value))).toEqual([true, true, true]);
    const text = report.tables.map(renderTable).join('\n');
    expect(text).toContain('store batched');
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
    expect(notes.at(-1)).toBe('checking the invariants');
  } finally {
    await server.stop();
  }
});
