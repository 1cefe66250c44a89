/**
 * What an actor is told, what it can be asked, and what it needs done. Clients, the relay and the activities all take these
 * names from here; workflow code never mentions `activities/`, which implements the interfaces below.
 *
 * Everything that crosses this line is ids only, so that no workflow history holds personal data.
 */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { Phase } from '../routing/phase.ts';

export const contactWorkflowType = 'contactWorkflow';

export interface ContactRef {
  readonly workspaceId: string;
  readonly contactId: string;
}

export interface ConversationRef extends ContactRef {
  readonly conversationId: string;
}

/** The id that makes an actor unique: Temporal runs at most one workflow of an id at a time. */
export const contactWorkflowId = ({ workspaceId, contactId }: ContactRef): string =>
  `contact/${workspaceId}/${contactId}`;

/** @returns null for an id that is no actor's */
export function parseContactWorkflowId(workflowId: string): ContactRef | null {
  const [kind, workspaceId, contactId] = workflowId.split('/');
  if (kind !== 'contact' || workspaceId === undefined || contactId === undefined) return null;
  return { workspaceId, contactId };
}

export interface ContactWorkflowInput extends ContactRef {
  /** The run ends itself and starts anew with a short history after this many events, or earlier if the server suggests it. */
  readonly maxHistoryEvents: number;
  /** Closes that the previous run had heard of but not yet acted on. */
  readonly closeConversationIds?: readonly string[];
}

/** What an actor has been told and not yet acted on. */
export interface Unread {
  readonly nudged: boolean;
  /** Closes of conversations that were not, or not yet, the open one. */
  readonly closeConversationIds: readonly string[];
}

/**
 * Workers name their build by this. The server stores it with each workflow task, which is how a run knows in which form it began: a build
 * that changes what an actor writes into its history takes the next number, and `isWakingBuild` and its like go by ranges of it.
 */
export const actorBuildId = 'switchyard-actor-3';

/** Whether that build's actors do a whole waking as one local activity. Before there was `actorBuildId`, each step was one. */
export const isWakingBuild = (buildId: string | undefined): boolean =>
  buildId?.startsWith('switchyard-actor-') ?? false;

/**
 * How the relay nudges: look, or close this conversation. As an update it is told, acted on and confirmed by one workflow task that the
 * server need not write down before, which spares two writes of three. It is durable only when it is answered, so whoever sends it
 * keeps what it is about until then. The handler never waits.
 */
export const nudgeUpdate = defineUpdate<void, [{ readonly closeConversationId?: string }]>('nudge');

/** Something in PostgreSQL changed for this contact: look. Safe to send twice, late, or for nothing. */
export const nudgeSignal = defineSignal('nudge');

/** Close this conversation. Ignored unless it is the open one, so a stale or doubled signal never closes the next. */
export const closeConversationSignal = defineSignal<[{ conversationId: string }]>('closeConversation');

/** End the actor if its contact has no open conversation and nothing pending; it starts again with the next message. */
export const retireSignal = defineSignal('retire');

export interface ContactState {
  readonly phase: Phase;
  readonly unread: Unread;
}

export const getContactStateQuery = defineQuery<ContactState>('getContactState');

/**
 * The steps of a conversation. Each is one transaction that acts only if the conversation is still where the step expects it,
 * and answers with the phase the contact is in now: after a repetition, or where a person acted first, it changes nothing and
 * the actor goes on from what is true.
 */
export interface StepActivities {
  /** Opens a conversation if messages are pending and none is open; otherwise only tells where the contact stands. */
  openConversation(contact: ContactRef): Promise<Phase>;
  enrichConversation(conversation: ConversationRef): Promise<Phase>;
  routeConversation(conversation: ConversationRef): Promise<Phase>;
  assignConversation(conversation: ConversationRef): Promise<Phase>;
  closeConversation(conversation: ConversationRef): Promise<Phase>;
  /** Sends a conversation whose flow failed to the workspace's default team, marked with the reason. */
  fallBackToDefaultTeam(conversation: ConversationRef, reason: string): Promise<Phase>;
}

/** What an actor does when it is woken. */
export interface WakingActivities {
  /**
   * Takes step after step until the contact is idle or open, or is asked something, or has to be enriched over the network, and answers with the phase in which it
   * ended: another one only if it stopped at its own limit. Begins by looking, so that a repetition goes on where the last attempt ended.
   *
   * @param waking.closeConversationIds closes that were told; those that are not the open conversation are ignored
   */
  advanceContact(waking: ContactRef & { readonly closeConversationIds: readonly string[] }): Promise<Phase>;
}

/** Enrichment that leaves the house: slow and fallible, hence a regular activity with timeouts and retries on the server. */
export interface NetworkActivities {
  enrichOverNetwork(conversation: ConversationRef): Promise<Phase>;
}

/** The type of the application failure that retrying cannot mend. */
export const defectFailureType = 'Defect';
