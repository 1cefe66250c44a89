import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { loadConfig } from '../../platform/config.ts';

const read = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8');

/** What every Switchyard container is given, by variable: the block up to the next key that is less indented. */
const [, block = ''] = /environment: &switchyard-environment\n((?: {4}.*\n)+)/.exec(read('docker-compose.yml')) ?? [];
const passedOn = new Map(
  [...block.matchAll(/^ {4}([A-Z_]+): (.*)$/gm)].map(([, name = '', value = '']) => [name, value]),
);

/** Not from `.env`: where things are is for the compose file to say, and its Temporal has no access control. */
const decidedThere = new Set(
  `DATABASE_URL PORT HOST API_METRICS_PORT WORKER_METRICS_PORT METRICS_HOST SWITCHYARD_HOME WORKFLOW_BUNDLE_PATH TEMPORAL_ADDRESS
   TEMPORAL_API_KEY TEMPORAL_TLS TEMPORAL_TLS_CLIENT_CERT_PATH TEMPORAL_TLS_CLIENT_KEY_PATH TEMPORAL_TLS_SERVER_CA_CERT_PATH
   TEMPORAL_TLS_SERVER_NAME`.split(/\s+/),
);

test('docker-compose.yml passes on from .env whatever .env.example lists and it does not decide itself', () => {
  const listed = [...read('.env.example').matchAll(/^# ([A-Z][A-Z_]*)=/gm)].map(([, name = '']) => name);
  expect(listed.length).toBeGreaterThan(decidedThere.size);
  const ignored = listed.filter(
    (name) => !decidedThere.has(name) && passedOn.get(name)?.startsWith(`\${${name}:-`) !== true,
  );
  expect(ignored).toEqual([]);
});

test('what .env does not set has the same default as without compose', () => {
  const defaults = [...passedOn].flatMap(([name, value]) => {
    const [, otherwise] = /^\$\{\w+:-(.*)\}$/.exec(value) ?? [];
    return otherwise === undefined || name === 'METRICS_KEY' ? [] : [[name, otherwise]];
  });
  const { given, ...config } = loadConfig(Object.fromEntries(defaults));
  expect({ ...config, given: [] }).toEqual(loadConfig({}));
  expect(given.length).toBeGreaterThan(5);
});
