import type { Exclusion, SkillLack } from './ranking.ts';
import { describeSkill, type SkillRequirement } from './requirements.ts';
import type { Strategy } from './team-rules.ts';

/**
 * One sentence for people, such as "Agent 12 chosen: least loaded 1/4, tied with agent 31, longer idle; agent 7 full 3/3; agent 9 lacks
 * german ≥ 3; 4 more offline." The explanation may have been stored by the first version, which knew less.
 */
export function explainAssignment(explanation: StoredExplanation): string {
  const { chosen, offered, awaitedAgentId } = explanation;
  const others = describeOthers(explanation);
  if (chosen !== null) {
    const verdict = offered === true ? `Offered to agent ${chosen}` : `Agent ${chosen} chosen`;
    const reason = `${describeMerit(explanation)}${describeTie(explanation)}`;
    return `${verdict}: ${[reason, ...others].join('; ')}.`;
  }
  const awaited = typeof awaitedAgentId === 'string' ? ` for agent ${awaitedAgentId}` : '';
  const reasons = others.length === 0 ? 'the team has no agents' : others.join('; ');
  return `The conversation waits${awaited}: ${reasons}.`;
}

/**
 * What every version has stored, and what this one stores besides; `offered` is stored beside the explanation where the agent has to accept
 * first. The first version's `turn` is called `position`.
 */
type StoredExplanation = Pick<AssignmentExplanation, FirstMembers> &
  Partial<Omit<AssignmentExplanation, FirstMembers>> & { readonly offered?: boolean };
type FirstMembers = 'strategy' | 'units' | 'chosen' | 'tiedWith' | 'candidates' | 'otherCounts';

/** Why an assignment chose whom it chose: all that was decided by, small enough to be stored with every decision. */
export interface AssignmentExplanation {
  readonly strategy: Strategy;
  /** Whom the team's assignment before this one chose: the round-robin cursor. */
  readonly lastAgentId: string | null;
  /** How much of an agent's capacity the conversation takes. */
  readonly units: number;
  readonly channel: string | null;
  /** What was asked, as relaxed by then. */
  readonly skills: readonly SkillRequirement[];
  readonly preferredAgentId: string | null;
  readonly awaitedAgentId: string | null;
  /** Whether those were passed over who had rejected or left the conversation; they are not where nobody else might take it. */
  readonly othersExist: boolean;
  readonly chosen: string | null;
  /** Some of those whom only the tie-break told from the chosen one, the next best first, and how many there were. */
  readonly tiedWith: readonly string[];
  readonly tiedCount: number;
  readonly tieBreak: 'longer idle' | 'smaller id' | null;
  /** As they were before the decision, the best first, then those excluded; at most `MAX_CANDIDATES`. */
  readonly candidates: readonly ExplainedCandidate[];
  /** How many of the team are not among the candidates, by reason; `free` are those who had room. What is missing is 0. */
  readonly otherCounts: Readonly<Partial<Record<Exclusion | 'free', number>>>;
  /** The conversation's turn, from 1, among those decided together because their teams share agents; not its place in the queue. */
  readonly turn: number;
  readonly effectivePriority: number;
  readonly waitedSeconds: number;
  /** Until the target is missed, the conversation's own or the team's; negative after that, null without a target. */
  readonly breachInSeconds: number | null;
}

/** What the decision used of an agent. A member that is missing was not used, or is 0. */
export interface ExplainedCandidate {
  readonly agentId: string;
  readonly excluded?: Exclusion;
  readonly load?: number;
  readonly capacity?: number;
  /** Conversations of this channel, where the agent has a limit. */
  readonly channelLoad?: number;
  readonly channelLimit?: number;
  readonly lacks?: SkillLack;
  readonly passedOver?: true;
  readonly preferredMet?: number;
  /** `most_skilled`: the levels in all skills asked. */
  readonly skillSum?: number;
  /** `priority_list`: the place in it, from 0. */
  readonly place?: number;
  readonly idleSeconds?: number;
  /** Got the so-many-th conversation of the same call: has been idle for less than all who got none. */
  readonly turn?: number;
}

function describeMerit(explanation: StoredExplanation): string {
  const { chosen, preferredAgentId, strategy, candidates, lastAgentId, skills = [] } = explanation;
  if (chosen === preferredAgentId) return 'preferred for this contact';
  const candidate = candidates.find(({ agentId }) => agentId === chosen);
  const asked = skills.filter(({ preferred }) => preferred).length;
  const met = asked === 0 ? '' : `has ${candidate?.preferredMet ?? 0} of ${count(asked, 'preferred skill')}, `;
  return met + describeByStrategy(strategy, candidate, lastAgentId ?? null);
}

