/** The contact's actor as one writes it first: three regular activities for an opening and one for a close, told by signals. */
import {
  condition,
  continueAsNew,
  defineSignal,
  proxyActivities,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type { Phase } from '../../routing/phase.ts';
import type { ContactRef, ConversationRef } from '../../workflows/contract.ts';

export interface PlainActivities {
  openConversation(contact: ContactRef): Promise<Phase>;
  /** What the flow finds out, and the team it leads to. */
  routeConversation(conversation: ConversationRef): Promise<Phase>;
  assignConversation(conversation: ConversationRef): Promise<Phase>;
  closeConversation(conversation: ConversationRef): Promise<Phase>;
}

export const plainNudgeSignal = defineSignal('nudge');
export const plainCloseSignal = defineSignal<[{ conversationId: string }]>('closeConversation');

const activities = proxyActivities<PlainActivities>({
  startToCloseTimeout: '30s',
  retry: { initialInterval: '100ms', backoffCoefficient: 2, maximumInterval: '10s' },
});

export async function plainContactWorkflow(contact: ContactRef): Promise<void> {
  let nudged = true;
  let closing: string[] = [];
  let phase = { kind: 'idle' } as Phase;
  setHandler(plainNudgeSignal, () => {
    nudged = true;
  });
  setHandler(plainCloseSignal, ({ conversationId }) => {
    closing.push(conversationId);
  });

  while (!workflowInfo().continueAsNewSuggested) {
    await condition(() => nudged || closing.length > 0);
    const told = closing;
    closing = [];
    for (const conversationId of told) phase = await activities.closeConversation({ ...contact, conversationId });
    if (nudged) {
      nudged = false;
      phase = await activities.openConversation(contact);
    } else if (phase.kind === 'pending') phase = await activities.openConversation(contact);
    if (phase.kind === 'enriching' || phase.kind === 'routing') {
      phase = await activities.routeConversation({ ...contact, conversationId: phase.conversationId });
    }
    if (phase.kind === 'assigning') {
      phase = await activities.assignConversation({ ...contact, conversationId: phase.conversationId });
    }
  }
  await continueAsNew<typeof plainContactWorkflow>(contact);
}
