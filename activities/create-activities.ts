import { cancellationSignal } from '@temporalio/activity';
import type pg from 'pg';
import { applyStep } from '../routing/enrichment.ts';
import type { Phase } from '../routing/phase.ts';
import { readPhase } from '../store/phases.ts';
import { readStepInput, writeEnrichment } from '../store/steps.ts';
import type { ConversationRef, NetworkActivities, StepActivities, WakingActivities } from '../workflows/contract.ts';
import type { ActivityMetrics } from './activity-metrics.ts';
import { guardActivities } from './activity-failure.ts';
import { createAdvance } from './advance.ts';
import { requestFields } from './enrichment-request.ts';
import { createStepBatches } from './step-batches.ts';

export interface ActivityDependencies {
  readonly pool: pg.Pool;
  /** For the steps' batches (see step-batches.ts); the same one unless given. */
  readonly stepPool?: pg.Pool;
  readonly metrics: ActivityMetrics;
  /** Hosts that `http` enrichment steps may call; every other one fails softly. */
  readonly allowedHosts: ReadonlySet<string>;
}

/**
 * Everything that actors have done for them: wakings, and enrichment that leaves the house. The steps of which wakings are made are there
 * by themselves as well, for actors of the stepwise form (workflows/stepwise-actor.ts).
 */
export function createActivities(
  dependencies: ActivityDependencies,
): StepActivities & NetworkActivities & WakingActivities {
  const { pool, stepPool = pool, metrics } = dependencies;
  const steps = createStepBatches({ pool: stepPool, metrics });
  const activities = { ...steps, ...createNetworkEnrichment(dependencies), ...createAdvance({ steps, metrics }) };
  return guardActivities(activities, metrics);
}

/** For all requests of one enrichment together: well below the activity's own limit, so that it ends by itself. */
const networkBudgetMs = 45_000;

/** An enrichment that was superseded is no error: the phase in its answer tells the actor what is true now. */
function createNetworkEnrichment({ pool, metrics, allowedHosts }: ActivityDependencies): NetworkActivities {
  return {
    async enrichOverNetwork(conversation: ConversationRef): Promise<Phase> {
      const deadline = Date.now() + networkBudgetMs;
      const cancelled = cancellationSignal();
      const input = await readStepInput(pool, conversation, 'enriching');
      if (input === null) return readPhase(pool, conversation);
      let { fields } = input.facts;
      const failures: string[] = [];
      for (const [position, step] of input.flow.enrichment.entries()) {
        const known = applyStep(step, { fields, text: input.facts.message.text });
        if (known !== 'needs response') {
          fields = known;
        } else if (step.kind === 'http') {
          const facts = { ...input.facts, fields };
          const request = { conversation, position, facts, allowedHosts, deadline, cancelled };
          const answer = await requestFields(step, request);
          fields = { ...fields, ...answer.fields };
          failures.push(...answer.failures);
        }
      }
      if (failures.length > 0) metrics.enrichmentFailures.inc(failures.length);
      const { version } = input;
      const isDone = await writeEnrichment(pool, conversation, { version, fields, failures });
      return isDone ? { kind: 'routing', conversationId: conversation.conversationId } : readPhase(pool, conversation);
    },
  };
}
