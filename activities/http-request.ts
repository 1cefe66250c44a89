import { createHash } from 'node:crypto';
import { isAmongHosts } from '../platform/guarded-request.ts';
import { fieldsFromResponse } from '../routing/enrichment.ts';
import type { FieldValue } from '../routing/facts.ts';
import type { RequestAnswer } from '../routing/flow-interpreter.ts';
import { DEFAULT_RETRIES, type HttpStep } from '../routing/step-schemas.ts';
import { compileTemplate, fillTemplate, type TemplateResult } from '../routing/template.ts';
import { isFitForSecrets, leadsUp } from '../routing/web-address.ts';
import { requestWithRetries } from './retried-request.ts';
import type { StepRequest } from './step-answers.ts';

const maxResponseBytes = 64 * 1024;
const maxRequestBytes = 256 * 1024;
/** What servers take at least. */
const maxUrlChars = 8_000;

/**
 * Asks another system about the conversation, by default with a POST of `{conversationId, contact, channel, text, fields}`, and reads fields
 * out of its JSON answer. Only hosts that the operator allowed are asked, see platform/guarded-request.ts.
 *
 * What contacts write gets into addresses, headers and bodies here. In an address it is percent-encoded and may not become a step up
 * (`..`); a header that it would break is not sent; a body is built as JSON and not as text. Secrets go to their own host alone, and an answer
 * that repeats one, or what counts in one, is not kept.
 */
export async function requestFields(step: HttpStep, request: StepRequest): Promise<RequestAnswer> {
  const { conversation, deadline, cancelled, network } = request;
  const fill = createFill(step, request);
  const url = parseUrl(fill(step.url, 'url'));
  if (url === undefined) return failed('the address of the step is none');
  const { host } = url;
  if (!isAmongHosts(url, network.allowedHosts)) return failed(`${host} is not among ENRICHMENT_ALLOWED_HOSTS`);
  const method = step.method ?? 'POST';
  const body = method === 'GET' ? undefined : JSON.stringify(bodyOf(step, request, fill));
  if (url.href.length > maxUrlChars) return failed(`${host}: the address is longer than ${maxUrlChars} characters`);
  if (Buffer.byteLength(body ?? '') > maxRequestBytes) {
    return failed(`${host}: the body is larger than ${maxRequestBytes} bytes`);
  }
  const headers = headersOf(step, request, { url, body, fill });
  if ('failure' in headers) return failed(headers.failure);
  const answer = await requestWithRetries(
    {
      url: url.href,
      method,
      headers: headers.values,
      ...(body !== undefined && { body }),
      timeoutMs: step.timeoutMs,
      maxBytes: maxResponseBytes,
      allowedHosts: network.allowedHosts,
      privateCidrs: network.privateCidrs,
      privateCidrsSetting: 'PRIVATE_CIDRS_ALLOWED',
    },
    {
      workspaceId: conversation.workspaceId,
      retries: step.retries ?? DEFAULT_RETRIES,
      deadline,
      cancelled,
    },
  );
  if (answer.kind === 'failed') return failed(`${host} ${answer.reason}`);
  const { response, attempts } = answer;
  if (response.status < 200 || response.status > 299) return failed(`${host} answered ${response.status}${attempts}`);
  return readAnswer(step, response.body.toString('utf8'), { host, secrets: headers.secrets });
}

const failed = (failure: string): RequestAnswer => ({ fields: {}, failures: [failure] });

type Fill = (source: string, escape?: 'url' | 'none') => string;

/** Steps of a published version never change, so that their texts are compiled once for as long as the step is held. */
const templatesByStep = new WeakMap<HttpStep, Map<string, TemplateResult>>();

function createFill(step: HttpStep, { facts }: StepRequest): Fill {
  let templates = templatesByStep.get(step);
  if (templates === undefined) templatesByStep.set(step, (templates = new Map()));
  const known = templates;
  return (source, escape = 'none') => {
    let result = known.get(source);
    if (result === undefined) known.set(source, (result = compileTemplate(source)));
    // A text that is no template was published before it could be one.
    return result.ok ? fillTemplate(result.template, facts, escape) : source;
  };
}

/** Undefined where it is none, or a value would lead out of its place in the path. */
function parseUrl(text: string): URL | undefined {
  return leadsUp(text) || !URL.canParse(text) ? undefined : new URL(text);
}

