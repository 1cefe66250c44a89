import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigError, loadConfig } from '../../platform/config.ts';

describe('loadConfig', () => {
  it('gives the documented defaults for an empty environment', () => {
    expect(loadConfig({})).toEqual({
      databaseUrl: undefined,
      databasePoolSize: 10,
      port: 8080,
      host: '127.0.0.1',
      apiMetricsPort: 9464,
      workerMetricsPort: 9465,
      metricsHost: '127.0.0.1',
      metricsKey: undefined,
      metricsMaxTeams: 200,
      temporalAddress: '127.0.0.1:7233',
      temporalNamespace: 'default',
      temporalApiKey: undefined,
      temporalTls: undefined,
      temporalTlsClientCertPath: undefined,
      temporalTlsClientKeyPath: undefined,
      temporalTlsServerCaCertPath: undefined,
      temporalTlsServerName: undefined,
      temporalTaskQueue: 'switchyard',
      rateLimitPerSecond: 0,
      rateLimitBurst: 500,
      logLevel: 'info',
      switchyardHome: resolve('.switchyard'),
      workflowBundlePath: undefined,
      workflowSandbox: 'lean',
      enrichmentAllowedHosts: [],
      privateCidrsAllowed: [],
      outboundPrivateCidrs: [],
      flowSecretsFile: undefined,
      classifyUrl: undefined,
      classifyApiKey: undefined,
      classifyModel: undefined,
      actorIdleDays: 3,
      messageRetentionDays: undefined,
      given: [],
    });
  });

  it('is frozen, lists included', () => {
    const given = loadConfig({ ENRICHMENT_ALLOWED_HOSTS: 'a.example', PRIVATE_CIDRS_ALLOWED: '10.0.0.0/8', PORT: '1' });
    for (const config of [given, loadConfig({})]) {
      for (const value of [config, config.given, config.enrichmentAllowedHosts, config.privateCidrsAllowed]) {
        expect(Object.isFrozen(value)).toBe(true);
      }
    }
  });

  it('reports all faults at once, each with its variable and without its value', () => {
    const env = {
      DATABASE_URL: 'mysql://root:hunter2@db/x',
      DATABASE_POOL_SIZE: '0',
      PORT: '65536',
      API_METRICS_PORT: '1.5',
      METRICS_KEY: 'two words',
      METRICS_MAX_TEAMS: '10001',
      TEMPORAL_ADDRESS: 'http://temporal:7233',
      TEMPORAL_TLS: 'maybe',
      TEMPORAL_TLS_CLIENT_CERT_PATH: '/cert.pem',
      RATE_LIMIT_PER_SECOND: 'many',
      RATE_LIMIT_BURST: '499',
      LOG_LEVEL: 'loud',
      WORKFLOW_SANDBOX: 'none',
      ENRICHMENT_ALLOWED_HOSTS: 'https://crm.example/path',
      PRIVATE_CIDRS_ALLOWED: '10.0.0.0/40',
      OUTBOUND_PRIVATE_CIDRS: 'inside',
      FLOW_SECRETS_FILE: 'a\0b',
      CLASSIFY_URL: 'http://user:hunter2@models.example/v1',
      CLASSIFY_API_KEY: 'three words more',
      CLASSIFY_MODEL: 'a model',
      ACTOR_IDLE_DAYS: '-1',
      MESSAGE_RETENTION_DAYS: '0',
    };
    const error = catchConfigError(() => loadConfig(env));
    expect(error.faults.map((fault) => fault.variable).toSorted()).toEqual(
      Object.keys(env)
        .map((name) => (name === 'TEMPORAL_TLS_CLIENT_CERT_PATH' ? 'TEMPORAL_TLS_CLIENT_KEY_PATH' : name))
        .toSorted(),
    );
    for (const { variable, mend } of error.faults) expect(error.message).toContain(`${variable}: ${mend}`);
    expect(error.message).not.toMatch(/hunter2|two words|three words/);
  });

  it('asks only the process that needs it for DATABASE_URL, beside its other faults', () => {
    const error = catchConfigError(() => loadConfig({ PORT: 'x' }, { required: ['DATABASE_URL'] }));
    expect(error.faults.map((fault) => fault.variable)).toEqual(['DATABASE_URL', 'PORT']);
    expect(loadConfig({}).databaseUrl).toBeUndefined();
  });

  it('takes empty and blank variables as not set', () => {
    expect(loadConfig({ PORT: '', TEMPORAL_API_KEY: '  ' })).toEqual(loadConfig({}));
  });

  it('lets a burst be two seconds of the rate, and never less than a batch', () => {
    expect(loadConfig({ RATE_LIMIT_PER_SECOND: '10' }).rateLimitBurst).toBe(500);
    expect(loadConfig({ RATE_LIMIT_PER_SECOND: '400' }).rateLimitBurst).toBe(800);
    expect(loadConfig({ RATE_LIMIT_PER_SECOND: '400', RATE_LIMIT_BURST: '600' }).rateLimitBurst).toBe(600);
  });

  it('tells given values from defaults, even when they are equal', () => {
    expect(loadConfig({ PORT: '8080', TEMPORAL_ADDRESS: '127.0.0.1:7233' }).given).toEqual([
      'PORT',
      'TEMPORAL_ADDRESS',
    ]);
  });

  it.each([
    'postgres://a:b@host:5432/db',
    'postgresql://user@host/db?sslmode=require',
    'postgres:///db?host=/var/run/postgresql',
    'postgresql://user@/db?host=/tmp',
  ])('takes the database URL %s', (url) => {
    expect(loadConfig({ DATABASE_URL: url }).databaseUrl).toBe(url);
  });

  it.each(['localhost', 'temporal:7233', '[::1]:7233', 'ns.acct.tmprl.cloud:7233'])(
    'takes the address %s',
    (address) => {
      expect(loadConfig({ TEMPORAL_ADDRESS: address }).temporalAddress).toBe(address);
    },
  );

  it.each(['temporal:0', 'temporal:70000', 'a b:1', '::1'])('refuses the address %s', (address) => {
    expect(() => loadConfig({ TEMPORAL_ADDRESS: address })).toThrow('TEMPORAL_ADDRESS: must look like');
  });

  it('refuses contradictions', () => {
    const faults = (env: Record<string, string>) => catchConfigError(() => loadConfig(env)).faults;
    expect(faults({ PORT: '9464' })).toMatchObject([{ variable: 'API_METRICS_PORT' }]);
    expect(faults({ TEMPORAL_TLS: 'false', TEMPORAL_TLS_SERVER_NAME: 'x' })).toMatchObject([
      { variable: 'TEMPORAL_TLS' },
    ]);
    expect(faults({ TEMPORAL_TLS_CLIENT_KEY_PATH: 'k' })).toMatchObject([
      { variable: 'TEMPORAL_TLS_CLIENT_CERT_PATH' },
    ]);
    expect(() => loadConfig({ PORT: '0', API_METRICS_PORT: '0' })).not.toThrow();
    const url = 'http://127.0.0.1:11434/v1';
    expect(faults({ CLASSIFY_URL: url })).toMatchObject([{ variable: 'CLASSIFY_MODEL' }]);
    expect(faults({ CLASSIFY_MODEL: 'm' })).toMatchObject([{ variable: 'CLASSIFY_URL' }]);
    expect(faults({ CLASSIFY_API_KEY: 'k' })).toMatchObject([{ variable: 'CLASSIFY_URL' }]);
    expect(faults({ CLASSIFY_API_KEY: 'k', CLASSIFY_MODEL: 'm' })).toMatchObject([{ variable: 'CLASSIFY_URL' }]);
    expect(() => loadConfig({ CLASSIFY_URL: url, CLASSIFY_MODEL: 'org/model:7b' })).not.toThrow();
  });

  it('splits the allowed hosts and lowers their case', () => {
    expect(loadConfig({ ENRICHMENT_ALLOWED_HOSTS: ' CRM.example, b.example:8443,,' }).enrichmentAllowedHosts).toEqual([
      'crm.example',
      'b.example:8443',
    ]);
  });
});

