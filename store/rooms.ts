/** The room of agents while it is decided who gets what of it: each decision sees what those before it left, as if that had been written. */
import { matchWaiting, type AgentCandidate, type Match } from '../routing/matching.ts';
import type { TeamRules } from '../routing/team-rules.ts';
import { publishMoment } from './assignment-metrics.ts';
import type { HeldTeams } from './match-writes.ts';
import type { QueuedConversation } from './queue-heads.ts';

/** What an agent gives back. */
export interface Freed {
  readonly agentId: string;
  readonly units: number;
  readonly channel: string | null;
}

export interface Rooms {
  /** In the order of serving. What comes of it counts when it is taken. */
  decide(waiting: readonly QueuedConversation[]): Match[];
  take(match: Freed & { readonly teamId: string }): void;
  /** @returns the agent's teams, of those whose agents are known here */
  free(freed: Freed): readonly string[];
  /** The core's time for one conversation of those it decided about. */
  tookMs(): number;
}

/** @param unfreed what the agents have given back already, and which counts only from its turn on */
export function createRooms(lock: HeldTeams, found: readonly AgentCandidate[], unfreed: readonly Freed[]): Rooms {
  const teams = new Map<string, TeamRules>(lock.teams);
  const agents = new Map(found.map((agent) => [agent.agentId, agent]));
  for (const freed of unfreed) change(freed, 1);
  // Each who gets something gets it a millisecond later than the one before: ties of idle times are broken as between transactions.
  let { nowMs } = lock;
  let spentMs = 0;
  let decided = 0;

  function change({ agentId, units, channel }: Freed, sign: 1 | -1, idleSinceMs?: number): AgentCandidate | undefined {
    const agent = agents.get(agentId);
    if (agent === undefined) return undefined;
    const channelLoads =
      channel === null
        ? agent.channelLoads
        : { ...agent.channelLoads, [channel]: (agent.channelLoads[channel] ?? 0) + sign };
    const changed = {
      ...agent,
      load: agent.load + sign * units,
      channelLoads,
      idleSinceMs: idleSinceMs ?? agent.idleSinceMs,
    };
    agents.set(agentId, changed);
    return changed;
  }

  return {
    decide(waiting) {
      const asked = new Set(waiting.map(({ teamId }) => teamId));
      const members = [...agents.values()].filter(({ teamIds }) => teamIds.some((teamId) => asked.has(teamId)));
      const startedAt = performance.now();
      const matches = matchWaiting({ nowMs, waiting, teams: [...asked].map((id) => teams.get(id)!), agents: members });
      const ms = performance.now() - startedAt;
      publishMoment({ kind: 'decision', seconds: ms / 1_000 });
      spentMs += ms;
      decided += waiting.length;
      return matches;
    },
    take(match) {
      change(match, 1, nowMs);
      nowMs += 1;
      teams.set(match.teamId, { ...teams.get(match.teamId)!, lastAgentId: match.agentId });
    },
    free: (freed) => change(freed, -1)?.teamIds ?? [],
    tookMs: () => Number((spentMs / Math.max(decided, 1)).toFixed(3)),
  };
}
