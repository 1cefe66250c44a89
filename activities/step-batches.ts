/**
 * The steps of all actors that this process serves, taken together. Steps of one kind that come while a batch of that kind is under way form
 * the next one: an idle process makes batches of one, which leave at once and cost no more than they did, and under load statements,
 * round trips and commits per conversation fall.
 *
 * What may go wrong, and why one conversation does not suffer for another:
 * - A row that somebody holds: openings, enrichments and routes pass over it where they are several, and try it again alone. Assignments and
 *   closes need locks that must be held together; they wait for them half a second at most, then each goes alone.
 * - A poisoned one: the batch fails as a whole, and each member is done again alone. All steps can be repeated.
 * - A contact that comes twice: it is in one flight at a time.
 * - A team under load: its assignments wait for its lock anyway, so one batch of a team is under way at a time, and no batch holds two teams.
 */
import type pg from 'pg';
import type { Config } from '../platform/config.ts';
import type { Logger } from '../platform/logger.ts';
import { createPool } from '../platform/pool.ts';
import type { Phase } from '../routing/phase.ts';
import { assignRouted } from '../store/assignment.ts';
import { executeCloses } from '../store/closing.ts';
import { enrichConversation, enrichConversations, type Enriched } from '../store/enriching.ts';
import { fallBack } from '../store/fallback.ts';
import { openForContact, openForContacts } from '../store/opening.ts';
import { readPhase } from '../store/phases.ts';
import { routeByFlow, routeByFlows, type Routed } from '../store/routing.ts';
import type { ContactRef, ConversationRef, StepActivities } from '../workflows/contract.ts';
import type { ActivityMetrics } from './activity-metrics.ts';
import { gatherByGroup, gatherSteps } from './step-gathering.ts';

export interface StepBatchDependencies {
  /** See `createStepPool`. */
  readonly pool: pg.Pool;
  readonly metrics: ActivityMetrics;
}

/**
 * The steps of the actors, over the store. A step that was superseded is no error: the phase in its answer tells the actor what is
 * true now.
 */
export function createStepBatches({ pool, metrics }: StepBatchDependencies): StepActivities {
  const teams = createTeamNotes();
  const measure = (step: string) => (rows: number) => metrics.batchConversations.observe({ step }, rows);

  const openings = gatherSteps<ContactRef, Awaited<ReturnType<typeof openForContacts>>[number]>({
    name: 'open',
    run: (contacts) => openForContacts(pool, contacts),
    onBatch: measure('open'),
  });
  const enrichments = gatherSteps<ConversationRef, Enriched>({
    name: 'enrich',
    run: (conversations) => enrichConversations(pool, conversations),
    onBatch: measure('enrich'),
  });
  const routes = gatherSteps<ConversationRef, Routed | null>({
    name: 'route',
    run: (conversations) => routeByFlows(pool, conversations),
    onBatch: measure('route'),
  });
  const assignments = gatherByGroup<ConversationRef, boolean>(teams.take, {
    name: 'assign',
    run: (conversations) => assignRouted(pool, conversations),
    onBatch: measure('assign'),
  });
  const closes = gatherByGroup<ConversationRef, Awaited<ReturnType<typeof executeCloses>>[number]>(
    ({ workspaceId }) => workspaceId,
    { name: 'close', run: (conversations) => executeCloses(pool, conversations), onBatch: measure('close') },
  );

  function noteEnriched({ phase, conditionErrors }: Enriched): Phase | null {
    if (phase !== null) metrics.conditionErrors.inc({ where: 'step' }, conditionErrors);
    return phase;
  }

  function noteRouted(conversation: ConversationRef, routed: Routed | null): Phase | null {
    if (routed === null) return null;
    metrics.conditionErrors.inc({ where: 'branch' }, routed.conditionErrors);
    if (routed.teamId === null) return phaseAt('closing', conversation);
    teams.note(conversation, routed.teamId);
    return phaseAt('assigning', conversation);
  }

  return {
    async openConversation(contact) {
      const first = await openings.add(contact);
      // Still pending: somebody held the contact, or it wrote at that moment.
      const opening = first.phase.kind === 'pending' ? await openForContact(pool, contact) : first;
      const { phase, opened, triggerErrors } = opening;
      if (opened) metrics.opened.inc();
      metrics.conditionErrors.inc({ where: 'trigger' }, triggerErrors);
      return phase;
    },

    async enrichConversation(conversation) {
      const enriched = noteEnriched(await enrichments.add(conversation));
      if (enriched !== null) return enriched;
      const phase = await readPhase(pool, conversation);
      // Still to be done: somebody held the row, or what was handed on had become untrue.
      if (phase.kind !== 'enriching') return phase;
      return noteEnriched(await enrichConversation(pool, conversation)) ?? readPhase(pool, conversation);
    },

    async routeConversation(conversation) {
      const routed = noteRouted(conversation, await routes.add(conversation));
      if (routed !== null) return routed;
      const phase = await readPhase(pool, conversation);
      if (phase.kind !== 'routing') return phase;
      return noteRouted(conversation, await routeByFlow(pool, conversation)) ?? readPhase(pool, conversation);
    },

    async assignConversation(conversation) {
      const isDone = await assignments.add(conversation);
      return isDone ? phaseAt('open', conversation) : readPhase(pool, conversation);
    },

    async closeConversation(conversation) {
      const { phase, closed } = await closes.add(conversation);
      if (closed) metrics.closed.inc();
      return phase;
    },

    async fallBackToDefaultTeam(conversation, reason) {
      const isDone = await fallBack(pool, conversation, reason);
      if (isDone) metrics.fellBack.inc();
      return isDone ? phaseAt('assigning', conversation) : readPhase(pool, conversation);
    },
  };
}

/**
 * Connections of their own, with less patience for locks than elsewhere: what a batch waits for, all its members wait for. No more than eight,
 * as more batches at once would only wait for each other.
 */
export function createStepPool(config: Config, logger: Logger): pg.Pool {
  const size = { ...config, databasePoolSize: Math.min(config.databasePoolSize, 8) };
  return createPool(size, { applicationName: 'switchyard-steps', lockTimeoutMs: 500, hasGenericPlans: true, logger });
}

const phaseAt = (kind: 'assigning' | 'closing' | 'open', { conversationId }: ConversationRef): Phase => ({
  kind,
  conversationId,
});

/** To which team the last step has routed, until assignment asks; else what is to be assigned goes with its workspace's others. */
function createTeamNotes() {
  const noted = new Map<string, string>();
  return {
    note({ conversationId }: ConversationRef, teamId: string): void {
      if (noted.size >= maxNoted) noted.delete(noted.keys().next().value!);
      noted.set(conversationId, teamId);
    },
    take({ conversationId, workspaceId }: ConversationRef): string {
      const teamId = noted.get(conversationId);
      noted.delete(conversationId);
      return teamId ?? workspaceId;
    },
  };
}

const maxNoted = 10_000;
