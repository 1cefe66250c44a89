/**
 * Requests to addresses that customers wrote down. They must not reach what only this machine can: so the address that is connected to is
 * checked, and not only the name that was asked for. The check sits in the connection's own `lookup`: between a check and a connection of its
 * own, a name could come to mean something else. A connection that is kept open was checked when it was made, and is used again only under
 * the same `privateCidrs`. No redirect is followed, nothing is unpacked, and what comes back has an end, in bytes and in time.
 */
import dns from 'node:dns';
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { createBoundedLookup } from './bounded-lookup.ts';
import { isRefusedAddress, literalAddressOf } from './private-addresses.ts';

/**
 * Resolves with whatever was answered, except redirects. Rejects with a GuardedRequestError only. A request over a kept connection that the
 * other side had just closed is sent a second time, so callers must be such that a repetition does no harm.
 */
export async function requestGuarded(request: GuardedRequest): Promise<GuardedResponse> {
  const url = checkAddress(request);
  checkHeaders(request.headers);
  if (request.timeoutMs <= 0) throw timeoutError();
  if (request.signal?.aborted === true) throw new GuardedRequestError('cancelled', 'was given up');
  const deadline = performance.now() + request.timeoutMs;
  try {
    return await exchange(request, url, { deadline, agents: agentsOf(request.privateCidrs) });
  } catch (error) {
    if (!(error instanceof StaleConnection)) throw error;
    // Over a connection of its own: the other kept ones may be as stale.
    return exchange(request, url, { deadline, agents: null });
  }
}

export interface GuardedRequest {
  readonly url: string;
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** For all of it: name, connection, headers and body. */
  readonly timeoutMs: number;
  /** Of the response's body. A longer one is an error, or cut with `cutBody` or where the status is an error itself. */
  readonly maxBytes: number;
  readonly cutBody?: boolean;
  readonly signal?: AbortSignal;
  /** Lower case, `host` or `host:port`. Null: any public host. An IP address among them may be a private one. */
  readonly allowedHosts: ReadonlySet<string> | null;
  /** CIDR blocks that may be reached although they are no public ones; the same array each time, since connections are kept by it. */
  readonly privateCidrs: readonly string[];
  /** Where the operator writes those down, for whoever reads that an address was refused. Null: nowhere, as none is. */
  readonly privateCidrsSetting: 'PRIVATE_CIDRS_ALLOWED' | 'OUTBOUND_PRIVATE_CIDRS' | null;
  /** How names become addresses, unless the system's way, which is bounded: see bounded-lookup.ts. */
  readonly lookup?: LookupFunction;
}

export interface GuardedResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export class GuardedRequestError extends Error {
  override readonly name = 'GuardedRequestError';
  /** `refused`: it was not sent. `unusable`: what was answered. Both will be so again, other than `failed` and `timeout`. */
  readonly kind: 'refused' | 'unusable' | 'failed' | 'timeout' | 'cancelled';
  /** Names no address and nothing of the request: customers may read it. Fit to stand behind "<host> ". */
  readonly reason: string;

  constructor(kind: GuardedRequestError['kind'], reason: string) {
    super(reason);
    this.kind = kind;
    this.reason = reason;
  }
}

/** The connection was closed by the other side before it could have read the request. */
class StaleConnection extends Error {}

function checkAddress({ url: text, allowedHosts, privateCidrs, privateCidrsSetting }: GuardedRequest): URL {
  if (!URL.canParse(text)) throw new GuardedRequestError('refused', 'the address is none');
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new GuardedRequestError('refused', 'is asked neither by http nor by https');
  }
  if (url.username !== '' || url.password !== '') {
    throw new GuardedRequestError('refused', 'must be asked without user and password in the address');
  }
  if (allowedHosts !== null && !isAmongHosts(url, allowedHosts)) {
    throw new GuardedRequestError('refused', 'is not among ENRICHMENT_ALLOWED_HOSTS');
  }
  // An address written as such never meets `lookup`. One that the operator wrote down is meant.
  const literal = literalAddressOf(url);
  if (allowedHosts === null && literal !== null && isRefusedAddress(literal, privateCidrs)) {
    throw privateAddressError('is', privateCidrsSetting);
  }
  return url;
}

/** Whether the list has the URL's host and port. Either may leave out the port that is the usual one for the URL's scheme. */
export function isAmongHosts(url: URL, hosts: ReadonlySet<string>): boolean {
  return hosts.has(url.host) || (url.port === '' && hosts.has(`${url.host}:${url.protocol === 'https:' ? 443 : 80}`));
}

/** What frames the message or names its receiver is not the caller's to say. routing/flow-http-faults.ts has the same list. */
export const ownHeaders =
  /^(host|connection|content-length|transfer-encoding|accept-encoding|te|trailer|upgrade|expect|keep-alive|proxy-.*)$/i;

function checkHeaders(headers: GuardedRequest['headers']): void {
  for (const [name, value] of Object.entries(headers)) {
    if (ownHeaders.test(name)) throw new GuardedRequestError('refused', `cannot be sent the header ${name}`);
    try {
      http.validateHeaderName(name);
      http.validateHeaderValue(name, value);
    } catch {
      throw new GuardedRequestError('refused', `cannot be sent the header ${name}: it holds characters it must not`);
    }
  }
}

