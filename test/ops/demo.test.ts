import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ensureDemoWorkspace, type DemoWorkspace } from '../../ops/demo-workspace.ts';
import { extendEnvironment } from '../../platform/config.ts';
import { createApiClient, type ApiClient } from '../support/api-client.ts';
import { startSystem, type TestSystem } from '../support/system.ts';

let system: TestSystem;
let home: string;
let workspace: DemoWorkspace;
let api: ApiClient;

beforeAll(async () => {
  system = await startSystem();
  home = await mkdtemp(join(tmpdir(), 'switchyard-demo-'));
  const apiUrl = system.apis[0]!.url;
  workspace = await ensureDemoWorkspace({
    stateDir: home,
    databaseUrl: system.database.url,
    databaseName: 'test',
    apiUrl,
    log: () => undefined,
  });
  api = createApiClient(apiUrl, workspace.keys);
  await writeFile(join(home, 'dev.json'), JSON.stringify({ apiUrl, ...workspace }));
});
afterAll(async () => {
  await system?.stop();
  if (home !== undefined) await rm(home, { recursive: true, force: true });
});

test('the demo plays its scenario, leaves nothing open and everybody as they were, and says that all is well', async () => {
  const before = await readPresence();
  const [first] = Object.keys(before);
  await api.call('PUT', `/v1/agents/${first}/presence`, { status: 'offline' });

  const { code, output } = await runDemo(['--contacts', '12', '--unloaded', '3']);

  expect(output).toContain('All is well.');
  expect(code).toBe(0);
  expect(output).toMatch(/Contacts +17, in 8 languages/);
  expect(output).toMatch(/Messages +\d+ accepted; \d+ deliveries came again; \d+ replies/);
  expect(output).toMatch(/unloaded \(3 conversations.*\n.*openedAt to assignedAt +p50 \d+ ms/);
  expect(output).toMatch(/at most [1-9]\d* waited for an agent at once/);
  expect(output).not.toContain('\x1b[');
  expect(await readPresence()).toEqual({ ...before, [first!]: 'offline' });
  expect(await countOpen()).toBe(0);
  await api.call('PUT', `/v1/agents/${first}/presence`, { status: 'online' });
});

test('Ctrl-C ends the demo with 130, restores presence and closes what it opened', async () => {
  const before = await readPresence();
  const { code, output } = await runDemo(['--contacts', '12', '--unloaded', '1'], 'Agents come');
  expect(output).toContain('Stopped');
  expect(output).not.toContain('Summary');
  expect(code).toBe(130);
  expect(await readPresence()).toEqual(before);
  expect(await countOpen()).toBe(0);
});

test('without a running system, the demo says what to do', async () => {
  const empty = await runDemo([], null, join(home, 'nothing'));
  expect(empty.code).toBe(1);
  expect(empty.output).toMatch(/There is no .*dev\.json.*\nRun `npm start`/);

  const stale = await mkdtemp(join(tmpdir(), 'switchyard-demo-'));
  await writeFile(join(stale, 'dev.json'), JSON.stringify({ apiUrl: 'http://127.0.0.1:9', keys: workspace.keys }));
  const unreachable = await runDemo([], null, stale);
  expect(unreachable.code).toBe(1);
  expect(unreachable.output).toMatch(/does not answer at http:\/\/127\.0\.0\.1:9.*\nRun `npm start`/);
  await rm(stale, { recursive: true });
});

/** @param interruptAt the demo gets a SIGINT as soon as it has said this. */
async function runDemo(
  args: string[],
  interruptAt: string | null = null,
  stateDir = home,
): Promise<{ code: number | null; output: string }> {
  const root = fileURLToPath(new URL('../../', import.meta.url));
  const child = spawn(process.execPath, ['ops/bootstrap.mjs', 'ops/demo/demo.ts', ...args], {
    cwd: root,
    env: extendEnvironment({ SWITCHYARD_HOME: stateDir }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let isInterrupted = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (interruptAt === null || isInterrupted || !output.includes(interruptAt)) return;
      isInterrupted = true;
      child.kill('SIGINT');
    });
  }
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}

async function readPresence(): Promise<Record<string, string>> {
  const { items } = await api.get('/v1/agents');
  return Object.fromEntries(items.map((agent: { id: string; presence: string }) => [agent.id, agent.presence]));
}

async function countOpen(): Promise<number> {
  const { rows } = await system.database.pool.query(
    'SELECT count(*)::int AS open FROM conversations WHERE workspace_id = $1 AND closed_at IS NULL',
    [workspace.workspaceId],
  );
  return rows[0].open;
}
