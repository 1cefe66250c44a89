import type pg from 'pg';
import type { NetworkActivities, StepActivities, WakingActivities } from '../workflows/contract.ts';
import type { ActivityMetrics } from './activity-metrics.ts';
import { guardActivities } from './activity-failure.ts';
import { createAdvance } from './advance.ts';
import type { NetworkAccess } from './network-access.ts';
import { createNetworkEnrichment } from './network-enrichment.ts';
import { createStepBatches } from './step-batches.ts';

export interface ActivityDependencies {
  readonly pool: pg.Pool;
  /** For the steps' batches (see step-batches.ts); the same one unless given. */
  readonly stepPool?: pg.Pool;
  readonly metrics: ActivityMetrics;
  /** What enrichment may reach. */
  readonly network: NetworkAccess;
}

/**
 * Everything that actors have done for them: wakings, and enrichment that leaves the house. The steps of which wakings are made are there
 * by themselves as well, for actors of the stepwise form (workflows/stepwise-actor.ts).
 */
export function createActivities(
  dependencies: ActivityDependencies,
): StepActivities & NetworkActivities & WakingActivities {
  const { pool, stepPool = pool, metrics, network } = dependencies;
  const steps = createStepBatches({ pool: stepPool, metrics });
  const enrichment = createNetworkEnrichment({ pool, metrics, network });
  const activities = { ...steps, ...enrichment, ...createAdvance({ steps, metrics }) };
  return guardActivities(activities, metrics);
}
