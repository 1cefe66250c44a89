import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import { createBoard } from './board.ts';
import type { Client } from './client.ts';
import { followEvents } from './event-reader.ts';
import { collectEvidence } from './evidence.ts';
import { createHistory, type History } from './history.ts';
import { judge } from './judge.ts';
import { createPause } from './pause.ts';
import { phrases } from './phrases.ts';
import { openRoster, type Roster } from './roster.ts';
import { listUnattached, playScenario, type ScenarioOptions } from './scenario.ts';
import { summarize } from './summary.ts';
import { reachSystem } from './system-access.ts';
import { createView } from './views.ts';
import { createVisitors, type Visitors } from './visitors.ts';

/*
 * `npm run demo`: contacts write, agents answer and close, against the system that `npm start` has started, over HTTP only. Exit code 0
 * only if every accepted message belongs to exactly one conversation and no contact ever had two; 1 with what is wrong; 130 after Ctrl-C.
 * It judges its own contacts only, so that other traffic may go on beside it, and leaves the agents as it found them.
 */

const usage = 'usage: npm run demo -- [--contacts N (60)] [--unloaded N (15)]';
const impatientAfterMs = 1_000;
const cleanUpMs = 5_000;

// A reader that has gone, such as `head`, must not keep the agents' presence from being restored.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);

process.exit(await main());

async function main(): Promise<number> {
  try {
    const options = readOptions();
    const client = await reachSystem();
    return await runDemo(client, options, watchForStop());
  } catch (error) {
    console.error((error as Error).message);
    return 1;
  }
}

async function runDemo(client: Client, options: ScenarioOptions, stop: AbortSignal): Promise<number> {
  const startedAtMs = Date.now();
  const history = createHistory();
  const visitors = createVisitors(client, history, randomBytes(4).toString('hex'));
  const following = new AbortController();
  await followEvents(client, history.take, following.signal);
  const roster = await openRoster(client);
  const expectedContacts = options.contacts + options.unloadedConversations + 2;
  const board = createBoard({ history, visitors, roster, expectedContacts });
  const view = createView(process.stdout, board.read);
  // However the run ends, the terminal gets its cursor back.
  process.once('exit', view.end);
  const announce = (phase: string) => {
    board.setPhase(phase);
    view.announce(phase);
  };
  try {
    const pause = createPause(stop);
    const result = await playScenario({ client, history, visitors, roster, pause, announce }, options);
    announce('Looking at what became of every message');
    const evidence = await collectEvidence(client, {
      contacts: visitors.all.flatMap((visitor) => {
        const contactId = visitor.contactId();
        return contactId === null ? [] : [{ contactId, name: visitor.name }];
      }),
      deliveries: visitors.all.flatMap(({ deliveries }) => deliveries),
      agents: roster.agents(),
      overloads: roster.overloads,
      history,
    });
    stop.throwIfAborted();
    const faults = judge(evidence);
    announce('Done');
    view.end();
    const languages = Math.min(phrases.length, visitors.all.length);
    const elapsedMs = Date.now() - startedAtMs;
    console.log(summarize({ evidence, history, result, faults, elapsedMs, languages }).join('\n'));
    return faults.length === 0 ? 0 : 1;
  } catch (error) {
    view.end();
    if (stop.aborted) {
      console.log('\nStopped: restoring the presence of the agents and closing the conversations of the demo.');
      return 130;
    }
    throw error;
  } finally {
    await cleanUp({ client, history, visitors, roster });
    following.abort();
  }
}

/** Of the demo's making nothing stays open, and the agents are as they were. */
async function cleanUp(run: { client: Client; history: History; visitors: Visitors; roster: Roster }): Promise<void> {
  const { client, history, visitors, roster } = run;
  roster.stopWatching();
  await roster.restorePresence().catch((error: unknown) => {
    console.error(`The presence of the agents could not be restored: ${(error as Error).message}`);
  });
  const deadline = Date.now() + cleanUpMs;
  while (Date.now() < deadline && (history.count().open > 0 || listUnattached(history, visitors).length > 0)) {
    const open = [...history.conversations.values()].filter(({ state }) => state !== 'closed' && state !== 'closing');
    await Promise.all(
      open.map(({ id }) =>
        client
          .call('POST', `/v1/conversations/${id}/close`, { body: { summary: 'The demo ended' }, attempts: 1 })
          .catch(() => undefined),
      ),
    );
    await delay(100);
  }
  const { open } = history.count();
  if (open > 0) console.error(`${open} conversations of the demo are still open.`);
}

/** npm passes Ctrl-C on although the terminal has sent it already, so a second signal means impatience only some time after the first. */
function watchForStop(): AbortSignal {
  const stopping = new AbortController();
  let toldAtMs = 0;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      toldAtMs ||= Date.now();
      stopping.abort();
      if (Date.now() - toldAtMs > impatientAfterMs) process.exit(130);
    });
  }
  return stopping.signal;
}

function readOptions(): ScenarioOptions {
  try {
    const { values } = parseArgs({
      options: {
        contacts: { type: 'string', default: '60' },
        unloaded: { type: 'string', default: '15' },
      },
    });
    return { contacts: readCount(values.contacts), unloadedConversations: readCount(values.unloaded) };
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${usage}`, { cause: error });
  }
}

function readCount(text: string): number {
  if (!/^[1-9][0-9]{0,3}$/.test(text)) throw new Error(`${text} is not a number from 1 to 9999.`);
  return Number(text);
}
