import { cutText, type Fields, type FieldValue, type RoutingFacts } from './facts.ts';
import type { ContactStep, HttpStep, KeywordsStep, SetStep } from './flow-schema.ts';

/** What a step that answers from what is known has to tell. */
export interface Found {
  /** To be set. */
  readonly fields: Fields;
  /** 0 to 1, where the step tells. */
  readonly confidence?: number;
  /** Why it could not tell all it should. */
  readonly failure?: string;
}

/** @param foldedText of the message, by `foldText` */
export function findKnownFields(
  step: SetStep | KeywordsStep | ContactStep,
  { facts, foldedText }: { facts: Pick<RoutingFacts, 'contact' | 'history'>; foldedText: () => string },
): Found {
  switch (step.kind) {
    case 'set':
      return { fields: { [step.field]: step.value } };
    case 'keywords': {
      const value = valueByKeywords(step, foldedText());
      return { fields: value === undefined ? {} : { [step.field]: value } };
    }
    case 'contact':
      return findContactFields(step, facts);
    default:
      return step satisfies never;
  }
}

function findContactFields(step: ContactStep, facts: Pick<RoutingFacts, 'contact' | 'history'>): Found {
  const fields: Record<string, FieldValue> = {};
  const unknown: string[] = [];
  for (const [name, source] of Object.entries(step.fields)) {
    const value = fieldValueOf(valueOfContact(source, facts));
    if (value === undefined) unknown.push(source);
    else fields[name] = value;
  }
  return unknown.length === 0 ? { fields } : { fields, failure: `not known: ${unknown.join(', ')}` };
}

function valueOfContact(source: string, { contact, history }: Pick<RoutingFacts, 'contact' | 'history'>): unknown {
  switch (source) {
    case 'name':
      return contact.name;
    case 'lifecycle':
      return attributeOf(contact, 'lifecycle');
    case 'conversationCount':
    case 'lastAgentId':
    case 'lastCategory':
      return history?.[source];
    default:
      return source.startsWith(ATTRIBUTE_PREFIX)
        ? attributeOf(contact, source.slice(ATTRIBUTE_PREFIX.length))
        : undefined;
  }
}

const ATTRIBUTE_PREFIX = 'attributes/';

const attributeOf = ({ attributes }: RoutingFacts['contact'], name: string): unknown =>
  Object.hasOwn(attributes, name) ? attributes[name] : undefined;

/**
 * What an `http` step takes from a response, and the fields for which the response has no text, finite number, true or false. Texts are cut to
 * `MAX_VALUE_CHARS`, and what PostgreSQL cannot store is replaced.
 */
export function fieldsFromResponse(step: HttpStep, json: unknown): { fields: Fields; missing: string[] } {
  const fields: Record<string, FieldValue> = {};
  const missing: string[] = [];
  for (const [name, pointer] of Object.entries(step.fields)) {
    const value = fieldValueOf(valueAtPointer(json, pointer));
    if (value === undefined) missing.push(name);
    else fields[name] = value;
  }
  return { fields, missing };
}

/**
 * The form in which keywords and texts are compared: without case and accents (also Arabic and Hebrew vowel signs), with one blank for
 * any white space, and compatibility forms such as full-width letters made equal. Marks that make another letter in their script, such as
 * Japanese voicing or Indic vowels, stay.
 */
export function foldText(text: string): string {
  // By way of upper case, which makes one of ß and SS and of dotted and dotless i, that lower case alone keeps apart.
  return text
    .normalize('NFKD')
    .replace(ACCENTS, '')
    .toLowerCase()
    .toUpperCase()
    .toLowerCase()
    .normalize('NFKD')
    .replace(ACCENTS, '')
    .replaceAll('ς', 'σ')
    .normalize('NFC')
    .replace(/\s+/gu, ' ')
    .trim();
}

const MAX_VALUE_CHARS = 1000;

const ACCENTS = /\u0640|[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670]/gu;

function valueByKeywords(step: KeywordsStep, foldedText: string): FieldValue | undefined {
  const rules = foldedKeywords(step);
  const index = rules.findIndex((keywords) => keywords.some((keyword) => containsKeyword(foldedText, keyword)));
  return step.rules[index]?.value ?? step.otherwise;
}

/** Steps of a published version never change, so that their keywords are folded once for as long as the step is held. */
function foldedKeywords(step: KeywordsStep): string[][] {
  let folded = foldedByStep.get(step);
  if (folded === undefined) {
    folded = step.rules.map((rule) => rule.keywords.map(foldText).filter((keyword) => keyword !== ''));
    foldedByStep.set(step, folded);
  }
  return folded;
}

const foldedByStep = new WeakMap<KeywordsStep, string[][]>();

/**
 * Whether the keyword stands in the text, both folded, as words: where it begins or ends with a Latin letter or a digit, no other may stand beside it ("bill" is not in "billing"). Scripts that do not
 * part words by blanks, or join them to others, are found anywhere.
 */
export function containsKeyword(text: string, keyword: string): boolean {
  const boundBefore = LATIN_START.test(keyword);
  const boundAfter = LATIN_END.test(keyword);
  for (let at = text.indexOf(keyword); at !== -1; at = text.indexOf(keyword, at + 1)) {
    const fits =
      (!boundBefore || !LATIN_END.test(text.slice(Math.max(0, at - 2), at))) &&
      (!boundAfter || !LATIN_START.test(text.slice(at + keyword.length, at + keyword.length + 2)));
    if (fits) return true;
  }
  return false;
}

const LATIN_START = /^[\p{Script=Latin}\p{Nd}]/u;
const LATIN_END = /[\p{Script=Latin}\p{Nd}]$/u;

/** RFC 6901. Only what the JSON itself holds is found, nothing inherited. */
function valueAtPointer(json: unknown, pointer: string): unknown {
  let value = json;
  for (const token of pointer.split('/').slice(1)) {
    const key = token.replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
    if (Array.isArray(value) && !/^(0|[1-9]\d*)$/.test(key)) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

/** The value if it can be one of a field, cut and made fit to be stored. */
export function fieldValueOf(value: unknown): FieldValue | undefined {
  if (typeof value === 'boolean') return value;
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  if (typeof value !== 'string') return undefined;
  return cutText(value.replaceAll('\0', '\ufffd').replace(/\p{Surrogate}/gu, '\ufffd'), MAX_VALUE_CHARS);
}
