// The actor's code as it was before one local activity did a whole waking: frozen, for tests that run actors of that form beside the
// present ones. Not to be changed.
/**
 * The actor of one contact: enforces one open conversation at a time and carries each from opening to close.
 *
 * It keeps no facts. Every step is an activity that answers with the phase PostgreSQL says the contact is in, and the next step
 * follows from that phase alone. Hence:
 * - a run that was lost, terminated or continued as new resumes by looking;
 * - a step repeated after it committed, or overtaken by a person, changes nothing and tells the truth;
 * - signals only say "look" or "close this one", so they may come twice, late, or in any order. What a signal is about was
 *   committed before it was sent, so a look that begins after the signal arrived sees it; a signal that arrives during a look
 *   is kept for the next.
 *
 * An actor waits for a signal, however long that takes, without a timer. The one exception is a breath between many steps in a row.
 */
import {
  CancellationScope,
  condition,
  continueAsNew,
  isCancellation,
  log,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
  sleep,
  workflowInfo,
} from '@temporalio/workflow';
import type { Phase } from './phase.ts';
import {
  closeConversationSignal,
  defectFailureType,
  getContactStateQuery,
  nudgeSignal,
  retireSignal,
  type ContactWorkflowInput,
  type ConversationRef,
  type NetworkActivities,
  type StepActivities,
} from './contract.ts';

// Local activities run inside one workflow task: the steps of an opening cost one round trip to the server together. Without a
// limit of attempts: while PostgreSQL is away there is nothing better to do than to try again.
const steps = proxyLocalActivities<StepActivities>({
  startToCloseTimeout: '30s',
  retry: {
    initialInterval: '100ms',
    backoffCoefficient: 2,
    maximumInterval: '10s',
    nonRetryableErrorTypes: [defectFailureType],
  },
});

// A conversation must not wait for another system for long: what that does not tell in time is left out, by the activity itself. The
// attempts are for our own database and for workers that close or die; three of them were over 1.5 s into a restart of PostgreSQL.
const network = proxyActivities<NetworkActivities>({
  startToCloseTimeout: '60s',
  scheduleToCloseTimeout: '3m',
  retry: {
    initialInterval: '500ms',
    backoffCoefficient: 2,
    maximumInterval: '10s',
    nonRetryableErrorTypes: [defectFailureType],
  },
});

export async function contactWorkflow(input: ContactWorkflowInput): Promise<void> {
  const contact = { workspaceId: input.workspaceId, contactId: input.contactId };
  let phase = { kind: 'idle' } as Phase;
  let nudged = true; // A run begins by looking.
  let closeIds: readonly string[] = input.closeConversationIds ?? [];
  let retiring = false;
  let stepsInRow = 0;

  setHandler(nudgeSignal, () => {
    nudged = true;
  });
  setHandler(closeConversationSignal, ({ conversationId }) => {
    if (!closeIds.includes(conversationId)) closeIds = [...closeIds, conversationId];
  });
  setHandler(retireSignal, () => {
    retiring = true;
  });
  setHandler(getContactStateQuery, () => ({ phase, unread: { nudged, closeConversationIds: closeIds } }));

  for (;;) {
    if (phase.kind === 'idle' || phase.kind === 'open') {
      // Nothing is under way here, so a new, short history may begin. What is unread goes along: closes by their ids, nudges
      // by the look that every run begins with. Signals that arrive just now fail this task, and it runs again with them.
      if (isLong(input)) return continueAsNew<typeof contactWorkflow>({ ...input, closeConversationIds: closeIds });
      const conversationId: string | null = phase.kind === 'open' ? phase.conversationId : null;
      if (!nudged && closeIds.length === 0) {
        if (retiring && conversationId === null) return;
        retiring = false;
        await condition(() => nudged || closeIds.length > 0 || retiring);
        stepsInRow = 0;
        continue;
      }
      if (conversationId !== null && closeIds.includes(conversationId)) {
        phase = { kind: 'closing', conversationId };
        continue;
      }
      // A close that names another conversation was heard too early or too late: looking tells which.
      phase = { kind: 'pending' };
    }
    if (stepsInRow === maxStepsInRow) {
      await sleep(1);
      stepsInRow = 0;
    }
    stepsInRow += 1;
    phase = await takeStep(phase);
  }

  /** Runs the one step that the phase calls for. */
  async function takeStep(current: Exclude<Phase, { kind: 'idle' | 'open' }>): Promise<Phase> {
    try {
      if (current.kind === 'pending') {
        // A close may be heard before it is known which conversation is open, as when its signal started this run.
        const heard = closeIds;
        nudged = false;
        closeIds = [];
        const found = await steps.openConversation(contact);
        if (!('conversationId' in found) || !heard.includes(found.conversationId)) return found;
        return { kind: 'closing', conversationId: found.conversationId };
      }
      const conversation = { ...contact, conversationId: current.conversationId };
      if (current.kind === 'closing' || closeIds.includes(current.conversationId)) {
        nudged = false;
        closeIds = [];
        return await steps.closeConversation(conversation);
      }
      switch (current.kind) {
        case 'enriching':
          return await orDefaultTeam(conversation, current.overNetwork ? enrichOverNetwork : steps.enrichConversation);
        case 'routing':
          return await orDefaultTeam(conversation, steps.routeConversation);
        case 'assigning':
          return await steps.assignConversation(conversation);
      }
    } catch (error) {
      if (isCancellation(error)) throw error;
      // Nothing to do but wait: the next nudge, at the latest the house timer's, makes the actor look again.
      log.error('A step failed for good', { phase: current.kind });
      return { kind: 'idle' };
    }
  }

  async function orDefaultTeam(
    conversation: ConversationRef,
    step: (conversation: ConversationRef) => Promise<Phase>,
  ): Promise<Phase> {
    try {
      return await step(conversation);
    } catch (error) {
      if (isCancellation(error)) throw error;
      return steps.fallBackToDefaultTeam(conversation, `${phase.kind} failed`);
    }
  }

  /** Another system may be slow; a close does not wait for it. */
  async function enrichOverNetwork(conversation: ConversationRef): Promise<Phase> {
    const { conversationId } = conversation;
    const request = new CancellationScope();
    try {
      return await request.run(() =>
        Promise.race([
          network.enrichOverNetwork(conversation),
          condition(() => closeIds.includes(conversationId)).then((): Phase => ({ kind: 'closing', conversationId })),
        ]),
      );
    } finally {
      request.cancel();
    }
  }
}

/**
 * Steps that may follow each other without a wait, hence within one workflow task. A contact that always has something to do (it
 * writes and is closed all the time) would never let its task end: on a busy machine the server then takes the task for lost after
 * 10 s, and everything in it is done again. A timer ends the task, which also lets the signals in. One cycle needs five.
 */
const maxStepsInRow = 8;

const isLong = (input: ContactWorkflowInput): boolean => {
  const info = workflowInfo();
  return info.continueAsNewSuggested || info.historyLength >= input.maxHistoryEvents;
};
