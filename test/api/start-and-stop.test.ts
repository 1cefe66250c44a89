/** The process, not only the app: what a signal does that comes while it starts. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { extendEnvironment } from '../../platform/config.ts';
import { findFreePort } from '../../platform/ports.ts';
import { createTestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';

test('told to end while it starts, the API takes no requests any more', async () => {
  const database = await createTestDatabase();
  const metricsPort = await findFreePort();
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', fileURLToPath(new URL('../../api/main.ts', import.meta.url))],
    {
      env: extendEnvironment({
        DATABASE_URL: database.url,
        PORT: '0',
        API_METRICS_PORT: String(metricsPort),
        LOG_LEVEL: 'info',
      }),
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  try {
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const ended = once(child, 'exit') as Promise<[number | null]>;
    // Up before the app is.
    await eventually('its metrics', async () => (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).ok, {
      timeoutMs: 60_000,
      everyMs: 5,
    });
    child.kill('SIGTERM');
    expect((await ended)[0]).toBe(0);
    const closingAt = output.indexOf('"msg":"closing"');
    expect(closingAt).toBeGreaterThan(-1);
    expect(output.slice(closingAt)).not.toContain('listening at');
  } finally {
    child.kill('SIGKILL');
    await database.drop();
  }
}, 90_000);
