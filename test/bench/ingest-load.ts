/**
 * The load of the scenario `ingest`, in a process of its own: so many connections, each of which sends its next request when the last
 * is answered. What it finds is how much is taken in at the most, not how long one waits: for that there is `latency`.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createConnections, type Connections } from './load-connections.ts';

export interface IngestLoad {
  readonly url: string;
  readonly key: string;
  /** Messages in a request; 1 uses the route for single messages. */
  readonly batch: number;
  readonly connections: number;
  readonly seconds: number;
  /** `visitor-0` and so on. */
  readonly contacts: number;
  /** Makes external ids unique among runs. */
  readonly run: string;
}

export interface LoadMessage {
  readonly channel: string;
  readonly externalId: string;
  readonly contact: { readonly externalId: string };
  readonly text: string;
}

export interface IngestLoadReport {
  /** Answered as stored. */
  readonly messages: number;
  readonly refused: number;
  readonly seconds: number;
  readonly cpuMs: number;
}

/** Runs the load in a child process. */
export async function runIngestLoad(load: IngestLoad): Promise<IngestLoadReport> {
  const child = fork(fileURLToPath(import.meta.url), ['generate'], { execArgv: ['--import', 'tsx'] });
  const ended = once(child, 'exit');
  child.send(load);
  const report = await Promise.race([
    once(child, 'message').then(([message]) => message as IngestLoadReport),
    ended.then(([code]) => Promise.reject(new Error(`the load generator ended with exit code ${String(code)}`))),
  ]);
  await ended;
  return report;
}

/** What a contact writes: of a usual length, different each time. */
export const createMessage = (
  { run, contacts }: Pick<IngestLoad, 'run' | 'contacts'>,
  number: number,
): LoadMessage => ({
  channel: 'web',
  externalId: `${run}-${number}`,
  contact: { externalId: `visitor-${number % contacts}` },
  text: `Message ${number}: ${'my order has not arrived, where is it? '.repeat(4)}`,
});

async function generate(load: IngestLoad): Promise<IngestLoadReport> {
  const connections = createConnections(load.url);
  const tally = { messages: 0, refused: 0 };
  const startedMs = performance.now();
  const cpu = process.cpuUsage();
  const endMs = startedMs + load.seconds * 1000;
  let next = 0;
  const take = (): LoadMessage[] => Array.from({ length: load.batch }, () => createMessage(load, next++));
  const loop = async (): Promise<void> => {
    while (performance.now() < endMs) await sendRequest(load, connections, { messages: take(), tally });
  };
  await Promise.all(Array.from({ length: load.connections }, loop));
  const seconds = (performance.now() - startedMs) / 1000;
  const used = process.cpuUsage(cpu);
  connections.close();
  return { ...tally, seconds, cpuMs: (used.user + used.system) / 1000 };
}

interface Sending {
  readonly messages: readonly LoadMessage[];
  readonly tally: { messages: number; refused: number };
}

async function sendRequest({ key, batch }: IngestLoad, connections: Connections, sending: Sending): Promise<void> {
  const { messages, tally } = sending;
  const isSingle = batch === 1;
  const body = JSON.stringify(isSingle ? messages[0] : { messages });
  const { status, text } = await connections.request('POST', isSingle ? '/v1/messages' : '/v1/messages/batch', {
    key,
    body,
  });
  const stored = status !== 202 ? 0 : isSingle ? 1 : text.split('"messageId"').length - 1;
  tally.messages += stored;
  tally.refused += messages.length - stored;
}

if (process.argv[2] === 'generate' && process.send !== undefined) {
  process.once('message', (load: IngestLoad) => {
    void generate(load).then((report) => process.send!(report, () => process.disconnect()));
  });
}
