/**
 * Enriching by a flow that asks other systems. The conversation's row is not held meanwhile; what was found is written at the end, if the
 * conversation is still as it was. An attempt that was cut short asks again: each request carries a key by which the other system
 * can tell a repetition.
 */
import { cancellationSignal, heartbeat } from '@temporalio/activity';
import type pg from 'pg';
import { settleRequest, takeTurn, type FlowTurn, type OutgoingText } from '../routing/flow-interpreter.ts';
import type { StepTrace } from '../routing/flow-progress.ts';
import type { Phase } from '../routing/phase.ts';
import { readEnrichmentInputs, writeTurns, type WritableTurn } from '../store/enriching.ts';
import { fallBack, type FailedTurn } from '../store/fallback.ts';
import { readPhase } from '../store/phases.ts';
import type { FlowStepInput } from '../store/step-inputs.ts';
import type { ConversationRef, NetworkActivities } from '../workflows/contract.ts';
import type { ActivityMetrics } from './activity-metrics.ts';
import type { NetworkAccess } from './network-access.ts';
import { answerStep } from './step-answers.ts';

/** For all requests of one enrichment together: well below the activity's own limit, so that it ends by itself. */
const budgetMs = 45_000;
/** Well below the time after which a silent worker counts as dead (workflows/activity-proxies.ts). */
const heartbeatMs = 3_000;

export interface NetworkEnrichmentDependencies {
  readonly pool: pg.Pool;
  readonly metrics: ActivityMetrics;
  readonly network: NetworkAccess;
}

/** An enrichment that was superseded is no error: the phase in its answer tells the actor what is true now. */
export function createNetworkEnrichment({ pool, metrics, network }: NetworkEnrichmentDependencies): NetworkActivities {
  return {
    async enrichOverNetwork(conversation) {
      const beating = setInterval(() => heartbeat(), heartbeatMs);
      try {
        return await enrich(conversation);
      } finally {
        clearInterval(beating);
      }
    },
  };

  async function enrich(conversation: ConversationRef): Promise<Phase> {
    const [input] = await readEnrichmentInputs(pool, [conversation]);
    if (input === null || input === undefined) return readPhase(pool, conversation);
    const asked = await askOthers(conversation, input);
    if (asked.failures > 0) metrics.enrichmentFailures.inc(asked.failures);
    const phase = await write(conversation, input, asked);
    // What was superseded is taken again, and counts then.
    if (phase !== null) metrics.conditionErrors.inc({ where: 'step' }, asked.conditionErrors);
    return phase ?? readPhase(pool, conversation);
  }

  /** @returns null where it was superseded */
  async function write(conversation: ConversationRef, input: FlowStepInput, asked: Asked): Promise<Phase | null> {
    if (asked.kind === 'turn') {
      const [phase] = await writeTurns(pool, [{ key: conversation, input, turn: asked.turn }]);
      return phase ?? null;
    }
    const isDone = await fallBack(pool, conversation, asked.reason, { ...asked, version: input.version });
    if (!isDone) return null;
    metrics.fellBack.inc();
    return { kind: 'assigning', conversationId: conversation.conversationId };
  }

  /** Turn after turn, as long as the flow wants to know something of other systems. */
  async function askOthers(conversation: ConversationRef, input: FlowStepInput): Promise<Asked> {
    const deadline = Date.now() + budgetMs;
    const cancelled = cancellationSignal();
    const { flow, facts } = input;
    const trace: StepTrace[] = [];
    const messages: OutgoingText[] = [];
    let failures = 0;
    let conditionErrors = 0;
    let { heard, progress } = input;
    for (;;) {
      const turn: FlowTurn = takeTurn(flow, facts, progress, heard);
      trace.push(...turn.trace);
      messages.push(...turn.messages);
      conditionErrors += turn.conditionErrors;
      if (turn.kind !== 'request') {
        return { kind: 'turn', failures, conditionErrors, turn: { ...turn, trace, messages, conditionErrors } };
      }
      const answer = await answerStep(turn.step, {
        conversation,
        position: turn.progress.step,
        facts: turn.facts,
        deadline,
        cancelled,
        network,
      });
      failures += answer.failures.length;
      const settled = settleRequest(flow, turn.progress, answer);
      trace.push(...settled.trace);
      if (settled.kind === 'failed') return { ...settled, failures, conditionErrors, messages, trace };
      ({ progress } = settled);
      heard = { kind: 'nothing' };
    }
  }
}

type Asked = {
  readonly failures: number;
  /** Conditions that could not be decided and counted as false. */
  readonly conditionErrors: number;
} & (
  | { readonly kind: 'turn'; readonly turn: WritableTurn }
  | (Omit<FailedTurn, 'version'> & { readonly kind: 'failed'; readonly reason: string })
);
