/** What is kept of a decision, and back: the record must hold all that the core needs to decide the same again. */
import type { AssignmentExplanation, ExplainedCandidate } from './explanation.ts';
import type { WaitingConversation } from './matching.ts';
import {
  compareCandidacies,
  compareMerit,
  exclusionOf,
  isOther,
  numberOf,
  type Ask,
  type Candidacy,
  type Exclusion,
  type Moment,
} from './ranking.ts';
import { candidaciesAt, type TeamState } from './team-candidates.ts';

/** At most so many agents of a team stand in a record. */
export const MAX_CANDIDATES = 50;
const MAX_TIED = 5;

/** The decision is told of as everything was at its turn, whatever was decided after it. */
export function explainDecision(team: TeamState, conversation: WaitingConversation, decision: Decision) {
  const { lastAgentId, place } = decision;
  const { units, channel, skills, preferredAgentId, awaitedAgentId } = conversation;
  const { strategy } = team.rules;
  const candidacies = candidaciesAt(team, conversation, place.turn);
  const othersExist = candidacies.some((candidacy) => isOther(candidacy, conversation));
  const ask = { strategy, lastAgentId, units, channel, skills, preferredAgentId, awaitedAgentId, othersExist };
  const byReason = sortByReason(candidacies, ask);
  const free = byReason.free;
  const [best, ...next] = free;
  const tied = best === undefined ? [] : next.filter((candidacy) => compareMerit(best, candidacy, ask) === 0);
  const explanation: AssignmentExplanation = {
    ...ask,
    chosen: best?.agent.agentId ?? null,
    tiedWith: tied.slice(0, MAX_TIED).map((candidacy) => candidacy.agent.agentId),
    tiedCount: tied.length,
    tieBreak: best === undefined || tied[0] === undefined ? null : tieBreakOf(best.agent.now, tied[0].agent.now),
    ...listCandidates(byReason, ask),
    ...place,
  };
  return explanation;
}

interface Decision {
  readonly lastAgentId: string | null;
  readonly place: Pick<AssignmentExplanation, 'turn' | 'effectivePriority' | 'waitedSeconds' | 'breachInSeconds'>;
}

type Reason = Exclusion | 'free';

/** Those come first who had room, the best before all, then those who were nearest to it. */
function sortByReason(candidacies: readonly Candidacy[], ask: Ask): Record<Reason, Candidacy[]> {
  const byReason: Record<Reason, Candidacy[]> = {
    free: [],
    full: [],
    channel_full: [],
    passed_over: [],
    awaits_other: [],
    lacks_skill: [],
    away: [],
    offline: [],
  };
  for (const candidacy of candidacies) byReason[exclusionOf(candidacy, ask) ?? 'free'].push(candidacy);
  byReason.free.sort((left, right) => compareCandidacies(left, right, ask));
  return byReason;
}

function listCandidates(byReason: Readonly<Record<Reason, readonly Candidacy[]>>, ask: Ask) {
  const candidates: ExplainedCandidate[] = [];
  const otherCounts: Partial<Record<Reason, number>> = {};
  for (const [reason, candidacies] of Object.entries(byReason) as [Reason, readonly Candidacy[]][]) {
    const room = MAX_CANDIDATES - candidates.length;
    const exclusion = reason === 'free' ? null : reason;
    for (const candidacy of candidacies.slice(0, room)) candidates.push(explainCandidate(candidacy, ask, exclusion));
    if (candidacies.length > room) otherCounts[reason] = candidacies.length - room;
  }
  return { candidates, otherCounts };
}

function explainCandidate(candidacy: Candidacy, ask: Ask, exclusion: Exclusion | null): ExplainedCandidate {
  const { agent, lacks, isPassedOver, channelLimit } = candidacy;
  const { agentId, capacity } = agent;
  const { load, channelLoads, idleMs, turn } = agent.now;
  const entry: Writable<ExplainedCandidate> = exclusion === null ? { agentId } : { agentId, excluded: exclusion };
  if (lacks !== null && exclusion === 'lacks_skill') entry.lacks = lacks;
  if (isPassedOver && exclusion !== 'away' && exclusion !== 'offline') entry.passedOver = true;
  if (exclusion !== null && exclusion !== 'full' && exclusion !== 'channel_full') return entry;
  entry.load = load;
  entry.capacity = capacity;
  if (channelLimit !== Infinity) {
    entry.channelLoad = numberOf(channelLoads, ask.channel ?? '');
    entry.channelLimit = channelLimit;
  }
  if (exclusion !== null) return entry;
  if (candidacy.preferredMet > 0) entry.preferredMet = candidacy.preferredMet;
  if (ask.strategy === 'most_skilled') entry.skillSum = candidacy.skillSum;
  if (candidacy.place !== Infinity) entry.place = candidacy.place;
  if (ask.strategy === 'round_robin') return entry;
  entry.idleSeconds = idleMs / 1_000;
  if (turn > 0) entry.turn = turn;
  return entry;
}

type Writable<T> = { -readonly [Key in keyof T]: T[Key] };

/** The candidates as the core sees them; the reverse of `explainCandidate`. */
export function standingsOf({ candidates, channel }: AssignmentExplanation): Candidacy[] {
  return candidates.map((candidate) => {
    const { agentId, excluded, load = 0, capacity = 0, channelLoad = 0, idleSeconds = 0, turn = 0 } = candidate;
    return {
      agent: {
        agentId,
        presence: excluded === 'away' || excluded === 'offline' ? excluded : 'online',
        capacity,
        now: {
          load,
          channelLoads: channel === null ? {} : { [channel]: channelLoad },
          idleMs: Math.round(idleSeconds * 1_000),
          turn,
        },
      },
      lacks: candidate.lacks ?? null,
      isPassedOver: candidate.passedOver ?? false,
      preferredMet: candidate.preferredMet ?? 0,
      skillSum: candidate.skillSum ?? 0,
      place: candidate.place ?? Infinity,
      channelLimit: candidate.channelLimit ?? Infinity,
    };
  });
}

function tieBreakOf(chosen: Moment, next: Moment): 'longer idle' | 'smaller id' {
  return chosen.turn === next.turn && chosen.idleMs === next.idleMs ? 'smaller id' : 'longer idle';
}
