import { readdirSync, readFileSync } from 'node:fs';
import { openProcessRegistry } from '../../ops/processes.ts';

/* Run by processes.test.ts and killed by it: opens a registry with two processes and prints the pid of its guard. */

const registry = await openProcessRegistry({ file: process.argv[2] ?? '', log: () => undefined });
for (const name of ['one', 'two']) registry.start({ name, command: 'sleep', args: ['600'] });
console.log(findGuard());
setInterval(() => undefined, 1_000);

function findGuard(): number {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const parent = readFileSync(`/proc/${name}/stat`, 'latin1').split(') ').at(-1)?.split(' ')[1];
      const isGuard = readFileSync(`/proc/${name}/cmdline`, 'latin1').includes('ops/guard.ts');
      if (Number(parent) === process.pid && isGuard) return Number(name);
    } catch {
      // Ended meanwhile.
    }
  }
  return 0;
}
