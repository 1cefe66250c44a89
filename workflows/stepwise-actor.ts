/**
 * The actor as it was until one local activity did a whole waking: every step was a local activity of its own. Runs that began in that
 * form have its steps in their histories, so they must go on by it; each changes over when it continues as new (contact-workflow.ts says
 * how the forms are told apart). Nothing here may change what a recorded history led to: test/histories/stepwise/ is replayed.
 *
 * It may go, with those histories and the step activities' place in the worker, once no such run is left: when every contact has had
 * about 110 conversations since, or has been retired for being quiet (ACTOR_IDLE_DAYS), or its run was terminated by hand, which loses
 * nothing: the next nudge starts another.
 */
import {
  CancellationScope,
  condition,
  continueAsNew,
  isCancellation,
  log,
  sleep,
  workflowInfo,
} from '@temporalio/workflow';
import type { Phase } from '../routing/phase.ts';
import { local as steps, network } from './activity-proxies.ts';
import type { ContactWorkflowInput, ConversationRef } from './contract.ts';
import { listen } from './told.ts';

export async function runStepwise(input: ContactWorkflowInput): Promise<void> {
  const contact = { workspaceId: input.workspaceId, contactId: input.contactId };
  const told = listen(input);
  let stepsInRow = 0;

  for (;;) {
    if (told.phase.kind === 'idle' || told.phase.kind === 'open' || told.phase.kind === 'asking') {
      // Nothing is under way here, so a new, short history may begin, in the present form; this one never learnt to wait for an answer.
      if (isLong(input) || told.phase.kind === 'asking') {
        return continueAsNew<typeof runStepwise>({ ...input, closeConversationIds: told.closeIds });
      }
      const conversationId: string | null = told.phase.kind === 'open' ? told.phase.conversationId : null;
      if (!told.nudged && told.closeIds.length === 0) {
        if (told.retiring && conversationId === null) return;
        told.retiring = false;
        await condition(() => told.nudged || told.closeIds.length > 0 || told.retiring);
        stepsInRow = 0;
        continue;
      }
      if (conversationId !== null && told.closeIds.includes(conversationId)) {
        told.phase = { kind: 'closing', conversationId };
        continue;
      }
      told.phase = { kind: 'pending' };
    }
    if (stepsInRow === maxStepsInRow) {
      await sleep(1);
      stepsInRow = 0;
    }
    stepsInRow += 1;
    told.phase = await takeStep(told.phase);
  }

  /** Runs the one step that the phase calls for. */
  async function takeStep(current: Exclude<Phase, { kind: 'idle' | 'open' | 'asking' }>): Promise<Phase> {
    try {
      if (current.kind === 'pending') {
        const heard = told.closeIds;
        told.nudged = false;
        told.closeIds = [];
        const found = await steps.openConversation(contact);
        if (!('conversationId' in found) || !heard.includes(found.conversationId)) return found;
        return { kind: 'closing', conversationId: found.conversationId };
      }
      const conversation = { ...contact, conversationId: current.conversationId };
      if (current.kind === 'closing' || told.closeIds.includes(current.conversationId)) {
        told.nudged = false;
        told.closeIds = [];
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
      return steps.fallBackToDefaultTeam(conversation, `${told.phase.kind} failed`);
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
          condition(() => told.closeIds.includes(conversationId)).then((): Phase => ({
            kind: 'closing',
            conversationId,
          })),
        ]),
      );
    } finally {
      request.cancel();
    }
  }
}

/** Steps that may follow each other without a wait, hence within one workflow task, before a timer ends it. */
const maxStepsInRow = 8;

const isLong = (input: ContactWorkflowInput): boolean => {
  const info = workflowInfo();
  return info.continueAsNewSuggested || info.historyLength >= input.maxHistoryEvents;
};
