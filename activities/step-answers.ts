import type { RoutingFacts } from '../routing/facts.ts';
import { describeBroken, type RequestAnswer } from '../routing/flow-interpreter.ts';
import type { NetworkStep } from '../routing/step-schemas.ts';
import type { ConversationRef } from '../workflows/contract.ts';
import { requestClassification } from './classify-request.ts';
import { requestFields } from './http-request.ts';
import type { NetworkAccess } from './network-access.ts';

/**
 * What another system says to a step. Whatever goes wrong is told in `failures`, fit for the workspace's admins to read; whether the
 * conversation goes on without the answer is for `settleRequest` to say. Throws only when this worker closes: another one then asks again.
 */
export async function answerStep(step: NetworkStep, request: StepRequest): Promise<RequestAnswer> {
  try {
    return await askOther(step, request);
  } catch (error) {
    if (request.cancelled.aborted) throw error;
    // Members that are not of their types, as another version of this code may have written them.
    return { fields: {}, failures: [describeBroken(error)] };
  }
}

function askOther(step: NetworkStep, request: StepRequest): Promise<RequestAnswer> {
  switch (step.kind) {
    case 'http':
      return requestFields(step, request);
    case 'classify':
      return requestClassification(step, request);
    default:
      return step satisfies never;
  }
}

export interface StepRequest {
  readonly conversation: ConversationRef;
  /** Of the step in its flow. */
  readonly position: number;
  readonly facts: RoutingFacts;
  /** Milliseconds since the epoch; whatever the step itself allows. */
  readonly deadline: number;
  /** Aborts when this worker closes. */
  readonly cancelled: AbortSignal;
  readonly network: NetworkAccess;
}
