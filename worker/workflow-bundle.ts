import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, type WorkflowBundleOption } from '@temporalio/worker';
import type { Logger } from '../platform/logger.ts';

/** Where `npm run build` puts the bundle: atop the compiled output, where no compiled file has this name. */
const builtBundlePath = fileURLToPath(new URL('../workflow-bundle.js', import.meta.url));

/** The actors' code for the sandbox: prebuilt where there is one, else bundled now, which takes some seconds. */
export async function loadWorkflowBundle(logger: Logger, codePath: string | undefined): Promise<WorkflowBundleOption> {
  if (codePath !== undefined) return { codePath };
  if (existsSync(builtBundlePath)) return { codePath: builtBundlePath };
  logger.info('bundling the workflow code');
  return bundleWorkflows((message) => logger.warn(message));
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
