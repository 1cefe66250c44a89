import { demoAgents } from '../demo-content.ts';
import type { Agent, Client, Presence } from './client.ts';

/** The agents that the demo workspace was made with, others are left alone: watches their loads, sends them in and out, and in the end leaves them as they were found. */
export interface Roster {
  agents(): readonly Agent[];
  nameOf(agentId: string): string;
  /** Agents above their capacity, as seen at some moment although the capacity was the same before and after. */
  readonly overloads: readonly { agentId: string; detail: string }[];
  setPresence(agentId: string, status: Presence): Promise<void>;
  restorePresence(): Promise<void>;
  stopWatching(): void;
}

const refreshMs = 300;

export async function openRoster(client: Client): Promise<Roster> {
  const found = await listOwn();
  const presenceBefore = new Map(found.map(({ id, presence }) => [id, presence]));
  const changed = new Set<string>();
  const overloads: { agentId: string; detail: string }[] = [];
  let agents = found;
  let isRefreshing = false;

  async function refresh(): Promise<void> {
    if (isRefreshing) return;
    isRefreshing = true;
    try {
      const before = agents;
      agents = await listOwn();
      for (const { id, name, load, capacity } of agents) {
        const earlier = before.find((agent) => agent.id === id);
        // One that was over before may have had its capacity lowered: only who goes over is at fault.
        if (load <= capacity || earlier?.capacity !== capacity || earlier.load > earlier.capacity) continue;
        overloads.push({ agentId: id, detail: `${name} was seen with ${load} at a capacity of ${capacity}` });
      }
    } catch {
      // The picture stays as it is until the next look.
    } finally {
      isRefreshing = false;
    }
  }

  async function listOwn(): Promise<Agent[]> {
    const own = new Set(demoAgents.map(({ name }) => name));
    return (await client.listAll<Agent>('/v1/agents')).filter(({ name }) => own.has(name));
  }

  const timer = setInterval(() => void refresh(), refreshMs);

  async function put(agentId: string, status: Presence): Promise<void> {
    const answer = await client.call<Agent>('PUT', `/v1/agents/${agentId}/presence`, { body: { status } });
    if (answer.status !== 200) throw new Error(`PUT /v1/agents/${agentId}/presence: ${answer.status}`);
    agents = agents.map((agent) => (agent.id === agentId ? answer.body : agent));
  }

  return {
    agents: () => agents,
    nameOf: (agentId) => agents.find(({ id }) => id === agentId)?.name ?? 'an agent',
    overloads,
    async setPresence(agentId, status) {
      changed.add(agentId);
      await put(agentId, status);
    },
    async restorePresence() {
      const restored = [...changed].map((agentId) => put(agentId, presenceBefore.get(agentId) ?? 'offline'));
      changed.clear();
      await Promise.all(restored);
    },
    stopWatching: () => clearInterval(timer),
  };
}
