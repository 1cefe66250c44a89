/** What every scenario gets: the database server, the engine, and what the command line asked for. */
import type { BenchServer } from './bench-server.ts';
import type { Engine } from './engine.ts';

export interface BenchContext {
  /** PostgreSQL of ours. */
  readonly server: BenchServer;
  /** A line of progress. */
  readonly note: (line: string) => void;
  /** How often each thing is measured; reports tell medians. */
  readonly runs: number;
  /** How long the soak lasts, where the command line says so. */
  readonly minutes: number | null;
  /** Conversations a second, where the command line says so: the soak then need not look for the highest rate first. */
  readonly rate: number | null;
  /** Parts of the names of the only settings to try, where the command line says so. */
  readonly only?: readonly string[];
  /** Starts the engine at the first call, and returns the same one from then on. Whoever made the context stops it. */
  readonly engine: () => Promise<Engine>;
}
