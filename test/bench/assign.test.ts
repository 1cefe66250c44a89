import pg from 'pg';
import { expect, inject, test } from 'vitest';
import { runAssign } from './assign.ts';
import { startBenchServer } from './bench-server.ts';
import { renderTable, renderVerdict } from './figures.ts';

test('the bench of assignment runs at a tiny size, ends with all invariants kept and leaves no database behind', async () => {
  const url = inject('postgresUrl');
  const server = await startBenchServer(url, () => undefined);
  const notes: string[] = [];
  try {
    const report = await runAssign(server, (line) => notes.push(line), {
      sizes: {
        small: { agents: 6, teams: 2, waiting: 60 },
        large: { agents: 12, teams: 3, waiting: 180 },
        long: { agents: 6, teams: 2, waiting: 180 },
      },
      rounds: 2,
      budgetMs: 1,
      connections: 3,
      coreDecisions: 20,
    });
    expect(report.faults).toEqual([]);
    expect(report.verdicts.map(({ value }) => value > 0 && Number.isFinite(value))).toEqual([true, true, true, true]);
    expect(report.verdicts.map(renderVerdict).join('\n')).toMatch(/large to small: \d+\.\d\d \(at most 1\.5\)/);
    const text = report.tables.map(renderTable).join('\n');
    expect(text).toContain('transaction p99');
    expect(text).toMatch(/close: round trips +\d/);
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
    expect(JSON.parse(JSON.stringify(report.figures))).toMatchObject({ recordBytes: { raw: expect.any(Number) } });
    expect(notes.at(-1)).toBe('checking the invariants');
  } finally {
    await server.stop();
  }
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { rows: left } = await client.query(`SELECT datname FROM pg_database WHERE datname LIKE 'bench\\_%'`);
  await client.end();
  expect(left).toEqual([]);
});
