import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ConfigError } from '../../platform/config.ts';
import { readFlowSecrets } from '../../platform/flow-secrets.ts';

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), 'flow-secrets-'))));
afterAll(() => rm(folder, { recursive: true }));

let written = 0;

async function read(text: string, mode = 0o600) {
  const path = join(folder, `${(written += 1)}.json`);
  await writeFile(path, text);
  await chmod(path, mode);
  const warnings: unknown[] = [];
  const secrets = readFlowSecrets(path, { warn: (...line: unknown[]) => void warnings.push(line) });
  return { secrets, warnings };
}

const one = (secret: unknown): string => JSON.stringify({ 'workspace-a': { token: secret } });
const usable = { host: 'CRM.example:8443', value: 'Bearer s3cret' };

test('a secret is found by its workspace and its name, and by nothing else', async () => {
  const { secrets, warnings } = await read(one(usable));
  expect(secrets.find('workspace-a', 'token')).toEqual({ host: 'crm.example:8443', value: 'Bearer s3cret' });
  expect(secrets.find('workspace-b', 'token')).toBeUndefined();
  expect(secrets.find('workspace-a', 'other')).toBeUndefined();
  expect(secrets.find('workspace-a', '__proto__')).toBeUndefined();
  expect(warnings).toEqual([]);
});

test('without a file there are none', () => {
  const warn = (): void => expect.unreachable();
  expect(readFlowSecrets(undefined, { warn }).find('workspace-a', 'token')).toBeUndefined();
});

test.each([0o640, 0o604, 0o644])('a file of mode %o is warned of, without what it holds', async (mode) => {
  const { secrets, warnings } = await read(one(usable), mode);
  expect(secrets.find('workspace-a', 'token')).toBeDefined();
  expect(warnings).toHaveLength(1);
  expect(JSON.stringify(warnings)).toContain('FLOW_SECRETS_FILE');
  expect(JSON.stringify(warnings)).not.toContain('s3cret');
});

test.each([
  ['is no JSON', '{"workspace-a": s3cret', 'holds no JSON'],
  ['is a list', '["s3cret"]', 'must hold {workspaceId'],
  ['holds a text for a workspace', '{"workspace-a": "s3cret"}', 'workspace-a'],
  ['holds a text for a secret', one('s3cret'), 'workspace-a/token'],
  ['names no host', one({ value: 's3cret' }), 'host'],
  ['names an address for a host', one({ ...usable, host: 'https://crm.example/' }), 'host'],
  ['names a wildcard for a host', one({ ...usable, host: '*.example' }), 'host'],
  ['has no value', one({ host: 'crm.example' }), 'value'],
  ['has an empty value', one({ host: 'crm.example', value: '' }), 'value'],
  ['has a value of two lines', one({ ...usable, value: 's3cret\r\nx-evil: 1' }), 'value'],
  ['has a value that no header takes', one({ ...usable, value: 's3cret ☃' }), 'value'],
  ['has something besides', one({ ...usable, hots: 'crm.example' }), 'nothing but'],
])('a file that %s is a fault of FLOW_SECRETS_FILE that repeats no secret', async (_, text, mend) => {
  const error: unknown = await read(text).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).message).toContain('FLOW_SECRETS_FILE: ');
  expect((error as ConfigError).message).toContain(mend);
  expect((error as ConfigError).message).not.toContain('s3cret');
});

test('a file that is not there is told as that', () => {
  const path = join(folder, 'none.json');
  const read = () => readFlowSecrets(path, { warn: () => undefined });
  expect(read).toThrow(`FLOW_SECRETS_FILE: cannot be read (ENOENT): ${path}`);
  expect(() => readFlowSecrets(folder, { warn: () => undefined })).toThrow('FLOW_SECRETS_FILE: cannot be read');
});
