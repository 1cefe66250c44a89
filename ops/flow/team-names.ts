import type { FlowApi } from './flow-api.ts';
import { isObject, type FlowFile } from './flow-file.ts';

/**
 * Files name teams by their names, which are the same in every system, where the API takes ids: `team` for `teamId`, and `overflowTeam` for
 * `overflowTeamId`. Also in what is expected of a try.
 */
export async function resolveTeams(api: FlowApi, file: FlowFile): Promise<ResolvedFile> {
  const teams = await api.listAll<{ id: string; name: string }>('/v1/teams');
  const ids = new Map(teams.map(({ id, name }) => [name, id]));
  const faults: string[] = [];
  const renamed = new Map<string, string>();
  const unresolved = new Set<string>();
  const standIns = new Map<unknown, string>();

  function idOf(name: unknown, path: string): string | null {
    const id = typeof name === 'string' ? ids.get(name) : undefined;
    if (id !== undefined) return id;
    const known = [...ids.keys()].slice(0, maxNamed).map((one) => JSON.stringify(one));
    const rest = ids.size > maxNamed ? ` and ${ids.size - maxNamed} more` : '';
    faults.push(`${path}: there is no team called ${JSON.stringify(name)}. Give one of ${known.join(', ')}${rest}.`);
    return null;
  }

  /** Of the form of an id, and of no team: the API finds fault with the place, which is passed over, and with nothing else for its sake. */
  function standInFor(name: unknown): string {
    const known = standIns.get(name);
    if (known !== undefined) return known;
    const id = `00000000-0000-0000-0000-${String(standIns.size).padStart(12, '0')}`;
    standIns.set(name, id);
    return id;
  }

  function resolve(value: unknown, path: string, depth = 0): unknown {
    // Deeper than the API takes: it is told there, or where the document is too deep to be sent.
    if (depth > maxDepth) return value;
    if (Array.isArray(value)) return value.map((item, place) => resolve(item, `${path}/${place}`, depth + 1));
    if (!isObject(value)) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, member]): [string, unknown] => {
        const idKey = idKeys.get(key);
        if (idKey === undefined) return [key, opaque.has(key) ? member : resolve(member, `${path}/${key}`, depth + 1)];
        if (idKey in value) faults.push(`${path}/${key}: stands beside ${idKey}. Remove one of them.`);
        renamed.set(`${path}/${idKey}`, `${path}/${key}`);
        const id = idOf(member, `${path}/${key}`);
        if (id === null) unresolved.add(`${path}/${idKey}`);
        return [idKey, id ?? standInFor(member)];
      }),
    );
  }

  const document = resolve(file.document, '/document');
  const tries = file.tries.map((one) => {
    const team = one.expect?.team;
    if (team === undefined) return one;
    const teamId = idOf(team, `${one.path}/expect/team`);
    return { ...one, expect: { ...one.expect, ...(teamId !== null && { teamId }) } };
  });
  return { file: { ...file, document, tries, renamed }, faults, unresolved };
}

interface ResolvedFile {
  readonly file: FlowFile;
  readonly faults: readonly string[];
  /** Places of the document, with the id, where there is no such team: nothing that the API finds there is worth telling. */
  readonly unresolved: ReadonlySet<string>;
}

const idKeys = new Map([
  ['team', 'teamId'],
  ['overflowTeam', 'overflowTeamId'],
]);

/** Names in there are the author's own. */
const opaque = new Set(['body', 'headers', 'fields', 'hours']);

const maxNamed = 10;

/** The API takes 32. */
const maxDepth = 64;
