/**
 * Secrets that flows name but never hold: `{workspaceId: {name: {host, value}}}`, in a file of the operator's. They live in the worker's memory
 * only, and each is meant for one host, so that whoever writes flows can use a secret without being able to send it elsewhere.
 */
import { readFileSync, statSync } from 'node:fs';
import { ConfigError } from './config.ts';
import type { Logger } from './logger.ts';

/** Reads the file once. Throws a ConfigError that tells what is wrong with it, never what it holds. */
export function readFlowSecrets(path: string | undefined, logger: Pick<Logger, 'warn'>): FlowSecrets {
  const secrets = new Map<string, FlowSecret>();
  if (path !== undefined) {
    for (const [workspaceId, names] of entriesOf(readJson(path), 'must hold {workspaceId: {name: {host, value}}}')) {
      for (const [name, secret] of entriesOf(names, `must hold {name: {host, value}} for workspace ${workspaceId}`)) {
        secrets.set(keyOf(workspaceId, name), checkSecret(secret, `${workspaceId}/${name}`));
      }
    }
    if ((statSync(path).mode & 0o077) !== 0) {
      logger.warn({ path }, 'FLOW_SECRETS_FILE can be read by other users of this machine: chmod 600');
    }
  }
  return { find: (workspaceId, name) => secrets.get(keyOf(workspaceId, name)) };
}

export interface FlowSecrets {
  find(workspaceId: string, name: string): FlowSecret | undefined;
}

export interface FlowSecret {
  /** Lower case, `host` or `host:port`. */
  readonly host: string;
  /** The whole value of a header. */
  readonly value: string;
}

const keyOf = (workspaceId: string, name: string): string => `${workspaceId}/${name}`;

function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw fault(`cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'}): ${path}`);
  }
  try {
    return JSON.parse(text);
  } catch {
    // The parser's own message repeats a piece of the text.
    throw fault('holds no JSON');
  }
}

function entriesOf(value: unknown, mend: string): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fault(mend);
  return Object.entries(value);
}

function checkSecret(secret: unknown, name: string): FlowSecret {
  const { host, value, ...others } = Object.fromEntries(entriesOf(secret, `must hold {host, value} at ${name}`));
  if (Object.keys(others).length > 0) throw fault(`must hold nothing but host and value at ${name}`);
  if (typeof host !== 'string' || !/^(?:\[[\da-f:.]+\]|[a-z\d._-]+)(?::\d{1,5})?$/i.test(host)) {
    throw fault(`must name a host, or host:port, at ${name}`);
  }
  if (typeof value !== 'string' || !/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value)) {
    throw fault(`must hold a value of printable ASCII at ${name}`);
  }
  return { host: host.toLowerCase(), value };
}

const fault = (mend: string): ConfigError => new ConfigError([{ variable: 'FLOW_SECRETS_FILE', mend }]);
