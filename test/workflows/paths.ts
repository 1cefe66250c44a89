/**
 * Each path an actor can take, driven on real parts. Their histories are recorded, replayed, and searched for personal data. At its end each
 * looks at the conversation: an actor whose step failed comes to rest, too.
 */
import { expect } from 'vitest';
import { newId } from '../../platform/id.ts';
import { requestClose } from '../../store/closing.ts';
import { openByUser } from '../../store/opening.ts';
import { closeConversationSignal, nudgeSignal, retireSignal } from '../../workflows/contract.ts';
import type { EnrichmentServer } from '../activities/enrichment-server.ts';
import { eventually } from '../support/eventually.ts';
import type { Actors, Scene } from './actors.ts';

/** Words that contacts and agents write in these paths; none may be in a history. */
export const personalWords = ['private-question', 'private-contact', 'Name of', 'Secret summary', 'gold-customer'];

const contactName = (): string => `private-contact-${newId()}`;

/** @returns the ids of the contacts whose actors took the path */
export type Path = (context: {
  actors: Actors;
  server: EnrichmentServer;
}) => Promise<{ scene: Scene; contactId: string }>;

/** Without a fallback, unless one is expected. */
async function expectConversation(scene: Scene, conversationId: string, members: object): Promise<void> {
  expect(await scene.conversation(conversationId)).toMatchObject({ fallbackReason: null, ...members });
}

const statesOf = async (scene: Scene, contactId: string): Promise<string[]> =>
  (await scene.conversationsOf(contactId)).map(({ state }) => state);

const keywordsFlow = (teamId: string) => ({
  enrichment: [{ kind: 'keywords', field: 'topic', rules: [{ value: 'q', keywords: ['private-question'] }] }],
  routing: {
    branches: [{ name: 'Questions', when: "fields.topic == 'q'", teamId, priority: 5 }],
    otherwise: { teamId, priority: 0 },
  },
});

const networkFlow = (url: string, teamId: string) => ({
  enrichment: [{ kind: 'http', url, timeoutMs: 5_000, fields: { tier: '/customer/tier' } }],
  routing: { branches: [], otherwise: { teamId, priority: 0 } },
});

const askingFlow = (teamId: string, timeoutSeconds: number) => ({
  enrichment: [
    {
      kind: 'ask',
      field: 'topic',
      text: 'What is your private-question about?',
      choices: [{ value: 'q', label: 'private-question' }],
      maxQuestions: 2,
      timeoutSeconds,
      settleSeconds: 0,
      giveUp: { value: 'none' },
    },
  ],
  routing: { branches: [], otherwise: { teamId } },
});

/** A contact that has written, and whose flow has asked it something. */
async function askSomebody(actors: Actors, { timeoutSeconds = 600 } = {}) {
  const scene = await actors.enter();
  await scene.publish(askingFlow(scene.defaultTeamId, timeoutSeconds));
  const contact = contactName();
  const contactId = await scene.say(contact, 'Hello');
  const conversationId = await eventually('the flow waits for an answer', async () => {
    const { phase } = await scene.stateOf(contactId);
    return phase.kind === 'asking' && phase.conversationId;
  });
  return { scene, contact, contactId, conversationId };
}

