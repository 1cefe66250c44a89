import { cancellationSignal } from '@temporalio/activity';
import type pg from 'pg';
import { applyStep } from '../routing/enrichment.ts';
import type { RoutingFacts } from '../routing/facts.ts';
import type { HttpStep } from '../routing/flow-document.ts';
import type { Phase } from '../routing/phase.ts';
import { assignRouted } from '../store/assignment.ts';
import { executeClose } from '../store/closing.ts';
import { openForContact } from '../store/opening.ts';
import { readPhase } from '../store/phases.ts';
import { fallBack, readStepInput, routeByFlow, writeEnrichment } from '../store/steps.ts';
import type { ContactRef, ConversationRef, NetworkActivities, StepActivities } from '../workflows/contract.ts';
import type { ActivityMetrics } from './activity-metrics.ts';
import { guardActivity } from './activity-failure.ts';
import { requestFields } from './enrichment-request.ts';

export interface ActivityDependencies {
  readonly pool: pg.Pool;
  readonly metrics: ActivityMetrics;
  /** Hosts that `http` enrichment steps may call; every other one fails softly. */
  readonly allowedHosts: ReadonlySet<string>;
}

/** For all requests of one enrichment together: well below the activity's own limit, so that it ends by itself. */
const networkBudgetMs = 45_000;

/**
 * The steps of the actors, over the store. A step that was superseded is no error: the phase in its answer tells the actor
 * what is true now.
 */
export function createActivities({
  pool,
  metrics,
  allowedHosts,
}: ActivityDependencies): StepActivities & NetworkActivities {
  const activities: StepActivities & NetworkActivities = {
    async openConversation(contact: ContactRef): Promise<Phase> {
      const { phase, opened } = await openForContact(pool, contact);
      if (opened) metrics.opened.inc();
      return phase;
    },

    async enrichConversation(conversation: ConversationRef): Promise<Phase> {
      return enrich(conversation, () => Promise.reject(new Error('this flow leaves the house')));
    },

    async enrichOverNetwork(conversation: ConversationRef): Promise<Phase> {
      const deadline = Date.now() + networkBudgetMs;
      const cancelled = cancellationSignal();
      return enrich(conversation, (step, position, facts) =>
        requestFields(step, { conversation, position, facts, allowedHosts, deadline, cancelled }),
      );
    },

    async routeConversation(conversation: ConversationRef): Promise<Phase> {
      return after(await routeByFlow(pool, conversation), 'assigning', conversation);
    },

    async assignConversation(conversation: ConversationRef): Promise<Phase> {
      return after(await assignRouted(pool, conversation), 'open', conversation);
    },

    async closeConversation(conversation: ConversationRef): Promise<Phase> {
      const { phase, closed } = await executeClose(pool, conversation);
      if (closed) metrics.closed.inc();
      return phase;
    },

    async fallBackToDefaultTeam(conversation: ConversationRef, reason: string): Promise<Phase> {
      const fellBack = await fallBack(pool, conversation, reason);
      if (fellBack) metrics.fellBack.inc();
      return after(fellBack, 'assigning', conversation);
    },
  };

  async function enrich(conversation: ConversationRef, request: StepRequest): Promise<Phase> {
    const input = await readStepInput(pool, conversation, 'enriching');
    if (input === null) return readPhase(pool, conversation);
    let { fields } = input.facts;
    const failures: string[] = [];
    for (const [position, step] of input.flow.enrichment.entries()) {
      const known = applyStep(step, { fields, text: input.facts.message.text });
      if (known !== 'needs response') {
        fields = known;
      } else if (step.kind === 'http') {
        const answer = await request(step, position, { ...input.facts, fields });
        fields = { ...fields, ...answer.fields };
        failures.push(...answer.failures);
      }
    }
    if (failures.length > 0) metrics.enrichmentFailures.inc(failures.length);
    const { version } = input;
    return after(await writeEnrichment(pool, conversation, { version, fields, failures }), 'routing', conversation);
  }

  /** The phase a step leads to, without asking, unless the step was superseded. */
  async function after(
    applied: boolean,
    kind: 'routing' | 'assigning' | 'open',
    conversation: ConversationRef,
  ): Promise<Phase> {
    return applied ? { kind, conversationId: conversation.conversationId } : readPhase(pool, conversation);
  }

  return guardActivity(activities, metrics);
}

type StepRequest = (step: HttpStep, position: number, facts: RoutingFacts) => ReturnType<typeof requestFields>;
