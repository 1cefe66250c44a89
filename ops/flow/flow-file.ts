/** A flow as a file: JSON with name, description, document, and what is to be tried. */
import { readFileSync } from 'node:fs';
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

export type ReadFile = { readonly ok: true; readonly file: FlowFile } | Faulty;
export interface Faulty {
  readonly ok: false;
  /** Such as `/name: is missing. Add it.` */
  readonly faults: readonly string[];
}

export function readFlowFile(path: string): ReadFile {
  const read = readJsonFile(path);
  if (!read.ok) return read;
  const { name, description = '', document, tries = [], ...rest } = read.value;
  const checked = triesIn(tries, '/tries');
  const faults = [
    ...Object.keys(rest).map((member) => unknownFault(`/${member}`)),
    ...(typeof name === 'string' && name !== '' ? [] : ['/name: is no name. Give the flow a name.']),
    ...(typeof description === 'string' ? [] : ['/description: is no text. Give a text.']),
    ...(isObject(document) ? [] : ['/document: is no object. Give the document of the flow.']),
    ...(checked.ok ? [] : checked.faults),
  ];
  if (faults.length > 0 || !checked.ok) return { ok: false, faults };
  const file = { name: name as string, description: description as string, document };
  return { ok: true, file: { ...file, tries: checked.tries, renamed: new Map() } };
}

/** A file of its own with one thing to try, or a list of them. */
export function readTries(path: string): { readonly ok: true; readonly tries: readonly FlowTry[] } | Faulty {
  const read = parseFile(path);
  return read.ok ? triesIn(Array.isArray(read.value) ? read.value : [read.value], '') : read;
}

function triesIn(tries: unknown, path: string): { readonly ok: true; readonly tries: readonly FlowTry[] } | Faulty {
  if (!Array.isArray(tries)) return { ok: false, faults: [`${path}: is no list. Give a list of what to try.`] };
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
  return faults.length > 0 ? { ok: false, faults } : { ok: true, tries: found };
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
    return { ok: true, value: JSON.parse(readFileSync(path, 'utf8')) as unknown };
  } catch (error) {
    return { ok: false, faults: [`/: cannot be read: ${(error as Error).message}`] };
  }
}

const unknownFault = (path: string): string => `${path}: is not known here. Remove it, or check its spelling.`;

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