export const paths: Readonly<Record<string, Path>> = {
  async 'local-steps'({ actors }) {
    const scene = await actors.enter();
    await scene.publish({
      enrichment: [
        { kind: 'set', field: 'origin', value: 'private-question' },
        { kind: 'language', field: 'language', otherwise: 'en' },
        { kind: 'contact', fields: { earlier: 'conversationCount', who: 'name' } },
      ],
      routing: { branches: [], otherwise: { teamId: scene.defaultTeamId } },
    });
    const contact = contactName();
    const contactId = await scene.say(contact, 'Guten Tag, ich habe eine Frage zu meiner Rechnung: private-question');
    const conversationId = await scene.untilOpen(contactId);
    const fields = { origin: 'private-question', language: 'de', earlier: 0, who: `Name of ${contact}` };
    await expectConversation(scene, conversationId, { state: 'waiting', fields });
    return { scene, contactId };
  },

  async 'asked-and-answered'({ actors }) {
    const { scene, contact, contactId, conversationId } = await askSomebody(actors);
    await scene.say(contact, 'no private-answer');
    await scene.say(contact, 'A private-question');
    await scene.untilOpen(contactId);
    await expectConversation(scene, conversationId, { state: 'waiting', fields: { topic: 'q' } });
    // What the contact wrote, and two questions.
    expect(await scene.messagesOf(contactId)).toHaveLength(5);
    return { scene, contactId };
  },

  /** Nobody tells the actor: its own timer does. */
  async 'asked-in-vain'({ actors }) {
    const { scene, contactId, conversationId } = await askSomebody(actors, { timeoutSeconds: 5 });
    await scene.untilOpen(contactId);
    await expectConversation(scene, conversationId, { state: 'waiting', fields: { topic: 'none' } });
    return { scene, contactId };
  },

  async 'closed-while-asking'({ actors }) {
    const { scene, contactId, conversationId } = await askSomebody(actors);
    await scene.requestClose(contactId, conversationId);
    await scene.untilIdle(contactId);
    await expectConversation(scene, conversationId, { state: 'closed', fields: {} });
    return { scene, contactId };
  },

  async 'closed-by-flow'({ actors }) {
    const scene = await actors.enter();
    await scene.publish({
      enrichment: [],
      routing: {
        branches: [],
        otherwise: { close: true, text: 'Dear {{contact.name}}, that was a private-question.' },
      },
    });
    const contactId = await scene.say(contactName(), 'A private-question');
    await scene.untilIdle(contactId);
    const [conversation] = await scene.conversationsOf(contactId);
    await expectConversation(scene, conversation!.id, { state: 'closed', closeReason: 'flow' });
    expect(await scene.messagesOf(contactId)).toHaveLength(2);
    return { scene, contactId };
  },

  async classified({ actors }) {
    const scene = await actors.enter();
    await scene.publish({
      enrichment: [
        {
          kind: 'classify',
          field: 'topic',
          labels: [{ label: 'billing' }, { label: 'delivery' }],
          otherwise: 'unknown',
          timeoutMs: 5_000,
        },
      ],
      routing: { branches: [], otherwise: { teamId: scene.defaultTeamId } },
    });
    const contactId = await scene.say(contactName(), 'A private-question');
    const conversationId = await scene.untilOpen(contactId);
    await expectConversation(scene, conversationId, { state: 'waiting', fields: { topic: 'billing' } });
    return { scene, contactId };
  },

  async 'assigned-and-closed'({ actors }) {
    const scene = await actors.enter();
    await scene.publish(keywordsFlow(scene.defaultTeamId));
    const agentId = await scene.addAgent(1);
    const contactId = await scene.say(contactName(), 'A private-question');
    const conversationId = await scene.untilOpen(contactId);
    await expectConversation(scene, conversationId, {
      state: 'assigned',
      agentId,
      priority: 5,
      fields: { topic: 'q' },
    });
    await scene.requestClose(contactId, conversationId);
    await scene.untilIdle(contactId);
    await expectConversation(scene, conversationId, { state: 'closed', agentId });
    return { scene, contactId };
  },

  async 'waiting-without-flow'({ actors }) {
    const scene = await actors.enter();
    const contactId = await scene.say(contactName(), 'A private-question');
    await expectConversation(scene, await scene.untilOpen(contactId), {
      state: 'waiting',
      teamId: scene.defaultTeamId,
    });
    return { scene, contactId };
  },

  async 'next-message-during-close'({ actors }) {
    const scene = await actors.enter();
    const contact = contactName();
    const contactId = await scene.say(contact, 'A private-question');
    const first = await scene.untilOpen(contactId);
    await requestClose(scene.pool, { workspaceId: scene.workspaceId, conversationId: first, agentId: null });
    await scene.write(contact, { text: 'One more private-question' });
    await Promise.all([scene.nudge(contactId), scene.tellToClose(contactId, first), scene.nudge(contactId)]);
    await scene.untilOpen(contactId, first);
    expect(await statesOf(scene, contactId)).toEqual(['closed', 'waiting']);
    return { scene, contactId };
  },

  /** As the relay tells it where an update failed. */
  async 'stale-signals'({ actors }) {
    const scene = await actors.enter();
    const contactId = await scene.say(contactName(), 'A private-question');
    await scene.untilOpen(contactId);
    const actor = scene.handleOf(contactId);
    await Promise.all([
      actor.signal(closeConversationSignal, { conversationId: newId() }),
      actor.signal(nudgeSignal),
      actor.signal(nudgeSignal),
    ]);
    await eventually('all of it is read', async () => {
      const { phase, unread } = await scene.stateOf(contactId);
      return phase.kind === 'open' && !unread.nudged && unread.closeConversationIds.length === 0;
    });
    expect(await statesOf(scene, contactId)).toEqual(['waiting']);
    return { scene, contactId };
  },

  async 'opened-by-agent'({ actors }) {
    const scene = await actors.enter();
    const { contactId } = await scene.write(contactName(), { text: 'A private-question' });
    const { workspaceId } = scene;
    await openByUser(scene.pool, { workspaceId, contactId, source: 'user', to: { kind: 'queue' }, byAgentId: null });
    await scene.nudge(contactId);
    const conversationId = await scene.untilOpen(contactId);
    await scene.requestClose(contactId, conversationId);
    await scene.untilIdle(contactId);
    await expectConversation(scene, conversationId, { state: 'closed', source: 'user' });
    return { scene, contactId };
  },

  async 'enriched-over-network'({ actors, server }) {
    const scene = await actors.enter();
    await scene.publish(networkFlow(`${server.url}/customer`, scene.defaultTeamId));
    const contactId = await scene.say(contactName(), 'A private-question of a gold-customer');
    const conversationId = await scene.untilOpen(contactId);
    await expectConversation(scene, conversationId, { state: 'waiting', fields: { tier: 'gold' } });
    return { scene, contactId };
  },

  async 'closed-during-network'({ actors, server }) {
    const scene = await actors.enter();
    await scene.publish(networkFlow(`${server.url}/slow`, scene.defaultTeamId));
    const contactId = await scene.say(contactName(), 'A private-question');
    const conversationId = await eventually('the actor waits for the other system', async () => {
      const { phase } = await scene.stateOf(contactId);
      return phase.kind === 'enriching' && phase.conversationId;
    });
    await scene.requestClose(contactId, conversationId);
    await scene.untilIdle(contactId);
    server.release();
    await expectConversation(scene, conversationId, { state: 'closed', fields: {} });
    return { scene, contactId };
  },

  async 'flow-failed'({ actors }) {
    const scene = await actors.enter();
    const trigger = { on: 'conversation.opened', condition: 'true' };
    await scene.publishUnchecked({ trigger, enrichment: [], routing: { branches: [], otherwise: null } });
    const contactId = await scene.say(contactName(), 'A private-question');
    const conversationId = await scene.untilOpen(contactId);
    await expectConversation(scene, conversationId, {
      state: 'waiting',
      fallbackReason: expect.stringContaining('routing failed'),
    });
    return { scene, contactId };
  },

  async 'started-by-close'({ actors }) {
    const scene = await actors.enter();
    const contactId = await scene.say(contactName(), 'A private-question');
    const conversationId = await scene.untilOpen(contactId);
    await scene.handleOf(contactId).terminate('lost');
    await scene.tellToClose(contactId, conversationId);
    await scene.untilIdle(contactId);
    await expectConversation(scene, conversationId, { state: 'closed' });
    return { scene, contactId };
  },

  async retired({ actors }) {
    const scene = await actors.enter();
    const contactId = await scene.say(contactName(), 'A private-question');
    await scene.requestClose(contactId, await scene.untilOpen(contactId));
    await scene.untilIdle(contactId);
    await scene.handleOf(contactId).signal(retireSignal);
    await scene.handleOf(contactId).result();
    expect(await statesOf(scene, contactId)).toEqual(['closed']);
    return { scene, contactId };
  },

  /** The first run of the chain, which ends by continuing as new. */
  async 'continued-as-new'({ actors }) {
    const scene = await actors.enter();
    const contact = contactName();
    const { contactId } = await scene.write(contact, { text: 'A private-question' });
    await scene.nudge(contactId, { maxHistoryEvents: 12 });
    const { runId } = await scene.handleOf(contactId).describe();
    let last: string | undefined;
    await eventually('the next run', async () => {
      last = await scene.untilOpen(contactId, last);
      await requestClose(scene.pool, { workspaceId: scene.workspaceId, conversationId: last, agentId: null });
      await scene.write(contact, { text: 'One more private-question' });
      await scene.tellToClose(contactId, last);
      await scene.nudge(contactId);
      return (await scene.handleOf(contactId).describe()).runId !== runId;
    });
    await scene.untilOpen(contactId, last);
    const states = await statesOf(scene, contactId);
    expect(states).toEqual([...states.slice(1).map(() => 'closed'), 'waiting']);
    const { workflowId } = scene.handleOf(contactId);
    return { scene: { ...scene, handleOf: () => actors.client.workflow.getHandle(workflowId, runId) }, contactId };
  },
};
