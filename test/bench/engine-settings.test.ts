import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { engineProgramsFolder } from './engine-programs.ts';
import { engineSettings, type SettingGroup } from './engine-setting-list.ts';
import { runEngineSettings } from './engine-settings.ts';
import { renderTable, type Table } from './figures.ts';

const groups: readonly SettingGroup[] = [
  {
    title: 'two of three',
    settings: [
      { name: 'GOGC 100', tuning: { env: { GOGC: '100' } } },
      { name: '2 workflow task pollers', ceiling: { worker: { maxConcurrentWorkflowTaskPolls: 2 } } },
    ],
  },
  { title: 'never asked for', settings: [{ name: '1 history shard', shards: 1 }] },
];

// To build the server takes 8 min: it is tried where a bench has been run before.
test.skipIf(!existsSync(join(engineProgramsFolder(), 'temporal-sql-tool')))(
  'the settings asked for are measured beside what is shipped, and told as ratios to it',
  async () => {
    const bench = { note: () => undefined, runs: 1, only: ['gogc'] };
    const { tables } = await runEngineSettings(bench, { groups, seconds: 1, warmUpSeconds: 1, idleSeconds: 0.2 });
    const [{ rows }, ...others] = tables as [Table];
    expect(others).toEqual([]);
    expect(rows.map(([name]) => name)).toEqual(['as shipped', 'GOGC 100', 'as shipped, again']);
    if (process.platform === 'linux') expect(rows[1]![1]).toMatch(/^\d\.\d\d ×$/);
    expect(tables.map(renderTable).join('\n')).not.toMatch(/NaN|undefined|Infinity/);
  },
);

test('no two settings have the same name, so that --only finds what it says', () => {
  const names = engineSettings.flatMap(({ settings }) => settings.map(({ name }) => name));
  expect(names).toEqual([...new Set(names)]);
});
