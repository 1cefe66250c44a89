// Frozen with contact-workflow.ts beside it. Not to be changed.
/**
 * What an actor is told, what it can be asked, and what it needs done. Clients, the relay and the activities all take these
 * names from here; workflow code never mentions `activities/`, which implements the interfaces below.
 *
 * Everything that crosses this line is ids only, so that no workflow history holds personal data.
 */
import { defineQuery, defineSignal } from '@temporalio/workflow';
import type { Phase } from './phase.ts';

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

/** Enrichment that leaves the house: slow and fallible, hence a regular activity with timeouts and retries on the server. */
export interface NetworkActivities {
  enrichOverNetwork(conversation: ConversationRef): Promise<Phase>;
}

/** The type of the application failure that retrying cannot mend. */
export const defectFailureType = 'Defect';
