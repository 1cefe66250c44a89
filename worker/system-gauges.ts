import type { Metrics } from '../platform/metrics.ts';
import type { SystemGauges, TeamGauges, WaitingGauges } from '../store/upkeep.ts';

/** Reported by the lease's holder only, so that a sum over all workers is right. */
export function createSystemGauges(metrics: Metrics) {
  const outboxDepth = metrics.gauge('outbox_depth', 'Rows of the outbox that wait to be told.');
  const outboxOldest = metrics.gauge('outbox_oldest_seconds', 'Age of the oldest row of the outbox.');
  const deliveries = metrics.gauge(
    'deliveries',
    'What channels and webhooks must still be told: pending, or failed for good; each is counted up to 100,000.',
    ['state'],
  );
  const deliveriesOldest = metrics.gauge(
    'deliveries_oldest_pending_seconds',
    'How long the oldest pending delivery has waited.',
  );
  const conversations = metrics.gauge('conversations_open', 'Open conversations.', ['state']);
  const longestWait = metrics.gauge('waiting_longest_seconds', 'How long the longest waiting conversation has waited.');
  const breached = metrics.gauge(
    'waiting_sla_breached',
    'Conversations that have waited as long as the target of their team or longer.',
  );
  const atRisk = metrics.gauge(
    'waiting_sla_at_risk',
    'Conversations that will have waited as long as the target of their team within a fifth of it.',
  );
  const agents = metrics.gauge('agents', 'Agents.', ['presence']);
  const free = metrics.gauge('agents_free_capacity_units', 'Room of the agents who are online.');
  const oldestTransaction = metrics.gauge(
    'database_oldest_transaction_seconds',
    'Age of the oldest transaction that keeps dead rows of the outbox alive or holds the event feed back.',
  );
  const teams = createTeamGauges(metrics);
  const single = [outboxDepth, outboxOldest, deliveriesOldest, longestWait, breached, atRisk, free, oldestTransaction];
  const labelled = [deliveries, conversations, agents];
  return {
    clear() {
      for (const gauge of single) gauge.remove();
      // remove() wants the labels' values here; reset() leaves none, whereas it would leave a 0 above.
      for (const gauge of labelled) gauge.reset();
      teams.set([]);
    },
    set(system: SystemGauges, waiting: WaitingGauges) {
      outboxDepth.set(system.outboxDepth);
      outboxOldest.set(system.outboxOldestSeconds);
      for (const state of ['pending', 'failed']) deliveries.set({ state }, system.deliveriesByState[state] ?? 0);
      deliveriesOldest.set(system.deliveriesOldestSeconds);
      for (const state of ['enriching', 'routing', 'waiting', 'assigned']) {
        conversations.set({ state }, system.conversationsByState[state] ?? 0);
      }
      longestWait.set(waiting.longestWaitSeconds);
      breached.set(waiting.slaBreached);
      atRisk.set(waiting.slaAtRisk);
      teams.set(waiting.teams ?? []);
      for (const presence of ['online', 'away', 'offline']) {
        agents.set({ presence }, system.agentsByPresence[presence] ?? 0);
      }
      free.set(system.freeCapacityUnits);
      oldestTransaction.set(system.oldestTransactionSeconds);
    },
  };
}

function createTeamGauges(metrics: Metrics) {
  const labels = ['workspace', 'team', 'team_name'] as const;
  const waiting = metrics.gauge('team_waiting', 'Waiting conversations, by team.', labels);
  const longestWait = metrics.gauge(
    'team_longest_wait_seconds',
    "How long the longest waiting of the team's conversations has waited.",
    labels,
  );
  const breached = metrics.gauge('team_sla_breached', 'As waiting_sla_breached, by team.', labels);
  const atRisk = metrics.gauge('team_sla_at_risk', 'As waiting_sla_at_risk, by team.', labels);
  return {
    set(teams: readonly TeamGauges[]) {
      // A team that is gone or has another name leaves nothing behind.
      for (const gauge of [waiting, longestWait, breached, atRisk]) gauge.reset();
      for (const { workspaceId, teamId, name, ...values } of teams) {
        const team = { workspace: workspaceId, team: teamId, team_name: name };
        waiting.set(team, values.waiting);
        longestWait.set(team, values.longestWaitSeconds);
        breached.set(team, values.slaBreached);
        atRisk.set(team, values.slaAtRisk);
      }
    },
  };
}
