import { expect, test } from 'vitest';
import { createMetrics } from '../../platform/metrics.ts';
import type { SystemGauges, WaitingGauges } from '../../store/upkeep.ts';
import { createSystemGauges } from '../../worker/system-gauges.ts';

const system: SystemGauges = {
  outboxDepth: 1,
  outboxOldestSeconds: 2,
  deliveriesByState: { pending: 7 },
  deliveriesOldestSeconds: 8,
  conversationsByState: { waiting: 3 },
  agentsByPresence: { online: 4 },
  freeCapacityUnits: 5,
  oldestTransactionSeconds: 6,
};
const team = {
  workspaceId: 'w',
  teamId: 't',
  name: 'Billing',
  waiting: 3,
  longestWaitSeconds: 9,
  slaBreached: 2,
  slaAtRisk: 1,
};
const waiting: WaitingGauges = { longestWaitSeconds: 9, slaBreached: 2, slaAtRisk: 1, teams: [team] };

function createPage() {
  const metrics = createMetrics({ component: 'test' });
  const gauges = createSystemGauges(metrics);
  const linesOf = async (name: string) =>
    (await metrics.registry.metrics()).split('\n').filter((line) => line.startsWith(`switchyard_${name}`));
  return { gauges, linesOf };
}

test('what waits is told as a sum and by team', async () => {
  const { gauges, linesOf } = createPage();
  gauges.set(system, waiting);
  expect(await linesOf('waiting_')).toEqual([
    'switchyard_waiting_longest_seconds{component="test"} 9',
    'switchyard_waiting_sla_breached{component="test"} 2',
    'switchyard_waiting_sla_at_risk{component="test"} 1',
  ]);
  const labels = 'workspace="w",team="t",team_name="Billing",component="test"';
  expect(await linesOf('team_')).toEqual([
    `switchyard_team_waiting{${labels}} 3`,
    `switchyard_team_longest_wait_seconds{${labels}} 9`,
    `switchyard_team_sla_breached{${labels}} 2`,
    `switchyard_team_sla_at_risk{${labels}} 1`,
  ]);
});

test('a renamed team leaves nothing of its old name, and too many teams leave none', async () => {
  const { gauges, linesOf } = createPage();
  gauges.set(system, waiting);
  gauges.set(system, { ...waiting, teams: [{ ...team, name: 'Money' }] });
  expect(await linesOf('team_waiting')).toEqual([expect.stringContaining('team_name="Money"')]);
  gauges.set(system, { ...waiting, teams: null });
  expect(await linesOf('team_')).toEqual([]);
  expect(await linesOf('waiting_sla_breached')).toHaveLength(1);
});

test('a worker that has no longer the lease tells nothing', async () => {
  const { gauges, linesOf } = createPage();
  gauges.set(system, waiting);
  gauges.clear();
  for (const name of ['outbox_', 'waiting_', 'team_', 'agents', 'conversations_', 'database_']) {
    expect(await linesOf(name), name).toEqual([]);
  }
});
