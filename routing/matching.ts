/**
 * Gives waiting conversations to agents, one after the other in the order of serving (waiting-order.ts). Each decision sees the loads, the
 * idle times and the round-robin cursors that the decisions before it left. The order of the input does not matter, unless it is asked for:
 * those who come when nobody else waits are served as they come.
 *
 * The cost of a decision does not grow with what waits or works elsewhere:
 * - Loads only grow in here. So a group of conversations that the very same agents may take, and that found nobody, finds nobody until the
 *   end: the others in it are passed in one step. What presence and skills mean for a group is found out once.
 * - Teams that share no agent are decided one after the other, so that what one decision touches is still near for the next.
 */
import type { Presence } from './conversation.ts';
import { explainDecision, standingsOf } from './decision-record.ts';
import type { AssignmentExplanation } from './explanation.ts';
import { compareCandidacies, exclusionOf, type Candidacy } from './ranking.ts';
import type { SkillRequirement } from './requirements.ts';
import { askOf, bestOf, giveTo, groupOf, prepareTeams, type TeamState } from './team-candidates.ts';
import type { TeamRules } from './team-rules.ts';
import {
  breachAtMs,
  compareWaiting,
  effectivePriority,
  targetSecondsOf,
  type PlacedConversation,
} from './waiting-order.ts';

export function matchWaiting({ nowMs, waiting, teams, agents, order = 'serving' }: MatchInput): Match[] {
  const teamById = prepareTeams({ teams, agents, nowMs });
  const queues = new Map<TeamState['circle'], WaitingConversation[]>();
  for (const conversation of waiting) {
    const team = teamById.get(conversation.teamId);
    if (team === undefined) throw new Error(`matchWaiting was given no rules for team ${conversation.teamId}`);
    const queue = queues.get(team.circle);
    if (queue === undefined) queues.set(team.circle, [conversation]);
    else queue.push(conversation);
  }
  const decided = Array.from(queues.values(), (queue) => decideQueue(queue, teamById, { nowMs, order }));
  if (order === 'serving') decided.sort((left, right) => compareWaiting(left.first, right.first));
  return decided.flatMap(({ matches }) => matches);
}

export interface MatchInput {
  /** The database's clock. */
  readonly nowMs: number;
  readonly waiting: readonly WaitingConversation[];
  /** The rules of every team that a waiting conversation names. */
  readonly teams: readonly TeamRules[];
  /** Every agent of these teams; agents of other teams do no harm. */
  readonly agents: readonly AgentCandidate[];
  /** `given`: as `waiting` has them, whatever their priorities. The answers then keep that order among teams that share agents. */
  readonly order?: 'serving' | 'given';
}

export interface WaitingConversation {
  readonly conversationId: string;
  readonly teamId: string;
  readonly priority: number;
  /** The target of its own; null: the team's counts. */
  readonly slaSeconds: number | null;
  readonly waitingSinceMs: number;
  /** How much of an agent's capacity it takes. */
  readonly units: number;
  /** The key of the channel it began on, for limits by channel. */
  readonly channel: string | null;
  /** As relaxed by now. */
  readonly skills: readonly SkillRequirement[];
  /** Comes first among those who may take it. */
  readonly preferredAgentId: string | null;
  /** Set: nobody else may take it. */
  readonly awaitedAgentId: string | null;
  /** Who rejected or left it: they get it only while nobody else might. */
  readonly passedOver: readonly string[];
  /** Equal only where skills, units, channel and passedOver are: a text such as `queueKeyText` gives. */
  readonly queueKey: string;
}

export interface AgentCandidate {
  readonly agentId: string;
  readonly presence: Presence;
  readonly capacity: number;
  readonly load: number;
  readonly teamIds: readonly string[];
  /** Levels by name. */
  readonly skills: Readonly<Record<string, number>>;
  /** The most conversations at once by the channel's key, where limited, and how many there are. */
  readonly channelLimits: Readonly<Record<string, number>>;
  readonly channelLoads: Readonly<Record<string, number>>;
  /** Since when the agent has got nothing new, counted at most from coming online. */
  readonly idleSinceMs: number;
}

