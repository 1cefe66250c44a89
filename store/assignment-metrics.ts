import { channel } from 'node:diagnostics_channel';
import type { Metrics } from '../platform/metrics.ts';
import { strategies, type Strategy } from '../routing/team-rules.ts';

/**
 * Assignments happen wherever room appears: in the worker when a conversation closes, in the API when an agent comes online.
 * Each moment is published, and the process in which it happens counts. Published before the commit, so a
 * transaction that is started over counts twice; that is rare, and these metrics can bear it.
 */
export type AssignmentMoment =
  | {
      readonly kind: 'assigned';
      /** Null where an agent has had the conversation before: its contact has been waited on already. */
      readonly openToAssignedSeconds: number | null;
      readonly teamId: string | null;
      /** Null when a person chose. */
      readonly strategy: Strategy | null;
      readonly forced: boolean;
    }
  | { readonly kind: 'offer'; readonly outcome: OfferOutcome; readonly teamId: string }
  | { readonly kind: 'ring'; readonly change: 'relax' | 'overflow' | 'fallback' }
  | { readonly kind: 'returned'; readonly reason: ReturnReason }
  | { readonly kind: 'quiet' }
  | { readonly kind: 'woken'; readonly outcome: 'kept' | 'returned' }
  | { readonly kind: 'closed_by_rule'; readonly reason: 'flow' | 'inactivity' | 'nobody_available' }
  | { readonly kind: 'set_away'; readonly reason: 'missed_offers' | 'silent' }
  | { readonly kind: 'decision'; readonly seconds: number };

export type OfferOutcome = 'made' | 'accepted' | 'rejected' | 'expired' | 'withdrawn';

/** Why a conversation went back from an agent to a queue. */
export type ReturnReason = 'transferred' | 'put_back' | 'agent_offline' | 'silence' | 'woken_without_room';

const moments = channel('switchyard:assignment');

export const publishMoment = (moment: AssignmentMoment): void => moments.publish(moment);

/**
 * Counts every moment of this process. `maxTeams` bounds what is told by team: so many of the teams that the process meets first have series
 * of their own, all others share the label `other`; 0: nothing is told by team.
 */
export function observeAssignments(metrics: Metrics, { maxTeams }: { maxTeams: number }): void {
  const labelTeam = createTeamLabels(maxTeams);
  const counts = {
    assigned: countAssigned(metrics, labelTeam),
    offer: countOffers(metrics, labelTeam),
    ...countChanges(metrics),
    decision: timeDecisions(metrics),
  } satisfies { [K in AssignmentMoment['kind']]: (moment: MomentOf<K>) => void };
  moments.subscribe((message) => {
    const moment = message as AssignmentMoment;
    // Which one takes which moment is checked above.
    (counts[moment.kind] as (moment: AssignmentMoment) => void)(moment);
  });
}

type MomentOf<K extends AssignmentMoment['kind']> = Extract<AssignmentMoment, { kind: K }>;

/** Null: not by team. */
type TeamLabels = (teamId: string) => string | null;

function createTeamLabels(maxTeams: number): TeamLabels {
  const known = new Set<string>();
  return (teamId) => {
    if (maxTeams === 0) return null;
    if (known.size < maxTeams) known.add(teamId);
    return known.has(teamId) ? teamId : 'other';
  };
}

