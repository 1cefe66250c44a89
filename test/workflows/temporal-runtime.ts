import { DefaultLogger, Runtime, makeTelemetryFilterString } from '@temporalio/worker';

/** Once for all workers of a test file. Quiet: tests make failures on purpose. */
export function installTemporalRuntime(): void {
  if (installed) return;
  installed = true;
  Runtime.install({
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: makeTelemetryFilterString({ core: 'ERROR', other: 'ERROR' }) } },
  });
}

let installed = false;
