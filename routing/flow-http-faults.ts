import { templateFaults, type StepScope } from './flow-expression-faults.ts';
import { createFirstPlaces, escapePointer, isStorable, unstorableFault, type FlowFault } from './flow-faults.ts';
import { isObject, valueAt } from './json-walk.ts';
import { addressFaults, isFitForSecrets, sampleUrl } from './web-address.ts';

/** What a schema cannot tell about a step that asks another system. */
export function httpFaults(path: string, step: unknown, scope: StepScope): FlowFault[] {
  const faults = [
    ...templateFaults(`${path}/url`, valueAt(step, '/url'), scope),
    ...addressFaults(`${path}/url`, valueAt(step, '/url')),
    ...headerFaults(`${path}/headers`, valueAt(step, '/headers'), scope),
    ...secretFaults(path, step),
  ];
  if (!isObject(step) || !Object.hasOwn(step, 'body')) return faults;
  if (step['method'] === 'GET') {
    const mend = 'Remove it, or give POST as method.';
    faults.push({ path: `${path}/body`, message: 'is not sent with GET', mend });
  }
  return [...faults, ...bodyFaults(`${path}/body`, step['body'], scope)];
}

/** What the connection itself needs is set by whoever sends. platform/guarded-request.ts has the same list, and refuses what it names. */
export const OWN_HEADERS =
  /^(host|connection|content-length|transfer-encoding|accept-encoding|te|trailer|upgrade|expect|keep-alive|proxy-.*)$/i;
const UNSENDABLE = /[^\t\x20-\x7e\xa0-\xff]/;

function headerFaults(path: string, headers: unknown, scope: StepScope): FlowFault[] {
  if (!isObject(headers)) return [];
  const firstPlace = createFirstPlaces();
  return Object.entries(headers).flatMap(([name, value]): FlowFault[] => {
    const headerPath = `${path}/${escapePointer(name)}`;
    const faults = templateFaults(headerPath, value, scope);
    if (OWN_HEADERS.test(name)) {
      faults.push({ path: headerPath, message: 'is set by Switchyard itself', mend: 'Remove it.' });
    }
    if (typeof value === 'string' && UNSENDABLE.test(value)) {
      const message = 'has a character that a header cannot hold';
      faults.push({ path: headerPath, message, mend: 'Give letters, digits and signs of Latin-1, on one line.' });
    }
    const first = firstPlace(name.toLowerCase(), headerPath);
    if (first !== null) {
      const message = 'is, but for case, also the header at';
      faults.push({ path: headerPath, message, at: first, mend: 'Give every header once.' });
    }
    return faults;
  });
}

/** By http, everybody on the way could read it. */
function secretFaults(path: string, step: unknown): FlowFault[] {
  const url = sampleUrl(valueAt(step, '/url'));
  const headers = valueAt(step, '/headers');
  if (url === null || isFitForSecrets(url) || !isObject(headers)) return [];
  return Object.entries(headers)
    .filter(([, value]) => isObject(value) && Object.hasOwn(value, 'secret'))
    .map(([name]) => ({
      path: `${path}/headers/${escapePointer(name)}`,
      message: 'is a secret, which goes by https only',
      mend: 'Give an https:// address. By http a secret goes to localhost and to private IP addresses only.',
    }));
}

export const MAX_BODY_DEPTH = 10;
const MAX_BODY_CHARS = 16_384;

function bodyFaults(path: string, body: unknown, scope: StepScope): FlowFault[] {
  // First, as what follows goes down to the bottom.
  if (isDeeperThan(body, MAX_BODY_DEPTH)) {
    const message = `is nested deeper than ${MAX_BODY_DEPTH} levels`;
    return [{ path, message, mend: 'Give a flatter body.' }];
  }
  const chars = JSON.stringify(body).length;
  if (chars > MAX_BODY_CHARS) {
    const message = `has ${chars} characters as JSON`;
    return [{ path, message, mend: `Give at most ${MAX_BODY_CHARS} characters.` }];
  }
  return textFaultsOfBody(path, body, scope);
}

function isDeeperThan(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return levels === 0 || Object.values(value).some((member) => isDeeperThan(member, levels - 1));
}

function textFaultsOfBody(path: string, value: unknown, scope: StepScope): FlowFault[] {
  if (typeof value === 'string') return templateFaults(path, value, scope);
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, member]) => {
    const memberPath = `${path}/${escapePointer(name)}`;
    const faults = textFaultsOfBody(memberPath, member, scope);
    // Texts are looked at wherever they stand in the document; names only here, where anybody may choose them.
    return isStorable(name) ? faults : [unstorableFault(memberPath), ...faults];
  });
}
