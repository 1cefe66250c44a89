import { accessSync, constants, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Environment } from '../platform/config.ts';
import { readProcessIdentity } from './process-identity.ts';
import { startProcess, type Log, type ProcessRegistry } from './processes.ts';

export interface GoBuild {
  /** For the lines that tell of it, e.g. `the Temporal CLI`. */
  what: string;
  /** With its version: `example.com/module/cmd/program@v1.2.3`. */
  packagePath: string;
  /** Where the program is put, under the last part of its package's path. */
  folder: string;
  env: Environment;
  log: Log;
  /** Supervises the build, so that stopping everything stops it too. */
  processes?: Pick<ProcessRegistry, 'start'> | undefined;
}

/** Builds a program from its Go module, which takes minutes; tells how far it is. */
export async function buildWithGo(build: GoBuild): Promise<void> {
  const { what, packagePath, folder, env, log, processes = { start: startProcess } } = build;
  const go = findOnPath('go', env['PATH']);
  if (go === null) throw new Error('no `go` on the PATH');
  log(`building ${what} with Go: this happens once and takes some minutes`);
  const seen = { modules: 0, packages: 0 };
  const child = processes.start({
    name: `Go build of ${what}`,
    command: go,
    // -v names each package as it is compiled, which shows that the build lives.
    args: ['install', '-v', packagePath],
    cwd: folder,
    env: { ...env, GOFLAGS: '-mod=mod', GOBIN: folder, GOOS: '', GOARCH: '' },
    stopTimeoutMs: 3_000,
    endsByItself: true,
    onLine: (line) => {
      if (line.startsWith('go: downloading ')) seen.modules += 1;
      else if (!line.startsWith('go: ')) seen.packages += 1;
      log(`Go build: ${seen.modules} modules downloaded, ${seen.packages} packages compiled`);
    },
  });
  const { code, reason } = await child.exited;
  if (code !== 0) throw new Error(`go install failed (${reason}):\n${child.readTail(8)}`);
}

/**
 * Lets `work` make something in a draft folder inside `folder`, from where it renames into place what is whole: several starts may do
 * this at once, and each can be interrupted. What killed ones left behind goes.
 */
export async function withDraft<T>(folder: string, work: (draft: string) => Promise<T>): Promise<T> {
  mkdirSync(folder, { recursive: true });
  removeAbandonedDrafts(folder);
  const draft = join(folder, `.draft-${process.pid}`);
  try {
    mkdirSync(draft, { recursive: true });
    return await work(draft);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

export function findOnPath(name: string, searchPath = ''): string | null {
  for (const folder of searchPath.split(delimiter)) {
    if (folder === '') continue;
    try {
      accessSync(join(folder, name), constants.X_OK);
      return join(folder, name);
    } catch {
      // Not there.
    }
  }
  return null;
}

function removeAbandonedDrafts(folder: string): void {
  for (const name of readdirSync(folder)) {
    const pid = /^\.draft-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && readProcessIdentity(Number(pid)) === null) rmSync(join(folder, name), { recursive: true });
  }
}
