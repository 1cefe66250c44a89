/**
 * What a branch asks of an agent, as it is written in a flow. A skill is named outright or taken from a field that enrichment found, which is
 * known only when the flow decides: `fillRequirements` then gives the form in which the conversation keeps its requirements.
 */
import { Type, type Static } from 'typebox';
import { MAX_MESSAGE_TEXT_CHARS, type Fields } from './facts.ts';
import { noRequirements, type Requirements, type Ring, type SkillRequirement } from './requirements.ts';
import { MAX_ADDRESS_CHARS, TEXT_FORMS } from './text-forms.ts';

export const MAX_REQUIREMENTS = 10;
export const MAX_RINGS = 20;
export const MAX_RING_SECONDS = 604_800;
export const MAX_SKILL_CHARS = 100;
export const MAX_LEVEL = 5;

/** Exactly one of the two; that it is one is told by `requirementFaults`, as a union would report what each of its members misses. */
const nameOfSkill = {
  skill: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: MAX_SKILL_CHARS,
      ...TEXT_FORMS.notBlank,
      description: 'Either this, a skill that an agent of the workspace has',
    }),
  ),
  skillFromField: Type.Optional(
    Type.String({ ...TEXT_FORMS.fieldName, description: 'or this, the field whose text names the skill' }),
  ),
};

const FlowSkill = Type.Object(
  {
    ...nameOfSkill,
    level: Type.Integer({ minimum: 1, maximum: MAX_LEVEL, description: 'The least level' }),
    preferred: Type.Optional(
      Type.Boolean({ description: 'True: agents who meet it come first, but others may take it' }),
    ),
  },
  { additionalProperties: false },
);

const FlowRing = Type.Object(
  {
    afterSeconds: Type.Integer({
      minimum: 1,
      maximum: MAX_RING_SECONDS,
      description: 'Since the conversation came into the queue; each ring later than the one before',
    }),
    relax: Type.Optional(
      Type.Array(
        Type.Object(
          {
            ...nameOfSkill,
            level: Type.Integer({
              minimum: 0,
              maximum: MAX_LEVEL,
              description: 'Lower than before; 0 drops the skill',
            }),
          },
          { additionalProperties: false },
        ),
        { minItems: 1, maxItems: MAX_REQUIREMENTS },
      ),
    ),
    overflowTeamId: Type.Optional(
      Type.String({ ...TEXT_FORMS.teamId, description: 'The team that gets it from here on' }),
    ),
    fallback: Type.Optional(Type.Enum(['wait', 'close'], { description: 'What becomes of it in the end' })),
    text: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: MAX_MESSAGE_TEXT_CHARS,
        ...TEXT_FORMS.notBlank,
        description: 'Beside fallback: what the contact is sent then; may hold {{contact.name}} and the like',
      }),
    ),
    webhookUrl: Type.Optional(
      Type.String({
        maxLength: MAX_ADDRESS_CHARS,
        ...TEXT_FORMS.url,
        description: 'Beside fallback: who is told then',
      }),
    ),
  },
  { additionalProperties: false, description: 'One of relax, overflowTeamId and fallback' },
);

/** Members of a branch and of `otherwise`. */
export const requirementMembers = {
  requirements: Type.Optional(
    Type.Array(FlowSkill, { maxItems: MAX_REQUIREMENTS, description: 'Skills that an agent must, or should, have' }),
  ),
  rings: Type.Optional(
    Type.Array(FlowRing, {
      maxItems: MAX_RINGS,
      description: 'What changes while nobody is found; the last one is the fallback',
    }),
  ),
};

export interface FlowRequirements {
  readonly requirements?: readonly Static<typeof FlowSkill>[];
  readonly rings?: readonly Static<typeof FlowRing>[];
}

/** How a skill is named in a flow. */
export interface SkillName {
  readonly skill?: string;
  readonly skillFromField?: string;
}

/** Equal for what names the same skill in the same way. */
export function skillKey({ skill, skillFromField }: SkillName): string {
  return skillFromField === undefined ? `skill ${skill}` : `field ${skillFromField}`;
}

/**
 * A field without a text that can be a skill's name asks for nothing, and is told. Where a field names a skill that is asked for anyway, each is
 * relaxed by its own rings and the higher level counts; a preference beside a requirement counts no more. The text of the fallback is filled now,
 * by `fillText`, as the fields are known now.
 */
export function fillRequirements(
  { requirements = [], rings = [] }: FlowRequirements,
  fields: Fields,
  fillText: (template: string) => string | null,
): FilledRequirements {
  if (requirements.length === 0 && rings.length === 0) return { requirements: noRequirements, missingFields: [] };
  const missing = new Set<string>();
  const asked = requirements.flatMap((named): Asked[] => {
    const skill = skillIn(named, fields);
    if (skill !== null)
      return [{ key: skillKey(named), skill, level: named.level, preferred: named.preferred ?? false }];
    missing.add(named.skillFromField ?? '');
    return [];
  });
  const required = new Set(asked.filter(({ preferred }) => !preferred).map(({ skill }) => skill));
  const counted = asked.filter(({ skill, preferred }) => !preferred || !required.has(skill));
  return {
    requirements: { skills: skillsOf(counted), rings: ringsOf(rings, counted, fillText) },
    missingFields: [...missing],
  };
}

export interface FilledRequirements {
  readonly requirements: Requirements;
  /** Fields that were to name a skill and have no text that can be one. */
  readonly missingFields: readonly string[];
}

interface Asked extends SkillRequirement {
  readonly key: string;
}

function skillIn({ skill, skillFromField }: SkillName, fields: Fields): string | null {
  if (skillFromField === undefined) return skill ?? null;
  const value = Object.hasOwn(fields, skillFromField) ? fields[skillFromField] : undefined;
  return typeof value === 'string' && value.trim() !== '' && value.length <= MAX_SKILL_CHARS ? value : null;
}

/** Each skill once, in the order of the flow. */
function skillsOf(asked: readonly Asked[]): SkillRequirement[] {
  const bySkill = new Map<string, SkillRequirement>();
  for (const { skill, level, preferred } of asked) {
    bySkill.set(skill, { skill, level: Math.max(level, bySkill.get(skill)?.level ?? 0), preferred });
  }
  return [...bySkill.values()];
}

/** A ring that relaxes only what is not asked for is left out. */
function ringsOf(
  rings: NonNullable<FlowRequirements['rings']>,
  asked: readonly Asked[],
  fillText: (template: string) => string | null,
): Ring[] {
  let now = asked;
  return rings.flatMap(({ afterSeconds, relax, overflowTeamId, fallback, text, webhookUrl }): Ring[] => {
    if (overflowTeamId !== undefined) return [{ afterSeconds, kind: 'overflow', teamId: overflowTeamId }];
    if (fallback !== undefined) {
      const filled = text === undefined ? null : fillText(text);
      const told = {
        ...(filled === null ? {} : { text: filled }),
        ...(webhookUrl === undefined ? {} : { webhookUrl }),
      };
      return [{ afterSeconds, kind: 'fallback', then: fallback, ...told }];
    }
    const before = new Map(skillsOf(now).map(({ skill, level }) => [skill, level]));
    const relaxed = new Map((relax ?? []).map((named) => [skillKey(named), named.level]));
    now = now.map((one) => ({ ...one, level: relaxed.get(one.key) ?? one.level }));
    const levels = skillsOf(now)
      .filter(({ skill, level }) => level !== before.get(skill))
      .map(({ skill, level }) => ({ skill, level }));
    return levels.length === 0 ? [] : [{ afterSeconds, kind: 'relax', levels }];
  });
}
