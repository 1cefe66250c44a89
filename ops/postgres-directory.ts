import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, realpathSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { readProcessIdentity } from './process-identity.ts';
import { createSharedDirectory } from './shared-directory.ts';
import { readJson, writeJson } from './state-files.ts';
import { tryAsServer, type ServerUser } from './unprivileged-user.ts';
import type { Log } from './processes.ts';

/**
 * The folder that holds the data directory: `postgres` in the state directory, or, when we are root and the server's user cannot enter
 * that (only our own folders are opened, never a parent), one in the shared directory. The state directory remembers which, so that
 * removing the state directory begins anew in either case.
 */
export function choosePostgresDirectory(stateDir: string, user: ServerUser | null, log: Log): string {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const own = join(stateDir, 'postgres');
  mkdirSync(own, { recursive: true, mode: 0o700 });
  if (user === null) {
    assertReadable(own);
    return own;
  }
  for (const path of [stateDir, own]) chmodSync(path, statSync(path).mode | 0o011);
  const locationFile = join(stateDir, 'postgres', 'location.json');
  const remembered = readJson<{ directory: string }>(locationFile)?.directory;
  if (remembered !== undefined && existsSync(remembered)) return remembered;
  if (tryAsServer(user, 'cd "$1"', [own]) === null) return own;
  if (existsSync(join(own, 'data'))) {
    throw new Error(
      `User ${user.name}, whom the database runs as, can no longer enter ${own}: open its parents (chmod o+x).`,
    );
  }
  const directory = createOutside(realpathSync(stateDir));
  writeJson(locationFile, { directory });
  log(`the database's files are in ${directory}, since user ${user.name} cannot enter ${own}`);
  return directory;
}

/** Named after the state directory and at random; what an earlier, removed state directory at that path left is removed. */
function createOutside(stateDir: string): string {
  const shared = createSharedDirectory();
  const prefix = `data-${createHash('sha256').update(stateDir).digest('hex').slice(0, 12)}-`;
  for (const name of readdirSync(shared)) {
    if (name.startsWith(prefix) && !isServed(join(shared, name, 'data')))
      rmSync(join(shared, name), { recursive: true });
  }
  const directory = join(shared, prefix + randomBytes(4).toString('hex'));
  mkdirSync(directory, { mode: 0o711 });
  chmodSync(directory, 0o711);
  return directory;
}

function isServed(data: string): boolean {
  const pidFile = join(data, 'postmaster.pid');
  if (!existsSync(pidFile)) return false;
  return readProcessIdentity(Number(readFileSync(pidFile, 'utf8').split('\n')[0])) !== null;
}

function assertReadable(own: string): void {
  const data = join(own, 'data');
  if (!existsSync(data) || statSync(data).uid === process.getuid?.()) return;
  throw new Error(
    `${data} belongs to another user (a start as root?). Start as that user, or remove it to begin anew.`,
  );
}
