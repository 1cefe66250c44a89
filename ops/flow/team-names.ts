import type { FlowApi } from './flow-api.ts';
import { isObject, type FlowFile, type ReadFile } from './flow-file.ts';

/**
 * Files name teams by their names, which are the same in every system, where the API takes ids: `team` for `teamId`, and `overflowTeam` for
 * `overflowTeamId`. Also in what is expected of a try.
 */
export async function resolveTeams(api: FlowApi, file: FlowFile): Promise<ReadFile> {
  const teams = await api.listAll<{ id: string; name: string }>('/v1/teams');
  const ids = new Map(teams.map(({ id, name }) => [name, id]));
  const faults: string[] = [];
  const renamed = new Map<string, string>();

  function idOf(name: unknown, path: string): string | null {
    const id = typeof name === 'string' ? ids.get(name) : undefined;
    if (id !== undefined) return id;
    const known = [...ids.keys()].slice(0, maxNamed).map((one) => JSON.stringify(one));
    const rest = ids.size > maxNamed ? ` and ${ids.size - maxNamed} more` : '';
    faults.push(`${path}: there is no team called ${JSON.stringify(name)}. Give one of ${known.join(', ')}${rest}.`);
    return null;
  }

  function resolve(value: unknown, path: string): unknown {
    if (Array.isArray(value)) return value.map((item, place) => resolve(item, `${path}/${place}`));
    if (!isObject(value)) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, member]): [string, unknown] => {
        const idKey = idKeys.get(key);
        if (idKey === undefined) return [key, opaque.has(key) ? member : resolve(member, `${path}/${key}`)];
        if (idKey in value) faults.push(`${path}/${key}: stands beside ${idKey}. Remove one of them.`);
        renamed.set(`${path}/${idKey}`, `${path}/${key}`);
        return [idKey, idOf(member, `${path}/${key}`) ?? member];
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
  return faults.length > 0 ? { ok: false, faults } : { ok: true, file: { ...file, document, tries, renamed } };
}

const idKeys = new Map([
  ['team', 'teamId'],
  ['overflowTeam', 'overflowTeamId'],
]);

/** Names in there are the author's own. */
const opaque = new Set(['body', 'headers', 'fields', 'hours']);

const maxNamed = 10;