function describeByStrategy(
  strategy: Strategy,
  candidate: ExplainedCandidate | undefined,
  lastAgentId: string | null,
): string {
  switch (strategy) {
    case 'round_robin':
      return lastAgentId === null ? 'next in turn' : `next in turn after agent ${lastAgentId}`;
    case 'least_loaded':
      return `least loaded ${candidate?.load ?? 0}/${candidate?.capacity ?? 0}`;
    case 'longest_idle':
      return `longest idle, ${describeDuration(candidate?.idleSeconds ?? 0)}`;
    case 'most_skilled':
      return `most skilled, ${count(candidate?.skillSum ?? 0, 'level')} in the skills asked`;
    case 'priority_list':
      return candidate?.place === undefined
        ? 'not in the priority list'
        : `place ${candidate.place + 1} of the priority list`;
  }
}

function describeTie({ tiedWith, tiedCount, tieBreak }: StoredExplanation): string {
  const [first] = tiedWith;
  if (first === undefined) return '';
  // The first version told equals apart by turn.
  const more = (tiedCount ?? tiedWith.length) - 1;
  return `, tied with agent ${first}${more > 0 ? ` and ${more} more` : ''}, ${tieBreak ?? 'next in turn'}`;
}

/** The first few who were out, each with the reason, then the numbers of the rest. */
function describeOthers(explanation: StoredExplanation): string[] {
  const { candidates, chosen, tiedWith, skills = [] } = explanation;
  const isOneNamed = (candidate: ExplainedCandidate) => isTelling(candidate.excluded);
  const named = candidates.filter(isOneNamed).slice(0, MAX_NAMED);
  const counts = new Map<Exclusion | 'free', number>(Object.entries(explanation.otherCounts) as [Exclusion, number][]);
  for (const candidate of candidates) {
    if (candidate.agentId === chosen || named.includes(candidate)) continue;
    const reason = candidate.excluded ?? 'free';
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  if (tiedWith.length > 0) counts.set('free', (counts.get('free') ?? 0) - (explanation.tiedCount ?? tiedWith.length));
  const isFirst = named.length === 0 && tiedWith.length === 0;
  const rest = REASONS.filter((reason) => (counts.get(reason) ?? 0) > 0).map((reason) =>
    describeNumber(counts.get(reason)!, reason, { isFirst, awaitedAgentId: explanation.awaitedAgentId ?? null }),
  );
  const told = named.map((candidate) => `agent ${candidate.agentId} ${describeExclusion(candidate, skills)}`);
  return rest.length === 0 ? told : [...told, rest.join(', ')];
}

/** `isFirst`: besides the chosen one, who had room too, nobody was named before. */
function describeNumber(
  number: number,
  reason: Exclusion | 'free',
  { isFirst, awaitedAgentId }: { readonly isFirst: boolean; readonly awaitedAgentId: string | null },
): string {
  const other = reason === 'free' ? (number === 1 ? ' other' : ' others') : '';
  const awaited = reason === 'awaits_other' && awaitedAgentId !== null ? ` agent ${awaitedAgentId}` : '';
  return `${number}${isFirst ? other : ' more'} ${REASON_TEXTS[reason]}${awaited}`;
}

const MAX_NAMED = 3;

/** Where the reason says more than itself. */
function isTelling(excluded: Exclusion | undefined): boolean {
  return excluded !== undefined && excluded !== 'offline' && excluded !== 'away' && excluded !== 'awaits_other';
}

const REASON_TEXTS: Readonly<Record<Exclusion | 'free', string>> = {
  free: 'with room',
  full: 'full',
  channel_full: 'full on this channel',
  passed_over: 'passed over',
  lacks_skill: 'without the skills',
  awaits_other: 'left out in favour of',
  away: 'away',
  offline: 'offline',
};
const REASONS = Object.keys(REASON_TEXTS) as (Exclusion | 'free')[];

function describeExclusion(candidate: ExplainedCandidate, skills: readonly SkillRequirement[]): string {
  const { excluded = 'full', load = 0, capacity = 0, channelLoad = 0, channelLimit = 0, lacks } = candidate;
  switch (excluded) {
    case 'full':
      return `full ${load}/${capacity}`;
    case 'channel_full':
      return `full on this channel ${channelLoad}/${channelLimit}`;
    case 'lacks_skill': {
      const asked = skills.find(({ skill, preferred }) => skill === lacks?.skill && !preferred);
      return asked === undefined ? 'lacks a skill' : `lacks ${describeSkill(asked)}`;
    }
    default:
      return REASON_TEXTS[excluded];
  }
}

function describeDuration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  return whole < 3_600 ? `${Math.floor(whole / 60)} min` : `${Math.floor(whole / 3_600)} h`;
}

function count(number: number, thing: string): string {
  return `${number} ${thing}${number === 1 ? '' : 's'}`;
}
