import { ApplicationFailure } from '@temporalio/activity';
import { fieldsFromResponse } from '../routing/enrichment.ts';
import type { Fields, RoutingFacts } from '../routing/facts.ts';
import type { HttpStep } from '../routing/flow-document.ts';
import type { ConversationRef } from '../workflows/contract.ts';

const maxResponseBytes = 64 * 1024;

/**
 * Asks another system about the conversation: POST with `{conversationId, contact, channel, text, fields}`, and reads fields out of
 * its JSON answer. Fails softly: whatever goes wrong, the conversation goes on without the fields, and the failure is recorded.
 * Only hosts the operator allowed are called, and no redirect is followed, so that a flow cannot reach into the network.
 */
export async function requestFields(
  step: HttpStep,
  {
    conversation,
    position,
    facts,
    allowedHosts,
    deadline,
    cancelled,
  }: {
    conversation: ConversationRef;
    /** Of the step in its flow. */
    position: number;
    facts: RoutingFacts;
    allowedHosts: ReadonlySet<string>;
    /** Milliseconds since the epoch; whatever the step itself allows. */
    deadline: number;
    /** Aborts when this worker closes: another one then asks again. */
    cancelled: AbortSignal;
  },
): Promise<{ fields: Fields; failures: readonly string[] }> {
  // The flow's schema lets some through that cannot be: a port above 65535.
  if (!URL.canParse(step.url)) return { fields: {}, failures: ['the address of the step is none'] };
  const { host } = new URL(step.url);
  if (!allowedHosts.has(host)) {
    return { fields: {}, failures: [`${host} is not among ENRICHMENT_ALLOWED_HOSTS`] };
  }
  try {
    const timeLimit = AbortSignal.timeout(Math.max(0, Math.min(step.timeoutMs, deadline - Date.now())));
    const response = await fetch(step.url, {
      method: 'POST',
      redirect: 'error',
      signal: AbortSignal.any([timeLimit, cancelled]),
      headers: {
        'content-type': 'application/json',
        accept: 'application/json',
        // The activity may run again: the other system can tell a repetition from a new question.
        'idempotency-key': `${conversation.conversationId}/${position}`,
      },
      body: JSON.stringify({
        conversationId: conversation.conversationId,
        contact: facts.contact,
        channel: facts.channel,
        text: facts.message.text,
        fields: facts.fields,
      }),
    });
    if (!response.ok) {
      await response.body?.cancel();
      return { fields: {}, failures: [`${host} answered ${response.status}`] };
    }
    const { fields, missing } = fieldsFromResponse(step, JSON.parse(await readBody(response)));
    return { fields, failures: missing.map((field) => `${host} did not tell ${field}`) };
  } catch (error) {
    if (cancelled.aborted) throw ApplicationFailure.retryable('the worker is closing', 'Unavailable');
    return { fields: {}, failures: [`${host}: ${reasonOf(error)}`] };
  }
}

async function readBody(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > maxResponseBytes) throw new Error(`more than ${maxResponseBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'failed';
  if (error.name === 'TimeoutError') return 'no answer in time';
  if (error instanceof SyntaxError) return 'the answer is no JSON';
  return error.cause instanceof Error ? error.cause.message : error.message;
}
