import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/*
 * PostgreSQL refuses to run as root, so root lends it the user `nobody`, which every system has; no user is created on the host.
 */

export interface ServerUser {
  name: string;
  uid: number;
  gid: number;
}

/** Whom the database server runs as: null means as we do. Throws when we are root and no unprivileged user is known. */
export function findServerUser(): ServerUser | null {
  if (process.getuid?.() !== 0) return null;
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  // initdb looks its user up by number, so a number without an account would not do.
  for (const name of ['nobody', 'postgres', 'daemon']) {
    const account = accounts.find((fields) => fields[0] === name);
    const uid = Number(account?.[2]);
    if (account !== undefined && Number.isInteger(uid) && uid !== 0) return { name, uid, gid: Number(account[3]) };
  }
  throw new Error(
    'The embedded PostgreSQL cannot run as root, and /etc/passwd names no unprivileged user (nobody, postgres or daemon). ' +
      'Start as a normal user, or set DATABASE_URL to a PostgreSQL of yours.',
  );
}

/**
 * Tries a shell line as the server's user, with `args` as $1, $2 and so on. Trying is more reliable than reading modes: access control
 * lists, mount options and parents count too. Returns null when it worked, else what was said.
 */
export function tryAsServer(user: ServerUser | null, shellLine: string, args: string[]): string | null {
  const result = spawnSync('/bin/sh', ['-c', shellLine, 'sh', ...args], {
    encoding: 'utf8',
    cwd: '/',
    timeout: 20_000,
    ...(user === null ? {} : { uid: user.uid, gid: user.gid }),
  });
  if (result.status === 0) return null;
  return (result.error?.message ?? (result.stderr.trim() || `exit code ${result.status}`)).slice(-2_000);
}
