import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadConfig, type Config } from '../platform/config.ts';
import type { DevFile } from './dev-file.ts';
import { launchSwitchyard } from './launch.ts';
import { takeLauncherLock } from './launcher-lock.ts';
import { openProcessRegistry, type ProcessRegistry } from './processes.ts';
import { createSteps, type Steps } from './steps.ts';

/*
 * `npm start`: everything that Switchyard is made of, on this machine, until Ctrl-C. This process starts and watches the others and
 * does nothing else. It ends when it is told to (exit code 0), or when a part fails (exit code 1); in both cases it stops all parts in
 * order first. Its end by force is covered in processes.ts.
 */

const [apiEntry = 'api/main.ts', workerEntry = 'worker/main.ts'] = process.argv.slice(2);
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const steps = createSteps(process.stdout);

// A terminal that is gone must not keep us from stopping the rest.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);

process.exit(await runUntilStopped());

async function runUntilStopped(): Promise<number> {
  const startedAt = Date.now();
  const end = watchForEnd();
  let processes: ProcessRegistry | null = null;
  let lock: { release(): void } | null = null;
  let exitCode = 0;
  try {
    const config = loadConfig();
    mkdirSync(config.switchyardHome, { recursive: true, mode: 0o700 });
    lock = await takeLauncherLock(join(config.switchyardHome, 'launcher.lock'));
    const registryFile = join(config.switchyardHome, 'processes.json');
    processes = await openProcessRegistry({ file: registryFile, log: (line) => steps.say(`  ${line}`) });
    const died = new Promise<never>((_, reject) => {
      processes?.onUnexpectedExit((child, reason) =>
        reject(new Error(`${child.name} ended unexpectedly (${reason}). The end of its log:\n${child.readTail()}`)),
      );
    });
    const running = Promise.race([launchSwitchyard({ config, processes, steps, root, apiEntry, workerEntry }), died]);
    const devFile = await Promise.race([running, end.told]);
    if (devFile !== null) {
      printWhereabouts(config, devFile, Date.now() - startedAt);
      await Promise.race([end.told, died]);
    }
  } catch (error) {
    exitCode = 1;
    steps.interrupt();
    steps.say(`\n${(error as Error).message}`);
  }
  end.announce();
  if (processes !== null) await stopAll(processes, steps);
  lock?.release();
  return exitCode;
}

/**
 * Resolves with null once somebody wants us to stop. npm passes Ctrl-C on to us although the terminal has sent it already, so a second
 * signal means impatience only some time after the first.
 */
function watchForEnd(): { told: Promise<null>; announce(): void } {
  let told: () => void = () => undefined;
  let reason = '';
  const promise = new Promise<null>((resolve) => {
    told = () => resolve(null);
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      reason ||= signal;
      told();
    });
  }
  const announce = () => {
    steps.interrupt();
    if (reason !== '') steps.say(`\nStopping (${reason}).`);
  };
  return { told: promise, announce };
}

async function stopAll(processes: ProcessRegistry, { run }: Steps): Promise<void> {
  const lines: Promise<void>[] = [];
  await processes.stopAll((name, stopped) => lines.push(run(`Stopping ${name}`, () => stopped)));
  await Promise.all(lines);
}

function printWhereabouts(config: Config, devFile: DevFile, elapsedMs: number): void {
  const { apiUrl, metricsUrls, temporalAddress, temporalUiUrl, databaseUrl, keys } = devFile;
  const message = {
    channel: 'web',
    externalId: 'first-1',
    contact: { externalId: 'alice', name: 'Alice' },
    text: 'Hello, I need a refund for my last invoice',
  };
  const lines = [
    '',
    `Switchyard runs (${(elapsedMs / 1000).toFixed(1)} s). Ctrl-C stops it; its data stays in ${config.switchyardHome}`,
    '',
    `  API          ${apiUrl}   (documentation: ${apiUrl}/docs)`,
    `  Metrics      ${metricsUrls.api}   ${metricsUrls.worker}`,
    `  Temporal     ${temporalAddress}${temporalUiUrl === null ? '' : `   (web interface: ${temporalUiUrl})`}`,
    `  PostgreSQL   ${config.databaseUrl === undefined ? databaseUrl : 'as DATABASE_URL says'}`,
    `  Keys         ${join(config.switchyardHome, 'dev.json')}`,
    `  Logs         ${join(config.switchyardHome, 'logs')}`,
    '',
    'Write as a contact:',
    '',
    `  curl -s ${apiUrl}/v1/messages \\`,
    `    -H 'Authorization: Bearer ${keys.ingest}' \\`,
    "    -H 'Content-Type: application/json' \\",
    `    -d '${JSON.stringify(message)}'`,
    '',
  ];
  steps.say(lines.join('\n'));
}
