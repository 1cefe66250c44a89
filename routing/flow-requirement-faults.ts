import { templateFaults, type NameScope } from './flow-expression-faults.ts';
import { createFirstPlaces, isFieldName, isTeamId, teamFaults, type FlowFault } from './flow-faults.ts';
import {
  MAX_LEVEL,
  MAX_REQUIREMENTS,
  MAX_RING_SECONDS,
  MAX_RINGS,
  MAX_SKILL_CHARS,
  skillKey,
} from './flow-requirements.ts';
import { MAX_SPLIT_PARTS } from './flow-schema.ts';
import { isObject, itemsAt, valueAt } from './json-walk.ts';
import { createNameSearch } from './nearest-name.ts';
import { addressFaults } from './web-address.ts';

/** What may be named in the flows of a workspace. */
export interface KnownNames {
  readonly teamIds: ReadonlySet<string>;
  /** Skills that agents of the workspace have. */
  readonly skills: ReadonlySet<string>;
}

/**
 * Finds what a schema cannot tell in the requirements and rings of a branch, or of `otherwise`: what can never be met, never end, or never happen.
 * Values of the wrong shape are passed over. One checker serves a whole document, so that looking for names that were meant stays bounded.
 */
export function createRequirementsCheck(known: KnownNames & NameScope): (path: string, branch: unknown) => FlowFault[] {
  const nameSkill = createNameSearch(known.skills);

  function unknownSkillFaults(path: string, skill: string): FlowFault[] {
    if (known.skills.has(skill)) return [];
    const meant = nameSkill(skill);
    const mend = meant === null ? listSkills(known.skills) : `The nearest known skill is ${JSON.stringify(meant)}.`;
    return [{ path, message: 'no agent of this workspace has this skill', mend }];
  }

  return (path, branch) => {
    const { levels, faults } = checkRequirements(branch, unknownSkillFaults);
    faults.push(
      ...unknownFieldFaults(branch, known),
      ...ringOrderFaults(branch),
      ...relaxFaults(branch, levels),
      ...overflowFaults(branch, known.teamIds),
      ...endTextFaults(branch, known),
    );
    return faults.map(({ at, ...fault }) => ({
      ...fault,
      path: `${path}${fault.path}`,
      ...(at === undefined ? {} : { at: `${path}${at}` }),
    }));
  };
}

/** The level that is asked for, by `skillKey`; null where it has the wrong shape. */
type Levels = Map<string, number | null>;

function checkRequirements(
  branch: unknown,
  unknownSkillFaults: (path: string, skill: string) => FlowFault[],
): { levels: Levels; faults: FlowFault[] } {
  const levels: Levels = new Map();
  const firstPlace = createFirstPlaces();
  const faults = itemsAt(branch, '/requirements', MAX_REQUIREMENTS).flatMap(([path, item]) => {
    const named = readName(path, item);
    if (named.key === null) return named.faults;
    const first = firstPlace(named.key, path);
    if (first !== null) {
      return [{ path: named.path, message: 'is asked for already, at', at: first, mend: 'Ask for each skill once.' }];
    }
    levels.set(named.key, levelOf(item));
    return named.skill === null ? [] : unknownSkillFaults(named.path, named.skill);
  });
  return { levels, faults };
}

function unknownFieldFaults(branch: unknown, { fields }: NameScope): FlowFault[] {
  if (fields === undefined) return [];
  return itemsAt(branch, '/requirements', MAX_REQUIREMENTS).flatMap(([path, item]) => {
    const field = valueAt(item, '/skillFromField');
    if (typeof field !== 'string' || !isFieldName(field) || fields.has(field)) return [];
    const mend = 'Name a field that a step of the enrichment sets.';
    return [{ path: `${path}/skillFromField`, message: 'no step sets this field', mend }];
  });
}

/** What a ring does; it must be one of them. */
const CHANGES = ['relax', 'overflowTeamId', 'fallback'] as const;

function ringOrderFaults(branch: unknown): FlowFault[] {
  const rings = itemsAt(branch, '/rings', MAX_RINGS);
  const faults: FlowFault[] = [];
  let latest = 0;
  let end: string | null = null;
  for (const [path, ring] of rings) {
    if (!isObject(ring)) continue;
    const changes = CHANGES.filter((change) => Object.hasOwn(ring, change));
    if (changes.length === 0) {
      faults.push({ path, message: 'changes nothing', mend: `Give one of ${CHANGES.join(', ')}.` });
    } else if (changes.length > 1) {
      const message = `does several things: ${changes.join(', ')}`;
      faults.push({ path, message, mend: 'Give each a ring of its own.' });
    }
    const { afterSeconds } = ring;
    const isTime = typeof afterSeconds === 'number' && afterSeconds >= 1 && afterSeconds <= MAX_RING_SECONDS;
    if (isTime && afterSeconds <= latest) {
      const message = `is not later than the ring before, which is at ${latest} s`;
      faults.push({ path: `${path}/afterSeconds`, message, mend: `Give more than ${latest}, or change the order.` });
    }
    if (isTime) latest = Math.max(latest, afterSeconds);
    if (end !== null) {
      const message = 'would never happen, as it comes after the fallback at';
      faults.push({ path, message, at: end, mend: 'Remove it, or move the fallback to the end.' });
    } else if (changes.includes('fallback')) {
      end = path;
    }
  }
  return end === null ? [...faults, ...endlessFaults(branch)] : faults;
}