function countAssigned(metrics: Metrics, labelTeam: TeamLabels) {
  const assigned = metrics.counter(
    'assigned_total',
    'Conversations given to agents, by the strategy that chose; by_hand: a person chose.',
    ['strategy'],
  );
  for (const strategy of [...strategies, byHand]) assigned.inc({ strategy }, 0);
  const forced = metrics.counter('forced_total', 'Conversations given to agents by hand over their capacity.');
  const wait = metrics.histogram(
    'open_to_assigned_seconds',
    'Time from the opening of a conversation to its first assignment, where a strategy chose.',
    [],
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200],
  );
  const teamAssigned = metrics.counter('team_assigned_total', `Conversations given to agents, by team. ${byTeam}`, [
    'team',
  ]);
  const teamFirst = metrics.counter(
    'team_first_assigned_total',
    `Conversations given to their first agent by strategy, by team: how many team_open_to_assigned_seconds_total sums up. ${byTeam}`,
    ['team'],
  );
  const teamWait = metrics.counter(
    'team_open_to_assigned_seconds_total',
    `Sum of the times of open_to_assigned_seconds, by team. ${byTeam}`,
    ['team'],
  );
  return ({ strategy, forced: isForced, openToAssignedSeconds, teamId }: MomentOf<'assigned'>) => {
    assigned.inc({ strategy: strategy ?? byHand });
    if (isForced) forced.inc();
    const team = teamId === null ? null : labelTeam(teamId);
    if (team !== null) teamAssigned.inc({ team });
    // Whom a person chose says nothing about how fast assignment is.
    if (strategy === null || openToAssignedSeconds === null) return;
    wait.observe(openToAssignedSeconds);
    if (team === null) return;
    teamFirst.inc({ team });
    teamWait.inc({ team }, openToAssignedSeconds);
  };
}

const byHand = 'by_hand';

/** A name in a counter's labels would begin the count anew when the team is renamed. */
const byTeam =
  'The label is the id alone, so that a count outlives a renaming: team_waiting tells its workspace and name.';

function countOffers(metrics: Metrics, labelTeam: TeamLabels) {
  const offers = metrics.counter('offers_total', 'Offers to agents that were made, and how they ended.', ['outcome']);
  for (const outcome of ['made', 'accepted', 'rejected', 'expired', 'withdrawn']) offers.inc({ outcome }, 0);
  const teamOffers = metrics.counter('team_offers_total', `Offers to agents, by team. ${byTeam}`, ['team', 'outcome']);
  return ({ outcome, teamId }: MomentOf<'offer'>) => {
    offers.inc({ outcome });
    const team = labelTeam(teamId);
    if (team !== null) teamOffers.inc({ team, outcome });
  };
}

/** What rules and clocks change. Each counter begins at 0 for all of its labels, so that the first increase is seen as one. */
function countChanges(metrics: Metrics) {
  const rings = metrics.counter('rings_passed_total', 'Rings passed by waiting conversations.', ['change']);
  for (const change of ['relax', 'overflow', 'fallback']) rings.inc({ change }, 0);
  const returned = metrics.counter(
    'conversations_returned_total',
    'Conversations that went back from an agent to a queue.',
    ['reason'],
  );
  for (const reason of ['transferred', 'put_back', 'agent_offline', 'silence', 'woken_without_room'])
    returned.inc({ reason }, 0);
  const quiet = metrics.counter('conversations_quiet_total', 'Conversations that stopped taking room, being quiet.');
  const woken = metrics.counter(
    'conversations_woken_total',
    'Quiet conversations whose contact wrote again: kept by the agent, or returned to the queue for want of room.',
    ['outcome'],
  );
  for (const outcome of ['kept', 'returned']) woken.inc({ outcome }, 0);
  const closed = metrics.counter(
    'closed_by_rule_total',
    'Conversations closed by a flow or a rule rather than a person.',
    ['reason'],
  );
  for (const reason of ['flow', 'inactivity', 'nobody_available']) closed.inc({ reason }, 0);
  const away = metrics.counter('agents_set_away_total', 'Agents set away for their silence.', ['reason']);
  for (const reason of ['missed_offers', 'silent']) away.inc({ reason }, 0);
  return {
    ring: ({ change }: MomentOf<'ring'>) => rings.inc({ change }),
    returned: ({ reason }: MomentOf<'returned'>) => returned.inc({ reason }),
    quiet: () => quiet.inc(),
    woken: ({ outcome }: MomentOf<'woken'>) => woken.inc({ outcome }),
    closed_by_rule: ({ reason }: MomentOf<'closed_by_rule'>) => closed.inc({ reason }),
    set_away: ({ reason }: MomentOf<'set_away'>) => away.inc({ reason }),
  };
}

function timeDecisions(metrics: Metrics) {
  const seconds = metrics.histogram(
    'decision_seconds',
    'Time that the routing core took for what it decided at once, without the database.',
    [],
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1],
  );
  return (moment: MomentOf<'decision'>) => seconds.observe(moment.seconds);
}
