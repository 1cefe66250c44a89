import { resolve } from 'node:path';
import { isCidr } from './private-addresses.ts';

/**
 * Reads the configuration from environment variables, once, and freezes it. This is the only reader of `process.env`.
 * An empty variable counts as not set (compose files pass those). `required` names the variables that this process
 * cannot do without.
 *
 * Throws a ConfigError that names every faulty variable at once, so that an operator mends them in one go.
 */
export function loadConfig(env: Environment = process.env, { required = [] }: LoadOptions = {}): Config {
  const reader = createReader(env, required);
  const { optional, withDefault } = reader;
  const rateLimitPerSecond = withDefault('RATE_LIMIT_PER_SECOND', 0, integer(0, 1_000_000));
  const config: Config = {
    databaseUrl: optional('DATABASE_URL', parseDatabaseUrl),
    databasePoolSize: withDefault('DATABASE_POOL_SIZE', 10, integer(1, 1000)),
    port: withDefault('PORT', 8080, integer(0, 65535)),
    host: withDefault('HOST', '127.0.0.1', parseWord),
    apiMetricsPort: withDefault('API_METRICS_PORT', 9464, integer(0, 65535)),
    workerMetricsPort: withDefault('WORKER_METRICS_PORT', 9465, integer(0, 65535)),
    metricsHost: withDefault('METRICS_HOST', '127.0.0.1', parseWord),
    metricsKey: optional('METRICS_KEY', parseSecret),
    metricsMaxTeams: withDefault('METRICS_MAX_TEAMS', 200, integer(0, 10_000)),
    temporalAddress: withDefault('TEMPORAL_ADDRESS', '127.0.0.1:7233', parseAddress),
    temporalNamespace: withDefault('TEMPORAL_NAMESPACE', 'default', parseWord),
    temporalApiKey: optional('TEMPORAL_API_KEY', parseSecret),
    temporalTls: optional('TEMPORAL_TLS', parseBoolean),
    temporalTlsClientCertPath: optional('TEMPORAL_TLS_CLIENT_CERT_PATH', parseText),
    temporalTlsClientKeyPath: optional('TEMPORAL_TLS_CLIENT_KEY_PATH', parseText),
    temporalTlsServerCaCertPath: optional('TEMPORAL_TLS_SERVER_CA_CERT_PATH', parseText),
    temporalTlsServerName: optional('TEMPORAL_TLS_SERVER_NAME', parseWord),
    temporalTaskQueue: withDefault('TEMPORAL_TASK_QUEUE', 'switchyard', parseWord),
    rateLimitPerSecond,
    // A whole batch must fit, else it never would.
    rateLimitBurst: withDefault('RATE_LIMIT_BURST', Math.max(500, 2 * rateLimitPerSecond), integer(500, 1_000_000)),
    logLevel: withDefault('LOG_LEVEL', 'info', parseLogLevel),
    switchyardHome: resolve(withDefault('SWITCHYARD_HOME', '.switchyard', parseText)),
    workflowBundlePath: optional('WORKFLOW_BUNDLE_PATH', parseText),
    workflowSandbox: withDefault('WORKFLOW_SANDBOX', 'lean', parseWorkflowSandbox),
    enrichmentAllowedHosts: withDefault('ENRICHMENT_ALLOWED_HOSTS', Object.freeze([]), parseHosts),
    privateCidrsAllowed: withDefault('PRIVATE_CIDRS_ALLOWED', Object.freeze([]), parseCidrs),
    outboundPrivateCidrs: withDefault('OUTBOUND_PRIVATE_CIDRS', Object.freeze([]), parseCidrs),
    flowSecretsFile: optional('FLOW_SECRETS_FILE', parseText),
    classifyUrl: optional('CLASSIFY_URL', parseBaseUrl),
    classifyApiKey: optional('CLASSIFY_API_KEY', parseSecret),
    classifyModel: optional('CLASSIFY_MODEL', parseSecret),
    actorIdleDays: withDefault('ACTOR_IDLE_DAYS', 3, parseDays),
    messageRetentionDays: optional('MESSAGE_RETENTION_DAYS', integer(1, 36_500)),
    given: reader.given,
  };
  const faults = [...reader.faults, ...findContradictions(config)];
  if (faults.length > 0) throw new ConfigError(faults);
  Object.freeze(config.given);
  return Object.freeze(config);
}

