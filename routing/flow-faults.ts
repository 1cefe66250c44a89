import type { TLocalizedValidationError } from 'typebox/error';

/** Turns what the schema check found into faults that a person who writes flows can mend, one for each place. */
export function flowFaultsOf(errors: readonly TLocalizedValidationError[], path: string): FlowFault[] {
  const unions = errors.filter((error) => error.keyword === 'anyOf');
  return errors
    .filter((error) => !unions.some((union) => union !== error && isMemberOf(error, union)))
    .flatMap((error) => faultsOfError(error, path + error.instancePath));
}

export interface FlowFault {
  /** JSON pointer into the document, such as `/routing/branches/2/when`. */
  readonly path: string;
  readonly message: string;
  /** JSON pointer to the other place that the message speaks of; whoever shows the message puts it at the end. */
  readonly at?: string;
  readonly mend: string;
}

/** Regular expressions of the document's strings; each has its mend below. */
export const FLOW_PATTERNS = {
  notBlank: String.raw`\S`,
  fieldName: '^[a-z][A-Za-z0-9_]{0,63}$',
  id: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
  /** No user name or password: a flow is readable by every agent. */
  url: String.raw`^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?][^\s#]*)?$`,
  /** The same with `{{…}}` after the host. */
  urlTemplate: String.raw`^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?]([^\s#{}]|\{\{[^{}#]*\}\})*)?$`,
  jsonPointer: '^(/([^~/]|~0|~1)*)*$',
  contactSource: '^(name|lifecycle|conversationCount|lastAgentId|lastCategory|attributes/[^/]{1,64})$',
  headerName: "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$",
  secretName: '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$',
  timeOfDay: '^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$',
  date: '^[0-9]{4}-[01][0-9]-[0-3][0-9]$',
} as const;

const PATTERN_FAULTS: Readonly<Record<string, Pick<FlowFault, 'message' | 'mend'>>> = {
  [FLOW_PATTERNS.notBlank]: { message: 'is blank', mend: 'Give a text that is not blank.' },
  [FLOW_PATTERNS.fieldName]: {
    message: 'is no field name',
    mend: 'Begin with a small letter, then letters, digits or _, 64 characters at most.',
  },
  [FLOW_PATTERNS.id]: { message: 'is no id', mend: 'Give the id of a team, a UUID in small letters.' },
  [FLOW_PATTERNS.url]: {
    message: 'is no web address',
    mend: 'Give an http:// or https:// address without user name and fragment.',
  },
  [FLOW_PATTERNS.jsonPointer]: { message: 'is no JSON pointer', mend: 'Give a JSON pointer, such as /customer/tier.' },
  [FLOW_PATTERNS.urlTemplate]: {
    message: 'is no web address',
    mend: 'Give an http:// or https:// address without user name and fragment; {{…}} only after the host.',
  },
  [FLOW_PATTERNS.contactSource]: {
    message: 'is nothing that is known of a contact',
    mend: 'Give name, lifecycle, conversationCount, lastAgentId, lastCategory, or attributes/<name>.',
  },
  [FLOW_PATTERNS.headerName]: { message: 'is no name of a header', mend: 'Give a name such as X-Customer-Id.' },
  [FLOW_PATTERNS.secretName]: { message: 'is no name of a secret', mend: 'Give letters, digits, _ and -.' },
  [FLOW_PATTERNS.timeOfDay]: { message: 'is no time of day', mend: 'Give HH:MM from 00:00 to 24:00.' },
  [FLOW_PATTERNS.date]: { message: 'is no date', mend: 'Give YYYY-MM-DD.' },
};

export function teamFaults(path: string, teamId: unknown, teamIds: ReadonlySet<string>): FlowFault[] {
  if (!isTeamId(teamId) || teamIds.has(teamId)) return [];
  return [{ path, message: 'there is no team with this id', mend: 'Give the id of a team of this workspace.' }];
}

