import type { FieldFault } from './problems.ts';

/** What Ajv tells of a fault, as far as it is used here. */
export interface ValidationFault {
  keyword: string;
  instancePath: string;
  message?: string;
  params: Record<string, unknown>;
  /** With `verbose`: the schema that the keyword stands in. */
  parentSchema?: FaultSchema;
  /** Set where the name of a member is at fault, not its value. */
  propertyName?: string;
}

interface FaultSchema {
  type?: string | readonly string[];
  enum?: readonly unknown[];
  const?: unknown;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  minProperties?: number;
  maxProperties?: number;
  properties?: Readonly<Record<string, FaultSchema>>;
  /** Says what is wrong where `pattern`, `format` or `not` finds fault. */
  fault?: string;
  /** Says what to send instead. */
  mend?: string;
}

/** The members that only these words read: Ajv is to know that they are no misspelt keywords. */
export const faultKeywords = ['fault', 'mend'];

/** Words a fault for people, with what to do about it. */
export function wordFault({ keyword, message, params, parentSchema, propertyName }: ValidationFault): FaultWords {
  const isName = propertyName !== undefined;
  const schema: FaultSchema = isName ? { ...parentSchema, type: 'name' } : (parentSchema ?? {});
  const words = wordKeyword(keyword, params, schema) ?? { message: message ?? 'is not valid', mend: mendOf(schema) };
  return isName ? { ...words, message: `is a name that ${words.message}` } : words;
}

type FaultWords = Required<Omit<FieldFault, 'field'>>;

function wordKeyword(keyword: string, params: Record<string, unknown>, schema: FaultSchema): FaultWords | null {
  switch (keyword) {
    case 'required': {
      const missing = schema.properties?.[String(params['missingProperty'])];
      return { message: 'is required', mend: missing === undefined ? 'Add it.' : mendOf(missing, 'Add it.') };
    }
    case 'additionalProperties':
      return { message: 'is not known here', mend: 'Remove it, or check its spelling.' };
    case 'enum':
      return { message: 'is not one of the allowed values', mend: mendOf(schema) };
    case 'const':
      return { message: 'is not the allowed value', mend: mendOf(schema) };
    case 'pattern':
    case 'format':
    case 'not':
      return { message: schema.fault ?? 'has the wrong form', mend: mendOf(schema) };
    case 'type':
      return {
        message: `must be ${joinWords(typesOf(schema).flatMap((type) => TYPE_WORDS[type] ?? type))}`,
        mend: mendOf(schema),
      };
    case 'uniqueItems': {
      const places = [Number(params['i']), Number(params['j'])].toSorted((a, b) => a - b);
      return { message: `holds the same entry twice, at ${places.join(' and ')}`, mend: 'Send each entry once.' };
    }
    default: {
      const size = wordSize(keyword, Number(params['limit']));
      return size === null ? null : { message: size, mend: `Send ${describeValue(schema)}.` };
    }
  }
}

function wordSize(keyword: string, limit: number): string | null {
  if (keyword === 'minimum') return `is less than ${limit}`;
  if (keyword === 'maximum') return `is more than ${limit}`;
  const [, bound, measured] = /^(min|max)(Length|Items|Properties)$/.exec(keyword) ?? [];
  if (bound === undefined || measured === undefined) return null;
  if (bound === 'min' && limit === 1) return 'is empty';
  return `has ${bound === 'min' ? 'fewer' : 'more'} than ${count(limit, UNITS[measured]!)}`;
}

/** What to send for a value of this schema. */
function mendOf(schema: FaultSchema, otherwise = 'Send another value.'): string {
  if (schema.mend !== undefined) return schema.mend;
  if (schema.const !== undefined) return `Send ${JSON.stringify(schema.const)}.`;
  if (schema.enum !== undefined) return `Send ${joinWords(schema.enum.map((value) => JSON.stringify(value)))}.`;
  return typesOf(schema).length === 0 ? otherwise : `Send ${describeValue(schema)}.`;
}

function describeValue(schema: FaultSchema): string {
  return joinWords(typesOf(schema).flatMap((type) => describeType(type, schema)));
}

function describeType(type: string, schema: FaultSchema): string[] {
  const words = TYPE_WORDS[type] ?? [type];
  switch (type) {
    case 'integer':
    case 'number':
      return [`${words[0]}${describeRange(schema)}`];
    case 'string':
    case 'name':
      return [`${words[0]}${describeSize(schema.minLength, schema.maxLength, UNITS['Length']!)}`];
    case 'array':
      return [`${words[0]}${describeSize(schema.minItems, schema.maxItems, UNITS['Items']!)}`];
    case 'object':
      return [`${words[0]}${describeSize(schema.minProperties, schema.maxProperties, UNITS['Properties']!)}`];
    default:
      return words;
  }
}

function describeRange({ minimum, maximum }: FaultSchema): string {
  if (minimum === undefined) return maximum === undefined ? '' : ` of at most ${maximum}`;
  return maximum === undefined ? ` of at least ${minimum}` : ` from ${minimum} to ${maximum}`;
}

function describeSize(least = 0, most: number | undefined, unit: Unit): string {
  if (most === undefined) return least === 0 ? '' : ` of at least ${count(least, unit)}`;
  return least === 0 ? ` of at most ${count(most, unit)}` : ` of ${least} to ${count(most, unit)}`;
}

type Unit = readonly [singular: string, plural: string];

const UNITS: Readonly<Record<string, Unit>> = {
  Length: ['character', 'characters'],
  Items: ['entry', 'entries'],
  Properties: ['member', 'members'],
};

const count = (number: number, [singular, plural]: Unit): string => `${number} ${number === 1 ? singular : plural}`;

const TYPE_WORDS: Readonly<Record<string, string[]>> = {
  string: ['a text'],
  integer: ['a whole number'],
  number: ['a number'],
  boolean: ['true', 'false'],
  array: ['a list'],
  object: ['an object'],
  null: ['null'],
  // Of a member.
  name: ['a name'],
};

const typesOf = ({ type = [] }: FaultSchema): readonly string[] => (typeof type === 'string' ? [type] : type);

/** `a, b or c` */
function joinWords(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}
