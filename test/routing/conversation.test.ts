import { describe, expect, it } from 'vitest';
import { nextState, TRANSITIONS, type ConversationEvent, type ConversationState } from '../../routing/conversation.ts';

const states = Object.keys(TRANSITIONS) as ConversationState[];
const events = Object.keys(TRANSITIONS.enriching) as ConversationEvent[];

describe('the life of a conversation', () => {
  it('goes the straight way from opening to close', () => {
    const way: ConversationEvent[] = ['enriched', 'routed', 'waited', 'assigned', 'unassigned', 'assigned', 'closed'];
    const seen: (ConversationState | null)[] = ['enriching'];
    for (const event of way) seen.push(nextState(seen.at(-1) as ConversationState, event));
    expect(seen).toEqual(['enriching', 'routing', 'routing', 'waiting', 'assigned', 'waiting', 'assigned', 'closed']);
  });

  it('has a cell for every event in every state', () => {
    for (const state of states) expect(Object.keys(TRANSITIONS[state]).toSorted()).toEqual(events.toSorted());
  });

  it('closes from every open state, once', () => {
    for (const state of states) expect(nextState(state, 'closed')).toBe(state === 'closed' ? null : 'closed');
  });

  it('ends with the close', () => {
    for (const event of events) expect(nextState('closed', event)).toBeNull();
  });

  it('lets a person assign and unassign in every open state', () => {
    for (const state of states.filter((state) => state !== 'closed')) {
      expect(nextState(state, 'assigned')).toBe('assigned');
      expect(nextState(state, 'unassigned')).toBe('waiting');
    }
  });

  it("ignores the flow's late steps after a person acted", () => {
    for (const state of ['waiting', 'assigned'] as const) {
      for (const event of ['enriched', 'routed', 'waited'] as const) expect(nextState(state, event)).toBeNull();
    }
  });
});
