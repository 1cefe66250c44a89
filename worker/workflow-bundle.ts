import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, type WorkflowBundleOption } from '@temporalio/worker';
import type { Logger } from '../platform/logger.ts';

const { version: sdkVersion } = createRequire(import.meta.url)('@temporalio/workflow/package.json') as {
  version: string;
};

/** Where `npm run build` puts the bundle: atop the compiled output, where no compiled file has this name. */
const builtBundlePath = fileURLToPath(new URL('../workflow-bundle.js', import.meta.url));

/**
 * The actors' code for the sandbox. Prebuilt where there is one; else bundled now, which takes some seconds, and kept in `cacheDir` for
 * the next start, under a name that changes with the code.
 */
export async function loadWorkflowBundle(
  logger: Logger,
  { codePath, cacheDir }: { codePath: string | undefined; cacheDir: string },
): Promise<WorkflowBundleOption> {
  if (codePath !== undefined) return { codePath };
  if (existsSync(builtBundlePath)) return { codePath: builtBundlePath };
  const cachedPath = join(cacheDir, `workflow-bundle-${hashSources()}.js`);
  if (!existsSync(cachedPath)) {
    logger.info('bundling the workflow code');
    const { code } = await bundleWorkflows((message) => logger.warn(message));
    mkdirSync(cacheDir, { recursive: true, mode: 0o700 });
    // Renamed into place, so that a worker that starts meanwhile never reads half a file.
    const unfinishedPath = `${cachedPath}.${process.pid}`;
    writeFileSync(unfinishedPath, code);
    renameSync(unfinishedPath, cachedPath);
  }
  return { codePath: cachedPath };
}

/** Everything that goes into the bundle: our own files, and the SDK by its version. */
function hashSources(): string {
  const hash = createHash('sha256').update(sdkVersion);
  for (const room of ['workflows', 'routing']) {
    const folder = fileURLToPath(new URL(`../${room}/`, import.meta.url));
    for (const file of readdirSync(folder).sort()) hash.update(file).update(readFileSync(join(folder, file)));
  }
  return hash.digest('hex').slice(0, 16);
}

export function bundleWorkflows(warn = writeToStderr): Promise<{ code: string }> {
  return bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL(workflowEntry, import.meta.url)),
    logger: quietLogger(warn),
  });
}

// This file is run from its source and from the compiled output; the entry has the same ending as itself.
const workflowEntry = `../workflows/index${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`;

const writeToStderr = (message: string): void => void process.stderr.write(`${message}\n`);

/** The bundler reports every module it takes; only what goes wrong is of interest. */
const quietLogger = (warn: (message: string) => void) => ({
  log: () => undefined,
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn,
  error: warn,
});
