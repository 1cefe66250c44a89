/**
 * `npm run build`: writes to `dist/` what a production image runs, so that it needs neither TypeScript nor tsx nor time to bundle:
 * the compiled programs, the migrations, and the actors' code as one bundle where the worker looks for it.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, 'dist');

rmSync(dist, { recursive: true, force: true });
compile();
cpSync(join(root, 'store', 'migrations'), join(dist, 'store', 'migrations'), { recursive: true });
// The one program that is JavaScript already, and that no other names in an import: a thread of the worker's.
cpSync(join(root, 'worker', 'workflow-sandbox-thread.mjs'), join(dist, 'worker', 'workflow-sandbox-thread.mjs'));
await bundle();

function compile(): void {
  const compiler = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');
  const { status } = spawnSync(process.execPath, [compiler, '-p', join(root, 'tsconfig.build.json')], {
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}

/** By the compiled worker itself: what it would do at each start is done once, with the same code, and put where it looks first. */
async function bundle(): Promise<void> {
  const module = pathToFileURL(join(dist, 'worker', 'workflow-bundle.js')).href;
  const { bundleWorkflows } = (await import(module)) as { bundleWorkflows: () => Promise<{ code: string }> };
  const { code } = await bundleWorkflows();
  writeFileSync(join(dist, 'workflow-bundle.js'), code);
}
