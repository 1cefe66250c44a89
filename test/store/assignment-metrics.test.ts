import { expect, test } from 'vitest';
import { createMetrics } from '../../platform/metrics.ts';
import { strategies } from '../../routing/team-rules.ts';
import { observeAssignments, publishMoment, type AssignmentMoment } from '../../store/assignment-metrics.ts';

function observe({ maxTeams = 10 }: { maxTeams?: number } = {}) {
  const metrics = createMetrics({ component: 'test' });
  observeAssignments(metrics, { maxTeams });
  /** By the values of its own labels. */
  async function valuesOf(name: string): Promise<Record<string, number>> {
    const metric = await metrics.registry.getSingleMetric(`switchyard_${name}`)!.get();
    const own = (labels: object) => Object.entries(labels).filter(([label]) => label !== 'component');
    return Object.fromEntries(
      metric.values.map(({ labels, value }) => [
        own(labels)
          .map(([, text]) => text)
          .join(' '),
        value,
      ]),
    );
  }
  return { metrics, valuesOf };
}

const assigned = {
  kind: 'assigned',
  openToAssignedSeconds: 2,
  teamId: 'a',
  strategy: 'round_robin',
  forced: false,
} as const;

const counted: [AssignmentMoment, name: string, series: string][] = [
  [assigned, 'assigned_total', 'round_robin'],
  [{ ...assigned, strategy: null }, 'assigned_total', 'by_hand'],
  [{ ...assigned, strategy: null, forced: true }, 'forced_total', ''],
  [{ kind: 'offer', outcome: 'expired', teamId: 'a' }, 'offers_total', 'expired'],
  [{ kind: 'ring', change: 'overflow' }, 'rings_passed_total', 'overflow'],
  [{ kind: 'returned', reason: 'silence' }, 'conversations_returned_total', 'silence'],
  [{ kind: 'quiet' }, 'conversations_quiet_total', ''],
  [{ kind: 'woken', outcome: 'returned' }, 'conversations_woken_total', 'returned'],
  [{ kind: 'closed_by_rule', reason: 'inactivity' }, 'closed_by_rule_total', 'inactivity'],
  [{ kind: 'set_away', reason: 'missed_offers' }, 'agents_set_away_total', 'missed_offers'],
];

test.each(counted)('%o is counted in %s, from 0', async (moment, name, series) => {
  const { valuesOf } = observe();
  const before = await valuesOf(name);
  expect(Object.values(before)).toEqual(Object.values(before).map(() => 0));
  publishMoment(moment);
  expect(await valuesOf(name)).toEqual({ ...before, [series]: 1 });
});

test('every strategy and every outcome of an offer is there from the start', async () => {
  const { valuesOf } = observe();
  expect(Object.keys(await valuesOf('assigned_total'))).toEqual([...strategies, 'by_hand']);
  expect(Object.keys(await valuesOf('offers_total'))).toEqual(['made', 'accepted', 'rejected', 'expired', 'withdrawn']);
});

test('the time to assignment is that of strategies and of first agents; decisions are timed', async () => {
  const { metrics } = observe();
  publishMoment(assigned);
  publishMoment({ ...assigned, strategy: null, openToAssignedSeconds: 999 });
  publishMoment({ ...assigned, openToAssignedSeconds: null });
  publishMoment({ kind: 'decision', seconds: 0.002 });
  const page = await metrics.registry.metrics();
  expect(page).toMatch(/switchyard_open_to_assigned_seconds_sum\{.*\} 2\n/);
  expect(page).toMatch(/switchyard_open_to_assigned_seconds_count\{.*\} 1\n/);
  expect(page).toMatch(/switchyard_team_open_to_assigned_seconds_total\{.*team="a".*\} 2\n/);
  expect(page).toMatch(/switchyard_team_first_assigned_total\{.*team="a".*\} 1\n/);
  expect(page).toMatch(/switchyard_team_assigned_total\{.*team="a".*\} 3\n/);
  expect(page).toMatch(/switchyard_decision_seconds_count\{.*\} 1\n/);
});

test('teams beyond the bound share one label, and a bound of 0 tells none', async () => {
  const two = observe({ maxTeams: 2 });
  const none = observe({ maxTeams: 0 });
  for (const teamId of ['a', 'b', 'c', 'd', 'a']) {
    publishMoment({ ...assigned, teamId });
    publishMoment({ kind: 'offer', outcome: 'made', teamId });
  }
  expect(await two.valuesOf('team_assigned_total')).toEqual({ a: 2, b: 1, other: 2 });
  expect(await two.valuesOf('team_offers_total')).toEqual({ 'a made': 2, 'b made': 1, 'other made': 2 });
  expect(await none.valuesOf('team_assigned_total')).toEqual({});
  expect(await none.valuesOf('team_offers_total')).toEqual({});
  expect(await none.valuesOf('assigned_total')).toMatchObject({ round_robin: 5 });
});
