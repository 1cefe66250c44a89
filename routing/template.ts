import type { ConditionFault } from './condition-check.ts';
import { cutText, type RoutingFacts } from './facts.ts';

/** Compiles a text with `{{contact.name}}` and the like. With `fields`, those that no step sets are faults; without, any may be named. */
export function compileTemplate(source: string, fields?: ReadonlyMap<string, unknown>): TemplateResult {
  const faults: ConditionFault[] = [];
  const parts: TemplatePart[] = [];
  let at = 0;
  for (;;) {
    const open = source.indexOf('{{', at);
    if (open === -1) break;
    if (open > at) parts.push(source.slice(at, open));
    const close = source.indexOf('}}', open + 2);
    if (close === -1) {
      faults.push({ message: 'the {{ is not closed by }}', position: open });
      return { ok: false, faults };
    }
    const name = readName(source.slice(open + 2, close), fields);
    if (name.ok) parts.push(name.path);
    else faults.push({ message: name.fault, position: open });
    at = close + 2;
  }
  if (at < source.length) parts.push(source.slice(at));
  return faults.length > 0 ? { ok: false, faults } : { ok: true, template: { source, parts } };
}

export type TemplateResult =
  | { readonly ok: true; readonly template: Template }
  /** Positions are offsets into the source, in UTF-16 units from 0. */
  | { readonly ok: false; readonly faults: readonly ConditionFault[] };

export interface Template {
  readonly source: string;
  /** Not for callers: use `fillTemplate`. */
  readonly parts: readonly TemplatePart[];
}

/** As it stands, or a name by its parts. */
type TemplatePart = string | readonly [owner: string, ...members: string[]];

/**
 * What is missing or has no text is left empty. Each value is cut to 1,000 characters, and after 16,384 characters of values the others are
 * left empty, so that a text cannot be made to grow. `url` percent-encodes the values: none can end the part of the address in which it stands.
 */
export function fillTemplate(template: Template, facts: RoutingFacts, escape: 'url' | 'none' = 'none'): string {
  let filled = '';
  let charsLeft = MAX_FILLED_CHARS;
  for (const part of template.parts) {
    if (typeof part === 'string') {
      filled += part;
      continue;
    }
    const text = textOf(valueOf(part, facts));
    const value = escape === 'url' ? encodeURIComponent(text) : text;
    if (value.length <= charsLeft) filled += value;
    charsLeft -= value.length;
  }
  return filled;
}

const MAX_VALUE_CHARS = 1000;
const MAX_FILLED_CHARS = 16_384;

const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  contact: ['id', 'name'],
  channel: ['key', 'name'],
  conversation: ['source', 'priority'],
  message: ['text'],
};

const KNOWN_NAMES = [
  ...Object.entries(MEMBERS).flatMap(([owner, members]) => members.map((member) => `${owner}.${member}`)),
  'contact.attributes.<name>',
  'fields.<name>',
];

type NameResult =
  { readonly ok: true; readonly path: Exclude<TemplatePart, string> } | { readonly ok: false; readonly fault: string };

function readName(written: string, fields: ReadonlyMap<string, unknown> | undefined): NameResult {
  const name = written.trim();
  const [owner = '', member = ''] = name.split('.', 2);
  const attribute = /^contact\.attributes\.(.+)$/s.exec(name)?.[1];
  if (attribute !== undefined) return { ok: true, path: ['contact', 'attributes', attribute] };
  const field = /^fields\.([a-z][A-Za-z0-9_]*)$/.exec(name)?.[1];
  if (field !== undefined) {
    if (fields === undefined || fields.has(field)) return { ok: true, path: ['fields', field] };
    const known = cutText([...fields.keys()].join(', '), 300) || 'none';
    return { ok: false, fault: `no step before sets the field "${cutText(field, 64)}"; set are ${known}` };
  }
  if (Object.hasOwn(MEMBERS, owner) && MEMBERS[owner]?.includes(member) && name === `${owner}.${member}`) {
    return { ok: true, path: [owner, member] };
  }
  return { ok: false, fault: `unknown name "${cutText(name, 64)}"; known are ${KNOWN_NAMES.join(', ')}` };
}

function valueOf(path: readonly string[], facts: RoutingFacts): unknown {
  return path.reduce<unknown>(
    (owner, member) =>
      typeof owner === 'object' && owner !== null && Object.hasOwn(owner, member)
        ? (owner as Record<string, unknown>)[member]
        : undefined,
    facts,
  );
}

function textOf(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (typeof value !== 'string') return '';
  // PostgreSQL stores no U+0000, and half a surrogate pair can be neither stored nor percent-encoded.
  return cutText(value, MAX_VALUE_CHARS)
    .replaceAll('\0', '')
    .replace(/\p{Surrogate}/gu, '\ufffd');
}
