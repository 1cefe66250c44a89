// Plain Node.js without dependencies, since it is what makes the dependencies be there: checks the version of Node.js, installs with
// `npm ci` when node_modules does not match the lock file, and then runs the file named first on the command line, in this process.
// One process means that signals and exit codes need no forwarding.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, statSync, utimesSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

// When npm (or the shell between) is killed, nobody passes its signal on; a changed parent tells. Then we hang up on ourselves.
const parentPid = process.ppid;
const parentWatch = setInterval(() => {
  if (process.ppid === parentPid) return;
  clearInterval(parentWatch);
  process.kill(process.pid, 'SIGHUP');
}, 500).unref();

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const lockFile = join(root, 'package-lock.json');
const installedLockFile = join(root, 'node_modules', '.package-lock.json');
const [target, ...args] = process.argv.slice(2);

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 20)) {
  fail(`Switchyard needs Node.js 20.20 or later; this is ${process.versions.node} (${process.execPath}).`);
}
if (process.platform === 'win32') fail('Switchyard runs on Linux and macOS; on Windows, use it within WSL.');
if (!isInstalled()) await install();
// Without a file to run, installing was all that was asked for: `npm test` and `npm run verify` begin so.
if (target === undefined) process.exit(0);

const entry = resolve(root, target);
process.argv = [process.argv[0] ?? 'node', entry, ...args];
await import('tsx');
await import(pathToFileURL(entry).href);

/** npm writes node_modules/.package-lock.json last, so an installation that was interrupted has none. */
function isInstalled() {
  if (!existsSync(installedLockFile)) return false;
  if (statSync(installedLockFile).mtimeMs >= statSync(lockFile).mtimeMs) return true;
  // The lock file is newer, but maybe only touched, as by switching branches.
  const wanted = readPackages(lockFile);
  const installed = readPackages(installedLockFile);
  const same =
    Object.entries(wanted).every(
      ([path, { version, optional }]) =>
        path === '' || installed[path]?.version === version || (optional && !installed[path]),
    ) && Object.keys(installed).every((path) => path in wanted);
  if (same) utimesSync(installedLockFile, new Date(), new Date());
  return same;
}

function readPackages(file) {
  return JSON.parse(readFileSync(file, 'utf8')).packages ?? {};
}

async function install() {
  const reason = existsSync(join(root, 'node_modules'))
    ? 'node_modules does not match package-lock.json'
    : 'first start';
  console.log(`Installing dependencies (${reason}): npm ci`);
  const npm = process.env.npm_execpath;
  const [command, prefix] = npm?.endsWith('.js') ? [process.execPath, [npm]] : ['npm', []];
  // Its own process group: a signal goes to npm and all that it started, once, and from here only.
  const child = spawn(command, [...prefix, 'ci', '--include=dev', '--no-audit', '--no-fund'], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
  });
  let interrupted = false;
  const stop = () => {
    if (interrupted) return;
    interrupted = true;
    console.log('Stopping the installation.');
    signalGroup(child.pid, 'SIGTERM');
    setTimeout(() => signalGroup(child.pid, 'SIGKILL'), 5_000).unref();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, stop);
  const code = await new Promise((done) => {
    child.once('error', (error) => fail(`npm could not be started: ${error.message}`));
    child.once('exit', (exitCode, signal) => done(exitCode ?? signal));
  });
  for (const signal of signals) process.off(signal, stop);
  if (interrupted) {
    signalGroup(child.pid, 'SIGKILL');
    // A start that was called off is no failure; installing for what comes next, as `npm test` does, must keep it from running.
    process.exit(target === undefined ? 130 : 0);
  }
  if (code !== 0) fail(`npm ci failed (${code}); its output is above. Mend that and start again.`);
}

function signalGroup(pid, signal) {
  try {
    if (pid !== undefined) process.kill(-pid, signal);
  } catch {
    // The group is gone already.
  }
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
