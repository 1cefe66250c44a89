import { openDesk, type Desk } from './desk.ts';
import type { Client } from './client.ts';
import type { History } from './history.ts';
import type { Pause } from './pause.ts';
import type { Roster } from './roster.ts';
import { measureUnloaded, type UnloadedTimes } from './unloaded.ts';
import type { Visitors } from './visitors.ts';

export interface ScenarioOptions {
  readonly contacts: number;
  readonly unloadedConversations: number;
}

export interface ScenarioResult {
  readonly unloaded: UnloadedTimes;
  readonly replies: number;
}

export interface Stage {
  readonly client: Client;
  readonly history: History;
  readonly visitors: Visitors;
  readonly roster: Roster;
  readonly pause: Pause;
  announce(phase: string): void;
}

const arrivalEveryMs = 1_500;
const stallAfterMs = 30_000;

export async function playScenario(stage: Stage, options: ScenarioOptions): Promise<ScenarioResult> {
  const { client, history, visitors, roster, pause, announce } = stage;
  const [first, ...others] = roster.agents();
  if (first === undefined) throw new Error('The workspace has no agents.');

  announce('One contact at a time: how long from open to assigned, without load');
  for (const { id } of roster.agents()) await roster.setPresence(id, 'online');
  const unloaded = await measureUnloaded(stage, options.unloadedConversations);

  const desk = openDesk({ client, history, visitors, pause });
  try {
    announce(`${options.contacts} contacts write at the same time; ${first.name} is the only agent there`);
    await Promise.all(others.map(({ id }) => roster.setPresence(id, 'away')));
    const newcomers = Array.from({ length: options.contacts }, () => visitors.create());
    await Promise.all(newcomers.map((visitor) => visitor.beginWriting()));

    announce('Agents come, answer and close; contacts write again, some at the very moment of the close');
    for (const { id } of others) {
      await pause(arrivalEveryMs);
      await roster.setPresence(id, 'online');
    }
    await waitUntilServed(stage, desk);
  } finally {
    await desk.rest();
  }
  return { unloaded, replies: desk.repliesStored() };
}

/** Everything written is attached, everything opened is closed, and nobody is about to write. A standstill ends the wait: the judge will tell. */
async function waitUntilServed({ history, visitors, pause, announce }: Stage, desk: Desk): Promise<void> {
  let quietSinceMs = 0;
  for (;;) {
    if (desk.failure() !== null) throw desk.failure();
    const isServed = desk.busy() === 0 && history.count().open === 0 && listUnattached(history, visitors).length === 0;
    quietSinceMs = isServed ? quietSinceMs || Date.now() : 0;
    // An event may still be on its way to the desk.
    if (isServed && Date.now() - quietSinceMs >= 300) return;
    if (!isServed && Date.now() - history.lastEventAtMs() > stallAfterMs) {
      announce(`Nothing has moved for ${stallAfterMs / 1000} s: giving up`);
      return;
    }
    await pause(50);
  }
}

/** Accepted messages that the feed has not told to belong to a conversation. */
export function listUnattached(history: History, visitors: Visitors): string[] {
  return visitors.all
    .flatMap(({ deliveries }) => deliveries.flatMap(({ answers }) => answers.map(({ messageId }) => messageId)))
    .filter((messageId) => !history.attachedMessageIds.has(messageId));
}