/** The configuration of this process, which ends with a message when it cannot be used. */
export function readConfig(options: LoadOptions = {}): Config {
  try {
    return loadConfig(process.env, options);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(2);
  }
}

/** The environment for a child process: this process's own, with `overrides` laid over it; `undefined` takes one away. */
export function extendEnvironment(overrides: Environment): Record<string, string> {
  const merged = { ...process.env, ...overrides };
  return Object.fromEntries(
    Object.entries(merged).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

/** The system that a command is meant for, where the environment names one: for programs that speak to it over HTTP from elsewhere. */
export function readApiAccess(env: Environment = process.env): { url: string | null; key: string | null } {
  return { url: env['SWITCHYARD_URL'] || null, key: env['SWITCHYARD_KEY'] || null };
}

export interface Config {
  /** Set whenever the caller of loadConfig required it; the launcher starts an embedded server when it is missing. */
  readonly databaseUrl: string | undefined;
  readonly databasePoolSize: number;
  readonly port: number;
  readonly host: string;
  /** 0 means any free port, as for `port` and `workerMetricsPort`. */
  readonly apiMetricsPort: number;
  readonly workerMetricsPort: number;
  readonly metricsHost: string;
  readonly metricsKey: string | undefined;
  /** With more teams than this, no metric is told by team; 0: never. */
  readonly metricsMaxTeams: number;
  readonly temporalAddress: string;
  readonly temporalNamespace: string;
  readonly temporalApiKey: string | undefined;
  readonly temporalTls: boolean | undefined;
  readonly temporalTlsClientCertPath: string | undefined;
  readonly temporalTlsClientKeyPath: string | undefined;
  readonly temporalTlsServerCaCertPath: string | undefined;
  readonly temporalTlsServerName: string | undefined;
  readonly temporalTaskQueue: string;
  /** Messages, or other requests, for each key and API process; 0: no limit. */
  readonly rateLimitPerSecond: number;
  /** How many at once, when it was silent before. */
  readonly rateLimitBurst: number;
  readonly logLevel: LogLevel;
  /** Absolute. */
  readonly switchyardHome: string;
  readonly workflowBundlePath: string | undefined;
  readonly workflowSandbox: WorkflowSandbox;
  /** Lower case, `host` or `host:port`. */
  readonly enrichmentAllowedHosts: readonly string[];
  /** CIDR blocks that names among the allowed hosts may lead to; see platform/guarded-request.ts. */
  readonly privateCidrsAllowed: readonly string[];
  /** CIDR blocks that channels and the webhooks of flows may lead to. */
  readonly outboundPrivateCidrs: readonly string[];
  readonly flowSecretsFile: string | undefined;
  /** Set together with `classifyModel`; without a slash at its end. */
  readonly classifyUrl: string | undefined;
  readonly classifyApiKey: string | undefined;
  readonly classifyModel: string | undefined;
  readonly actorIdleDays: number;
  /** Undefined: messages are kept for ever. */
  readonly messageRetentionDays: number | undefined;
  /** The variables that the operator set: a default may be moved aside (a taken port), a given value may not. */
  readonly given: readonly VariableName[];
}

export interface LoadOptions {
  readonly required?: readonly VariableName[];
}

export type Environment = Readonly<Record<string, string | undefined>>;
export type LogLevel = (typeof logLevels)[number];
/** See worker/workflow-sandbox.ts. */
export type WorkflowSandbox = (typeof workflowSandboxes)[number];
export type VariableName =
  | 'DATABASE_URL'
  | 'DATABASE_POOL_SIZE'
  | 'PORT'
  | 'HOST'
  | 'API_METRICS_PORT'
  | 'WORKER_METRICS_PORT'
  | 'METRICS_HOST'
  | 'METRICS_KEY'
  | 'METRICS_MAX_TEAMS'
  | 'TEMPORAL_ADDRESS'
  | 'TEMPORAL_NAMESPACE'
  | 'TEMPORAL_API_KEY'
  | 'TEMPORAL_TLS'
  | 'TEMPORAL_TLS_CLIENT_CERT_PATH'
  | 'TEMPORAL_TLS_CLIENT_KEY_PATH'
  | 'TEMPORAL_TLS_SERVER_CA_CERT_PATH'
  | 'TEMPORAL_TLS_SERVER_NAME'
  | 'TEMPORAL_TASK_QUEUE'
  | 'RATE_LIMIT_PER_SECOND'
  | 'RATE_LIMIT_BURST'
  | 'LOG_LEVEL'
  | 'SWITCHYARD_HOME'
  | 'WORKFLOW_BUNDLE_PATH'
  | 'WORKFLOW_SANDBOX'
  | 'ENRICHMENT_ALLOWED_HOSTS'
  | 'PRIVATE_CIDRS_ALLOWED'
  | 'OUTBOUND_PRIVATE_CIDRS'
  | 'FLOW_SECRETS_FILE'
  | 'CLASSIFY_URL'
  | 'CLASSIFY_API_KEY'
  | 'CLASSIFY_MODEL'
  | 'ACTOR_IDLE_DAYS'
  | 'MESSAGE_RETENTION_DAYS';

export interface ConfigFault {
  readonly variable: VariableName;
  /** What to put there instead. Never repeats the value: it may be a secret, and the message ends in logs. */
  readonly mend: string;
}

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly faults: readonly ConfigFault[];

  constructor(faults: readonly ConfigFault[]) {
    const lines = faults.map(({ variable, mend }) => `  ${variable}: ${mend}`);
    super(`The configuration cannot be used (.env.example explains every variable):\n${lines.join('\n')}`);
    this.faults = faults;
  }
}

/** A parser returns the value, or the mend when the text cannot be used. */
type Parser<T> = (text: string) => { readonly value: T } | { readonly mend: string };

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
const workflowSandboxes = ['lean', 'guarded'] as const;

function createReader(env: Environment, required: readonly VariableName[]) {
  const faults: ConfigFault[] = [];
  const given: VariableName[] = [];

  function optional<T>(variable: VariableName, parse: Parser<T>): T | undefined {
    const text = env[variable]?.trim() ?? '';
    if (text === '') {
      if (required.includes(variable)) faults.push({ variable, mend: 'is required here; set it' });
      return undefined;
    }
    given.push(variable);
    const result = parse(text);
    if ('value' in result) return result.value;
    faults.push({ variable, mend: result.mend });
    return undefined;
  }

  function withDefault<T>(variable: VariableName, otherwise: T, parse: Parser<T>): T {
    return optional(variable, parse) ?? otherwise;
  }

  return { optional, withDefault, faults, given };
}

function findContradictions(config: Config): ConfigFault[] {
  const faults: ConfigFault[] = [];
  if (config.port !== 0 && config.port === config.apiMetricsPort) {
    faults.push({ variable: 'API_METRICS_PORT', mend: 'must differ from PORT' });
  }
  const { temporalTlsClientCertPath: certPath, temporalTlsClientKeyPath: keyPath } = config;
  if (certPath !== undefined && keyPath === undefined) {
    faults.push({ variable: 'TEMPORAL_TLS_CLIENT_KEY_PATH', mend: 'is missing beside TEMPORAL_TLS_CLIENT_CERT_PATH' });
  }
  if (keyPath !== undefined && certPath === undefined) {
    faults.push({ variable: 'TEMPORAL_TLS_CLIENT_CERT_PATH', mend: 'is missing beside TEMPORAL_TLS_CLIENT_KEY_PATH' });
  }
  // By what was given, so that a faulty value is not told as a missing one as well.
  for (const [one, other] of [
    ['CLASSIFY_URL', 'CLASSIFY_MODEL'],
    ['CLASSIFY_MODEL', 'CLASSIFY_URL'],
    ['CLASSIFY_API_KEY', 'CLASSIFY_URL'],
  ] as const) {
    const isFirst = !faults.some(({ variable }) => variable === other);
    if (isFirst && config.given.includes(one) && !config.given.includes(other)) {
      faults.push({ variable: other, mend: `is missing beside ${one}` });
    }
  }
  const tlsDetails = config.given.filter((variable) => variable.startsWith('TEMPORAL_TLS_'));
  if (config.temporalTls === false && tlsDetails.length > 0) {
    faults.push({ variable: 'TEMPORAL_TLS', mend: `is false, but ${tlsDetails.join(', ')} is set; drop one of them` });
  }
  return faults;
}

function integer(min: number, max: number): Parser<number> {
  return (text) => {
    const value = Number(text);
    return /^\d+$/.test(text) && value >= min && value <= max
      ? { value }
      : { mend: `must be a whole number from ${min} to ${max}` };
  };
}

/** Fractions are allowed, so that a test or a trial may let actors go within seconds. */
function parseDays(text: string): ReturnType<Parser<number>> {
  const value = Number(text);
  return value > 0 && value <= 365 ? { value } : { mend: 'must be a number of days above 0, at most 365' };
}

function parseText(text: string): ReturnType<Parser<string>> {
  return text.includes('\0') ? { mend: 'must not contain NUL' } : { value: text };
}

function parseWord(text: string): ReturnType<Parser<string>> {
  return /^[^\s/]+$/.test(text) ? { value: text } : { mend: 'must be one word, without spaces or slashes' };
}

function parseSecret(text: string): ReturnType<Parser<string>> {
  return /^[\x21-\x7e]+$/.test(text) ? { value: text } : { mend: 'must be printable ASCII without spaces' };
}

function parseBoolean(text: string): ReturnType<Parser<boolean>> {
  const value = new Map([
    ['true', true],
    ['1', true],
    ['false', false],
    ['0', false],
  ]).get(text.toLowerCase());
  return value === undefined ? { mend: 'must be true or false' } : { value };
}

function parseLogLevel(text: string): ReturnType<Parser<LogLevel>> {
  const value = logLevels.find((level) => level === text.toLowerCase());
  return value === undefined ? { mend: `must be one of ${logLevels.join(', ')}` } : { value };
}

function parseWorkflowSandbox(text: string): ReturnType<Parser<WorkflowSandbox>> {
  const value = workflowSandboxes.find((sandbox) => sandbox === text.toLowerCase());
  return value === undefined ? { mend: `must be one of ${workflowSandboxes.join(', ')}` } : { value };
}

function parseDatabaseUrl(text: string): ReturnType<Parser<string>> {
  // `postgres://user@/name?host=/socket` is usual for PostgreSQL, but no URL to WHATWG: give it a host for the check.
  const usable = /^postgres(ql)?:\/\//.test(text) && URL.canParse(text.replace(/@(?=\/)/, '@localhost'));
  return usable ? { value: text } : { mend: 'must look like postgres://user:password@host:5432/database' };
}

function parseAddress(text: string): ReturnType<Parser<string>> {
  const port = /^(?:\[[\da-fA-F:.]+\]|[\w.-]+)(?::(\d{1,5}))?$/.exec(text);
  return port !== null && Number(port[1] ?? 1) >= 1 && Number(port[1] ?? 1) <= 65535
    ? { value: text }
    : { mend: 'must look like host:7233, without a scheme' };
}

function parseHosts(text: string): ReturnType<Parser<readonly string[]>> {
  const hosts = text
    .split(',')
    .map((host) => host.trim().toLowerCase())
    .filter((host) => host !== '');
  return hosts.every((host) => /^(?:\[[\da-f:.]+\]|[a-z\d._-]+)(?::\d{1,5})?$/.test(host))
    ? { value: Object.freeze(hosts) }
    : { mend: 'must be host names separated by commas, without scheme, path or wildcard' };
}

function parseCidrs(text: string): ReturnType<Parser<readonly string[]>> {
  const cidrs = text
    .split(',')
    .map((cidr) => cidr.trim())
    .filter((cidr) => cidr !== '');
  return cidrs.every(isCidr)
    ? { value: Object.freeze(cidrs) }
    : { mend: 'must be blocks of addresses such as 10.0.0.0/8 or fd00::/8, separated by commas' };
}

function parseBaseUrl(text: string): ReturnType<Parser<string>> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const usable = url !== undefined && /^https?:$/.test(url.protocol) && url.username + url.password === '';
  return usable && !/[?#]/.test(text)
    ? { value: text.replace(/\/+$/, '') }
    : { mend: 'must be an http:// or https:// address without user name, query and fragment' };
}
