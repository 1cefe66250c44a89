import type { Queryable } from '../../platform/pool.ts';

export interface ReplayOptions {
  readonly workspaceId: string;
  /** Agents whose capacity or limits were lowered meanwhile: what they had at once cannot be judged by what is allowed now. */
  readonly loweredAgentIds?: readonly string[];
}

/**
 * Lives the history through again: per contact, conversations open and close in turn; per conversation, nothing happens before
 * it opened, nothing but the end of an offer and its close after the request, nothing at all after it, and each thing ends that began;
 * per agent, what is assigned and not quiet, or offered, never exceeds the capacity or the limit of a channel, unless it was forced.
 *
 * Events tell no changes of capacities and limits, so these are taken as they are at the end.
 */
export async function replayEvents(db: Queryable, options: ReplayOptions): Promise<string[]> {
  const { workspaceId, loweredAgentIds = [] } = options;
  const { rows: events } = await db.query<EventRow>(
    `SELECT e.id, e.type, e.conversation_id AS "conversationId", e.contact_id AS "contactId", e.data, v.units, v.channel
     FROM events e JOIN conversations v ON v.workspace_id = e.workspace_id AND v.id = e.conversation_id
     WHERE e.workspace_id = $1 ORDER BY e.id`,
    [workspaceId],
  );
  const { rows: agents } = await db.query<AgentRow>(
    'SELECT id, capacity, channel_limits AS "channelLimits" FROM agents WHERE workspace_id = $1 AND id <> ALL($2::uuid[])',
    [workspaceId, loweredAgentIds],
  );
  const found: string[] = [];
  const lives = createLives();
  const ledger = createLedger(agents);
  for (const event of events) {
    const complaints = [...lives.judge(event), ...ledger.judge(event)];
    found.push(
      ...complaints.map((claim) => `${claim}: event ${event.id} ${event.type} of conversation ${event.conversationId}`),
    );
  }
  return found;
}

interface EventRow {
  readonly id: number;
  readonly type: string;
  readonly conversationId: string;
  readonly contactId: string;
  readonly data: {
    readonly agentId?: string | null;
    readonly forced?: boolean;
    readonly units?: number;
    readonly outcome?: string;
  };
  /** Both are fixed when the conversation opens. */
  readonly units: number;
  readonly channel: string | null;
}

interface AgentRow {
  readonly id: string;
  readonly capacity: number;
  readonly channelLimits: Readonly<Record<string, number>>;
}

interface Judge {
  /** Takes the next event in, and returns what contradicts the events before it. */
  judge(event: EventRow): string[];
}

/** I2 and I6: openings, close requests and closes in turn. */
function createLives(): Judge {
  const openByContact = new Map<string, string>();
  const stages = new Map<string, 'open' | 'closing' | 'closed'>();
  return {
    judge({ type, conversationId, contactId }) {
      const complaints: string[] = [];
      // Whether a message has arrived may be known long after the close.
      if (type === 'message.delivered' || type === 'message.delivery_failed') {
        return stages.has(conversationId) ? [] : ['nothing happens before the opening'];
      }
      const stage = stages.get(conversationId);
      if (type === 'conversation.opened') {
        if (openByContact.has(contactId)) complaints.push('I2 a conversation opens only after the previous one closed');
        if (stage !== undefined) complaints.push('I6 a conversation opens once');
        openByContact.set(contactId, conversationId);
        stages.set(conversationId, 'open');
        return complaints;
      }
      if (stage === undefined) complaints.push('nothing happens before the opening');
      if (stage === 'closing' && type !== 'conversation.closed' && type !== 'conversation.offer_ended')
        complaints.push('nothing happens between close request and close');
      if (stage === 'closed') complaints.push('nothing happens after the close');
      if (type === 'conversation.close_requested') stages.set(conversationId, 'closing');
      if (type === 'conversation.closed') {
        if (stage !== 'closing') complaints.push('a close is requested before it is carried out');
        stages.set(conversationId, 'closed');
        if (openByContact.get(contactId) === conversationId) openByContact.delete(contactId);
      }
      return complaints;
    },
  };
}

/** Who has a conversation, and whether it counts: a quiet one takes nothing, an offered one what it will cost. */
interface Holding {
  readonly agentId: string;
  readonly as: 'offered' | 'assigned' | 'quiet';
}

