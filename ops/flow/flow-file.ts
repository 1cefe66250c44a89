/** A flow as a file: JSON with name, description, document, and what is to be tried. */
import { readFileSync } from 'node:fs';
import { describeFault } from './fault-lines.ts';
import type { Json } from './flow-api.ts';

export interface FlowFile {
  readonly name: string;
  readonly description: string;
  /** As it was written; once teams are resolved, with their ids. */
  readonly document: unknown;
  readonly tries: readonly FlowTry[];
  /** Places of the document where a team was named by its name: JSON pointer with the id → with the name. */
  readonly renamed: ReadonlyMap<string, string>;
}

export interface FlowTry {
  readonly name: string;
  /** As `POST /v1/flows/try` takes it. */
  readonly body: Json;
  readonly expect?: Expectation;
  /** Where it stands in the file. */
  readonly path?: string;
}

/** All that is named has to be so. */
export interface Expectation {
  readonly matched?: boolean;
  readonly kind?: string;
  readonly branch?: string | null;
  readonly team?: string;
  readonly teamId?: string;
  readonly fields?: Json;
  readonly agentId?: string | null;
}

export interface Faulty {
  readonly ok: false;
  /** Such as `/name: is missing. Add it.` */
  readonly faults: readonly string[];
}

/** @returns with its faults, what could be read; no file where there is no document to be checked any further */
export function readFlowFile(path: string): { readonly file: FlowFile | null; readonly faults: readonly string[] } {
  const read = readJsonFile(path);
  if (!read.ok) return { file: null, faults: read.faults };
  const { name, description = '', document, tries = [], ...rest } = read.value;
  const nameFaults = findNameFaults(name);
  const descriptionFaults = findTextFaults(description, { field: '/description', maxLength: maxDescriptionLength });
  const found = findTries(tries, '/tries');
  const faults = [
    ...Object.keys(rest).map((member) => unknownFault(`/${member}`)),
    ...nameFaults,
    ...descriptionFaults,
    ...(isObject(document) ? [] : ['/document: is no object. Give the document of the flow.']),
    ...found.faults,
  ];
  if (!isObject(document)) return { file: null, faults };
  const file = {
    name: nameFaults.length === 0 ? (name as string) : '',
    description: descriptionFaults.length === 0 ? (description as string) : '',
    document,
    tries: found.tries,
    renamed: new Map<string, string>(),
  };
  return { file, faults };
}

/** What the API takes: a draft is checked for this only when it is stored, not when its document is validated. */
const maxNameLength = 200;
const maxDescriptionLength = 2000;

function findNameFaults(name: unknown): string[] {
  const field = '/name';
  if (typeof name !== 'string' || name === '') return [`${field}: is no name. Give the flow a name.`];
  const message = 'is blank, or begins or ends with a blank';
  return [
    ...(name === name.trim()
      ? []
      : [describeFault({ field, message, mend: 'Give a name without blanks at its ends.' })]),
    ...findTextFaults(name, { field, maxLength: maxNameLength }),
  ];
}

function findTextFaults(text: unknown, { field, maxLength }: { field: string; maxLength: number }): string[] {
  if (typeof text !== 'string') return [`${field}: is no text. Give a text.`];
  const unstorable = 'contains U+0000 or a lone surrogate, which cannot be stored';
  return [
    // Counted as the API does: a character of two surrogates is one.
    ...(Array.from(text).length <= maxLength
      ? []
      : [describeFault({ field, message: `has more than ${maxLength} characters`, mend: 'Shorten it.' })]),
    ...(/[\0\p{Surrogate}]/u.test(text) ? [describeFault({ field, message: unstorable, mend: 'Remove it.' })] : []),
  ];
}

interface FoundTries {
  readonly tries: readonly FlowTry[];
  readonly faults: readonly string[];
}

/** A file of its own with one thing to try, or a list of them. */
export function readTries(path: string): FoundTries {
  const read = parseFile(path);
  if (!read.ok) return { tries: [], faults: read.faults };
  return findTries(Array.isArray(read.value) ? read.value : [read.value], '');
}

function findTries(tries: unknown, path: string): FoundTries {
  if (!Array.isArray(tries)) return { tries: [], faults: [`${path}: is no list. Give a list of what to try.`] };
  const faults: string[] = [];
  const found = tries.flatMap((item: unknown, place): FlowTry[] => {
    const at = `${path}/${place}`;
    if (!isObject(item)) {
      faults.push(`${at}: is no object. Give {name, message: {text}} and the like.`);
      return [];
    }
    const { name = `try ${place + 1}`, expect, ...body } = item;
    if (typeof name !== 'string') faults.push(`${at}/name: is no text. Give a text.`);
    faults.push(...expectationFaults(expect, `${at}/expect`));
    return [{ name: String(name), body, path: at, ...(isObject(expect) && { expect }) }];
  });
  return { tries: found, faults };
}

const expectable = new Set(['matched', 'kind', 'branch', 'team', 'teamId', 'fields', 'agentId']);

function expectationFaults(expect: unknown, path: string): string[] {
  if (expect === undefined) return [];
  if (!isObject(expect)) return [`${path}: is no object. Give what is expected, such as {"branch": "Sales"}.`];
  return Object.keys(expect)
    .filter((member) => !expectable.has(member))
    .map((member) => `${path}/${member}: is nothing that can be expected. Give ${[...expectable].join(', ')}.`);
}

function readJsonFile(path: string): { readonly ok: true; readonly value: Json } | Faulty {
  const read = parseFile(path);
  if (!read.ok) return read;
  return isObject(read.value)
    ? { ok: true, value: read.value }
    : { ok: false, faults: ['/: is no object. Give {name, description, document, tries}.'] };
}

function parseFile(path: string): { readonly ok: true; readonly value: unknown } | Faulty {
  try {
    // Some editors begin a file with a byte order mark, which is no JSON.
    return { ok: true, value: JSON.parse(readFileSync(path, 'utf8').replace(/^\uFEFF/, '')) as unknown };
  } catch (error) {
    return { ok: false, faults: [`/: cannot be read: ${(error as Error).message}`] };
  }
}

const unknownFault = (path: string): string => `${path}: is not known here. Remove it, or check its spelling.`;

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
