import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { buildWithGo, withDraft } from '../../ops/go-build.ts';
import type { Log, ProcessRegistry } from '../../ops/processes.ts';
import { resolveCacheDirectory } from '../../ops/shared-directory.ts';
import { extendEnvironment, type Environment } from '../../platform/config.ts';

/** The newest that Go 1.26.8 builds: 1.32.1 asks for 1.26.10. */
export const temporalServerVersion = '1.32.0';

export interface EnginePrograms {
  readonly server: string;
  /** Makes the databases and their schemas, which it has inside. */
  readonly sqlTool: string;
}

export interface EngineProgramsOptions {
  readonly log: Log;
  readonly processes?: Pick<ProcessRegistry, 'start'>;
  /** PATH, XDG_CACHE_HOME and what Go reads; the process's own environment unless given. */
  readonly env?: Environment;
}

/** The Temporal server as clusters run it, out of our cache by version; what is missing is built, which takes 8 min on two cores. */
export async function findEnginePrograms(options: EngineProgramsOptions): Promise<EnginePrograms> {
  const folder = engineProgramsFolder(options.env);
  return {
    server: await findOrBuild({ folder, name: 'temporal-server', source: 'cmd/server' }, options),
    sqlTool: await findOrBuild({ folder, name: 'temporal-sql-tool', source: 'cmd/tools/sql' }, options),
  };
}

/** The folder in our cache. */
export const engineProgramsFolder = (env: Environment = extendEnvironment({})): string =>
  join(resolveCacheDirectory(env['XDG_CACHE_HOME']), 'temporal-server', temporalServerVersion);

interface Program {
  readonly folder: string;
  readonly name: string;
  /** Its package within the server's module. */
  readonly source: string;
}

async function findOrBuild({ folder, name, source }: Program, options: EngineProgramsOptions): Promise<string> {
  const { log, processes, env = extendEnvironment({}) } = options;
  const cached = join(folder, name);
  if (existsSync(cached)) {
    const complaint = tryProgram(cached);
    if (complaint === null) return cached;
    log(`not using ${cached}: ${complaint}`);
  }
  await withDraft(folder, async (draft) => {
    const packagePath = `go.temporal.io/server/${source}@v${temporalServerVersion}`;
    await buildWithGo({ what: name, packagePath, folder: draft, env, log, processes });
    const built = join(draft, source.slice(source.lastIndexOf('/') + 1));
    const complaint = tryProgram(built);
    if (complaint !== null) throw new Error(`${name} was built but cannot be used: ${complaint}`);
    renameSync(built, cached);
  });
  return cached;
}

/** Null when it runs and is of the version, else what is wrong. */
function tryProgram(path: string): string | null {
  const { status, signal, error, stdout } = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 20_000 });
  if (status !== 0) return error?.message ?? `--version ended with ${status ?? signal}`;
  return stdout.includes(temporalServerVersion) ? null : `it says ${stdout.trim()}`;
}
