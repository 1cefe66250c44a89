import { accessSync, constants, lstatSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/*
 * Places outside the project. The cache is the user's own. When root starts us in a folder that the database's user cannot enter
 * (/root, a directory made by mktemp), that user's files go to the shared directory, all of whose parents are open.
 */

/** The user's cache; what is in it can be made again. */
export function resolveCacheDirectory(cacheHome?: string): string {
  return join(cacheHome || join(homedir(), '.cache'), 'switchyard');
}

/** A directory of ours below parents that everybody may enter; made when missing. */
export function createSharedDirectory(): string {
  const isRoot = process.getuid?.() === 0;
  const candidates = isRoot ? ['/var/lib/switchyard', '/var/tmp/switchyard-root'] : [resolveCacheDirectory()];
  for (const directory of candidates) {
    try {
      mkdirSync(directory, { recursive: true, mode: 0o755 });
      assertOurs(directory);
      accessSync(directory, constants.W_OK);
      return directory;
    } catch {
      // Read-only, or somebody else's: the next one.
    }
  }
  throw new Error(
    `None of ${candidates.join(', ')} can be written. Set DATABASE_URL to do without the embedded PostgreSQL.`,
  );
}

/** /var/tmp is open to all: a folder or a link that another user put there must not be taken for ours. */
function assertOurs(directory: string): void {
  const { uid, mode } = lstatSync(directory);
  if (!lstatSync(directory).isDirectory() || uid !== process.getuid?.() || (mode & 0o022) !== 0) {
    throw new Error(`${directory} is not ours`);
  }
}
