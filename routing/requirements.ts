/** What a conversation asks of an agent, fixed when its flow routes it. */
export interface Requirements {
  readonly skills: readonly SkillRequirement[];
  /** In the order of time; the last one is the fallback. Empty: the skills stay as they are. */
  readonly rings: readonly Ring[];
}

export interface SkillRequirement {
  readonly skill: string;
  /** The least level, 1 to 5. */
  readonly level: number;
  /** Agents who meet it come first, but others may take the conversation. */
  readonly preferred: boolean;
}

/** What changes after a conversation has been in the queue for so long. Level 0 drops a skill. */
export type Ring = { readonly afterSeconds: number } & RingChange;

export type RingChange =
  | { readonly kind: 'relax'; readonly levels: readonly { readonly skill: string; readonly level: number }[] }
  | { readonly kind: 'overflow'; readonly teamId: string }
  | {
      readonly kind: 'fallback';
      readonly then: 'wait' | 'close';
      /** What the contact is sent then, and who is told. */
      readonly text?: string;
      readonly webhookUrl?: string;
    };

export const noRequirements: Requirements = { skills: [], rings: [] };

/** What is asked after the first `ring` rings have passed. */
export function skillsAfter({ skills, rings }: Requirements, ring: number): SkillRequirement[] {
  const levels = new Map<string, number>();
  for (const change of rings.slice(0, ring)) {
    if (change.kind === 'relax') for (const { skill, level } of change.levels) levels.set(skill, level);
  }
  return skills
    .map((asked) => ({ ...asked, level: levels.get(asked.skill) ?? asked.level }))
    .filter((asked) => asked.level > 0);
}

/** As people read it: `german ≥ 3`. */
export function describeSkill({ skill, level, preferred }: SkillRequirement): string {
  return `${skill} ≥ ${level}${preferred ? ' preferred' : ''}`;
}

/**
 * Equal for all conversations that the very same agents may take and rank alike, different for any two others: what is asked as JSON, in
 * an order of its own, so that no name can be mistaken for another's end.
 */
export function queueKeyText({ skills, units, channel, passedOver }: QueueKeyFacts): string {
  const asked = skills.map(
    ({ skill, level, preferred }) => [skill, level, preferred ? 'preferred' : 'required'] as const,
  );
  const sorted = asked.map((entry) => JSON.stringify(entry)).toSorted();
  const passed = [...new Set(passedOver)].toSorted();
  return `[${units},${JSON.stringify(channel)},[${sorted.join()}],${JSON.stringify(passed)}]`;
}

export interface QueueKeyFacts {
  readonly skills: readonly SkillRequirement[];
  readonly units: number;
  readonly channel: string | null;
  readonly passedOver: readonly string[];
}
