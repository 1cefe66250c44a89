import type { RoutingFacts } from '../../routing/facts.ts';

/** A Monday at noon in London. */
export const exampleFacts: RoutingFacts = {
  conversation: { source: 'contact', priority: 3 },
  contact: {
    id: 'c1',
    name: null,
    attributes: { plan: 'gold', orders: 4, nested: { city: 'Köln' }, constructor: 'x' },
  },
  channel: { key: 'mail', name: 'Mail' },
  message: { text: 'My invoice is wrong 😀' },
  fields: { purpose: 'billing', score: 0.5, vip: true },
  nowMs: Date.UTC(2026, 0, 5, 12),
};