/** Whether it has the shape of one. */
export function isTeamId(value: unknown): value is string {
  return typeof value === 'string' && new RegExp(FLOW_PATTERNS.id).test(value);
}

export function isFieldName(value: string): boolean {
  return new RegExp(FLOW_PATTERNS.fieldName).test(value);
}

/** As a part of a JSON pointer; cut, as a name may be as long as whoever sent it likes. */
export function escapePointer(name: string): string {
  return name.slice(0, 100).replaceAll('~', '~0').replaceAll('/', '~1');
}

function isMemberOf(error: TLocalizedValidationError, union: TLocalizedValidationError): boolean {
  return error.instancePath === union.instancePath && error.schemaPath.startsWith(`${union.schemaPath}/anyOf/`);
}

function faultsOfError(error: TLocalizedValidationError, path: string): FlowFault[] {
  switch (error.keyword) {
    case 'required':
      return error.params.requiredProperties.map((name) => ({
        path: `${path}/${name}`,
        message: 'is missing',
        mend: `Add ${name}.`,
      }));
    case 'boolean':
      // Comes beside `additionalProperties`, once for each property.
      return [];
    case 'additionalProperties':
      return error.params.additionalProperties.map((name) => ({
        path: `${path}/${escapePointer(name)}`,
        ...nameFault(error.schemaPath),
      }));
    case 'pattern':
      return [{ path, ...patternFault(String(error.params.pattern)) }];
    case 'const':
      return [{ path, message: error.message, mend: `Give ${JSON.stringify(error.params.allowedValue)}.` }];
    case 'type':
      return [{ path, message: error.message, mend: `Give a value of the type ${String(error.params.type)}.` }];
    case 'enum': {
      const allowed = error.params.allowedValues.map((value) => JSON.stringify(value));
      return [{ path, message: 'is none of the known values', mend: `Give one of ${allowed.join(', ')}.` }];
    }
    case 'anyOf':
      return [{ path, ...unionFault(error.schemaPath) }];
    case 'minLength':
    case 'minItems':
    case 'minProperties':
    case 'minimum':
      return [
        {
          path,
          message: error.message,
          mend: `Give at least ${error.params.limit}${unitOf(error.keyword, error.params.limit)}.`,
        },
      ];
    case 'maxLength':
    case 'maxItems':
    case 'maxProperties':
    case 'maximum':
      return [
        {
          path,
          message: error.message,
          mend: `Give at most ${error.params.limit}${unitOf(error.keyword, error.params.limit)}.`,
        },
      ];
    default:
      return [{ path, message: error.message, mend: 'Correct the value.' }];
  }
}

/** Of a name that an object does not have, or, where names are free, of one that has not their form. */
function nameFault(schemaPath: string): Pick<FlowFault, 'message' | 'mend'> {
  if (/\/properties\/(fields|hours)$/.test(schemaPath)) return patternFault(FLOW_PATTERNS.fieldName);
  if (schemaPath.endsWith('/properties/headers')) return patternFault(FLOW_PATTERNS.headerName);
  return { message: 'is not known here', mend: 'Remove it, or correct its name.' };
}

function unionFault(schemaPath: string): Pick<FlowFault, 'message' | 'mend'> {
  if (schemaPath.includes('/properties/headers/')) {
    return {
      message: 'is no value of a header',
      mend: 'Give a text of at most 1000 characters, or {"secret": "<name of a secret>"}.',
    };
  }
  return { message: 'is no field value', mend: 'Give a text of at most 1000 characters, a number, true or false.' };
}

function patternFault(pattern: string): Pick<FlowFault, 'message' | 'mend'> {
  return PATTERN_FAULTS[pattern] ?? { message: `must match ${pattern}`, mend: 'Correct the value.' };
}

function unitOf(keyword: string, limit: number | bigint): string {
  if (keyword.endsWith('Length')) return Number(limit) === 1 ? ' character' : ' characters';
  if (!keyword.endsWith('Items') && !keyword.endsWith('Properties')) return '';
  return Number(limit) === 1 ? ' entry' : ' entries';
}
