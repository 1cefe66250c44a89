import { TEXT_FORMS } from './text-forms.ts';

export interface FlowFault {
  /** JSON pointer into the document, such as `/routing/branches/2/when`. */
  readonly path: string;
  readonly message: string;
  /** JSON pointer to the other place that the message speaks of; whoever shows the message puts it at the end. */
  readonly at?: string;
  readonly mend: string;
}

export function teamFaults(path: string, teamId: unknown, teamIds: ReadonlySet<string>): FlowFault[] {
  if (!isTeamId(teamId) || teamIds.has(teamId)) return [];
  return [{ path, message: 'there is no team with this id', mend: 'Give the id of a team of this workspace.' }];
}

/** Whether it has the shape of one. */
export function isTeamId(value: unknown): value is string {
  return typeof value === 'string' && new RegExp(TEXT_FORMS.teamId.pattern).test(value);
}

export function isFieldName(value: string): boolean {
  return new RegExp(TEXT_FORMS.fieldName.pattern).test(value);
}

/** As a part of a JSON pointer; cut, as a name may be as long as whoever sent it likes. */
export function escapePointer(name: string): string {
  return name.slice(0, 100).replaceAll('~', '~0').replaceAll('/', '~1');
}

/** PostgreSQL stores neither U+0000 nor half a surrogate pair. */
export const isStorable = (text: string): boolean => !text.includes('\0') && !/\p{Surrogate}/u.test(text);

export const unstorableFault = (path: string): FlowFault => ({
  path,
  message: 'has a character that cannot be stored',
  mend: 'Remove U+0000 and unpaired surrogates.',
});

/** Tells, of what must stand once, where it stood first: null where it does so now. */
export function createFirstPlaces(): (key: string, path: string) => string | null {
  const places = new Map<string, string>();
  return (key, path) => {
    const first = places.get(key);
    if (first === undefined) places.set(key, path);
    return first ?? null;
  };
}