function bodyOf(step: HttpStep, { conversation, facts }: StepRequest, fill: Fill): unknown {
  if (step.body !== undefined) return fillTexts(step.body, fill);
  return {
    conversationId: conversation.conversationId,
    contact: facts.contact,
    channel: facts.channel,
    text: facts.message.text,
    fields: facts.fields,
  };
}

/** Keys stay as they are written. */
function fillTexts(json: unknown, fill: Fill): unknown {
  if (typeof json === 'string') return fill(json);
  if (Array.isArray(json)) return json.map((item) => fillTexts(item, fill));
  if (typeof json !== 'object' || json === null) return json;
  return Object.fromEntries(Object.entries(json).map(([key, value]) => [key, fillTexts(value, fill)]));
}

type Headers = { readonly values: Record<string, string>; readonly secrets: readonly string[] };

function headersOf(
  step: HttpStep,
  { conversation, position, network }: StepRequest,
  { url, body, fill }: { url: URL; body: string | undefined; fill: Fill },
): Headers | { readonly failure: string } {
  const values: Record<string, string> = {
    accept: 'application/json',
    // The activity may run again: the other system can tell a repetition from a new request. What is asked is part of the key, since an answer
    // that is judged anew, or a contact who writes meanwhile, can make the same step ask something else.
    'idempotency-key': `${conversation.conversationId}/${position}/${hashOf(step.method ?? 'POST', url, body)}`,
    ...(step.method !== 'GET' && { 'content-type': 'application/json' }),
  };
  const secrets: string[] = [];
  for (const [name, value] of Object.entries(step.headers ?? {})) {
    if (typeof value === 'string') {
      values[name.toLowerCase()] = fill(value);
      continue;
    }
    const secret = network.secrets.find(conversation.workspaceId, value.secret);
    if (secret === undefined) return { failure: `there is no secret ${value.secret} for ${url.host}` };
    // For which one is the operator's to know.
    if (!isAmongHosts(url, new Set([secret.host]))) {
      return { failure: `the secret ${value.secret} is for another host than ${url.host}` };
    }
    if (!isFitForSecrets(url)) return { failure: `${url.host}: the secret ${value.secret} is sent by https only` };
    values[name.toLowerCase()] = secret.value;
    secrets.push(secret.value);
  }
  return { values, secrets };
}

const hashOf = (method: string, url: URL, body = ''): string =>
  createHash('sha256').update(`${method} ${url.href}\n${body}`).digest('hex').slice(0, 16);

function readAnswer(
  step: HttpStep,
  text: string,
  { host, secrets }: { host: string; secrets: readonly string[] },
): RequestAnswer {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return failed(`${host}: the answer is no JSON`);
  }
  const { fields, missing } = fieldsFromResponse(step, json);
  const failures: string[] = [];
  const kept: Record<string, FieldValue> = {};
  const telling = secrets.flatMap(tellingParts);
  for (const [field, value] of Object.entries(fields)) {
    // Fields are there for every agent to read: an address that repeats what it is sent would show them the secret.
    const text = String(value).toLowerCase();
    if (telling.some((part) => text.includes(part))) failures.push(`${host} repeated a secret in ${field}`);
    else kept[field] = value;
  }
  return {
    fields: kept,
    failures,
    ...(missing.length > 0 && { remark: `${host} did not tell ${missing.join(', ')}` }),
  };
}

/** Shorter words stand in many a text without being the secret, as `Bearer` does. */
const minPartChars = 8;
/** A password is the secret itself, whatever its length; but one or two letters are in every text. */
const minPasswordChars = 4;

/** The secret, and what somebody who has only that could use: its long words and, of `Basic`, what is encoded there. In small letters. */
function tellingParts(secret: string): string[] {
  const parts = [secret, ...secret.split(/\s+/).filter((word) => word.length >= minPartChars)];
  const encoded = /^basic\s+(\S+)$/i.exec(secret)?.[1];
  if (encoded !== undefined) {
    const decoded = Buffer.from(encoded, 'base64').toString('utf8');
    const password = decoded.slice(decoded.indexOf(':') + 1);
    parts.push(...[decoded, password].filter((part) => part.length >= minPasswordChars));
  }
  return parts.map((part) => part.toLowerCase());
}
