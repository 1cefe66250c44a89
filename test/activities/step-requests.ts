/** What a network step is asked with, as the activity would: everything may be said otherwise. */
import type { StepRequest } from '../../activities/step-answers.ts';
import type { NetworkAccess } from '../../activities/network-access.ts';
import type { FlowSecret } from '../../platform/flow-secrets.ts';
import type { RoutingFacts } from '../../routing/facts.ts';

export const workspaceId = '0197a000-0000-7000-8000-000000000001';
export const conversationId = '0197a000-0000-7000-8000-000000000002';

export const someFacts: RoutingFacts = {
  conversation: { source: 'contact', priority: 0 },
  contact: { id: '0197a000-0000-7000-8000-000000000003', name: 'Ada & Söhne', attributes: { plan: 'gold' } },
  channel: { key: 'web', name: 'Website' },
  message: { text: 'Hello there' },
  fields: { known: true },
  nowMs: 1_760_000_000_000,
};

export interface RequestOptions extends Partial<Omit<StepRequest, 'facts' | 'network'>> {
  readonly text?: string;
  readonly facts?: Partial<RoutingFacts>;
  readonly network?: Partial<Omit<NetworkAccess, 'secrets'>>;
  /** Of `workspaceId`, by name. */
  readonly secrets?: Readonly<Record<string, FlowSecret>>;
}

export function createRequest({ text, facts, network, secrets = {}, ...others }: RequestOptions = {}): StepRequest {
  return {
    conversation: { workspaceId, contactId: someFacts.contact.id, conversationId },
    position: 3,
    facts: { ...someFacts, ...(text !== undefined && { message: { text } }), ...facts },
    deadline: Date.now() + 20_000,
    cancelled: new AbortController().signal,
    network: {
      allowedHosts: new Set(),
      privateCidrs: [],
      secrets: { find: (workspace, name) => (workspace === workspaceId ? secrets[name] : undefined) },
      classifier: null,
      ...network,
    },
    ...others,
  };
}
