import { Check } from 'typebox/value';
import { askFaults } from './flow-ask-faults.ts';
import { foldText } from './enrichment.ts';
import { conditionFaults, templateFaults, type StepScope } from './flow-expression-faults.ts';
import { escapePointer, type FlowFault } from './flow-faults.ts';
import { MAX_STEPS, STEP_SCHEMAS, type EnrichmentStep } from './flow-schema.ts';
import { isObject, itemsAt, valueAt } from './json-walk.ts';
import { addressFaults, isFitForSecrets, sampleUrl } from './web-address.ts';
import { fieldTypesOf, type FieldType } from './compiled-flow.ts';

/**
 * Finds what a schema cannot tell about the enrichment steps, each by what is known before it, and the fields that are known after them. Values of
 * the wrong shape are passed over: their fault is known.
 */
export function checkSteps(document: unknown, surroundings: Omit<StepScope, 'fields'>): CheckedSteps {
  const steps = itemsAt(document, '/enrichment', MAX_STEPS);
  const items = steps.map(([, step]) => step);
  const faults = steps.flatMap(([path, step], index) =>
    faultsOfStep(path, step, { ...surroundings, ...knownFields(items.slice(0, index)) }),
  );
  const all = valueAt(document, '/enrichment');
  // Of a list that is too long, the rest may set any field.
  const isWhole = Array.isArray(all) && all.length <= MAX_STEPS;
  return { faults, ...(isWhole ? knownFields(items) : {}) };
}

export interface CheckedSteps {
  readonly faults: FlowFault[];
  /** Left out where a step does not tell what it sets: then a condition may name any field. */
  readonly fields?: ReadonlyMap<string, FieldType>;
}

/** The kind whose schema a step goes by. */
export function kindOfStep(step: unknown): keyof typeof STEP_SCHEMAS | null {
  const kind = isObject(step) ? step['kind'] : undefined;
  return typeof kind === 'string' && Object.hasOwn(STEP_SCHEMAS, kind) ? (kind as keyof typeof STEP_SCHEMAS) : null;
}

/** A step with a fault somewhere still tells which fields it sets, so that those who name them are not blamed. */
function knownFields(steps: readonly unknown[]): Pick<CheckedSteps, 'fields'> {
  const whole = steps.filter(isStep);
  const fields = new Map<string, FieldType>(fieldTypesOf(whole));
  for (const step of steps) {
    if (isStep(step)) continue;
    const names = namesSetBy(step);
    if (names.length === 0) return {};
    for (const name of names) fields.set(name, 'any');
  }
  return { fields };
}

function isStep(step: unknown): step is EnrichmentStep {
  const kind = kindOfStep(step);
  return kind !== null && Check(STEP_SCHEMAS[kind], step);
}

function namesSetBy(step: unknown): string[] {
  if (kindOfStep(step) === null) return [];
  const fields = valueAt(step, '/fields');
  const single = [valueAt(step, '/field'), valueAt(step, '/confidenceField')];
  return [...single.filter((name) => typeof name === 'string'), ...(isObject(fields) ? Object.keys(fields) : [])];
}

function faultsOfStep(path: string, step: unknown, scope: StepScope): FlowFault[] {
  const faults = conditionFaults(`${path}/when`, valueAt(step, '/when'), { for: 'step', ...scope });
  const kind = kindOfStep(step);
  switch (kind) {
    case 'keywords':
      return [...faults, ...emptyKeywordFaults(path, step)];
    case 'language':
      return [...faults, ...confidenceFaults(path, step)];
    case 'ask':
      return [...faults, ...askFaults(path, step, scope)];
    case 'http':
      return [...faults, ...requestFaults(path, step, scope)];
    case 'classify':
      return [...faults, ...labelFaults(path, step)];
    case 'set':
    case 'contact':
    case null:
      return faults;
    default:
      return kind satisfies never;
  }
}

function emptyKeywordFaults(path: string, step: unknown): FlowFault[] {
  return itemsAt(step, '/rules', 50).flatMap(([rulePath, rule]) =>
    itemsAt(rule, '/keywords', 50)
      .filter(([, keyword]) => typeof keyword === 'string' && keyword !== '' && foldText(keyword) === '')
      .map(([keywordPath]) => ({
        path: `${path}${rulePath}${keywordPath}`,
        message: 'has nothing to look for',
        mend: 'Give a keyword with letters, digits or signs.',
      })),
  );
}

function confidenceFaults(path: string, step: unknown): FlowFault[] {
  const field = valueAt(step, '/confidenceField');
  if (field === undefined || field !== valueAt(step, '/field')) return [];
  const message = 'is the field of the language too';
  return [{ path: `${path}/confidenceField`, message, mend: 'Give the confidence a field of its own.' }];
}

function labelFaults(path: string, step: unknown): FlowFault[] {
  const firstWithLabel = new Map<string, string>();
  return itemsAt(step, '/labels', 30).flatMap(([labelPath, item]): FlowFault[] => {
    const label = valueAt(item, '/label');
    if (typeof label !== 'string') return [];
    const folded = foldText(label);
    const first = firstWithLabel.get(folded);
    if (first === undefined) {
      firstWithLabel.set(folded, `${path}${labelPath}`);
      return [];
    }
    const message = 'is, but for case and accents, also the label at';
    return [{ path: `${path}${labelPath}/label`, message, at: first, mend: 'Give every label once.' }];
  });
}

function requestFaults(path: string, step: unknown, scope: StepScope): FlowFault[] {
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
  const firstWithName = new Map<string, string>();
  return Object.entries(headers).flatMap(([name, value]): FlowFault[] => {
    const headerPath = `${path}/${escapePointer(name)}`;
    const faults = templateFaults(headerPath, value, scope);
    const lower = name.toLowerCase();
    if (OWN_HEADERS.test(name)) {
      faults.push({ path: headerPath, message: 'is set by Switchyard itself', mend: 'Remove it.' });
    }
    if (typeof value === 'string' && UNSENDABLE.test(value)) {
      const message = 'has a character that a header cannot hold';
      faults.push({ path: headerPath, message, mend: 'Give letters, digits and signs of Latin-1, on one line.' });
    }
    const first = firstWithName.get(lower);
    if (first === undefined) firstWithName.set(lower, headerPath);
    else {
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

/** PostgreSQL stores neither U+0000 nor half a surrogate pair. */
export const isStorable = (text: string): boolean => !text.includes('\0') && !/\p{Surrogate}/u.test(text);

export const unstorableFault = (path: string): FlowFault => ({
  path,
  message: 'has a character that cannot be stored',
  mend: 'Remove U+0000 and unpaired surrogates.',
});
