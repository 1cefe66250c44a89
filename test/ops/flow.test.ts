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
    document: { ...flowFile.document, routing: { ...routing, otherwise: { team: 'Sals' } } },
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

test('a file that the API refuses is named with its fault, and the next one is still looked at', async () => {
  const { workspace, write, run } = await prepare();
  const { document } = flowFile;
  const withKeyword = (keyword: string) => ({
    ...document,
    enrichment: [{ kind: 'keywords', field: 'purpose', rules: [{ value: 'sales', keywords: [keyword] }] }],
  });
  const huge = await write('huge', { ...flowFile, document: withKeyword('x'.repeat(8_000_000)) });
  const large = await write('large', { ...flowFile, document: withKeyword('x'.repeat(300_000)) });
  const nul = await write('nul', { ...flowFile, document: { ...document, enrichment: [nulStep] } });
  const nested = `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
  const deep = await write('deep', `{"name": "Deep", "document": {"enrichment": ${nested}}}`);
  const strange = await write('strange', '{"name": "Strange", "document": {"__proto__": {}}}');
  const good = await write('good', flowFile);
  for (const command of ['validate', 'try', 'publish']) {
    const { code, out, err } = await run(command, huge, large, nul, deep, strange, good);
    const [ofHuge, ofLarge, ...others] = err.trimEnd().split('\n');
    expect(ofHuge).toMatch(/^\S*huge.json: [/]document: is too large: 8\d{6} bytes, .* of 262144 that the API takes\./);
    expect(ofLarge).toMatch(/^\S*large.json: [/]document: is too large: 300\d{3} bytes/);
    expect(others).toEqual([
      `${nul}: /document/enrichment/0/otherwise: contains U+0000 or a lone surrogate, which cannot be stored. Remove it.`,
      `${deep}: /document: is nested too deep. Give a flatter value.`,
      expect.stringMatching(/strange.json: [/]document: is refused: .*not valid JSON/),
    ]);
    expect(code).toBe(1);
    expect(out).toContain(good);
  }
  expect((await workspace.get('/flows')).body['items']).toMatchObject([{ name: 'Front desk', publishedNumber: 1 }]);
  const tried = await write('tried', {
    ...flowFile,
    tries: [
      { message: { text: 'a\0' }, share: 100 },
      { message: { text: 'b' }, responses: { 0: 'x'.repeat(300_000) } },
      { name: 'well', message: { text: 'c' } },
    ],
  });
  const refused = await run('try', tried);
  expect(refused).toMatchObject({ code: 1, out: expect.stringContaining(`${tried}: well\n`) });
  expect(refused.err.split('\n')).toEqual([
    `${tried}: /tries/0/message/text: contains U+0000 or a lone surrogate, which cannot be stored. Remove it.`,
    expect.stringContaining(`${tried}: /tries/0/share: is more than 99.`),
    expect.stringContaining(`${tried}: /tries/1/responses: is too large: 300`),
    '',
  ]);
});

const nulStep = { kind: 'keywords', field: 'purpose', rules: [{ value: 'a', keywords: ['b'] }], otherwise: 'a\0b' };

test('a name or description that could not be stored is a fault before anything is published', async () => {
  const { workspace, write, run } = await prepare();
  const unstorable = 'contains U+0000 or a lone surrogate, which cannot be stored. Remove it.';
  const blank = 'is blank, or begins or ends with a blank. Give a name without blanks at its ends.';
  const cases: [Record<string, unknown>, string][] = [
    [{ name: 'a\0b' }, `/name: ${unstorable}`],
    [{ name: 'a\ud800' }, `/name: ${unstorable}`],
    [{ name: ' ' }, `/name: ${blank}`],
    [{ name: 'a ' }, `/name: ${blank}`],
    [{ name: '😀'.repeat(201) }, '/name: has more than 200 characters. Shorten it.'],
    [{ description: '\0' }, `/description: ${unstorable}`],
    [{ description: 'x'.repeat(2001) }, '/description: has more than 2000 characters. Shorten it.'],
  ];
  const files = await Promise.all(cases.map(([change], place) => write(String(place), { ...flowFile, ...change })));
  for (const command of ['validate', 'publish']) {
    const { code, err } = await run(command, ...files);
    expect(code).toBe(1);
    expect(err.trimEnd().split('\n')).toEqual(cases.map(([, fault], place) => `${files[place]}: ${fault}`));
  }
  expect((await workspace.get('/flows')).body['items']).toEqual([]);
  const longest = { ...flowFile, name: '😀'.repeat(200), description: '😀'.repeat(2000) };
  expect(await run('publish', await write('longest', longest))).toMatchObject({ code: 0, err: '' });
});

test('faults of the file, of teams and of the document are told together, and a byte order mark is none', async () => {
  const { write, run } = await prepare();
  const rings = [
    { afterSeconds: 60, overflowTeam: 'Sals' },
    { afterSeconds: 90, fallback: 'wait' },
  ];
  const path = await write('all', {
    name: '',
    extra: 1,
    tries: {},
    document: {
      routing: {
        branches: [{ name: 'A', when: 'fields.', team: 'Sals' }],
        otherwise: { team: 'Sals', priority: 101, rings },
      },
    },
  });
  const { code, err } = await run('validate', path);
  expect(code).toBe(1);
  const places = err
    .trimEnd()
    .split('\n')
    .map((line) => line.slice(path.length + 2).split(': ')[0]);
  expect(places.toSorted()).toEqual([
    '/document/routing/branches/0/team',
    '/document/routing/branches/0/when',
    '/document/routing/otherwise/priority',
    '/document/routing/otherwise/rings/0/overflowTeam',
    '/document/routing/otherwise/team',
    '/extra',
    '/name',
    '/tries',
  ]);
  const marked = await write('marked', `\uFEFF${JSON.stringify(flowFile)}`);
  expect(await run('validate', marked)).toMatchObject({ code: 0, err: '' });
  const torn = await write('torn', '{\n  "name": x\n}');
  expect((await run('validate', torn)).err).toMatch(/^\S+torn.json: [/]: cannot be read: .*\n$/);
});

test('a draft that somebody else works on is not replaced unless that is asked for', async () => {
  const { workspace, write, run } = await prepare();
  const document = (priority: number) => ({
    routing: { branches: [], otherwise: { teamId: workspace.defaultTeamId, priority } },
  });
  const write1 = (priority: number) => write('flow', { name: 'Shared', document: document(priority) });
  const path = await write1(1);
  const foreign =
    `${path}: the draft of "Shared" has changes that are not published, which this would replace. ` +
    'Publish or undo them, or give --replace-draft.\n';
  const { id } = (await workspace.post('/flows', { name: 'Shared', document: document(9) }, workspace.keys.admin)).body;
  const draft = async () => (await workspace.get(`/flows/${id}`)).body['document'];

  // Never published.
  expect(await run('publish', path)).toEqual({ code: 1, out: '', err: foreign });
  expect(await draft()).toMatchObject(document(9));
  expect(await run('publish', path, '--replace-draft')).toMatchObject({ code: 0, err: '' });

  // Published, and changed since.
  await workspace.patch(`/flows/${id}`, { document: document(8) });
  await write1(2);
  expect(await run('publish', path)).toEqual({ code: 1, out: '', err: foreign });
  expect(await draft()).toMatchObject(document(8));
  // What is live already needs no draft.
  await write1(1);
  expect(await run('publish', path)).toMatchObject({
    code: 0,
    out:
      `${path}: version 1 of "Shared" is live already\n` +
      `${path}: hint: the draft has changes that are not published; they stay as they are.\n`,
  });
  expect(await draft()).toMatchObject(document(8));
  await write1(2);
  const replaced = await run('publish', path, '--replace-draft');
  expect(replaced).toMatchObject({ code: 0, out: expect.stringContaining('version 2 of "Shared" is live\n') });

  // A draft that a version holds is lost to nobody: after a rollback, and once the flow is withdrawn.
  await workspace.post(`/flows/${id}/rollback`, { number: 1 }, workspace.keys.admin);
  await write1(3);
  expect((await run('publish', path)).out).toContain('version 3 of "Shared" is live\n');
  await workspace.post(`/flows/${id}/unpublish`, {}, workspace.keys.admin);
  await write1(4);
  expect((await run('publish', path)).out).toContain('version 4 of "Shared" is live\n');
  expect(await draft()).toMatchObject(document(4));
});

test('a flow that is made beside an archived one of its name is published with a hint', async () => {
  const { workspace, write, run } = await prepare();
  const path = await write('flow', flowFile);
  await run('publish', path);
  const [{ id }] = (await workspace.get('/flows')).body['items'];
  await workspace.post(`/flows/${id}/archive`, {}, workspace.keys.admin);
  const hint = `${path}: hint: an archived flow has this name, too; restore it to go on with its versions.\n`;
  expect(await run('publish', path)).toMatchObject({ code: 0, err: '', out: expect.stringContaining(hint) });
  expect((await run('publish', path)).out).not.toContain(hint);
});

test('every share of a split can be tried from the command line', async () => {
  const { write, run } = await prepare();
  const split = [
    { percent: 80, team: 'Default' },
    { percent: 20, team: 'Sales' },
  ];
  const path = await write('split', { name: 'Split', document: { routing: { branches: [], otherwise: { split } } } });
  const teamAt = async (share: string) => (await run('try', path, '--text', 'Hello', '--share', share)).out;
  expect(await teamAt('79')).toContain('otherwise → team Default');
  expect(await teamAt('80')).toContain('otherwise → team Sales');
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
  for (const [args, message] of [
    [['foo', path], 'foo is no command.'],
    [[], 'No command is named.'],
    [['publish', path, '--text', 'a'], '--text is no option of publish.'],
    [['try', path, '--share', '5'], '--share is for --text, which is not given.'],
    [['try', path, '--text', 'a', '--share', '100'], '--share takes a number from 0 to 99.'],
  ] as const) {
    const { code, err } = await run(...args);
    expect(code).toBe(2);
    expect(err).toMatch(new RegExp(`^${message}\nusage: npm run -s flow -- validate`));
  }
  for (const flag of ['--help', '-h']) {
    expect(await run(flag)).toMatchObject({ code: 0, err: '', out: expect.stringMatching(/^usage: npm run -s flow/) });
  }
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
    err: `GET ${url}/v1/flows/schema: 401: the key is not known there\n`,
  });
  await write('key', 'sy_one\nsy_two');
  expect(await run('validate', path, '--key-file', keyFile)).toMatchObject({
    code: 2,
    err: 'The key is empty, or has blanks or other strange characters in it.\n',
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
