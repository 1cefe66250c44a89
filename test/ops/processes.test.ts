import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { takeLauncherLock } from '../../ops/launcher-lock.ts';
import { readProcessIdentity, type ProcessRecord } from '../../ops/process-identity.ts';
import { nodeArguments, openProcessRegistry } from '../../ops/processes.ts';
import { readJson, writeJson } from '../../ops/state-files.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'switchyard-ops-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const sleeper = (name: string) => ({ name, command: process.execPath, args: ['-e', 'setInterval(() => {}, 1000)'] });

test('stops processes in the reverse order of their start, and those that ignore the signal by force', async () => {
  const registry = await openProcessRegistry({ file: join(folder, 'order.json'), log: () => undefined });
  const ready = new Promise<void>((resolve) =>
    registry.start({
      ...sleeper('stubborn'),
      args: ['-e', "process.on('SIGTERM', () => {}); console.log('ready'); setInterval(() => {}, 1000)"],
      stopTimeoutMs: 200,
      onLine: () => resolve(),
    }),
  );
  registry.start(sleeper('second'));
  await ready;
  const order: string[] = [];
  await registry.stopAll((name) => order.push(name));
  expect(order).toEqual(['second', 'stubborn']);
  expect(() => registry.start(sleeper('late'))).toThrow('being stopped');
  expect(readJson(join(folder, 'order.json'))).toBeNull();
});

test('reports a process that ends although nobody asked it to, with the end of its log', async () => {
  const registry = await openProcessRegistry({ file: join(folder, 'died.json'), log: () => undefined });
  const died = new Promise<string>((resolve) =>
    registry.onUnexpectedExit((child, reason) => resolve(`${child.name}: ${reason}: ${child.readTail()}`)),
  );
  const logFile = join(folder, 'dying.log');
  writeFileSync(logFile, 'of an earlier run\n');
  registry.start({ name: 'dying', command: '/bin/sh', args: ['-c', 'echo last words; exit 3'], logFile });
  expect(await died).toBe('dying: exit code 3: last words');
  await registry.stopAll();
});

test.each([
  ['its guard stops everything', false],
  ['the next start stops everything, when the guard was killed too', true],
])(
  'after its owner was killed by SIGKILL, %s',
  async (_, killGuard) => {
    const file = join(folder, `killed-${killGuard}.json`);
    const source = fileURLToPath(new URL('./registry-owner.ts', import.meta.url));
    const owner = spawn(process.execPath, [...nodeArguments(source), file], { stdio: ['ignore', 'pipe', 'inherit'] });
    const guardPid = await new Promise<number>((resolve) => owner.stdout.once('data', (text) => resolve(Number(text))));
    const { processes } = readJson<{ processes: ProcessRecord[] }>(file) ?? { processes: [] };
    const pids = processes.map(({ pid }) => pid);
    expect(pids).toHaveLength(2);
    expect(guardPid).toBeGreaterThan(0);

    if (killGuard) process.kill(guardPid, 'SIGKILL');
    owner.kill('SIGKILL');
    if (killGuard) {
      await expect.poll(() => readProcessIdentity(guardPid)).toBeNull();
      await expect.poll(() => readProcessIdentity(owner.pid ?? 0)).toBeNull();
      expect(pids.every((pid) => readProcessIdentity(pid) !== null)).toBe(true);
      const lines: string[] = [];
      const registry = await openProcessRegistry({ file, log: (line) => lines.push(line) });
      expect(lines).toHaveLength(2);
      await registry.stopAll();
    }
    await expect.poll(() => pids.map(readProcessIdentity), { timeout: 10_000 }).toEqual([null, null]);
  },
  20_000,
);

test('never signals a process that merely has the pid of a recorded one', async () => {
  const stranger = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  const pid = stranger.pid ?? 0;
  const file = join(folder, 'stranger.json');
  const record: ProcessRecord = {
    name: 'PostgreSQL',
    pid,
    identity: 'x/1',
    stopSignals: ['SIGTERM'],
    stopTimeoutMs: 100,
  };
  writeJson(file, { owner: { pid, identity: 'x/1' }, processes: [record] });
  const registry = await openProcessRegistry({ file, log: () => undefined });
  expect(readProcessIdentity(pid)).not.toBeNull();
  await registry.stopAll();
  stranger.kill('SIGKILL');
});

test('the lock of a living launcher holds, that of a dead one is taken over', async () => {
  const file = join(folder, 'launcher.lock');
  const lock = await takeLauncherLock(file, 0);
  await expect(takeLauncherLock(file, 0)).rejects.toThrow(`process ${process.pid}`);
  lock.release();
  writeFileSync(file, JSON.stringify({ pid: process.pid, identity: 'another boot/1', since: '' }));
  const taken = await takeLauncherLock(file, 0);
  expect(readFileSync(file, 'utf8')).toContain(readProcessIdentity(process.pid));
  taken.release();
});
