/**
 * Actors that do nothing, told the same as ours: what the engine alone costs. A conversation is a nudge, which wakes the actor for its
 * steps, and a close, which wakes it for one more. Runs in the workflow sandbox.
 */
import {
  allHandlersFinished,
  condition,
  continueAsNew,
  defineSignal,
  defineUpdate,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
} from '@temporalio/workflow';

export interface CeilingInput {
  readonly workspaceId: string;
  readonly contactId: string;
  /** Activities that a nudge costs; a close costs one. */
  readonly steps: number;
  readonly kind: 'local' | 'regular';
  /** Begins anew with a short history after so many messages. */
  readonly maxMessages: number;
}

export interface CeilingMessage {
  readonly closeConversationId?: string;
}

/** As our relay sends it. */
export const messageUpdate = defineUpdate<void, [CeilingMessage]>('nudge');
export const messageSignal = defineSignal<[CeilingMessage]>('nudgeSignal');

export interface CeilingActivities {
  /** @param last what the waking was for is done with this one */
  step(contact: { workspaceId: string; contactId: string; last: boolean }): Promise<{ kind: string }>;
}

const options = { startToCloseTimeout: '30s', retry: { initialInterval: '100ms', backoffCoefficient: 2 } } as const;
const local = proxyLocalActivities<CeilingActivities>(options);
const regular = proxyActivities<CeilingActivities>(options);

export async function ceilingActor(input: CeilingInput): Promise<void> {
  const { workspaceId, contactId, steps, kind, maxMessages } = input;
  const { step } = kind === 'local' ? local : regular;
  let nudges = 0;
  let closes = 0;
  let messages = 0;

  const note = ({ closeConversationId }: CeilingMessage): void => {
    messages += 1;
    if (closeConversationId === undefined) nudges += 1;
    else closes += 1;
  };
  setHandler(messageUpdate, note);
  setHandler(messageSignal, note);

  while (messages < maxMessages || nudges > 0 || closes > 0 || !allHandlersFinished()) {
    if (nudges === 0 && closes === 0) {
      await condition(() => nudges > 0 || closes > 0);
      continue;
    }
    const count = nudges > 0 ? steps : 1;
    nudges = 0;
    closes = 0;
    for (let number = 1; number <= count; number += 1) await step({ workspaceId, contactId, last: number === count });
  }
  await continueAsNew<typeof ceilingActor>(input);
}
