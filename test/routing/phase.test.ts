import { describe, expect, test } from 'vitest';
import { phaseOf, type OpenConversation } from '../../routing/phase.ts';

const open: OpenConversation = {
  id: 'v1',
  state: 'enriching',
  routed: false,
  closeRequested: false,
  enrichesOverNetwork: false,
  waitMs: null,
};

describe('the phase of a contact', () => {
  test.each([
    [null, false, { kind: 'idle' }],
    [null, true, { kind: 'pending' }],
    [{ ...open, state: 'closed' }, false, { kind: 'idle' }],
    [{ ...open, state: 'closed' }, true, { kind: 'pending' }],
    [open, false, { kind: 'enriching', conversationId: 'v1', overNetwork: false }],
    [{ ...open, enrichesOverNetwork: true }, false, { kind: 'enriching', conversationId: 'v1', overNetwork: true }],
    [{ ...open, waitMs: 2_000 }, false, { kind: 'asking', conversationId: 'v1', waitMs: 2_000 }],
    [{ ...open, waitMs: 0 }, false, { kind: 'enriching', conversationId: 'v1', overNetwork: false }],
    [{ ...open, state: 'routing' }, false, { kind: 'routing', conversationId: 'v1' }],
    [{ ...open, state: 'routing', routed: true }, false, { kind: 'assigning', conversationId: 'v1' }],
    [{ ...open, state: 'waiting', routed: true }, false, { kind: 'open', conversationId: 'v1' }],
    [{ ...open, state: 'assigned' }, false, { kind: 'open', conversationId: 'v1' }],
  ] as const)('of %j, pending %j, is %j', (conversation, hasPending, phase) => {
    expect(phaseOf(conversation, hasPending)).toEqual(phase);
  });

  test.each(['enriching', 'routing', 'waiting', 'assigned'] as const)(
    'is closing from the request on, whatever the state: %s',
    (state) => {
      const requested = { ...open, state, closeRequested: true };
      expect(phaseOf(requested, true)).toEqual({ kind: 'closing', conversationId: 'v1' });
    },
  );
});
