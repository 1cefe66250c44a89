import { cutText, MAX_FIELD_CHARS, type Fields, type FieldValue, type RoutingFacts } from './facts.ts';
import type { ContactStep, HttpStep, KeywordsStep, SetStep } from './step-schemas.ts';
import { isHistorySource } from './text-forms.ts';
import { foldText, type WordSearch } from './words.ts';

/** What a step that answers from what is known has to tell. */
export interface Found {
  /** To be set. */
  readonly fields: Fields;
  /** 0 to 1, where the step tells. */
  readonly confidence?: number;
  /** What it was asked for and is not known. That is no failure. */
  readonly remark?: string;
}

/** @param words of the message */
export function findKnownFields(
  step: SetStep | KeywordsStep | ContactStep,
  { facts, words }: { facts: Pick<RoutingFacts, 'contact' | 'history'>; words: () => WordSearch },
): Found {
  switch (step.kind) {
    case 'set':
      return { fields: { [step.field]: step.value } };
    case 'keywords': {
      const value = valueByKeywords(step, words());
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
  return unknown.length === 0 ? { fields } : { fields, remark: `not known: ${unknown.join(', ')}` };
}

function valueOfContact(source: string, { contact, history }: Pick<RoutingFacts, 'contact' | 'history'>): unknown {
  if (source.startsWith(ATTRIBUTE_PREFIX)) return attributeOf(contact, source.slice(ATTRIBUTE_PREFIX.length));
  if (source === 'name') return contact.name;
  if (source === 'lifecycle') return attributeOf(contact, source);
  return isHistorySource(source) ? history?.[source] : undefined;
}

const ATTRIBUTE_PREFIX = 'attributes/';

const attributeOf = ({ attributes }: RoutingFacts['contact'], name: string): unknown =>
  Object.hasOwn(attributes, name) ? attributes[name] : undefined;

/**
 * What an `http` step takes from a response, and the fields for which the response has no text, finite number, true or false. Texts are cut to
 * `MAX_FIELD_CHARS`, and what PostgreSQL cannot store is replaced.
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

function valueByKeywords(step: KeywordsStep, has: WordSearch): FieldValue | undefined {
  const index = foldedKeywords(step).findIndex((keywords) => keywords.some(has));
  return step.rules[index]?.value ?? step.otherwise;
}

/**
 * Steps of a published version never change, so that their keywords are folded once for as long as the step is held. One that an earlier rule has
 * decides nothing any more.
 */
function foldedKeywords(step: KeywordsStep): string[][] {
  let folded = foldedByStep.get(step);
  if (folded === undefined) {
    const seen = new Set(['']);
    folded = step.rules.map((rule) =>
      rule.keywords.map(foldText).filter((keyword) => !seen.has(keyword) && seen.add(keyword)),
    );
    foldedByStep.set(step, folded);
  }
  return folded;
}

const foldedByStep = new WeakMap<KeywordsStep, string[][]>();

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
  return cutText(value.replaceAll('\0', '\ufffd').replace(/\p{Surrogate}/gu, '\ufffd'), MAX_FIELD_CHARS);
}
