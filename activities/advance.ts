/**
 * A waking of an actor: step after step, each a transaction of its own, until the contact has come to rest. Which step is next follows from
 * the phase that the last one answered with, so a repeated waking, or one that a person overtakes, does what is left to do.
 */
import type { Phase } from '../routing/phase.ts';
import type { ConversationRef, StepActivities, WakingActivities } from '../workflows/contract.ts';
import { measureAttempt } from './activity-failure.ts';
import type { ActivityMetrics } from './activity-metrics.ts';

/**
 * A waking ends after so many steps or so much time, wherever the contact stands: it occupies a workflow task, which the server takes for
 * lost after 10 s. A cycle from close to next conversation needs five.
 */
const maxSteps = 12;
const maxMs = 3_000;

export interface AdvanceDependencies {
  readonly steps: StepActivities;
  readonly metrics: ActivityMetrics;
}

export function createAdvance({ steps, metrics }: AdvanceDependencies): WakingActivities {
  return {
    async advanceContact({ closeConversationIds, ...contact }) {
      const stopAtMs = performance.now() + maxMs;
      let phase = await begin();
      for (let taken = 1; taken < maxSteps && performance.now() < stopAtMs; taken += 1) {
        const next = stepFor(phase);
        if (next === null) return phase;
        phase = await next();
      }
      return phase;

      /** A close that names the open conversation needs no look before it; one that does not finds out where the contact stands. */
      function begin(): Promise<Phase> {
        const [first, ...more] = closeConversationIds;
        return first === undefined || more.length > 0
          ? take('openConversation', contact)
          : take('closeConversation', { ...contact, conversationId: first });
      }

      function stepFor(current: Phase): (() => Promise<Phase>) | null {
        if (current.kind === 'idle') return null;
        if (current.kind === 'pending') return () => take('openConversation', contact);
        const conversation = { ...contact, conversationId: current.conversationId };
        if (current.kind === 'closing' || closeConversationIds.includes(current.conversationId)) {
          return () => take('closeConversation', conversation);
        }
        switch (current.kind) {
          case 'enriching':
            return current.overNetwork ? null : () => orDefaultTeam('enrichConversation', conversation, 'enriching');
          case 'routing':
            return () => orDefaultTeam('routeConversation', conversation, 'routing');
          case 'assigning':
            return () => take('assignConversation', conversation);
          case 'asking':
          case 'open':
            return null;
        }
      }
    },
  };

  function take<Name extends keyof StepActivities>(
    name: Name,
    ...args: Parameters<StepActivities[Name]>
  ): Promise<Phase> {
    const step = steps[name] as (...args: Parameters<StepActivities[Name]>) => Promise<Phase>;
    return measureAttempt(metrics, name, () => step(...args));
  }

  /** A broken flow never strands a conversation. */
  async function orDefaultTeam(
    name: 'enrichConversation' | 'routeConversation',
    conversation: ConversationRef,
    doing: string,
  ): Promise<Phase> {
    try {
      return await take(name, conversation);
    } catch (error) {
      if (!isDefect(error)) throw error;
      return take('fallBackToDefaultTeam', conversation, `${doing} failed`);
    }
  }
}

const isDefect = (error: unknown): boolean => (error as { nonRetryable?: unknown }).nonRetryable === true;
