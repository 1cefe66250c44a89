import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findTemporalCli } from '../../ops/temporal-cli.ts';

const goodCli = '#!/bin/sh\necho "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"\n';
const oldCli = '#!/bin/sh\necho "temporal version 1.0.0 (Server 1.24.1, UI 2.0.0)"\n';
/** Stands in for Go, since a real build takes minutes: tells as Go does, and installs where GOBIN says. */
const go = `#!/bin/sh
echo "$GOFLAGS $*" > "$(dirname "$0")/go-arguments"
echo "go: downloading github.com/temporalio/cli v1.5.1" >&2
echo "github.com/temporalio/cli/cmd/temporal" >&2
printf '%s' '${goodCli}' > "$GOBIN/temporal" && chmod +x "$GOBIN/temporal"
`;
const nowhere = 'http://127.0.0.1:9';

let folder: string;
let bin: string;
let env: Record<string, string>;
let lines: string[];
const log = (line: string) => lines.push(line);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'switchyard-ops-'));
  bin = join(folder, 'bin');
  mkdirSync(bin);
  env = { PATH: bin, XDG_CACHE_HOME: join(folder, 'cache') };
  lines = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('the Temporal CLI', () => {
  test('on the PATH is taken first', async () => {
    install('temporal', goodCli);
    expect(await findTemporalCli({ log, env })).toEqual({ path: join(bin, 'temporal'), source: 'PATH' });
  });

  test('that is too old is not used, and the reason is told', async () => {
    install('temporal', oldCli);
    await expect(findTemporalCli({ log, env, downloadBaseUrl: nowhere })).rejects.toThrow('Three ways out');
    expect(lines[0]).toContain('too old');
  });

  test('is downloaded where the internet is open, and found in the cache from then on', async () => {
    install('temporal', goodCli);
    spawnSync('tar', ['-czf', join(folder, 'cli.tar.gz'), '-C', bin, 'temporal']);
    rmSync(join(bin, 'temporal'));
    const server = createServer((request, response) => {
      if (request.url?.startsWith('/cli/v')) {
        const { port } = server.address() as AddressInfo;
        response.end(JSON.stringify({ archiveUrl: `http://127.0.0.1:${port}/a`, fileToExtract: 'temporal' }));
      } else response.end(readFileSync(join(folder, 'cli.tar.gz')));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const downloadBaseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    expect((await findTemporalCli({ log, env, downloadBaseUrl })).source).toBe('download');
    server.close();
    expect((await findTemporalCli({ log, env, downloadBaseUrl: nowhere })).source).toBe('cache');
  });

  test('is built with Go where it cannot be downloaded', async () => {
    install('go', go);
    env['PATH'] = `${bin}:/usr/bin:/bin`;
    const cli = await findTemporalCli({ log, env, downloadBaseUrl: nowhere });
    expect(cli.source).toBe('Go build');
    expect(existsSync(cli.path)).toBe(true);
    expect(readFileSync(join(bin, 'go-arguments'), 'utf8')).toBe(
      '-mod=mod install -v github.com/temporalio/cli/cmd/temporal@v1.5.1\n',
    );
    expect(lines.join('\n')).toContain('some minutes');
    expect(lines.at(-1)).toBe('Go build: 1 modules downloaded, 1 packages compiled');
  });

  test('that cannot be had leads to one error with three ways out', async () => {
    await expect(findTemporalCli({ log, env, downloadBaseUrl: nowhere })).rejects.toThrow(
      /download:.*\n.*Go build: no `go` on the PATH[^]*TEMPORAL_ADDRESS/,
    );
  });
});

function install(name: string, script: string): void {
  writeFileSync(join(bin, name), script);
  chmodSync(join(bin, name), 0o755);
}
