import { expect, test } from 'vitest';
import { createNetworkAccess } from '../../activities/network-access.ts';
import { loadConfig } from '../../platform/config.ts';

const silent = { warn: () => undefined };

test('what is not set up is not there', () => {
  const access = createNetworkAccess(loadConfig({}), silent);
  expect(access).toMatchObject({ allowedHosts: new Set(), privateCidrs: [], classifier: null });
  expect(access.secrets.find('workspace', 'token')).toBeUndefined();
});

test('what the operator set up is there', () => {
  const config = loadConfig({
    ENRICHMENT_ALLOWED_HOSTS: 'crm.example,127.0.0.1:8000',
    PRIVATE_CIDRS_ALLOWED: '10.0.0.0/8',
    CLASSIFY_URL: 'http://127.0.0.1:11434/v1/',
    CLASSIFY_MODEL: 'small-1',
  });
  expect(createNetworkAccess(config, silent)).toMatchObject({
    allowedHosts: new Set(['crm.example', '127.0.0.1:8000']),
    privateCidrs: ['10.0.0.0/8'],
    classifier: { url: 'http://127.0.0.1:11434/v1', model: 'small-1', apiKey: undefined },
  });
});

test('a file of secrets that cannot be used ends the start, by the name of its variable', () => {
  const config = loadConfig({ FLOW_SECRETS_FILE: '/nowhere/flow-secrets.json' });
  expect(() => createNetworkAccess(config, silent)).toThrow(
    'FLOW_SECRETS_FILE: cannot be read (ENOENT): /nowhere/flow-secrets.json',
  );
});