function endlessFaults(branch: unknown): FlowFault[] {
  const rings = valueAt(branch, '/rings');
  if (!Array.isArray(rings) || rings.length === 0) return [];
  // Of a list that is too long only the first rings are looked at; its end may be there nevertheless.
  if (rings.length > MAX_RINGS && isObject(rings.at(-1)) && Object.hasOwn(rings.at(-1), 'fallback')) return [];
  const mend = 'Add a last ring with a fallback, "wait" or "close".';
  return [{ path: '/rings', message: 'have no end: the last ring must tell the fallback', mend }];
}

function relaxFaults(branch: unknown, asked: Levels): FlowFault[] {
  const levels = new Map(asked);
  return itemsAt(branch, '/rings', MAX_RINGS).flatMap(([ringPath, ring]) => {
    const firstPlace = createFirstPlaces();
    return itemsAt(ring, '/relax', MAX_REQUIREMENTS).flatMap(([relaxPath, item]): FlowFault[] => {
      const path = `${ringPath}${relaxPath}`;
      const named = readName(path, item);
      if (named.key === null) return named.faults;
      const before = levels.get(named.key);
      if (before === undefined) {
        const mend = 'Relax a skill that requirements name in the same way.';
        return [{ path: named.path, message: 'is not asked for, so it cannot be relaxed', mend }];
      }
      const first = firstPlace(named.key, path);
      if (first !== null) {
        const message = 'is relaxed already by this ring, at';
        return [{ path: named.path, message, at: first, mend: 'Relax each skill once in a ring.' }];
      }
      const level = levelOf(item);
      if (level === null) return [];
      levels.set(named.key, before === null ? level : Math.min(before, level));
      return before === null || level < before ? [] : [notLowerFault(`${path}/level`, before)];
    });
  });
}

function notLowerFault(path: string, before: number): FlowFault {
  return before === 0
    ? { path, message: 'relaxes a skill that was dropped before', mend: 'Remove it.' }
    : {
        path,
        message: `is not lower than before, which is ${before}`,
        mend: before === 1 ? 'Give 0, which drops the skill.' : `Give at most ${before - 1}; 0 drops the skill.`,
      };
}

/** What is told in the end, which only the fallback is. */
function endTextFaults(branch: unknown, scope: NameScope): FlowFault[] {
  return itemsAt(branch, '/rings', MAX_RINGS).flatMap(([path, ring]): FlowFault[] => {
    if (!isObject(ring)) return [];
    const astray = ['text', 'webhookUrl'].filter(
      (member) => Object.hasOwn(ring, member) && !Object.hasOwn(ring, 'fallback'),
    );
    return [
      ...templateFaults(`${path}/text`, ring['text'], scope),
      ...addressFaults(`${path}/webhookUrl`, ring['webhookUrl']),
      ...astray.map((member) => ({
        path: `${path}/${member}`,
        message: 'counts only beside fallback',
        mend: 'Move it to the ring with the fallback.',
      })),
    ];
  });
}

/** A team named twice would get the conversation back that nobody of it could take. */
function overflowFaults(branch: unknown, teamIds: ReadonlySet<string>): FlowFault[] {
  const had = new Map<unknown, string>([[valueAt(branch, '/teamId'), '/teamId']]);
  for (const [path, part] of itemsAt(branch, '/split', MAX_SPLIT_PARTS)) had.set(valueAt(part, '/teamId'), path);
  return itemsAt(branch, '/rings', MAX_RINGS).flatMap(([ringPath, ring]): FlowFault[] => {
    const teamId = valueAt(ring, '/overflowTeamId');
    const path = `${ringPath}/overflowTeamId`;
    if (!isTeamId(teamId)) return [];
    const before = had.get(teamId);
    if (before === undefined) {
      had.set(teamId, ringPath);
      return teamFaults(path, teamId, teamIds);
    }
    const message = 'goes in a circle: this team has it already, by';
    return [{ path, message, at: before, mend: 'Overflow to a team that has not had it.' }];
  });
}

type ReadName =
  | { readonly key: string; readonly path: string; readonly skill: string | null }
  | { readonly key: null; readonly faults: FlowFault[] };

function readName(path: string, item: unknown): ReadName {
  if (!isObject(item)) return { key: null, faults: [] };
  const hasSkill = Object.hasOwn(item, 'skill');
  const hasField = Object.hasOwn(item, 'skillFromField');
  if (hasSkill === hasField) {
    const mend = 'Give skill, or skillFromField for a skill that a field names.';
    return { key: null, faults: [{ path, message: hasSkill ? 'names a skill twice' : 'names no skill', mend }] };
  }
  const member = hasSkill ? 'skill' : 'skillFromField';
  const name = item[member];
  if (typeof name !== 'string' || name.trim() === '' || name.length > MAX_SKILL_CHARS) return { key: null, faults: [] };
  return { key: skillKey({ [member]: name }), path: `${path}/${member}`, skill: hasSkill ? name : null };
}

/** Null when it is no level; its fault is known from the schema. */
function levelOf(item: unknown): number | null {
  const level = valueAt(item, '/level');
  return typeof level === 'number' && Number.isInteger(level) && level >= 0 && level <= MAX_LEVEL ? level : null;
}

function listSkills(skills: ReadonlySet<string>): string {
  if (skills.size === 0) return 'Give an agent this skill first; no agent has any.';
  const shown = [...skills].slice(0, 5).map((skill) => JSON.stringify(skill));
  const rest = skills.size > shown.length ? ` and ${skills.size - shown.length} more` : '';
  return `Give an agent this skill first, or ask for one that is known: ${shown.join(', ')}${rest}.`;
}
