/** What is wrong with a value that a JSON schema refuses, in words for people: of requests, and of flows. */

/** What a check tells of a fault, in Ajv's terms, as far as it is used here. */
export interface SchemaFault {
  readonly keyword: string;
  readonly message?: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** The schema that the keyword stands in. */
export interface FaultSchema {
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly properties?: Readonly<Record<string, FaultSchema>>;
  /** Says what is wrong where `pattern`, `format`, `not` or `anyOf` finds fault. */
  readonly fault?: string;
  /** Says what to send instead. */
  readonly mend?: string;
  /** Of an object whose members have free names: says the same of a name that does not have their form. */
  readonly names?: { readonly fault: string; readonly mend: string };
}

/** The members that only these words read: Ajv is to know that they are no misspelt keywords. */
export const faultKeywords = ['fault', 'mend', 'names'];

export interface FaultWords {
  readonly message: string;
  readonly mend: string;
}

/** What one does with a value: send it in a request, give it in a document. */
export type Verb = 'Send' | 'Give';

export function wordFault(fault: SchemaFault, schema: FaultSchema, verb: Verb): FaultWords {
  return wordKeyword(fault, schema, verb) ?? { message: fault.message ?? 'is not valid', mend: mendOf(schema, verb) };
}

/** Of a fault of a member's name, not its value. */
export function wordNameFault(fault: SchemaFault, schema: FaultSchema, verb: Verb): FaultWords {
  const words = wordFault(fault, { ...schema, type: 'name' }, verb);
  return { ...words, message: `is a name that ${words.message}` };
}

function wordKeyword({ keyword, params }: SchemaFault, schema: FaultSchema, verb: Verb): FaultWords | null {
  const mend = mendOf(schema, verb);
  switch (keyword) {
    case 'required': {
      const missing = schema.properties?.[String(params['missingProperty'])];
      return { message: 'is required', mend: missing === undefined ? 'Add it.' : mendOf(missing, verb, 'Add it.') };
    }
    case 'additionalProperties':
      return schema.names === undefined
        ? { message: 'is not known here', mend: 'Remove it, or check its spelling.' }
        : { message: schema.names.fault, mend: schema.names.mend };
    case 'enum':
      return { message: 'is not one of the allowed values', mend };
    case 'const':
      return { message: 'is not the allowed value', mend };
    case 'pattern':
    case 'format':
    case 'not':
    case 'anyOf':
      return { message: schema.fault ?? 'has the wrong form', mend };
    case 'type':
      return {
        message: `must be ${joinWords(typesOf(schema).flatMap((type) => TYPE_WORDS[type] ?? type))}`,
        mend,
      };
    case 'uniqueItems': {
      const places = [Number(params['i']), Number(params['j'])].toSorted((a, b) => a - b);
      return { message: `holds the same entry twice, at ${places.join(' and ')}`, mend: `${verb} each entry once.` };
    }
    default: {
      const size = wordSize(keyword, Number(params['limit']));
      return size === null ? null : { message: size, mend: `${verb} ${describeValue(schema)}.` };
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
function mendOf(schema: FaultSchema, verb: Verb, otherwise = `${verb} another value.`): string {
  if (schema.mend !== undefined) return schema.mend;
  if (schema.const !== undefined) return `${verb} ${JSON.stringify(schema.const)}.`;
  if (schema.enum !== undefined) return `${verb} ${joinWords(schema.enum.map((value) => JSON.stringify(value)))}.`;
  return typesOf(schema).length === 0 ? otherwise : `${verb} ${describeValue(schema)}.`;
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
