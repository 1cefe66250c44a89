import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findEnginePrograms } from './engine-programs.ts';

/** Stands in for Go, since a real build takes minutes: installs where GOBIN says, under the last part of the package's path. */
const go = (version: string) => `#!/bin/sh
echo "$*" >> "$(dirname "$0")/go-arguments"
name=$(echo "$3" | sed 's#.*/##; s#@.*##')
printf '#!/bin/sh\\necho "version ${version}"\\n' > "$GOBIN/$name" && chmod +x "$GOBIN/$name"
`;

let folder: string;
let env: Record<string, string>;
let lines: string[];
const log = (line: string) => lines.push(line);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'switchyard-bench-'));
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  env = { PATH: `${bin}:/usr/bin:/bin`, XDG_CACHE_HOME: join(folder, 'cache') };
  lines = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('server and tool are built once, by version, and are in the cache from then on', async () => {
  install(go('1.32.0'));
  const built = await findEnginePrograms({ log, env });
  expect(lines[0]).toContain('building temporal-server with Go: this happens once and takes some minutes');
  rmSync(join(folder, 'bin', 'go'));
  expect(await findEnginePrograms({ log, env })).toEqual(built);
  expect(
    readFileSync(join(folder, 'bin', 'go-arguments'), 'utf8')
      .trimEnd()
      .split('\n'),
  ).toEqual([
    'install -v go.temporal.io/server/cmd/server@v1.32.0',
    'install -v go.temporal.io/server/cmd/tools/sql@v1.32.0',
  ]);
  expect(readdirSync(dirname(built.server)).sort()).toEqual(['temporal-server', 'temporal-sql-tool']);
});

test('a build of another version is not put into the cache', async () => {
  install(go('1.31.0'));
  await expect(findEnginePrograms({ log, env })).rejects.toThrow(
    'temporal-server was built but cannot be used: it says',
  );
  expect(readdirSync(join(folder, 'cache', 'switchyard', 'temporal-server', '1.32.0'))).toEqual([]);
});

test('without Go the way out is told', async () => {
  env['PATH'] = join(folder, 'bin');
  await expect(findEnginePrograms({ log, env })).rejects.toThrow('no `go` on the PATH');
});

function install(script: string): void {
  const path = join(folder, 'bin', 'go');
  writeFileSync(path, script);
  chmodSync(path, 0o755);
}
