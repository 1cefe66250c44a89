import type { Strategy } from './matching.ts';

/** Why an assignment chose whom it chose, small enough to be stored with every decision. */
export interface AssignmentExplanation {
  readonly strategy: Strategy;
  /** How much of an agent's capacity the conversation takes. */
  readonly units: number;
  readonly chosen: string | null;
  /** Who had the same part of the capacity free as the chosen one (`least_loaded` only); the round-robin order decided. */
  readonly tiedWith: readonly string[];
  /** Best first, as they were before the decision, at most `MAX_CANDIDATES`. */
  readonly candidates: readonly ExplainedCandidate[];
  /** How many of the team are not among the candidates, by reason. */
  readonly otherCounts: Readonly<Record<Exclusion | 'free', number>>;
  /** The conversation's place in the order in which the waiting were served, from 1. */
  readonly position: number;
}

export interface ExplainedCandidate {
  readonly agentId: string;
  readonly load: number;
  readonly capacity: number;
  readonly excluded?: Exclusion;
}

export type Exclusion = 'offline' | 'away' | 'full';

/** One sentence for people. */
export function explainAssignment(explanation: AssignmentExplanation): string {
  const counts = countByReason(explanation);
  const team = counts.free + counts.full + counts.away + counts.offline;
  const excluded = (['full', 'away', 'offline'] as const)
    .filter((reason) => counts[reason] > 0)
    .map((reason) => `${counts[reason]} ${reason}`)
    .join(', ');
  if (team === 0) return 'The conversation waits, because its team has no agents.';
  if (explanation.chosen === null)
    return `The conversation waits, because none of the team's agents has room (${excluded}).`;
  const chosen = explanation.candidates[0];
  const load = chosen === undefined ? '' : `, with ${chosen.load} of ${chosen.capacity} taken`;
  const tie = explanation.tiedWith.length === 0 ? '' : `, next in turn among ${explanation.tiedWith.length + 1} equals`;
  const strategy = explanation.strategy === 'round_robin' ? 'Round robin' : 'Least loaded';
  const others = excluded === '' ? '' : ` (not considered: ${excluded})`;
  return `${strategy} chose agent ${explanation.chosen}${load}${tie}, out of ${counts.free} with room${others}.`;
}

/** The agents of a team, each list best first; the first free one is the chosen one. */
export interface RankedTeam {
  readonly strategy: Strategy;
  readonly free: readonly Candidate[];
  readonly full: readonly Candidate[];
  readonly away: readonly Candidate[];
  readonly offline: readonly Candidate[];
}

/** Must be called before the chosen agent's load changes. */
export function explainDecision(team: RankedTeam, units: number, position: number): AssignmentExplanation {
  const candidates: ExplainedCandidate[] = [];
  const otherCounts = { free: 0, full: 0, away: 0, offline: 0 };
  for (const reason of REASONS) {
    const agents = team[reason];
    const room = Math.min(agents.length, MAX_CANDIDATES - candidates.length);
    otherCounts[reason] = agents.length - room;
    for (let index = 0; index < room; index++) {
      const agent = agents[index];
      if (agent === undefined) break;
      const { agentId, load, capacity } = agent;
      candidates.push(reason === 'free' ? { agentId, load, capacity } : { agentId, load, capacity, excluded: reason });
    }
  }
  const { strategy, free } = team;
  const chosen = free[0]?.agentId ?? null;
  return { strategy, units, chosen, tiedWith: tiedWithFirst(team), candidates, otherCounts, position };
}

const MAX_CANDIDATES = 50;
const REASONS = ['free', 'full', 'away', 'offline'] as const;

interface Candidate {
  readonly agentId: string;
  readonly load: number;
  readonly capacity: number;
}

function tiedWithFirst({ strategy, free }: RankedTeam): string[] {
  const tied: string[] = [];
  const first = free[0];
  if (strategy !== 'least_loaded' || first === undefined) return tied;
  for (let index = 1; index < Math.min(free.length, MAX_CANDIDATES); index++) {
    const agent = free[index];
    if (agent === undefined || utilization(agent) !== utilization(first)) break;
    tied.push(agent.agentId);
  }
  return tied;
}

/** The part of the capacity that is taken. Equal fractions give equal quotients, so that ties are exact. */
export function utilization({ load, capacity }: Candidate): number {
  return capacity > 0 ? load / capacity : 1;
}

function countByReason({ candidates, otherCounts }: AssignmentExplanation): Record<Exclusion | 'free', number> {
  const counts = { ...otherCounts };
  for (const { excluded = 'free' } of candidates) counts[excluded]++;
  return counts;
}
