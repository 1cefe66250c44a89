import { accessSync, constants, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { spawn, spawnSync } from 'node:child_process';
import { extendEnvironment, type Environment } from '../platform/config.ts';
import { readProcessIdentity } from './process-identity.ts';
import { startProcess, type Log, type ProcessRegistry } from './processes.ts';
import { resolveCacheDirectory } from './shared-directory.ts';

/** The CLI that is downloaded or built; the last one that `go install` can build. */
export const temporalCliVersion = '1.5.1';

export interface TemporalCli {
  path: string;
  source: 'PATH' | 'cache' | 'download' | 'Go build';
}

export interface TemporalCliOptions {
  log: Log;
  /** Supervises the Go build, so that stopping everything stops it too. */
  processes?: Pick<ProcessRegistry, 'start'>;
  /** PATH, XDG_CACHE_HOME and what Go reads; the process's own environment unless given. */
  env?: Environment;
  downloadBaseUrl?: string;
}

/**
 * Finds Temporal's command line program, which holds the development server: on the PATH, in our cache, by download, by building it
 * with Go (some minutes, once). Throws one error that names the ways out when none of these works.
 */
export async function findTemporalCli(options: TemporalCliOptions): Promise<TemporalCli> {
  const { log, env = extendEnvironment({}) } = options;
  const onPath = findOnPath('temporal', env['PATH']);
  if (onPath !== null) {
    const complaint = tryCli(onPath);
    if (complaint === null) return { path: onPath, source: 'PATH' };
    log(`not using ${onPath}: ${complaint}`);
  }
  const folder = join(resolveCacheDirectory(env['XDG_CACHE_HOME']), 'temporal-cli', temporalCliVersion);
  const cached = join(folder, 'temporal');
  if (existsSync(cached)) {
    const complaint = tryCli(cached);
    if (complaint === null) return { path: cached, source: 'cache' };
    log(`not using ${cached}: ${complaint}`);
  }
  mkdirSync(folder, { recursive: true });
  removeAbandonedDrafts(folder);
  const draft = join(folder, `.draft-${process.pid}`);
  const complaints: string[] = [];
  const ways = [
    ['download', () => download(draft, options)],
    ['Go build', () => buildWithGo(draft, options)],
  ] as const;
  for (const [source, obtain] of ways) {
    try {
      mkdirSync(draft, { recursive: true });
      await obtain();
      const complaint = tryCli(join(draft, 'temporal'));
      if (complaint !== null) throw new Error(complaint);
      // Whole or not at all: several starts may do this at once, and each can be interrupted.
      renameSync(join(draft, 'temporal'), cached);
      return { path: cached, source };
    } catch (error) {
      complaints.push(`${source}: ${(error as Error).message}`);
      log(complaints.at(-1) ?? '');
    } finally {
      rmSync(draft, { recursive: true, force: true });
    }
  }
  throw new Error(explainMissingCli(complaints));
}

/** Null when it runs and its server is new enough, else what is wrong. */
function tryCli(path: string): string | null {
  const result = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 20_000 });
  if (result.status !== 0) return result.error?.message ?? `--version ended with ${result.status ?? result.signal}`;
  const [, major = 0, minor = 0] = /Server (\d+)\.(\d+)/.exec(result.stdout)?.map(Number) ?? [];
  const isNewEnough = major > 1 || (major === 1 && minor >= 28);
  return isNewEnough
    ? null
    : `its server is too old (${result.stdout.trim() || 'no version'}; 1.28 or later is needed)`;
}

interface DownloadInfo {
  archiveUrl: string;
  fileToExtract: string;
}

