/** The examples of the guide to assignment hold: each is run against the API and a database of its own, and comes out as the guide says. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestWorkspace } from '../api/bare-api.ts';
import { startWorkspaceApi, type WorkspaceApi } from '../api/workspace-api.ts';
import { findImbalances } from '../store/stage.ts';
import { parseExample, readFences, type Example, type Outcome } from './assignment-example.ts';
import { setStage, type Answer, type ExampleStage } from './example-stage.ts';

const fences = readFences(readFileSync(new URL('../../docs/assignment.md', import.meta.url), 'utf8'));
const examples = fences.filter(({ info }) => info === 'json example');
const branches = fences.filter(({ info }) => info === 'json branch');

let api: WorkspaceApi;
let baseUrl: string;

beforeAll(async () => {
  api = await startWorkspaceApi();
  baseUrl = await api.app.listen({ host: '127.0.0.1', port: 0 });
});
afterAll(() => api?.stop());

test('every block of the guide is one that is run, or is no JSON', () => {
  const others = fences.filter((fence) => !examples.includes(fence) && !branches.includes(fence));
  expect(others.filter(({ info }) => !/^(sh|text)$/.test(info))).toEqual([]);
});

test('an example that says what nobody would run is an error', () => {
  const example = { team: {}, agents: [{ name: 'Ada', capacity: 1 }], arrivals: ['first'], assigned: ['Ada'] };
  expect(parseExample(JSON.stringify(example))).toEqual(example);
  for (const mistake of [
    { asigned: [null] },
    { assigned: [] },
    { agents: [{ name: 'Ada', capacity: 1, skill: 'german' }] },
    { then: [{ step: '1 minute passes', state: 'closed' }] },
    { refused: { status: 422 } },
  ]) {
    expect(() => parseExample(JSON.stringify({ ...example, ...mistake }))).toThrow();
  }
});

test('there is an example for every strategy', () => {
  const strategies = examples.map(({ text }) => parseExample(text).team['strategy']);
  expect(new Set(strategies)).toEqual(
    new Set(['round_robin', 'least_loaded', 'longest_idle', 'most_skilled', 'priority_list']),
  );
});

describe('an example holds', () => {
  test.each(examples.map(({ line, heading, text }) => ({ title: `${heading}, line ${line}`, text })))(
    '$title',
    async ({ text }) => runExample(parseExample(text)),
  );
});

describe('a branch can be published', () => {
  test.each(branches.map(({ line, text }) => ({ line, text })))('line $line', async ({ text }) => {
    const branch = JSON.parse(text);
    const skills = Object.fromEntries(
      branch.requirements.flatMap(({ skill }: { skill?: string }) => (skill === undefined ? [] : [[skill, 5]])),
    );
    const stage = await stageOf({
      team: {},
      otherTeams: { Backup: {} },
      agents: [{ name: 'Ada', capacity: 1, skills }],
    });
    const [teamId, overflowTeamId] = [stage.teamId('team'), stage.teamId('Backup')];
    const rings = branch.rings.map((ring: object) => ('overflowTeamId' in ring ? { ...ring, overflowTeamId } : ring));
    const routing = { branches: [{ ...branch, teamId, rings }], otherwise: { teamId, priority: 0 } };
    // The branch goes by fields that some step has to set.
    const enrichment = ['language', 'topic'].map((field) => ({ kind: 'set', field, value: 'spanish' }));
    const flow = await stage.must('POST', '/flows', { name: 'Example', document: { enrichment, routing } });
    await stage.must('POST', `/flows/${flow.id}/publish`);
  });
});

async function stageOf(example: Example): Promise<ExampleStage> {
  return setStage({ baseUrl, pool: api.pool, workspace: await createTestWorkspace(api.pool) }, example);
}

async function runExample({ arrivals = [], assigned = [], then = [], ...example }: Example): Promise<void> {
  const stage = await stageOf({ ...example, arrivals, then });
  const flow = await stage.createFlow();
  if (example.refused !== undefined) {
    expect(flow.body).toMatchObject(example.refused);
    return;
  }
  expect(flow).toMatchObject({ status: 201 });
  await stage.must('POST', `/flows/${flow.body.id}/publish`);
  for (const arrival of arrivals) await stage.arrive(arrival);
  const names = arrivals.map((arrival) => /^\w+/.exec(arrival)![0]);
  await check(stage, {
    ...outcomeOf(example),
    assigned: Object.fromEntries(names.map((name, i) => [name, assigned[i]!])),
  });
  for (const { step, refused, ...outcome } of then) {
    const answer = await perform(stage, step);
    if (refused === undefined)
      expect(answer?.status ?? 200, `${step}: ${JSON.stringify(answer?.body)}`).toBeLessThan(300);
    else expect(answer?.body, step).toMatchObject(refused);
    await stage.settle();
    await check(stage, outcome, step);
  }
}

function outcomeOf({
  offered,
  because,
  closed,
  presence,
  load,
  position,
  conversation,
  queue,
}: Omit<Example, 'assigned'>) {
  const given = { offered, because, closed, presence, load, position, conversation, queue };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Outcome;
}

/** What somebody does, in words. What is done by the API gives its answer. */
async function perform(stage: ExampleStage, step: string): Promise<Answer | null> {
  for (const [form, act] of Object.entries(deeds)) {
    const match = new RegExp(`^${form}$`).exec(step);
    if (match !== null) return (await act(stage, match.slice(1))) ?? null;
  }
  throw new Error(`Nobody knows how to do this: ${step}`);
}

