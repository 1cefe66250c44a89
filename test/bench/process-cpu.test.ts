import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { readCpuMs, readMemoryMiB, startCpuMeter } from './process-cpu.ts';

const burn = (ms: number) =>
  `const before = process.cpuUsage(); while (process.cpuUsage(before).user < ${ms} * 1000) Math.random();`;

test.runIf(process.platform === 'linux')(
  'the CPU time of a process is told with that of its children, those that have ended as well, and by thread',
  async () => {
    // Burns 200 ms in a child that ends, 200 ms in one that stays, and 300 ms in a thread; says so, and waits for its input to end.
    const parent = spawn(
      process.execPath,
      [
        '-e',
        `const { spawn, spawnSync } = require('node:child_process');
         const { Worker } = require('node:worker_threads');
         process.stdin.once('data', () => {
           spawnSync(process.execPath, ['-e', ${JSON.stringify(burn(200))}]);
           const stays = spawn(process.execPath, ['-e', ${JSON.stringify(`${burn(200)} console.log('done'); setInterval(() => 0, 1000);`)}]);
           stays.stdout.once('data', () => {
             new Worker(${JSON.stringify(`${burn(300)} require('node:worker_threads').parentPort.postMessage(1); setInterval(() => 0, 1000);`)}, { eval: true })
               .once('message', () => console.log('done'));
           });
           process.stdin.once('end', () => { stays.kill(); process.exit(); });
         });
         console.log('ready');`,
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const ended = once(parent, 'exit');
    try {
      await once(parent.stdout, 'data');
      const read = startCpuMeter([{ name: 'parent', pids: [parent.pid!], byThread: true }]);
      parent.stdin.write('go\n');
      await once(parent.stdout, 'data');
      const found = Object.fromEntries(read().map(({ name, cpuMs }) => [name, cpuMs]));
      expect(found['parent']).toBeGreaterThanOrEqual(690);
      expect(found['parent: workflow thread']).toBeGreaterThanOrEqual(290);
      expect(found['parent: workflow thread']).toBeLessThan(found['parent']! - 380);
      expect(readCpuMs(parent.pid!)).toBeGreaterThanOrEqual(found['parent']!);
      expect(readMemoryMiB(parent.pid!)).toBeGreaterThan(20);
    } finally {
      parent.stdin.end();
      await ended;
    }
  },
);