/** I3: who has what, and what that costs. */
function createLedger(agents: readonly AgentRow[]): Judge {
  const holdings = new Map<string, Holding>();
  const loads = createLoads(agents);

  function hold(event: EventRow, next: Holding | null): void {
    const before = holdings.get(event.conversationId);
    if (before !== undefined) loads.add(before, event, -1);
    if (next === null) {
      holdings.delete(event.conversationId);
    } else {
      holdings.set(event.conversationId, next);
      loads.add(next, event, 1);
    }
  }

  /** Only one who has it in this way can lose it. */
  function missing({ conversationId, data }: EventRow, as: Holding['as'][]): boolean {
    const holding = holdings.get(conversationId);
    return holding === undefined || !as.includes(holding.as) || holding.agentId !== data.agentId;
  }

  function take(event: EventRow, as: 'offered' | 'assigned'): string[] {
    const agentId = event.data.agentId!;
    const held = holdings.get(event.conversationId);
    // Accepted: it was reserved, and others may have been forced upon the agent since.
    const isReserved = held?.as === 'offered' && held.agentId === agentId;
    hold(event, { agentId, as });
    const complaints = event.data.forced === true || isReserved ? [] : loads.excessesOf(agentId, event);
    if (event.data.units !== event.units) complaints.push('I3 an event tells what the conversation costs');
    return complaints;
  }

  const judges: Readonly<Record<string, (event: EventRow) => string[]>> = {
    'conversation.offered': (event) => {
      const isHeld = holdings.has(event.conversationId);
      return [...(isHeld ? ['I3 only what nobody has is offered'] : []), ...take(event, 'offered')];
    },
    'conversation.offer_ended': (event) => {
      if (event.data.outcome === 'accepted') {
        return missing(event, ['offered', 'assigned']) ? ['I3 only what was offered is accepted'] : [];
      }
      if (missing(event, ['offered'])) return ['I3 only an offer that was made ends'];
      hold(event, null);
      return [];
    },
    'conversation.assigned': (event) => {
      const { as, agentId } = holdings.get(event.conversationId) ?? {};
      const isOthersOffer = as === 'offered' && agentId !== event.data.agentId;
      return [...(isOthersOffer ? ['I3 an offer ends before another agent gets it'] : []), ...take(event, 'assigned')];
    },
    'conversation.unassigned': (event) => {
      const complaints = missing(event, ['assigned', 'quiet']) ? ['I3 only who has it loses it'] : [];
      hold(event, null);
      return complaints;
    },
    'conversation.quiet': (event) => {
      if (missing(event, ['assigned'])) return ['I3 only what counts goes quiet'];
      hold(event, { agentId: event.data.agentId!, as: 'quiet' });
      return [];
    },
    'conversation.woken': (event) => {
      if (missing(event, ['quiet'])) return ['I3 only what is quiet wakes'];
      return take(event, 'assigned');
    },
    'conversation.closed': (event) => {
      hold(event, null);
      return [];
    },
  };
  return { judge: (event) => judges[event.type]?.(event) ?? [] };
}

/** Units in all, and conversations by channel, of each agent. */
function createLoads(agents: readonly AgentRow[]) {
  const allowed = new Map(agents.map((agent) => [agent.id, agent]));
  const units = new Map<string, number>();
  const byChannel = new Map<string, number>();
  const grow = (counts: Map<string, number>, key: string, by: number) => counts.set(key, (counts.get(key) ?? 0) + by);
  return {
    add({ agentId, as }: Holding, event: EventRow, sign: 1 | -1): void {
      if (as === 'quiet') return;
      grow(units, agentId, sign * event.units);
      grow(byChannel, `${agentId} on ${event.channel}`, sign);
    },
    excessesOf(agentId: string, { channel }: EventRow): string[] {
      const agent = allowed.get(agentId);
      if (agent === undefined) return [];
      const complaints: string[] = [];
      const load = units.get(agentId)!;
      if (load > agent.capacity) complaints.push(`I3 agent ${agentId} had ${load} units of ${agent.capacity} at once`);
      const limit = channel === null ? undefined : agent.channelLimits[channel];
      const count = byChannel.get(`${agentId} on ${channel}`)!;
      if (limit !== undefined && count > limit)
        complaints.push(`I3 agent ${agentId} had ${count} of ${limit} conversations on ${channel} at once`);
      return complaints;
    },
  };
}
