import { readFileSync } from 'node:fs';
import { loadConfig, readApiAccess } from '../../platform/config.ts';
import { devFilePath, type DevFile } from '../dev-file.ts';
import { readJson } from '../state-files.ts';
import type { FieldFault } from './fault-lines.ts';

/**
 * What the commands about flows need of the API. A refusal of what was sent is told as its faults; every other one ends the command, as does
 * a system that cannot be reached.
 */
export interface FlowApi {
  submit<Body>(method: 'POST' | 'PATCH', path: string, body?: Json): Promise<Submitted<Body>>;
  /** Insists on success. */
  get<Body>(path: string): Promise<Body>;
  /** All pages of a list. */
  listAll<Item>(path: string): Promise<Item[]>;
}

export type Submitted<Body> =
  { readonly ok: true; readonly body: Body } | { readonly ok: false; readonly faults: readonly FieldFault[] };

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
  // Sent as it is, it would be refused with an error that quotes it.
  if (!/^[!-~]+$/.test(key))
    throw new CommandFault('The key is empty, or has blanks or other strange characters in it.');
  return { url: url.replace(/\/+$/, ''), key };
}

function readKey(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new CommandFault(`The key cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * The API takes no larger body. It answers the first bytes too many and closes the connection, which whoever is still sending sees as a broken
 * pipe and not as that answer: so what is larger is not sent.
 */
const maxBodyBytes = 256 * 1024;

/** Why a body cannot be sent, told at its largest member; null where it can be. */
export function findSizeFault(body: Json): FieldFault | null {
  const sizes = Object.entries(body).map(([name, value]) => ({ name, bytes: sizeOf(value) }));
  const total = sizeOf(body);
  if (total <= maxBodyBytes) return null;
  const { name, bytes } = sizes.reduce((largest, one) => (one.bytes > largest.bytes ? one : largest));
  if (bytes === Infinity) return { field: `/${name}`, message: 'is nested too deep', mend: 'Give a flatter value.' };
  const message = `is too large: ${bytes} bytes, ${total} with what is sent beside it, of ${maxBodyBytes} that the API takes`;
  return { field: `/${name}`, message, mend: 'Make it smaller.' };
}

function sizeOf(value: unknown): number {
  try {
    return Buffer.byteLength(JSON.stringify(value) ?? '');
  } catch (error) {
    // Nested so deep that the stack is too small to write it.
    if (error instanceof RangeError) return Infinity;
    throw error;
  }
}

function createFlowApi(url: string, key: string): FlowApi {
  async function submit<Body>(method: 'POST' | 'PATCH', path: string, body?: Json): Promise<Submitted<Body>> {
    const sizeFault = body === undefined ? null : findSizeFault(body);
    if (sizeFault !== null) return { ok: false, faults: [sizeFault] };
    const { status, answer } = await send(method, path, body);
    if (status < 300) return { ok: true, body: answer as Body };
    if (!refusals.has(status)) throw refusalFault(method, path, { status, answer });
    const { errors = [] } = answer as Problem;
    return {
      ok: false,
      faults: errors.length > 0 ? errors : [{ field: '', message: `is refused: ${wordProblem(answer as Problem)}` }],
    };
  }

  async function send(method: string, path: string, body?: Json): Promise<{ status: number; answer: unknown }> {
    try {
      const response = await fetch(url + path, {
        method,
        headers: { authorization: `Bearer ${key}`, ...(body !== undefined && { 'content-type': 'application/json' }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(timeoutMs),
      });
      return { status: response.status, answer: parseAnswer(response.status, await response.text()) };
    } catch (error) {
      const { message, cause } = error as Error & { cause?: Error & { code?: string } };
      const why = cause === undefined ? message : `${message} (${cause.code ?? cause.message})`;
      throw new CommandFault(`${method} ${url}${path}: ${why}`, { cause: error });
    }
  }

  async function get<Body>(path: string): Promise<Body> {
    const { status, answer } = await send('GET', path);
    if (status !== 200) throw refusalFault('GET', path, { status, answer });
    return answer as Body;
  }

  function refusalFault(
    method: string,
    path: string,
    { status, answer }: { status: number; answer: unknown },
  ): CommandFault {
    const why = keyFaults.get(status) ?? wordProblem(answer as Problem);
    return new CommandFault(`${method} ${url}${path}: ${status}: ${why}`);
  }

  return {
    submit,
    get,
    async listAll<Item>(path: string) {
      const items: Item[] = [];
      for (let cursor: string | null = ''; cursor !== null;) {
        const page: { items: Item[]; nextCursor: string | null } = await get(
          `${path}${path.includes('?') ? '&' : '?'}limit=100${cursor === '' ? '' : `&cursor=${cursor}`}`,
        );
        items.push(...page.items);
        cursor = page.nextCursor;
      }
      return items;
    },
  };
}

/** What an answer of 4xx or 5xx holds. */
interface Problem {
  readonly title?: string;
  readonly detail?: string;
  readonly errors?: readonly FieldFault[];
}

/** With these, it is what was sent that is wrong. */
const refusals: ReadonlySet<number> = new Set([400, 413, 422]);

const keyFaults: ReadonlyMap<number, string> = new Map([
  [401, 'the key is not known there'],
  [403, 'the key may not do this; publish and try need one of scope admin'],
]);

/** Of something between us and the API, an error need not be JSON. */
function parseAnswer(status: number, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    const title = 'what answers there is not Switchyard, or something before it';
    if (status >= 300) return { title } satisfies Problem;
    throw new Error(title);
  }
}

const wordProblem = ({ title = 'no reason is given', detail = title }: Problem): string => detail.replace(/[.]$/, '');

const timeoutMs = 30_000;
