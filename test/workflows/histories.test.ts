/**
 * Recorded histories replayed by the code as it is: a change that would break actors under way fails here. After a change that is
 * meant to (no actor of the old kind may then be running, or its form is kept beside the new one, as the stepwise one is), record them
 * anew: `npm run histories`. Two folders stay as they are: `stepwise/` was recorded by code that is gone, `signalled/` with every nudge a
 * signal, as the relay sends it where an update fails, and mostly by the build before.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { WorkflowHandle } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { Worker } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { startEnrichmentServer, type EnrichmentServer } from '../activities/enrichment-server.ts';
import { eventually } from '../support/eventually.ts';
import { startModelServer, type ModelServer } from '../support/model-server.ts';
import { startActors, type Actors } from './actors.ts';
import { textOfHistory } from './history-text.ts';
import { paths, personalWords } from './paths.ts';
import { installTemporalRuntime } from './temporal-runtime.ts';

const folder = new URL('../histories/', import.meta.url);
const recording = process.env['RECORD_HISTORIES'] === 'true';

describe('each path, taken now', () => {
  let server: EnrichmentServer;
  let model: ModelServer;
  let actors: Actors;

  beforeAll(async () => {
    server = await startEnrichmentServer();
    model = await startModelServer({ label: 'billing' });
    const env = { ENRICHMENT_ALLOWED_HOSTS: server.host, CLASSIFY_URL: model.url, CLASSIFY_MODEL: 'test' };
    actors = await startActors({ env });
  });
  afterAll(async () => {
    server?.release();
    await actors?.stop();
    await server?.close();
    await model?.close();
  });

  test.for(Object.entries(paths))('%s: leaves no personal data in the history, and replays', async ([name, take]) => {
    const { scene, contactId } = await take({ actors, server });
    // A query may be answered by a task that has not yet told the server what was done in it.
    const history = await eventually('a waking in the history, and no task under way', async () => {
      const fetched = await scene.handleOf(contactId).fetchHistory();
      return activitiesOf(fetched).length > 0 && !hasOpenTask(fetched) && fetched;
    });
    const text = textOfHistory(history);
    // The search itself works: what must be there is found.
    expect(text).toContain(contactId);
    expect(personalWords.filter((word) => text.includes(word))).toEqual([]);
    expect(activitiesOf(history)).toEqual(['advanceContact']);
    await replay(history);
    if (recording) writeFileSync(new URL(`${name}.json`, folder), withoutTraces(historyToJSON(history)));
  });
});

describe('each recorded history', () => {
  const listNames = (form: string): string[] =>
    readdirSync(new URL(form, folder)).filter((name) => name.endsWith('.json'));
  const names = listNames('.');

  test.skipIf(recording)('there is one of each path', () => {
    expect(names.toSorted()).toEqual(
      Object.keys(paths)
        .map((name) => `${name}.json`)
        .toSorted(),
    );
  });

  const frozen = ['signalled/', 'stepwise/'].flatMap((form) => listNames(form).map((name) => form + name));

  test.for([...names, ...frozen])('%s replays', async (name) => {
    await replay(readHistory(name));
  });

  test.skipIf(recording).for(names)('%s: the actor was told by updates, as the relay tells', (name) => {
    expect(eventTypesOf(name)).toContain('WORKFLOW_EXECUTION_UPDATE_ACCEPTED');
  });

  test.skipIf(recording)('an answer came by update while the question waited', () => {
    const types = eventTypesOf('asked-and-answered.json');
    const whileAsking = types.slice(types.indexOf('TIMER_STARTED'), types.indexOf('TIMER_CANCELED'));
    expect(whileAsking).toContain('WORKFLOW_EXECUTION_UPDATE_ACCEPTED');
  });

  test('a waking run does not replay as a stepwise one: the form is told apart by the build in the history', async () => {
    const json = readFileSync(new URL('assigned-and-closed.json', folder), 'utf8');
    await expect(replay(JSON.parse(json.replaceAll(/switchyard-actor-\d+/g, 'a build before')))).rejects.toThrow(
      'Nondeterminism',
    );
  });
});

async function replay(history: unknown): Promise<void> {
  installTemporalRuntime();
  const workflowBundle = { codePath: inject('workflowBundlePath') };
  await Worker.runReplayHistory({ workflowBundle }, history, 'contact/replayed/replayed');
}

/** A recorded one, as it is written. */
const readHistory = (name: string): { events: { eventType: string }[] } =>
  JSON.parse(readFileSync(new URL(name, folder), 'utf8'));

const eventTypesOf = (name: string): string[] =>
  readHistory(name).events.map(({ eventType }) => eventType.replace('EVENT_TYPE_', ''));

/** Whether a workflow task has been wanted since the last that was completed. */
function hasOpenTask({ events }: Awaited<ReturnType<WorkflowHandle['fetchHistory']>>): boolean {
  const wanted = events!.findLastIndex((event) => event.workflowTaskScheduledEventAttributes != null);
  return wanted > events!.findLastIndex((event) => event.workflowTaskCompletedEventAttributes != null);
}

/** The local activities that a history shows, each once. */
function activitiesOf(history: unknown): string[] {
  const found = textOfHistory(history).matchAll(/"activity_type":"(\w+)"/g);
  return [...new Set([...found].map((match) => match[1]!))];
}

/** Traces, and names of processes and their queues, tell of the machine it was recorded on and nothing about the workflow. */
function withoutTraces(json: string): string {
  const clean = JSON.parse(json, (key, value: unknown) => {
    if (key === 'stackTrace') return '';
    return key === 'identity' || (typeof value === 'string' && /^\d+@/.test(value)) ? 'recorder' : value;
  }) as unknown;
  return `${JSON.stringify(clean, null, 1)}\n`;
}
