/** An agent's room: why it may not do for a conversation given by hand, and how it is given back. */
import type { AgentCandidate } from '../routing/matching.ts';
import type { Queryable } from './database.ts';
import { holderOf, type ConversationKey, type ConversationLock } from './locks.ts';

/** Why an agent cannot be given a conversation by hand. Who has it, or has it reserved by an offer, needs no more room for it. */
export function refuseAgent(
  agent: AgentCandidate | undefined,
  conversation: Pick<ConversationLock, 'units' | 'channel' | 'agentId'> & { readonly offeredAgentId?: string | null },
  { agentId, force }: { agentId: string; force: boolean },
): 'unknown_agent' | 'no_room' | null {
  if (agent === undefined) return 'unknown_agent';
  const { units, channel, agentId: current, offeredAgentId } = conversation;
  if (force || current === agentId || offeredAgentId === agentId) return null;
  const limit = channel === null ? undefined : agent.channelLimits[channel];
  const isChannelFull = limit !== undefined && (agent.channelLoads[channel!] ?? 0) >= limit;
  return isChannelFull || agent.load + units > agent.capacity ? 'no_room' : null;
}

/** SQL for an agent's `channel_loads` with one conversation more on the channel that the parameter names; as they are where that is null. */
export const addConversationOn = (channel: string): string => `
  CASE WHEN ${channel}::text IS NULL THEN channel_loads
  ELSE jsonb_set(channel_loads, ARRAY[${channel}::text], to_jsonb(coalesce((channel_loads ->> ${channel})::int, 0) + 1)) END`;

/** SQL that changes an agent's room by a row of `RoomChanges`. */
export const changeRoom = (agent: string, change: string): string => `
  load = ${agent}.load + ${change}.units,
  channel_loads = CASE WHEN ${change}.channels IS NULL THEN ${agent}.channel_loads ELSE ${agent}.channel_loads || (
    SELECT jsonb_object_agg(one.key, coalesce((${agent}.channel_loads ->> one.key)::int, 0) + one.value::int)
    FROM jsonb_each_text(${change}.channels) one
  ) END`;

/** What several conversations change together in the room of their agents, each agent once: columns for `unnest`. */
export interface RoomChanges {
  readonly agentIds: readonly string[];
  readonly units: readonly number[];
  /** How many conversations by channel, as JSON; null where none began on a channel. */
  readonly channels: readonly (string | null)[];
}

/** @param sign -1: the conversations give back what they took */
export function sumRoom(
  conversations: readonly { readonly agentId: string; readonly units: number; readonly channel: string | null }[],
  sign: 1 | -1,
): RoomChanges {
  const byAgent = new Map<string, { units: number; channels: Map<string, number> }>();
  for (const { agentId, units, channel } of conversations) {
    let sum = byAgent.get(agentId);
    if (sum === undefined) byAgent.set(agentId, (sum = { units: 0, channels: new Map() }));
    sum.units += sign * units;
    if (channel !== null) sum.channels.set(channel, (sum.channels.get(channel) ?? 0) + sign);
  }
  const sums = [...byAgent.values()];
  return {
    agentIds: [...byAgent.keys()],
    units: sums.map(({ units }) => units),
    channels: sums.map(({ channels }) => (channels.size === 0 ? null : JSON.stringify(Object.fromEntries(channels)))),
  };
}

/** Gives back what the conversation costs whoever holds it. The caller holds both, moves the conversation, and drains afterwards. */
export async function releaseHolder(
  tx: Queryable,
  { workspaceId }: ConversationKey,
  conversation: ConversationLock,
): Promise<void> {
  const holder = holderOf(conversation);
  if (holder === null) return;
  await tx.query({
    name: 'release-holder',
    text: `UPDATE agents
           SET load = load - $3,
               channel_loads = CASE WHEN $4::text IS NULL THEN channel_loads
                               ELSE jsonb_set(channel_loads, ARRAY[$4::text], to_jsonb((channel_loads ->> $4)::int - 1)) END
           WHERE workspace_id = $1 AND id = $2`,
    values: [workspaceId, holder, conversation.units, conversation.channel],
  });
}
