import type { CelFunc, CelType } from '@bufbuild/cel';

/**
 * The kinds of value that an expression may give, as a set of bits: `contact.name` is text or null, what comes out of an attribute may be
 * anything. An operator is at fault only where no kind that may come fits it.
 */
export type Kinds = number;

export const KIND = {
  text: 1,
  whole: 2,
  decimal: 4,
  boolean: 8,
  nothing: 16,
  list: 32,
  object: 64,
  time: 128,
  duration: 256,
  other: 512,
} as const;

export const NUMBER: Kinds = KIND.whole | KIND.decimal;
export const ANY: Kinds = 1023;

/** `known` types of fields; a number from JSON may have decimals. */
export type FieldType = 'string' | 'number' | 'boolean' | 'any';

export function kindsOfField(type: FieldType): Kinds {
  switch (type) {
    case 'string':
      return KIND.text;
    case 'number':
      return KIND.decimal;
    case 'boolean':
      return KIND.boolean;
    case 'any':
      return ANY;
    default:
      return type satisfies never;
  }
}

/** @param name as the parser calls it, such as `stringValue` */
export const kindOfConstant = (name: string | undefined): Kinds => KINDS_OF_CONSTANTS.get(name ?? '') ?? KIND.other;

const KINDS_OF_CONSTANTS: ReadonlyMap<string, Kinds> = new Map([
  ['boolValue', KIND.boolean],
  ['stringValue', KIND.text],
  ['int64Value', KIND.whole],
  ['uint64Value', KIND.whole],
  ['doubleValue', KIND.decimal],
  ['nullValue', KIND.nothing],
]);

/** What a function may give for arguments of these kinds, or null where none of its forms takes them. */
export function kindsOfCall(
  forms: Iterable<CelFunc>,
  target: Kinds | undefined,
  values: readonly Kinds[],
): Kinds | null {
  let result: Kinds | null = null;
  for (const form of forms) {
    const fits =
      (form.target === undefined) === (target === undefined) &&
      form.arguments.length === values.length &&
      (form.target === undefined || (kindsOfType(form.target) & (target ?? 0)) !== 0) &&
      form.arguments.every((type, index) => (kindsOfType(type) & (values[index] ?? 0)) !== 0);
    if (fits) result = (result ?? 0) | kindsOfType(form.result);
  }
  return result;
}

/** Whole numbers and decimals are equal where their values are. */
export function mayBeEqual(left: Kinds, right: Kinds): boolean {
  return (left & right) !== 0 || ((left & NUMBER) !== 0 && (right & NUMBER) !== 0);
}

/** For people: "text", "a number or null". */
export function describeKinds(kinds: Kinds): string {
  if (kinds === ANY) return 'anything';
  const words = (kinds & NUMBER) === NUMBER ? ['a number'] : [];
  for (const [name, word] of Object.entries(WORDS)) {
    const kind = KIND[name as keyof typeof KIND];
    if ((kinds & kind) === 0 || ((kinds & NUMBER) === NUMBER && (kind & NUMBER) !== 0)) continue;
    words.push(word);
  }
  return words.join(' or ');
}

const WORDS: Readonly<Record<keyof typeof KIND, string>> = {
  text: 'text',
  whole: 'a whole number',
  decimal: 'a number',
  boolean: 'true or false',
  nothing: 'null',
  list: 'a list',
  object: 'an object',
  time: 'a time',
  duration: 'a duration',
  other: 'a type or bytes',
};

/** For people: why a function or operator, by the name that the parser gives it, takes none of these. */
export function describeMisfit(name: string, values: readonly Kinds[]): string {
  const operator = /^@?_?([^_]+)_?$/.exec(name)?.[1] ?? name;
  const given = values.map(describeKinds);
  if (name === '_%_' && values.every((kinds) => (kinds & NUMBER) !== 0)) {
    return '% takes whole numbers only; write int(…) around what may have decimals';
  }
  return /\w/.test(operator) && operator !== 'in'
    ? `${operator}() cannot take ${given.join(', ') || 'nothing'}`
    : `${operator} cannot take ${given.join(' and ')}`;
}

function kindsOfType(type: CelType): Kinds {
  switch (type.kind) {
    case 'list':
      return KIND.list;
    case 'map':
      return KIND.object;
    default:
      return KINDS_BY_NAME.get(type.name) ?? KIND.other;
  }
}

const KINDS_BY_NAME: ReadonlyMap<string, Kinds> = new Map([
  ['dyn', ANY],
  ['string', KIND.text],
  ['int', KIND.whole],
  ['uint', KIND.whole],
  ['double', KIND.decimal],
  ['bool', KIND.boolean],
  ['null_type', KIND.nothing],
  ['google.protobuf.Timestamp', KIND.time],
  ['google.protobuf.Duration', KIND.duration],
]);
