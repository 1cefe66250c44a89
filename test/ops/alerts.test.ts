import { readFile, readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const alerts = await readFile(join(root, 'ops/prometheus/alerts.yml'), 'utf8');

test('alerts and runbooks name metrics that exist', async () => {
  const metrics = await readDeclaredMetrics();
  const runbooks = await Promise.all(
    (await readdir(join(root, 'ops/runbooks'))).map((name) => readFile(join(root, 'ops/runbooks', name), 'utf8')),
  );
  const named = new Set([alerts, ...runbooks].flatMap((text) => text.match(/\bswitchyard_\w+/g) ?? []));
  expect(named.size).toBeGreaterThan(5);
  expect([...named].filter((name) => !metrics.has(name.replace(/_(bucket|count|sum)$/, '')))).toEqual([]);
});

test('every alert names a runbook that exists, and the list of runbooks names every alert', async () => {
  const list = await readFile(join(root, 'ops/runbooks/README.md'), 'utf8');
  const blocks = alerts.split('- alert: ').slice(1);
  expect(blocks.length).toBeGreaterThan(0);
  for (const block of blocks) {
    const [, name = ''] = /^(\w+)/.exec(block) ?? [];
    const [, runbook = '', anchor] = /runbook: ([\w./-]+)(?:#([\w-]+))?/.exec(block) ?? [];
    const text = await readFile(join(root, runbook), 'utf8');
    const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
      heading.toLowerCase().replaceAll(' ', '-'),
    );
    if (anchor !== undefined) expect(headings, name).toContain(anchor);
    expect(list).toContain(name);
  }
});

/** By their declarations in the code: counter, gauge or histogram, and the name. */
async function readDeclaredMetrics(): Promise<Set<string>> {
  const names = new Set<string>();
  for (const room of ['activities', 'api', 'platform', 'store', 'worker']) {
    for (const file of await readdir(join(root, room))) {
      if (!file.endsWith('.ts')) continue;
      const code = await readFile(join(root, room, file), 'utf8');
      for (const [, name = ''] of code.matchAll(/\b(?:counter|gauge|histogram)\(\s*'(\w+)'/g))
        names.add(`switchyard_${name}`);
    }
  }
  return names;
}
