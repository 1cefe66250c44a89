import { createInterface } from 'node:readline';
import { endProcess, type ProcessRecord } from './process-identity.ts';

/*
 * Started by processes.ts beside the launcher, with a pipe as its input. It is told of every process; when the pipe closes (the
 * launcher has ended, however), it stops those it still knows, last started first. Its own process group keeps it clear of Ctrl-C.
 */

const known: ProcessRecord[] = [];

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line) as { add: ProcessRecord } | { remove: number };
  if ('add' in message) known.push(message.add);
  else {
    const index = known.findIndex((record) => record.pid === message.remove);
    if (index >= 0) known.splice(index, 1);
  }
}
for (const record of known.toReversed()) await endProcess(record);
