/**
 * What the step before already knew, for the next one: the opening has read the very facts by which the flow's branches decide a millisecond
 * later, and reading them again took a third of the CPU time of opening and routing. Only a shortcut within this process: bounded, short-lived, and
 * each step's write checks the conversation's version, so a stale entry makes it look again, never do something wrong.
 */
import type { RoutingFacts } from '../routing/facts.ts';
import type { FlowDocument } from '../routing/flow-document.ts';

export interface FlowStepInput {
  readonly version: number;
  readonly flow: FlowDocument;
  readonly flowVersionId: string;
  readonly flowVersionNumber: number;
  readonly facts: RoutingFacts;
}

interface HandedOn {
  readonly state: 'enriching' | 'routing';
  readonly input: FlowStepInput;
}

export function handOnInput(conversationId: string, next: HandedOn): void {
  inputs.delete(conversationId);
  if (inputs.size >= maxInputs) inputs.delete(inputs.keys().next().value!);
  inputs.set(conversationId, { ...next, handedOnMs: performance.now() });
}

/** Once: who has to ask again finds the rows changed, and reads them. */
export function takeInput(conversationId: string, state: HandedOn['state']): FlowStepInput | undefined {
  const found = inputs.get(conversationId);
  if (found === undefined) return undefined;
  inputs.delete(conversationId);
  return found.state === state && performance.now() - found.handedOnMs <= maxAgeMs ? found.input : undefined;
}

/** Texts of at most 4 KB each and what a contact's attributes hold: some megabytes. */
const maxInputs = 1_000;
/** What the contact has added since opening is no part of it: after so long, look again. */
const maxAgeMs = 1_000;
const inputs = new Map<string, HandedOn & { readonly handedOnMs: number }>();