export interface Match {
  readonly conversationId: string;
  readonly teamId: string;
  /** Null when nobody who may take it has room: the conversation goes on waiting. */
  readonly agentId: string | null;
  readonly explanation: AssignmentExplanation;
}

/** The choice that the core makes from what a record holds: whoever was chosen, or the record is wrong. */
export function decideAgain(explanation: AssignmentExplanation): string | null {
  let best: Candidacy | null = null;
  for (const candidacy of standingsOf(explanation)) {
    if (exclusionOf(candidacy, explanation) !== null) continue;
    if (best === null || compareCandidacies(candidacy, best, explanation) < 0) best = candidacy;
  }
  return best?.agent.agentId ?? null;
}

export type { AssignmentExplanation } from './explanation.ts';

/** Serves the queues of teams that share agents as one. */
function decideQueue(
  queue: readonly WaitingConversation[],
  teamById: ReadonlyMap<string, TeamState>,
  { nowMs, order }: Pick<Required<MatchInput>, 'nowMs' | 'order'>,
) {
  const placed = queue.map((conversation) =>
    placeConversation(conversation, teamById.get(conversation.teamId)!, nowMs),
  );
  if (order === 'serving') placed.sort(compareWaiting);
  const matches = placed.map((next, index) => decide(next, { turn: index + 1, nowMs }));
  // Records do without the groups, which in a large call are most of what would have to be kept.
  for (const { team } of placed) team.groups.clear();
  return { first: placed[0]!, matches };
}

interface Placed extends PlacedConversation {
  readonly conversation: WaitingConversation;
  readonly team: TeamState;
}

function placeConversation(conversation: WaitingConversation, team: TeamState, nowMs: number): Placed {
  const { conversationId, waitingSinceMs } = conversation;
  return {
    conversationId,
    waitingSinceMs,
    effectivePriority: effectivePriority(conversation, team.rules, nowMs),
    breachAtMs: breachAtMs(waitingSinceMs, { slaSeconds: targetSecondsOf(conversation, team.rules) }),
    conversation,
    team,
  };
}

/** `turn` is the conversation's place in its queue, from 1. */
function decide({ conversation, team }: Placed, { turn, nowMs }: { turn: number; nowMs: number }): Match {
  const { units, channel } = conversation;
  const { lastAgentId } = team;
  const group = groupOf(team, conversation);
  const chosen = group.isRefused ? null : bestOf(group, askOf(team, conversation));
  if (chosen === null) {
    group.isRefused = true;
  } else {
    giveTo(chosen, { units, channel, turn });
    team.lastAgentId = chosen.agentId;
  }
  return new Decision(chosen?.agentId ?? null, { conversation, team, lastAgentId, turn, nowMs });
}

interface DecisionFacts {
  readonly conversation: WaitingConversation;
  readonly team: TeamState;
  readonly lastAgentId: string | null;
  readonly turn: number;
  readonly nowMs: number;
}

/**
 * The explanation is made when it is asked for. Of many that wait most go on waiting, and a drain writes no record of them; and the records of
 * all who were given away, kept until the end of a large call, would cost more than the decisions.
 */
class Decision implements Match {
  readonly conversationId: string;
  readonly teamId: string;
  readonly agentId: string | null;
  readonly #facts: DecisionFacts;

  constructor(agentId: string | null, facts: DecisionFacts) {
    this.conversationId = facts.conversation.conversationId;
    this.teamId = facts.conversation.teamId;
    this.agentId = agentId;
    this.#facts = facts;
  }

  get explanation(): AssignmentExplanation {
    const { conversation, team, lastAgentId, turn, nowMs } = this.#facts;
    const placed = placeConversation(conversation, team, nowMs);
    const hasTarget = targetSecondsOf(conversation, team.rules) !== null;
    const place = {
      turn,
      effectivePriority: placed.effectivePriority,
      waitedSeconds: Math.max(0, Math.floor((nowMs - placed.waitingSinceMs) / 1_000)),
      breachInSeconds: hasTarget ? Math.floor((placed.breachAtMs - nowMs) / 1_000) : null,
    };
    return explainDecision(team, conversation, { lastAgentId, place });
  }
}
