import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode } from '@temporalio/worker';

/** The workflow code of the build before wakings, frozen beside the histories that it has written. */
export async function bundleStepwiseActors(): Promise<{ code: string }> {
  const quiet = (): void => undefined;
  return bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('../histories/stepwise/contact-workflow.ts', import.meta.url)),
    logger: { log: quiet, trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet },
  });
}
