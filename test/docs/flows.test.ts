/** The examples of the guide to flows hold: each is played by HTTP against an API and a worker process, and comes out as the guide says. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { extendEnvironment } from '../../platform/config.ts';
import { readFlowSecrets } from '../../platform/flow-secrets.ts';
import { createWorkspace, type NewWorkspace } from '../../store/workspaces.ts';
import { createApiClient } from '../support/api-client.ts';
import { startSystem, type TestSystem } from '../support/system.ts';
import { readFences } from './assignment-example.ts';
import { parseExample, parseTries, parseTryExample } from './flow-example.ts';
import { startOutside, type Outside } from './flow-outside.ts';
import { setFlowStage } from './flow-stage.ts';

const fences = readFences(readFileSync(new URL('../../docs/flows.md', import.meta.url), 'utf8'));
const examples = fences.filter(({ info }) => info === 'json example');
const flowCommand = fileURLToPath(new URL('../../ops/flow.ts', import.meta.url));
const trials = fences.filter(({ info }) => info === 'json try');
const tries = fences.filter(({ info }) => info === 'json tries');

let directory: string;
let outside: Outside;
let system: TestSystem;
const workspaces = new Map<number, NewWorkspace>();

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'switchyard-flows-'));
  outside = await startOutside();
  const secretsFile = join(directory, 'secrets.json');
  const env = {
    ENRICHMENT_ALLOWED_HOSTS: outside.host,
    OUTBOUND_PRIVATE_CIDRS: '127.0.0.0/8',
    FLOW_SECRETS_FILE: secretsFile,
    CLASSIFY_URL: `${outside.url}/model/v1`,
    CLASSIFY_MODEL: 'small',
    CLASSIFY_API_KEY: 'key-of-the-model',
  };
  system = await startSystem({ apis: 0, workers: 0, env });
  // The processes read the secrets when they start, and those belong to workspaces.
  for (const { line } of examples) {
    workspaces.set(line, await createWorkspace(system.database.pool, { name: `Line ${line}` }));
  }
  await writeFile(secretsFile, JSON.stringify(Object.fromEntries(examples.map(secretsOf))), { mode: 0o600 });
  await Promise.all([system.startApi(), system.startWorker()]);
});
afterAll(async () => {
  await system?.stop();
  await outside?.close();
  await rm(directory, { recursive: true, force: true });
});

function secretsOf({ line, text }: { line: number; text: string }) {
  const secrets = Object.entries(parseExample(text).secrets ?? {});
  const ofWorkspace = secrets.map(([name, value]) => [name, { host: outside.host, value }]);
  return [workspaces.get(line)!.workspaceId, Object.fromEntries(ofWorkspace)];
}

const settingOf = ({ keys, workspaceId }: NewWorkspace) => ({
  api: createApiClient(system.apis[0]!.url, keys),
  ingestKey: keys.ingest,
  workspaceId,
  pool: system.database.pool,
  outside,
});

test('every block of the guide is one that is run, or is no JSON', () => {
  const others = fences.filter((fence) => ![examples, trials, tries].some((run) => run.includes(fence)));
  expect(
    others
      .map(({ info }) => info)
      .filter((info) => !/^(sh|mermaid|json file|json secrets|json delivered|js signature)$/.test(info)),
  ).toEqual([]);
});

test('an example that says what nobody would run is an error', () => {
  const example = { document: {}, story: [{ step: 'Alice writes: Hello' }] };
  expect(parseExample(JSON.stringify(example))).toMatchObject(example);
  for (const mistake of [
    { documnt: {} },
    { story: [] },
    { story: [{ step: 'Alice writes: Hello', asigned: 'Uma' }] },
  ]) {
    expect(() => parseExample(JSON.stringify({ ...example, ...mistake }))).toThrow();
  }
});

test('there is an example for every kind of step', () => {
  const kinds = examples.flatMap(({ text }) => {
    const { enrichment = [] } = parseExample(text).document as { enrichment?: { kind: string }[] };
    return enrichment.map(({ kind }) => kind);
  });
  expect(new Set(kinds)).toEqual(new Set(['set', 'keywords', 'language', 'contact', 'ask', 'http', 'classify']));
});

describe('an example holds', () => {
  test.each(examples.map(({ line, heading, text }) => ({ title: `${heading}, line ${line}`, line, text })))(
    '$title',
    async ({ line, text }) => {
      const example = parseExample(text);
      outside.setExample(example);
      const stage = await setFlowStage(settingOf(workspaces.get(line)!), example);
      for (const step of example.story) await stage.play(step);
      await stage.settle();
      // Nothing came besides what the story tells, and nothing twice.
      const { sent, told } = outside.since(0);
      expect(sent.map(({ data }) => data.text)).toEqual(example.story.flatMap((step) => step.sent ?? []));
      expect(told.map(({ method, path }) => `${method} https://${path.slice(1)}`)).toEqual(
        example.story.flatMap((step) => step.told?.map(({ request }) => request) ?? []),
      );
      for (const { headers, body } of told) {
        expect(await isFromSwitchyard(headers, body, stage.webhookSecret)).toBe(true);
      }
    },
  );
});

test.each(trials.map(({ line, text }) => ({ line, text })))(
  'what the guide says of a flow that is tried is so, and nobody is asked or told: line $line',
  async ({ text }) => {
    const { try: described, answer, ...example } = parseTryExample(text);
    outside.setExample({});
    const setting = settingOf(await createWorkspace(system.database.pool, { name: 'Tried' }));
    const { document, settle } = await setFlowStage(setting, example);
    const attempt = (more: object = {}) => setting.api.post('/v1/flows/try', { document, ...described, ...more });
    expect(await attempt()).toMatchObject(answer);
    // Where no response is given, none is fetched.
    const { steps } = await attempt({ responses: {} });
    expect(steps.filter(({ reason = '' }) => /no response/.test(reason)).map(({ kind }: any) => kind)).toEqual([
      'http',
      'classify',
    ]);
    expect(await setting.api.get('/v1/conversations')).toMatchObject({ items: [] });
    await settle();
    expect(outside.requests).toEqual([]);
  },
);

test.each(tries.map(({ line, text }) => ({ line, text })))(
  'what the guide says of the example before it when that is tried is so: line $line',
  async ({ line, text }) => {
    const example = parseExample(examples.findLast((other) => other.line < line)!.text);
    const setting = settingOf(await createWorkspace(system.database.pool, { name: 'Tried' }));
    // As it stands there: only what is published has the hours of the story.
    const { document } = await setFlowStage(setting, example);
    for (const { try: described, answer } of parseTries(text)) {
      const tried = await setting.api.post('/v1/flows/try', { document, ...described });
      expect(tried, JSON.stringify(described)).toMatchObject(answer);
    }
  },
);

test('the file of secrets that the guide shows can be read', async () => {
  const file = join(directory, 'shown-secrets.json');
  const { text } = fences.find(({ info }) => info === 'json secrets')!;
  await writeFile(file, text, { mode: 0o600 });
  const [workspaceId = ''] = Object.keys(JSON.parse(text));
  const { host } = readFlowSecrets(file, { warn: () => expect.unreachable() }).find(workspaceId, 'crm')!;
  expect(host).toBe('crm.example.com');
});

test('the file of the guide is found valid, comes out as it expects, and can be published', async () => {
  const { keys } = await createWorkspace(system.database.pool, { name: 'Files' });
  const { url } = system.apis[0]!;
  const api = createApiClient(url, keys);
  await api.post('/v1/channels', { key: 'chat', name: 'Chat' });
  for (const name of ['Billing', 'Support']) await api.post('/v1/teams', { name });
  const file = join(directory, 'welcome.json');
  await writeFile(file, fences.find(({ info }) => info === 'json file')!.text);
  const env = extendEnvironment({ SWITCHYARD_URL: url, SWITCHYARD_KEY: keys.admin });
  for (const command of ['validate', 'try', 'publish']) {
    // Rejects where it does not end with 0.
    await promisify(execFile)(process.execPath, ['--import', 'tsx', flowCommand, command, file], { env });
  }
  expect((await api.get('/v1/flows')).items).toMatchObject([{ name: 'Welcome', publishedNumber: 1 }]);
});

describe('what is sent', () => {
  /** The first step of the first example with these words, and what was sent to a path meanwhile. */
  async function playFirst(words: string, path: string) {
    const example = parseExample(examples.find(({ text }) => text.includes(words))!.text);
    outside.setExample(example);
    const workspace = await createWorkspace(system.database.pool, { name: 'Signature' });
    const { play, webhookSecret, channelSecret } = await setFlowStage(settingOf(workspace), example);
    await play(example.story[0]!);
    const { headers, body } = outside.requests.find((request) => request.path.startsWith(path))!;
    return { headers, body, webhookSecret, channelSecret };
  }

  test('to the channel looks as the guide shows it, and the guide’s code finds its signature right', async () => {
    const { headers, body, channelSecret } = await playFirst('"ask"', '/chat/');
    const shown = JSON.parse(fences.find(({ info }) => info === 'json delivered')!.text);
    expect(shapeOf(JSON.parse(body))).toEqual(shapeOf(shown));
    expect(await isFromSwitchyard(headers, body, channelSecret)).toBe(true);
    expect(await isFromSwitchyard(headers, `${body} `, channelSecret)).toBe(false);
    expect(await isFromSwitchyard(headers, body, `whsec_${btoa('another')}`)).toBe(false);
    const late = { ...headers, 'webhook-timestamp': '1700000000' };
    expect(await isFromSwitchyard(late, body, channelSecret)).toBe(false);
    const { 'webhook-signature': _, ...unsigned } = headers as Record<string, string>;
    expect(await isFromSwitchyard(unsigned, body, channelSecret)).toBe(false);
  });

  test('as a webhook of a flow is signed with the secret of the workspace', async () => {
    const { headers, body, webhookSecret, channelSecret } = await playFirst('/billing"', '/hooks.example.com/');
    expect(await isFromSwitchyard(headers, body, webhookSecret)).toBe(true);
    expect(await isFromSwitchyard(headers, body, channelSecret)).toBe(false);
  });
});

/** The code of the guide. */
async function isFromSwitchyard(...args: unknown[]): Promise<boolean> {
  const code = join(directory, 'signature.mjs');
  await writeFile(code, fences.find(({ info }) => info === 'js signature')!.text);
  return (await import(code)).isFromSwitchyard(...args);
}

/** Names and kinds of all members; of a list, those of its first. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.slice(0, 1).map(shapeOf);
  if (typeof value !== 'object' || value === null) return value === null ? null : typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, shapeOf(member)]));
}
