/**
 * The actor of one contact: enforces one open conversation at a time and carries each from opening to close.
 *
 * It keeps no facts. A waking is one local activity, `advanceContact`, which takes step after step as far as the rows in PostgreSQL call
 * for, each a transaction of its own, and answers where the contact stands then. Hence:
 * - a run that was lost, terminated or continued as new resumes by looking;
 * - a waking repeated after some of its steps committed, or overtaken by a person, begins by looking and repeats none of them;
 * - nudges only say "look" or "close this one", so they may come twice, late, or in any order. What a nudge is about was committed
 *   before it was sent, so a waking that begins after the nudge arrived sees it; a nudge that arrives during a waking is kept for
 *   the next.
 *
 * What is done here is paid for in every conversation: each promise, timer and activity of workflow code costs the worker or the server
 * something. Therefore few awaits, one activity, no search attributes, and no timer but one: while the flow waits for the contact's
 * answer. Else an actor waits for a nudge however long that takes.
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
import { isResting, type Phase } from '../routing/phase.ts';
import { local, network } from './activity-proxies.ts';
import { isWakingBuild, type ContactRef, type ContactWorkflowInput, type ConversationRef } from './contract.ts';
import { runStepwise } from './stepwise-actor.ts';
import { listen, type Told } from './told.ts';

/**
 * A run goes on in the form in which it began, which its first workflow task tells: the server records with it the build of the worker that
 * carried it out, and a replay sees the same. So it is right even while workers of both builds share the task queue, and whichever of
 * them a new run meets first. Rejected: `patched()`, whose marker writes a search attribute in every run; a mark in the input, which
 * a worker of the old build would not heed and so leave a history behind that belongs to the other form.
 */
export async function contactWorkflow(input: ContactWorkflowInput): Promise<void> {
  if (!isWakingBuild(workflowInfo().currentBuildId)) return runStepwise(input);
  const contact = { workspaceId: input.workspaceId, contactId: input.contactId };
  const told = listen(input);
  for (;;) {
    // Nothing is under way here, so a new, short history may begin. What is unread goes along: closes by their ids, nudges by the look
    // that every run begins with. What arrives just now fails this task, which then runs again with it.
    if (isPause(told.phase) && isLong(input)) {
      return continueAsNew<typeof contactWorkflow>({ ...input, closeConversationIds: told.closeIds });
    }
    if (isResting(told.phase) && !told.nudged && told.closeIds.length === 0) {
      if (told.retiring && told.phase.kind === 'idle') return;
      told.retiring = false;
      await rest(told);
      continue;
    }
    try {
      told.phase = await goOn(contact, told);
    } catch (error) {
      if (isCancellation(error)) throw error;
      // Nothing to do but wait: the next nudge, at the latest the house timer's, makes the actor look again.
      log.error('A step failed for good', { phase: told.phase.kind });
      told.phase = { kind: 'idle' };
    }
  }
}

/** Also before another system is asked: a contact that goes on writing may have it asked again and again without the actor ever resting. */
const isPause = (phase: Phase): boolean => isResting(phase) || isOverNetwork(phase);

const isOverNetwork = (phase: Phase): phase is Extract<Phase, { kind: 'enriching' }> =>
  phase.kind === 'enriching' && phase.overNetwork;

/**
 * Until something is told. Only while a question waits for the contact's answer is there a timer, and whoever asks to retire does not end it: how long
 * it has run is known to nobody.
 */
async function rest(told: Told): Promise<void> {
  const hasNews = (): boolean => told.nudged || told.closeIds.length > 0;
  if (told.phase.kind === 'asking') told.nudged = !(await condition(hasNews, told.phase.waitMs)) || told.nudged;
  else await condition(() => hasNews() || told.retiring);
}

async function goOn(contact: ContactRef, told: Told): Promise<Phase> {
  const { phase } = told;
  if (isOverNetwork(phase)) {
    await enrichOverNetwork({ ...contact, conversationId: phase.conversationId }, told);
  } else if (!isResting(phase)) {
    // The waking before stopped midway, at its own limit: a contact that always has something to do (it writes and is closed all the
    // time) would never let its workflow task end, and the server takes a task for lost after 10 s. A timer ends it, and what has
    // arrived meanwhile is heard.
    await sleep(1);
  }
  const closeConversationIds = told.closeIds;
  told.nudged = false;
  told.closeIds = [];
  return local.advanceContact({ ...contact, closeConversationIds });
}

/** Another system may be slow; a close does not wait for it. What became of it is seen by looking. */
async function enrichOverNetwork(conversation: ConversationRef, told: Told): Promise<void> {
  const { conversationId } = conversation;
  if (told.closeIds.includes(conversationId)) return;
  const request = new CancellationScope();
  try {
    await request.run(() =>
      Promise.race([network.enrichOverNetwork(conversation), condition(() => told.closeIds.includes(conversationId))]),
    );
  } catch (error) {
    if (isCancellation(error)) throw error;
    await local.fallBackToDefaultTeam(conversation, 'enriching failed');
  } finally {
    request.cancel();
  }
}

const isLong = (input: ContactWorkflowInput): boolean => {
  const info = workflowInfo();
  return info.continueAsNewSuggested || info.historyLength >= input.maxHistoryEvents;
};