describe('what enrichment may reach', () => {
  it.each(['10.0.0.0', '10.0.0.0/8,fd00::/8', ' 127.0.0.1 , ::1/128,, '])('takes the blocks %s', (text) => {
    const { privateCidrsAllowed } = loadConfig({ PRIVATE_CIDRS_ALLOWED: text });
    expect(privateCidrsAllowed).toEqual(
      text
        .split(',')
        .map((cidr) => cidr.trim())
        .filter(Boolean),
    );
  });

  it('keeps apart what enrichment and what channels and webhooks may reach', () => {
    const opened = loadConfig({ PRIVATE_CIDRS_ALLOWED: '10.0.0.0/8' });
    expect(opened).toMatchObject({ privateCidrsAllowed: ['10.0.0.0/8'], outboundPrivateCidrs: [] });
    const told = loadConfig({ OUTBOUND_PRIVATE_CIDRS: '10.0.0.0/8' });
    expect(told).toMatchObject({ privateCidrsAllowed: [], outboundPrivateCidrs: ['10.0.0.0/8'] });
  });

  it.each(['10.0.0.0/33', 'fd00::/129', 'localhost', '10.0.0/8', '10.0.0.0/8;fd00::/8'])('refuses %s', (text) => {
    expect(() => loadConfig({ PRIVATE_CIDRS_ALLOWED: text })).toThrow('PRIVATE_CIDRS_ALLOWED: must be blocks');
  });

  it.each([
    ['http://127.0.0.1:11434/v1/', 'http://127.0.0.1:11434/v1'],
    ['https://models.example', 'https://models.example'],
  ])('takes the address %s of a model', (text, url) => {
    expect(loadConfig({ CLASSIFY_URL: text, CLASSIFY_MODEL: 'm' }).classifyUrl).toBe(url);
  });

  it.each([
    'models.example',
    'ftp://models.example',
    'https://a:b@models.example',
    'https://models.example/?k=v',
    'https://m.example/#',
  ])('refuses the address %s of a model', (text) => {
    expect(() => loadConfig({ CLASSIFY_URL: text, CLASSIFY_MODEL: 'm' })).toThrow('CLASSIFY_URL: must be an http');
  });
});

