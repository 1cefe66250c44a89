/** Runs a scenario on the servers that all tests share. Its sizes are the caller's: here it has to work, not to tell anything. */
import { inject } from 'vitest';
import { startBenchServer } from './bench-server.ts';
import type { BenchContext } from './context.ts';
import type { ScenarioReport } from './figures.ts';

export const tinyEnv = (): Record<string, string> => ({ WORKFLOW_BUNDLE_PATH: inject('workflowBundlePath') });

export async function runTiny<T = ScenarioReport>(
  run: (bench: BenchContext) => Promise<T>,
): Promise<{ report: T; notes: string[] }> {
  const notes: string[] = [];
  const server = await startBenchServer(inject('postgresUrl'), () => undefined);
  const engine = {
    address: inject('temporalAddress'),
    namespace: 'default',
    facts: {},
    processes: [],
    stop: () => Promise.resolve(),
  };
  try {
    const note = (line: string) => void notes.push(line);
    const bench = { server, note, runs: 1, minutes: null, rate: null, engine: () => Promise.resolve(engine) };
    return { report: await run(bench), notes };
  } finally {
    await server.stop();
  }
}
