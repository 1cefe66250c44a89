import { readFileSync } from 'node:fs';
import { loadConfig, readApiAccess } from '../../platform/config.ts';
import { devFilePath, type DevFile } from '../dev-file.ts';
import { readJson } from '../state-files.ts';

/** What the commands about flows need of the API. Every refusal that the caller does not expect ends the command. */
export interface FlowApi {
  call<Body = Json>(
    method: 'GET' | 'POST' | 'PATCH',
    path: string,
    body?: unknown,
  ): Promise<{ status: number; body: Body }>;
  /** Insists on success. */
  get<Body>(path: string): Promise<Body>;
  /** All pages of a list. */
  listAll<Item>(path: string): Promise<Item[]>;
}

export type Json = Readonly<Record<string, unknown>>;

/** The command is not to be understood, or the system cannot be reached or does not answer as it should: nothing was found out about the file. */
export class CommandFault extends Error {}

export async function connect(options: {
  readonly url?: string | undefined;
  readonly 'key-file'?: string | undefined;
}): Promise<FlowApi> {
  const { url, key } = readAccess(options);
  const api = createFlowApi(url, key);
  await api.get('/v1/flows/schema');
  return api;
}

function readAccess(options: { url?: string | undefined; 'key-file'?: string | undefined }): {
  url: string;
  key: string;
} {
  const file = devFilePath(loadConfig().switchyardHome);
  const dev = readJson<DevFile>(file);
  const access = readApiAccess();
  const url = options.url ?? access.url ?? dev?.apiUrl;
  // The key of the system started here is sent to no other.
  const ownKey = url === dev?.apiUrl ? dev?.keys.admin : undefined;
  const key = options['key-file'] === undefined ? (access.key ?? ownKey) : readKey(options['key-file']);
  if (url !== undefined && key === undefined && dev !== null) {
    throw new CommandFault(`Set SWITCHYARD_KEY (or --key-file): the key in ${file} is for ${dev.apiUrl} only.`);
  }
  if (url === undefined || key === undefined) {
    const missing = url === undefined ? 'SWITCHYARD_URL (or --url)' : 'SWITCHYARD_KEY (or --key-file)';
    throw new CommandFault(`Set ${missing}, or run \`npm start\` first (there is no ${file}).`);
  }
  if (!URL.canParse(url))
    throw new CommandFault(`${url} is no address. Give one such as https://switchyard.example.com.`);
  return { url: url.replace(/\/+$/, ''), key };
}

function readKey(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new CommandFault(`The key cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

function createFlowApi(url: string, key: string): FlowApi {
  async function call<Body>(method: string, path: string, body?: unknown): Promise<{ status: number; body: Body }> {
    const answer = await send(method, path, body);
    if (answer.status === 401 || answer.status === 403) {
      throw new CommandFault(
        `${method} ${url}${path}: ${answer.status}. The key is not known there, or may not do this.`,
      );
    }
    if (answer.status === 429 || answer.status >= 500) {
      throw new CommandFault(`${method} ${url}${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    }
    return answer as { status: number; body: Body };
  }

  async function send(method: string, path: string, body: unknown): Promise<{ status: number; body: unknown }> {
    try {
      const response = await fetch(url + path, {
        method,
        headers: { authorization: `Bearer ${key}`, ...(body !== undefined && { 'content-type': 'application/json' }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(timeoutMs),
      });
      return { status: response.status, body: JSON.parse(await response.text()) as unknown };
    } catch (error) {
      const { message, cause } = error as Error & { cause?: Error & { code?: string } };
      const why = cause === undefined ? message : `${message} (${cause.code ?? cause.message})`;
      throw new CommandFault(`${method} ${url}${path}: ${why}`, { cause: error });
    }
  }

  async function get<Body>(path: string): Promise<Body> {
    const { status, body } = await call<Body>('GET', path);
    if (status !== 200) throw new CommandFault(`GET ${url}${path}: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  return {
    call,
    get,
    async listAll<Item>(path: string) {
      const items: Item[] = [];
      for (let cursor: string | null = ''; cursor !== null;) {
        const page: { items: Item[]; nextCursor: string | null } = await get(
          `${path}?limit=100${cursor === '' ? '' : `&cursor=${cursor}`}`,
        );
        items.push(...page.items);
        cursor = page.nextCursor;
      }
      return items;
    },
  };
}

const timeoutMs = 30_000;