describe('.env.example', () => {
  const formOfExample = /^# ([A-Z][A-Z_]*)=(.*)$/;
  const lines = readFileSync(new URL('../../.env.example', import.meta.url), 'utf8').split('\n');
  const examples = lines.flatMap((line, index) => {
    const match = formOfExample.exec(line);
    return match === null ? [] : [{ name: match[1]!, value: match[2]!, description: descriptionAbove(index) }];
  });

  /** The first line of the comment that ends above this line; details may follow it. */
  function descriptionAbove(index: number): string {
    const comment = lines.slice(0, index);
    const before = comment.findLastIndex((line) => line === '' || formOfExample.test(line));
    return comment[before + 1] ?? '';
  }

  it('lists exactly the variables that are read, each once', () => {
    const read: string[] = [];
    const recorder = new Proxy({}, { get: (_, name) => void read.push(String(name)) });
    loadConfig(recorder);
    expect(examples.map(({ name }) => name).toSorted()).toEqual(read.toSorted());
  });

  it('says what each variable is in the first line of the comment above it', () => {
    for (const { name, description } of examples) expect(description, name).toMatch(/^# [A-Z][^=]+\.$/);
  });

  it('changes nothing when copied as it is', () => {
    expect(lines.filter((line) => line !== '' && !line.startsWith('#'))).toEqual([]);
  });

  it('shows usable values, and the defaults where there are any', () => {
    const config = loadConfig(Object.fromEntries(examples.map(({ name, value }) => [name, value])));
    const optional = new Set(['given', 'enrichmentAllowedHosts', 'privateCidrsAllowed', 'outboundPrivateCidrs']);
    for (const [field, value] of Object.entries(loadConfig({}))) {
      if (value !== undefined && !optional.has(field)) expect(config, field).toHaveProperty(field, value);
    }
  });
});

function catchConfigError(fn: () => unknown): ConfigError {
  try {
    fn();
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}
