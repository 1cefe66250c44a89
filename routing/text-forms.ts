import type { ContactHistory } from './facts.ts';

/** At most; limits of one place alone stand beside its schema. */
export const MAX_CONDITION_CHARS = 2048;
export const MAX_ADDRESS_CHARS = 2048;

/** Of the contact's earlier conversations; each is one of `ContactHistory`. */
export const historySources = [
  'conversationCount',
  'lastAgentId',
  'lastCategory',
] as const satisfies (keyof ContactHistory)[];
/** What a `contact` step can tell; `attributes/<name>` besides. */
export const contactSources = ['name', 'lifecycle', ...historySources] as const;
export type ContactSource = (typeof contactSources)[number];

export function isHistorySource(source: string): source is (typeof historySources)[number] {
  return historySources.some((known) => known === source);
}

/** Forms that texts of a flow's document have: each the pattern that its schema holds, with what is said of a text that does not match. */
export const TEXT_FORMS = {
  /** Empty text is for `minLength` to tell. */
  notBlank: { pattern: String.raw`^$|\S`, fault: 'is blank', mend: 'Give a text that is not blank.' },
  fieldName: {
    pattern: '^[a-z][A-Za-z0-9_]{0,63}$',
    fault: 'is no field name',
    mend: 'Begin with a small letter, then letters, digits or _, 64 characters at most.',
  },
  teamId: {
    pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
    fault: 'is no id',
    mend: 'Give the id of a team, a UUID in small letters.',
  },
  /** No user name or password: a flow is readable by every agent. */
  url: {
    pattern: String.raw`^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?][^\s#]*)?$`,
    fault: 'is no web address',
    mend: 'Give an http:// or https:// address without user name and fragment.',
  },
  /** The same with `{{…}}` after the host. */
  urlTemplate: {
    pattern: String.raw`^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?]([^\s#{}]|\{\{[^{}#]*\}\})*)?$`,
    fault: 'is no web address',
    mend: 'Give an http:// or https:// address without user name and fragment; {{…}} only after the host.',
  },
  jsonPointer: {
    pattern: '^(/([^~/]|~0|~1)*)*$',
    fault: 'is no JSON pointer',
    mend: 'Give a JSON pointer, such as /customer/tier.',
  },
  contactSource: {
    pattern: `^(${contactSources.join('|')}|attributes/[^/]{1,64})$`,
    fault: 'is nothing that is known of a contact',
    mend: `Give ${contactSources.join(', ')}, or attributes/<name>.`,
  },
  headerName: {
    pattern: "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$",
    fault: 'is no name of a header',
    mend: 'Give a name such as X-Customer-Id.',
  },
  secretName: {
    pattern: '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$',
    fault: 'is no name of a secret',
    mend: 'Give letters, digits, _ and -, 64 characters at most.',
  },
  timeOfDay: {
    pattern: '^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$',
    fault: 'is no time of day',
    mend: 'Give HH:MM from 00:00 to 24:00.',
  },
  date: { pattern: '^[0-9]{4}-[01][0-9]-[0-3][0-9]$', fault: 'is no date', mend: 'Give YYYY-MM-DD.' },
} as const;
