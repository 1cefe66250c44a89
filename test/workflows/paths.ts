/** Each path an actor can take, driven on real parts. Their histories are recorded, replayed, and searched for personal data. */
import { newId } from '../../platform/id.ts';
import { requestClose } from '../../store/closing.ts';
import { openByUser } from '../../store/opening.ts';
import { retireSignal } from '../../workflows/contract.ts';
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

const askingFlow = (teamId: string) => ({
  enrichment: [
    {
      kind: 'ask',
      field: 'topic',
      text: 'What is your private-question about?',
      choices: [{ value: 'q', label: 'private-question' }],
      maxQuestions: 2,
      timeoutSeconds: 5,
      settleSeconds: 0,
    },
  ],
  routing: { branches: [], otherwise: { teamId } },
});

/** A contact that has written, and whose flow has asked it something. */
async function askSomebody(actors: Actors) {
  const scene = await actors.enter();
  await scene.publish(askingFlow(scene.defaultTeamId));
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
    const contactId = await scene.say(contactName(), 'A private-question');
    await scene.untilOpen(contactId);
    return { scene, contactId };
  },

  async 'asked-and-answered'({ actors }) {
    const { scene, contact, contactId } = await askSomebody(actors);
    await scene.say(contact, 'no private-answer');
    await scene.say(contact, 'A private-question');
    await scene.untilOpen(contactId);
    return { scene, contactId };
  },

  /** Nobody tells the actor: its own timer does. */
  async 'asked-in-vain'({ actors }) {
    const { scene, contactId } = await askSomebody(actors);
    await scene.untilOpen(contactId);
    return { scene, contactId };
  },

  async 'closed-while-asking'({ actors }) {
    const { scene, contactId, conversationId } = await askSomebody(actors);
    await scene.requestClose(contactId, conversationId);
    await scene.untilIdle(contactId);
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
    await scene.untilOpen(contactId);
    return { scene, contactId };
  },

  async 'assigned-and-closed'({ actors }) {
    const scene = await actors.enter();
    await scene.publish(keywordsFlow(scene.defaultTeamId));
    await scene.addAgent(1);
    const contactId = await scene.say(contactName(), 'A private-question');
    await scene.requestClose(contactId, await scene.untilOpen(contactId));
    await scene.untilIdle(contactId);
    return { scene, contactId };
  },

  async 'waiting-without-flow'({ actors }) {
    const scene = await actors.enter();
    const contactId = await scene.say(contactName(), 'A private-question');
    await scene.untilOpen(contactId);
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
    return { scene, contactId };
  },

  async 'stale-signals'({ actors }) {
    const scene = await actors.enter();
    const contactId = await scene.say(contactName(), 'A private-question');
    await scene.untilOpen(contactId);
    await Promise.all([scene.tellToClose(contactId, newId()), scene.nudge(contactId), scene.nudge(contactId)]);
    await eventually('all of it is read', async () => {
      const { phase, unread } = await scene.stateOf(contactId);
      return phase.kind === 'open' && !unread.nudged && unread.closeConversationIds.length === 0;
    });
    return { scene, contactId };
  },

  async 'opened-by-agent'({ actors }) {
    const scene = await actors.enter();
    const { contactId } = await scene.write(contactName(), { text: 'A private-question' });
    const { workspaceId } = scene;
    await openByUser(scene.pool, { workspaceId, contactId, source: 'user', to: { kind: 'queue' }, byAgentId: null });
    await scene.nudge(contactId);
    await scene.requestClose(contactId, await scene.untilOpen(contactId));
    await scene.untilIdle(contactId);
    return { scene, contactId };
  },

  async 'enriched-over-network'({ actors, server }) {
    const scene = await actors.enter();
    await scene.publish(networkFlow(`${server.url}/customer`, scene.defaultTeamId));
    const contactId = await scene.say(contactName(), 'A private-question of a gold-customer');
    await scene.untilOpen(contactId);
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
    return { scene, contactId };
  },

  async 'flow-failed'({ actors }) {
    const scene = await actors.enter();
    const trigger = { on: 'conversation.opened', condition: 'true' };
    await scene.publishUnchecked({ trigger, enrichment: [], routing: { branches: [], otherwise: null } });
    const contactId = await scene.say(contactName(), 'A private-question');
    await scene.untilOpen(contactId);
    return { scene, contactId };
  },

  async 'started-by-close'({ actors }) {
    const scene = await actors.enter();
    const contactId = await scene.say(contactName(), 'A private-question');
    const conversationId = await scene.untilOpen(contactId);
    await scene.handleOf(contactId).terminate('lost');
    await scene.tellToClose(contactId, conversationId);
    await scene.untilIdle(contactId);
    return { scene, contactId };
  },

  async retired({ actors }) {
    const scene = await actors.enter();
    const contactId = await scene.say(contactName(), 'A private-question');
    await scene.requestClose(contactId, await scene.untilOpen(contactId));
    await scene.untilIdle(contactId);
    await scene.handleOf(contactId).signal(retireSignal);
    await scene.handleOf(contactId).result();
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
    const { workflowId } = scene.handleOf(contactId);
    return { scene: { ...scene, handleOf: () => actors.client.workflow.getHandle(workflowId, runId) }, contactId };
  },
};
