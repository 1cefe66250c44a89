import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { spawn, spawnSync } from 'node:child_process';
import { extendEnvironment, type Environment } from '../platform/config.ts';
import { buildWithGo, findOnPath, withDraft } from './go-build.ts';
import { type Log, type ProcessRegistry } from './processes.ts';
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
  const complaints: string[] = [];
  const ways = [
    ['download', download],
    ['Go build', buildCli],
  ] as const;
  for (const [source, obtain] of ways) {
    try {
      await withDraft(folder, async (draft) => {
        await obtain(draft, options);
        const complaint = tryCli(join(draft, 'temporal'));
        if (complaint !== null) throw new Error(complaint);
        renameSync(join(draft, 'temporal'), cached);
      });
      return { path: cached, source };
    } catch (error) {
      complaints.push(`${source}: ${(error as Error).message}`);
      log(complaints.at(-1) ?? '');
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

const buildCli = (folder: string, { log, env = extendEnvironment({}), processes }: TemporalCliOptions): Promise<void> =>
  buildWithGo({
    what: 'the Temporal CLI',
    packagePath: `github.com/temporalio/cli/cmd/temporal@v${temporalCliVersion}`,
    folder,
    env,
    log,
    processes,
  });

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