function exchange(
  request: GuardedRequest,
  url: URL,
  { deadline, agents }: { deadline: number; agents: Agents | null },
): Promise<GuardedResponse> {
  const { method, headers, body, signal } = request;
  let isOver = false;
  const systemLookup: LookupFunction = (hostname, options, callback) =>
    lookupOfSystem(hostname, options, { callback, isWanted: () => !isOver });
  const secure = url.protocol === 'https:';
  return new Promise((resolve, reject) => {
    const outgoing = (secure ? https : http).request(url, {
      method,
      agent: agents === null ? false : agents[secure ? 'https' : 'http'],
      lookup: createCheckedLookup(request.lookup ?? systemLookup, request),
      headers: {
        'user-agent': 'Switchyard',
        ...headers,
        'accept-encoding': 'identity',
        ...(body !== undefined && { 'content-length': String(Buffer.byteLength(body)) }),
      },
    });
    const timer = setTimeout(() => end(timeoutError()), Math.max(0, deadline - performance.now()));
    const cancel = (): void => end(new GuardedRequestError('cancelled', 'was given up'));
    signal?.addEventListener('abort', cancel, { once: true });

    function end(outcome: GuardedResponse | Error): void {
      isOver = true;
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
      if (!(outcome instanceof Error)) return resolve(outcome);
      outgoing.destroy();
      reject(outcome);
    }

    outgoing.on('error', (error) =>
      end(outgoing.reusedSocket && isReset(error) ? new StaleConnection() : named(error)),
    );
    outgoing.on('response', (response) => {
      readResponse(response, request).then(
        (answer) => {
          // What was left unread would come before the next answer on this connection.
          if (!response.readableEnded) outgoing.destroy();
          end(answer);
        },
        (error: unknown) => end(named(error)),
      );
    });
    // As bytes: with a text, the headers would be written in its encoding, too.
    outgoing.end(body === undefined ? undefined : Buffer.from(body));
  });
}

async function readResponse(
  response: IncomingMessage,
  { maxBytes, cutBody = false }: GuardedRequest,
): Promise<GuardedResponse> {
  const status = response.statusCode ?? 0;
  const { headers } = response;
  if (status >= 300 && status <= 399) {
    throw new GuardedRequestError('unusable', `answered ${status}: a redirect, which is not followed`);
  }
  const encoding = headers['content-encoding']?.trim().toLowerCase() ?? '';
  const isError = status >= 400;
  if (encoding !== '' && encoding !== 'identity') {
    if (isError || cutBody) return { status, headers, body: Buffer.alloc(0) };
    throw new GuardedRequestError('unusable', 'answered in a packed form, although asked not to');
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.byteLength;
    if (bytes <= maxBytes) continue;
    if (isError || cutBody) break;
    throw new GuardedRequestError('unusable', `answered more than ${maxBytes} bytes`);
  }
  return { status, headers, body: Buffer.concat(chunks).subarray(0, maxBytes) };
}

/** Of the four threads, one is left for all else: the names of our own database, mostly. */
const lookupOfSystem = createBoundedLookup((...question) => dns.lookup(...question), 3);

/** Only addresses that may be reached are handed on; the connection takes its address from these and asks nobody else. */
function createCheckedLookup(
  lookup: LookupFunction,
  { privateCidrs, privateCidrsSetting }: GuardedRequest,
): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return callback(error, '', 0);
      const addresses = Array.isArray(found) ? found : [{ address: found, family: isIP(found) }];
      const reachable = addresses.filter(({ address }) => !isRefusedAddress(address, privateCidrs));
      const [first] = reachable;
      if (first === undefined) return callback(privateAddressError('resolves to', privateCidrsSetting), '', 0);
      if (options.all === true) return callback(null, reachable);
      callback(null, first.address, first.family);
    });
  };
}

interface Agents {
  readonly http: http.Agent;
  readonly https: https.Agent;
}

const agentsByCidrs = new WeakMap<readonly string[], Agents>();

function agentsOf(privateCidrs: readonly string[]): Agents {
  let agents = agentsByCidrs.get(privateCidrs);
  if (agents === undefined) {
    const options = { keepAlive: true, maxFreeSockets: 32, timeout: 15_000 };
    agents = { http: new http.Agent(options), https: new https.Agent(options) };
    agentsByCidrs.set(privateCidrs, agents);
  }
  return agents;
}

function privateAddressError(
  verb: 'is' | 'resolves to',
  setting: GuardedRequest['privateCidrsSetting'],
): GuardedRequestError {
  const mend = setting === null ? '' : ` that ${setting} does not have`;
  return new GuardedRequestError('refused', `${verb} a private address${mend}`);
}

const timeoutError = (): GuardedRequestError => new GuardedRequestError('timeout', 'gave no answer in time');

const codeOf = (error: unknown): string => {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' ? code : 'unknown';
};

const isReset = (error: unknown): boolean => ['ECONNRESET', 'EPIPE'].includes(codeOf(error));

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refused the connection',
  ECONNRESET: 'closed the connection before it answered in full',
  EPIPE: 'closed the connection before it answered in full',
  ENOTFOUND: 'has no address',
  EAI_AGAIN: 'has an address that cannot be found out now',
  ETIMEDOUT: 'cannot be reached',
  EHOSTUNREACH: 'cannot be reached',
  ENETUNREACH: 'cannot be reached',
};

/** Messages of the system name addresses; codes do not. */
function named(error: unknown): GuardedRequestError {
  if (error instanceof GuardedRequestError) return error;
  const code = codeOf(error);
  if (/CERT|SIGNATURE|ISSUER|ALTNAME/.test(code)) {
    return new GuardedRequestError('failed', `has a certificate that is not accepted (${code})`);
  }
  return new GuardedRequestError('failed', reasons[code] ?? `could not be asked (${code})`);
}
