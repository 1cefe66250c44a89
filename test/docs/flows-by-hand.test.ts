/** The calls by which the guide to flows builds its first one do that, as they stand there. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { extendEnvironment } from '../../platform/config.ts';
import { startWorkspaceApi, type WorkspaceApi } from '../api/workspace-api.ts';
import { readFences } from './assignment-example.ts';

const run = promisify(execFile);

let api: WorkspaceApi;
let directory: string;

beforeAll(async () => {
  api = await startWorkspaceApi();
  directory = await mkdtemp(join(tmpdir(), 'switchyard-by-hand-'));
});
afterAll(async () => {
  await api?.stop();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

// The guide's calls are curl's; a machine without it cannot follow them by hand either.
const hasCurl = spawnSync('curl', ['--version']).status === 0;

test.skipIf(!hasCurl)(
  'the calls make a team, an agent who is online, and a flow that is live before all others',
  async () => {
    const apiUrl = await api.app.listen({ port: 0, host: '127.0.0.1' });
    const workspace = await api.workspace();
    const taking = { routing: { branches: [], otherwise: { teamId: workspace.defaultTeamId } } };
    for (const name of ['Welcome', 'Another']) {
      const { body } = await workspace.post('/flows', { name, document: taking }, workspace.keys.admin);
      await workspace.post(`/flows/${body.id}/publish`, undefined, workspace.keys.admin);
    }
    const home = join(directory, 'home');
    await mkdir(home);
    await writeFile(join(home, 'dev.json'), JSON.stringify({ apiUrl, keys: workspace.keys }));
    const { stdout } = await run('sh', ['-ec', readCalls()], {
      cwd: directory,
      env: extendEnvironment({ SWITCHYARD_HOME: home }),
    });
    expect((await workspace.get('/flows')).body.items).toMatchObject([
      { name: 'First', publishedNumber: 1 },
      { name: 'Welcome' },
      { name: 'Another' },
    ]);
    expect((await workspace.get('/agents')).body.items).toMatchObject([{ name: 'Sam', presence: 'online' }]);
    const published = JSON.parse(stdout.slice(stdout.lastIndexOf('{"id"')));
    expect(published).toMatchObject({ number: 1 });
    expect(published.hints).toEqual([{ message: expect.stringMatching(/^It takes whatever .*“Welcome”, “Another”/) }]);
  },
);

function readCalls(): string {
  const fences = readFences(readFileSync(new URL('../../docs/flows.md', import.meta.url), 'utf8'));
  const found = fences.filter(({ info, text }) => info === 'sh' && text.includes('flows/order'));
  expect(found).toHaveLength(1);
  return found[0]!.text;
}