type Deed = (stage: ExampleStage, words: string[]) => Promise<Answer | void>;

const deeds: Record<string, Deed> = {
  '(\\w+) arrives(.*)': (stage, [name, more]) => stage.arrive(`${name}${more}`),
  '(\\d+) (second|minute|hour)s? pass(?:es)?': (stage, [count, unit]) =>
    stage.pass(Number(count) * { second: 1, minute: 60, hour: 3_600 }[unit as 'second' | 'minute' | 'hour']),
  'the contact of (\\w+) writes': (stage, [name]) => stage.write(name!),
  '(\\w+) replies to (\\w+)': (stage, [agent, name]) =>
    onConversation(stage, name!, 'messages', { text: 'Hello', agentId: stage.agentId(agent!) }),
  '(\\w+) (accept|reject)s (\\w+)(?:: (.+))?': (stage, [agent, answer, name, reason]) =>
    onConversation(stage, name!, answer!, { agentId: stage.agentId(agent!), ...(reason && { reason }) }),
  '(\\w+) (?:comes|goes) (online|away|offline)': (stage, [agent, status]) =>
    stage.call('PUT', `/agents/${stage.agentId(agent!)}/presence`, { status }),
  '(\\w+) sends a heartbeat': (stage, [agent]) => stage.call('POST', `/agents/${stage.agentId(agent!)}/heartbeat`),
  '(\\w+) closes (\\w+)(?: as (\\w+))?(?:: (.+))?': (stage, [agent, name, category, summary]) =>
    onConversation(stage, name!, 'close', {
      agentId: stage.agentId(agent!),
      ...(category && { category }),
      ...(summary && { summary }),
    }),
  '(\\w+) is assigned to (\\w+)( with force)?(?:: (.+))?': (stage, [name, agent, force, note]) =>
    onConversation(stage, name!, 'assign', {
      agentId: stage.agentId(agent!),
      ...(force && { force: true }),
      ...(note && { note }),
    }),
  '(\\w+) is transferred to (\\w+)(?:: (.+))?': (stage, [name, team, note]) =>
    onConversation(stage, name!, 'assign', { teamId: stage.teamId(team!), ...(note && { note }) }),
  '(\\w+) is put back(?:: (.+))?': (stage, [name, note]) =>
    onConversation(stage, name!, 'assign', { ...(note && { note }) }),
  "the team's (\\w+) becomes (.+)": (stage, [key, value]) =>
    stage.call('PATCH', `/teams/${stage.teamId('team')}`, { [key!]: JSON.parse(value!) }),
  "(\\w+)'s (\\w+) becomes (.+)": (stage, [agent, key, value]) =>
    stage.call('PATCH', `/agents/${stage.agentId(agent!)}`, { [key!]: JSON.parse(value!) }),
};

const onConversation = (stage: ExampleStage, name: string, what: string, body: object): Promise<Answer> =>
  stage.call('POST', `/conversations/${stage.conversationId(name)}/${what}`, body);

async function check(stage: ExampleStage, outcome: Outcome, when = 'at first'): Promise<void> {
  const { assigned = {}, offered = {}, because, closed = {}, presence = {}, load = {}, position = {} } = outcome;
  const read = (name: string) => stage.must('GET', `/conversations/${stage.conversationId(name)}`);
  for (const [name, agent] of Object.entries(assigned)) {
    const { state, agentId, offer } = await read(name);
    const isOffered = name in offered;
    expect({ name, state, agent: stage.nameOf(agentId), isOffered: offer !== null }, when).toEqual({
      name,
      state: agent === null ? 'waiting' : 'assigned',
      agent,
      isOffered,
    });
  }
  for (const [name, agent] of Object.entries(offered)) {
    const { state, offer } = await read(name);
    expect({ name, state, agent: stage.nameOf(offer?.agentId ?? null) }, when).toEqual({
      name,
      state: 'waiting',
      agent,
    });
  }
  for (const [name, reason] of Object.entries(closed)) {
    expect(await read(name), when).toMatchObject({ state: 'closed', closing: { reason } });
  }
  for (const [name, members] of Object.entries(outcome.conversation ?? {})) {
    expect(await read(name), when).toMatchObject(members);
  }
  for (const [name, place] of Object.entries(position)) {
    const answer = await stage.must('GET', `/conversations/${stage.conversationId(name)}/position`);
    expect({ name, position: answer.position }, when).toEqual({ name, position: place });
  }
  for (const name of new Set([...Object.keys(presence), ...Object.keys(load)])) {
    const agent = await stage.must('GET', `/agents/${stage.agentId(name)}`);
    if (name in presence) expect({ name, presence: agent.presence }, when).toEqual({ name, presence: presence[name] });
    if (name in load) expect({ name, load: agent.load }, when).toEqual({ name, load: load[name] });
  }
  if (outcome.queue !== undefined) {
    expect(await stage.must('GET', `/teams/${stage.teamId('team')}/queue`), when).toMatchObject(outcome.queue);
  }
  if (because !== undefined) {
    const had = [...Object.entries(assigned).filter(([, agent]) => agent !== null), ...Object.entries(offered)];
    const [name] = had.at(-1) ?? Object.entries(assigned).at(-1) ?? [];
    expect(await stage.explain(name!), when).toContain(because);
  }
  // What the guide calls the rule above all rules.
  expect(await findImbalances(api.pool, stage.workspaceId), when).toEqual([]);
}