/** As Temporal's SDKs do it, but of a fixed version. No answer within five seconds means that there is no way out to the internet. */
async function download(
  draft: string,
  { log, downloadBaseUrl = 'https://temporal.download' }: TemporalCliOptions,
): Promise<void> {
  const architecture = { x64: 'amd64', arm64: 'arm64' }[process.arch as string];
  if (architecture === undefined) throw new Error(`none for ${process.arch}`);
  const query = `platform=${process.platform}&arch=${architecture}&format=tar.gz`;
  const info = (await fetchOrThrow(`${downloadBaseUrl}/cli/v${temporalCliVersion}?${query}`).then((response) =>
    response.json(),
  )) as DownloadInfo;
  log(`downloading ${info.archiveUrl}`);
  const response = await fetchOrThrow(info.archiveUrl);
  const totalBytes = Number(response.headers.get('content-length'));
  const tar = spawn('tar', ['-xzf', '-', '-C', draft, info.fileToExtract], { stdio: ['pipe', 'ignore', 'pipe'] });
  const tarEnd = new Promise<string>((resolve) => {
    let complaint = '';
    tar.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
    tar.once('error', (error) => resolve(error.message));
    tar.once('close', (code) => resolve(code === 0 ? '' : complaint || `tar ended with ${code}`));
  });
  const body = response.body;
  if (body === null) throw new Error('an empty answer');
  await pipeline(Readable.fromWeb(body), (chunks) => watchProgress(chunks, totalBytes, log), tar.stdin);
  const complaint = await tarEnd;
  if (complaint !== '') throw new Error(complaint);
  if (info.fileToExtract !== 'temporal') renameSync(join(draft, info.fileToExtract), join(draft, 'temporal'));
}

async function fetchOrThrow(url: string): Promise<Response> {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(new Error('no answer within five seconds')), 5_000);
  try {
    const response = await fetch(url, { signal: limit.signal });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return response;
  } catch (error) {
    const { message, cause } = error as Error;
    throw new Error(`${url}: ${cause instanceof Error ? cause.message : message}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Passes chunks on; tells how far it is, and fails when nothing comes for 20 s. */
async function* watchProgress(
  chunks: AsyncIterable<Uint8Array>,
  totalBytes: number,
  log: Log,
): AsyncGenerator<Uint8Array> {
  const iterator = chunks[Symbol.asyncIterator]();
  let bytes = 0;
  for (;;) {
    let timer: NodeJS.Timeout | undefined;
    const stalled = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('nothing received for 20 seconds')), 20_000);
    });
    const next = await Promise.race([iterator.next(), stalled]).finally(() => clearTimeout(timer));
    if (next.done) return;
    bytes += next.value.byteLength;
    const total = totalBytes > 0 ? ` of ${Math.round(totalBytes / 1e6)}` : '';
    log(`${Math.round(bytes / 1e6)}${total} MB`);
    yield next.value;
  }
}

async function buildWithGo(draft: string, options: TemporalCliOptions): Promise<void> {
  const { log, env = extendEnvironment({}), processes = { start: startProcess } } = options;
  const go = findOnPath('go', env['PATH']);
  if (go === null) throw new Error('no `go` on the PATH');
  log('building the Temporal CLI with Go: this happens once and takes some minutes');
  const seen = { modules: 0, packages: 0 };
  const build = processes.start({
    name: 'Go build of the Temporal CLI',
    command: go,
    // -v names each package as it is compiled, which shows that the build lives.
    args: ['install', '-v', `github.com/temporalio/cli/cmd/temporal@v${temporalCliVersion}`],
    cwd: draft,
    env: { ...env, GOFLAGS: '-mod=mod', GOBIN: draft, GOOS: '', GOARCH: '' },
    stopTimeoutMs: 3_000,
    endsByItself: true,
    onLine: (line) => {
      if (line.startsWith('go: downloading ')) seen.modules += 1;
      else if (!line.startsWith('go: ')) seen.packages += 1;
      log(`Go build: ${seen.modules} modules downloaded, ${seen.packages} packages compiled`);
    },
  });
  const { code, reason } = await build.exited;
  if (code !== 0) throw new Error(`go install failed (${reason}):\n${build.readTail(8)}`);
}

function findOnPath(name: string, searchPath = ''): string | null {
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

function explainMissingCli(complaints: string[]): string {
  return [
    'There is no Temporal server to be had here:',
    '  `temporal` on the PATH: none that can be used',
    ...complaints.map((complaint) => `  ${complaint.replaceAll('\n', '\n  ')}`),
    'Three ways out, any one will do:',
    '  1. Install the Temporal CLI (https://docs.temporal.io/cli) so that `temporal` is on the PATH.',
    '  2. Install Go 1.25 or later (https://go.dev/dl) and start again: the CLI is then built, once.',
    '  3. Point TEMPORAL_ADDRESS=host:port to a Temporal server that runs already.',
  ].join('\n');
}
