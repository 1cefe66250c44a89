/** What an actor has heard and not yet acted on, and how it hears: the same for actors of every form. */
import { setHandler } from '@temporalio/workflow';
import type { Phase } from '../routing/phase.ts';
import {
  closeConversationSignal,
  getContactStateQuery,
  nudgeSignal,
  nudgeUpdate,
  retireSignal,
  type ContactWorkflowInput,
} from './contract.ts';

export interface Told {
  nudged: boolean;
  /** Closes of conversations that were not, or not yet, the open one. */
  closeIds: readonly string[];
  retiring: boolean;
  /** Where the contact stands as far as the actor knows; only the query asks. */
  phase: Phase;
}

/**
 * Handlers only take notes: none waits, so an update is accepted and completed within one workflow task, and no handler is ever running
 * when the actor ends or continues as new.
 */
export function listen(input: ContactWorkflowInput): Told {
  const told: Told = {
    nudged: true, // A run begins by looking.
    closeIds: input.closeConversationIds ?? [],
    retiring: false,
    phase: { kind: 'idle' },
  };
  const noteClose = (conversationId: string): void => {
    if (!told.closeIds.includes(conversationId)) told.closeIds = [...told.closeIds, conversationId];
  };
  setHandler(nudgeUpdate, ({ closeConversationId }) => {
    if (closeConversationId === undefined) told.nudged = true;
    else noteClose(closeConversationId);
  });
  setHandler(nudgeSignal, () => {
    told.nudged = true;
  });
  setHandler(closeConversationSignal, ({ conversationId }) => noteClose(conversationId));
  setHandler(retireSignal, () => {
    told.retiring = true;
  });
  setHandler(getContactStateQuery, () => ({
    phase: told.phase,
    unread: { nudged: told.nudged, closeConversationIds: told.closeIds },
  }));
  return told;
}
