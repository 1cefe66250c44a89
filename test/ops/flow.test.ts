import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { extendEnvironment } from '../../platform/config.ts';
import { startWorkspaceApi, type WorkspaceApi } from '../api/workspace-api.ts';

let api: WorkspaceApi;
let url: string;
let directory: string;

beforeAll(async () => {
  api = await startWorkspaceApi();
  url = await api.app.listen({ port: 0, host: '127.0.0.1' });
  directory = await mkdtemp(join(tmpdir(), 'switchyard-flow-'));
});

afterAll(async () => {
  await api?.stop();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

const flowFile = {
  name: 'Front desk',
  description: 'From the repository',
  document: {
    enrichment: [{ kind: 'keywords', field: 'purpose', rules: [{ value: 'sales', keywords: ['buy'] }] }],
    routing: {
      branches: [{ name: 'Sales', when: "fields.purpose == 'sales'", team: 'Sales', priority: 5 }],
      otherwise: {
        team: 'Default',
        rings: [
          { afterSeconds: 60, overflowTeam: 'Sales' },
          { afterSeconds: 90, fallback: 'wait' },
        ],
      },
    },
  },
  tries: [
    {
      name: 'who buys',
      message: { text: 'I want to buy' },
      expect: { matched: true, branch: 'Sales', team: 'Sales', fields: { purpose: 'sales' }, agentId: null },
    },
    { name: 'anything else', message: { text: 'Hello' }, expect: { branch: null, kind: 'team' } },
  ],
};

async function prepare() {
  const workspace = await api.workspace();
  const { admin } = workspace.keys;
  await workspace.post('/teams', { name: 'Sales' }, admin);
  async function write(name: string, content: unknown): Promise<string> {
    const path = join(directory, `${workspace.workspaceId}-${name}.json`);
    await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
    return path;
  }
  const run = (...args: string[]) => runFlow(args, { SWITCHYARD_URL: url, SWITCHYARD_KEY: admin });
  return { workspace, admin, write, run };
}

test('a file is checked, its tries come out as expected, and it is published once', async () => {
  const { workspace, write, run } = await prepare();
  const path = await write('flow', flowFile);
  const validated = await run('validate', path);
  expect(validated).toMatchObject({ code: 0, err: '' });
  expect(validated.out).toMatch(/^\S+: valid\n/);
  expect(validated.out).toContain(`${path}: hint: The team “Sales”`);
  expect((await workspace.get('/flows')).body['items']).toEqual([]);

  const tried = await run('try', path);
  expect(tried).toMatchObject({ code: 0, err: '' });
  expect(tried.out).toContain(`${path}: who buys`);
  expect(tried.out).toContain('step 1 keywords: done: purpose = "sales"');
  expect(tried.out).toContain(`branch “Sales”: fields.purpose == 'sales' → true (fields.purpose = "sales")`);
  expect(tried.out).toContain('branch “Sales” → team Sales, priority 5');
  expect(tried.out).toMatch(/waiting: The conversation waits: the team has no agents/);
  expect(tried.out.match(/as expected/g)).toHaveLength(2);

  const published = await run('publish', path);
  expect(published).toMatchObject({ code: 0, err: '' });
  expect(published.out).toContain('version 1 of "Front desk" is live\n');
  expect(published.out).toContain('hint: The team “Sales”');
  expect((await run('publish', path)).out).toBe(`${path}: version 1 of "Front desk" is live already\n`);
  const { enrichment, routing } = flowFile.document;
  const changed = { ...flowFile, document: { enrichment, routing: { ...routing, branches: [] } }, tries: [] };
  await write('flow', changed);
  expect((await run('publish', path)).out).toContain('version 2 of "Front desk" is live\n');
  expect((await workspace.get('/flows')).body['items']).toMatchObject([
    {
      name: 'Front desk',
      description: 'From the repository',
      publishedNumber: 2,
      document: { routing: { branches: [] } },
    },
  ]);
});

test('every fault is a line with its place in the file', async () => {
  const { workspace, write, run } = await prepare();
  const { routing } = flowFile.document;
  const unknownTeam = await write('team', {
    ...flowFile,
    document: { routing: { ...routing, otherwise: { team: 'Sals' } } },
    tries: [{ message: { text: 'a' }, expect: { team: 'Nobody' } }],
  });
  expect(await run('validate', unknownTeam)).toMatchObject({
    code: 1,
    err:
      `${unknownTeam}: /document/routing/otherwise/team: there is no team called "Sals". Give one of "Default", "Sales".\n` +
      `${unknownTeam}: /tries/0/expect/team: there is no team called "Nobody". Give one of "Default", "Sales".\n`,
  });
  const broken = await write('broken', {
    ...flowFile,
    document: {
      routing: {
        branches: [{ name: 'A', when: 'fields.', team: 'Sales' }],
        otherwise: { team: 'Default', priority: 101 },
      },
    },
  });
  for (const command of ['validate', 'publish']) {
    const { code, err } = await run(command, broken);
    expect(code).toBe(1);
    const places = err
      .trim()
      .split('\n')
      .map((line) => line.slice(broken.length + 2).split(': ')[0]);
    expect(places.toSorted()).toEqual(['/document/routing/branches/0/when', '/document/routing/otherwise/priority']);
  }
  expect((await run('try', broken)).err).toContain(`${broken}: /document/routing/branches/0/when: `);
  const noJson = await write('no-json', '{');
  const { code, err } = await run('validate', noJson, await write('no-name', { document: {}, colour: 'red' }));
  expect(code).toBe(1);
  expect(err).toContain(`${noJson}: /: cannot be read: `);
  expect(err).toContain('/name: is no name. Give the flow a name.\n');
  expect(err).toContain('/colour: is not known here. Remove it, or check its spelling.\n');
  expect((await workspace.get('/flows')).body['items']).toEqual([]);
});

test('an expectation that is not met fails the try and tells what came out', async () => {
  const { write, run } = await prepare();
  const path = await write('flow', {
    ...flowFile,
    tries: [{ name: 'wrong', message: { text: 'buy' }, expect: { branch: 'Support', fields: { purpose: 'help' } } }],
  });
  const { code, err } = await run('try', path);
  expect(code).toBe(1);
  expect(err).toBe(
    `${path}: /tries/0/expect/branch: is "Sales". Expected was "Support".\n` +
      `${path}: /tries/0/expect/fields/purpose: is "sales". Expected was "help".\n`,
  );
  const byText = await run('try', path, '--text', 'Hello');
  expect(byText).toMatchObject({ code: 0, err: '' });
  expect(byText.out).toContain('otherwise → team Default');
  const one = await write('case', { name: 'by mail', message: { text: 'x' }, channel: 'fax' });
  expect(await run('try', path, '--case', one)).toMatchObject({
    code: 1,
    err: expect.stringContaining(`${path}: /0/channel: there is no such channel`),
  });
});

test('a path with questions reads like the talk that it would be', async () => {
  const { write, run } = await prepare();
  const choices = [
    { value: 'sales', label: 'Buying' },
    { value: 'help', label: 'Help' },
  ];
  const ask = { kind: 'ask', field: 'purpose', text: 'What is it about?', choices, timeoutSeconds: 60 };
  const path = await write('asking', {
    name: 'Asking',
    document: {
      enrichment: [{ ...ask, giveUp: { text: 'We pass you on.' } }],
      routing: { branches: [], otherwise: { close: true, text: 'Bye' } },
    },
  });
  const lines = async (...answers: string[]) => {
    const { out } = await run('try', path, '--text', 'Hello', ...answers.flatMap((answer) => ['--answer', answer]));
    return out
      .split('\n')
      .slice(2)
      .map((line) => line.trim());
  };
  const question = '"What is it about?" [Buying | Help]';
  expect(await lines('well', 'help')).toEqual([
    `step 1 ask: asked ${question}`,
    `step 1 ask: after "well" asked again ${question}: the answer does not fit`,
    'step 1 ask: answered "help": purpose = "help"',
    'otherwise → closed',
    'sends "Bye"',
    expect.stringMatching(/hint: It asks the contact, and no channel has an address/),
    '',
  ]);
  expect((await lines()).slice(1, 3)).toEqual([
    'step 1 ask: gave up: no answer came in time',
    'sends "We pass you on."',
  ]);
});

test('the key of the system that was started here is sent to no other, and the command says so', async () => {
  const { admin, write } = await prepare();
  const path = await write('flow', flowFile);
  const home = await mkdtemp(join(directory, 'home-'));
  const dev = { apiUrl: 'http://127.0.0.1:9', keys: { admin } };
  await writeFile(join(home, 'dev.json'), JSON.stringify(dev));
  const env = { SWITCHYARD_HOME: home, SWITCHYARD_URL: url, SWITCHYARD_KEY: undefined };
  expect(await runFlow(['validate', path], env)).toMatchObject({
    code: 2,
    err: `Set SWITCHYARD_KEY (or --key-file): the key in ${join(home, 'dev.json')} is for http://127.0.0.1:9 only.\n`,
  });
  await writeFile(join(home, 'dev.json'), JSON.stringify({ ...dev, apiUrl: url }));
  expect(await runFlow(['validate', path], env)).toMatchObject({ code: 0 });
});

test('a check and a try print what is hardly meant, and end well', async () => {
  const { write, run } = await prepare();
  const { document } = flowFile;
  const branches = [{ name: 'Typo', when: "fields.purpose == 'slaes'", team: 'Sales' }];
  const path = await write('typo', {
    ...flowFile,
    document: {
      enrichment: [{ kind: 'set', field: 'purpose', value: 'sales' }],
      routing: { ...document.routing, branches },
    },
  });
  const hint = `${path}: hint: Branch “Typo”: \`fields.purpose\` is never "slaes"; it can be "sales".\n`;
  const checked = await run('validate', path);
  expect(checked.code).toBe(0);
  expect(checked.out).toContain(`${path}: valid\n`);
  expect(checked.out).toContain(hint);
  const tried = await run('try', path, '--text', 'Hello');
  expect(tried.code).toBe(0);
  expect(tried.out.split(hint)).toHaveLength(2);
});

test('what cannot be found out ends with 2 and says what to do', async () => {
  const { admin, write, run } = await prepare();
  const path = await write('flow', flowFile);
  expect(await run('guess', path)).toMatchObject({ code: 2, err: expect.stringContaining('usage: npm run -s flow') });
  expect(await run('validate')).toMatchObject({ code: 2 });
  const faultySetting = { SWITCHYARD_URL: url, SWITCHYARD_KEY: admin, CLASSIFY_URL: undefined, CLASSIFY_MODEL: 'x' };
  expect(await runFlow(['validate', path], faultySetting)).toMatchObject({
    code: 2,
    out: '',
    err: expect.stringMatching(
      /^The configuration cannot be used .*CLASSIFY_URL: is missing beside CLASSIFY_MODEL.*\n$/,
    ),
  });
  const home = { SWITCHYARD_HOME: join(directory, 'nothing'), SWITCHYARD_URL: undefined, SWITCHYARD_KEY: undefined };
  expect(await runFlow(['validate', path], home)).toMatchObject({
    code: 2,
    err: expect.stringMatching(/^Set SWITCHYARD_URL .*npm start/),
  });
  expect(await run('validate', path, '--url', 'http://127.0.0.1:9')).toMatchObject({
    code: 2,
    err: expect.stringContaining('GET http://127.0.0.1:9/v1/flows/schema: '),
  });
  const keyFile = await write('key', 'sy_wrong_key');
  expect(await run('validate', path, '--key-file', keyFile)).toMatchObject({
    code: 2,
    err: expect.stringContaining('401'),
  });
  await write('key', `${admin}\n`);
  const named = await runFlow(['validate', path, '--url', url, '--key-file', keyFile], home);
  expect(named).toMatchObject({ code: 0 });
});

async function runFlow(
  args: string[],
  env: Record<string, string | undefined>,
): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', 'ops/flow.ts', ...args], {
    cwd: fileURLToPath(new URL('../../', import.meta.url)),
    env: extendEnvironment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, out, err };
}
