import { expect, test } from 'vitest';
import { findFlowHints } from '../../routing/flow-hints.ts';

const flowWith = (condition: string) => ({
  trigger: { on: 'conversation.opened' as const, condition },
  enrichment: [],
  routing: {
    branches: [
      { name: 'A', when: 'true', teamId: 't1', rings: [{ afterSeconds: 1, overflowTeamId: 't2' }] },
      {
        name: 'B',
        when: 'true',
        split: [
          { percent: 50, teamId: 't3' },
          { percent: 50, teamId: 't1' },
        ],
      },
    ],
    otherwise: { close: true as const },
  },
});

const hintsOf = (condition: string, before: string[], after: string[] = [], empty: [string, string][] = []) =>
  findFlowHints(flowWith(condition), {
    before: before.map((text, place) => ({ name: `before ${place}`, condition: text })),
    after: after.map((text, place) => ({ name: `after ${place}`, condition: text })),
    teamsWithoutAgents: new Map(empty),
    reachesContacts: false,
    silentChannels: [],
  });

const anything = "conversation.source == 'contact'";

test('a flow behind one that takes everything, or the same, never runs', () => {
  for (const first of [anything, 'conversation.source  ==  "contact"', 'true', ' channel.key == "web" ']) {
    expect(hintsOf("channel.key == 'web'", ['false', first]), first).toEqual([
      expect.stringMatching(/^It never runs: the flow “before 1”/),
    ]);
  }
  expect(hintsOf("channel.key == 'web'", ["channel.key == 'mail'"])).toEqual([]);
});

test('a flow that takes everything names those behind it, a few of them', () => {
  expect(hintsOf(anything, [], ['a', 'b'])).toEqual([expect.stringMatching(/“after 0”, “after 1”\.$/)]);
  expect(
    hintsOf(
      anything,
      [],
      Array.from({ length: 9 }, () => 'a'),
    ),
  ).toEqual([expect.stringMatching(/ and 4 more\.$/)]);
  expect(hintsOf('a', [], ['b'])).toEqual([]);
});

test('teams without agents are named wherever the flow names them', () => {
  expect(
    hintsOf(
      'a',
      [],
      [],
      [
        ['t2', 'Second'],
        ['t3', 'Third'],
        ['t4', 'Fourth'],
      ],
    ).map((hint) => /“(.*)”/.exec(hint)?.[1]),
  ).toEqual(['Second', 'Third']);
});

const ask = { kind: 'ask' as const, field: 'a', text: 'What?', timeoutSeconds: 60 };
const alone = { before: [], after: [], teamsWithoutAgents: new Map(), reachesContacts: true, silentChannels: [] };

test('a flow that asks where nothing goes out is told so', () => {
  const hintsWith = (reachesContacts: boolean) =>
    findFlowHints({ ...flowWith('true'), enrichment: [ask] }, { ...alone, reachesContacts });
  expect(hintsWith(false)).toEqual([expect.stringMatching(/no channel has .*outboundUrl/)]);
  expect(hintsWith(true)).toEqual([]);
});

test('channels where a question would not go out are named, a few of them', () => {
  const hintsWith = (silentChannels: string[], condition = anything, steps: (typeof ask)[] = [ask]) =>
    findFlowHints({ ...flowWith(condition), enrichment: steps }, { ...alone, silentChannels });
  expect(hintsWith(['web', 'email'])).toEqual([
    expect.stringMatching(/the channels “web”, “email” have no .*outboundUrl/),
  ]);
  expect(hintsWith(['web'])).toEqual([expect.stringContaining('the channel “web” has no')]);
  expect(hintsWith(['a', 'b', 'c', 'd', 'e', 'f', 'g'])).toEqual([expect.stringContaining('“e” and 2 more have')]);
  expect(hintsWith(['web'], anything, [])).toEqual([]);
  // By its trigger it may never run there.
  expect(hintsWith(['web', 'email'], 'channel.key == "email"')).toEqual([
    expect.stringContaining('the channel “email” has'),
  ]);
  expect(hintsWith(['web'], "channel.key != 'web'")).toEqual([]);
});

test('webhooks at private addresses are named, each once', () => {
  const flow = flowWith('a');
  const surroundings = {
    before: [],
    after: [],
    teamsWithoutAgents: new Map(),
    reachesContacts: true,
    silentChannels: [],
  };
  const hooked = (...urls: string[]) => ({
    ...flow,
    routing: {
      branches: urls.map((webhookUrl, place) => ({ name: `${place}`, when: 'true', teamId: 't1', webhookUrl })),
      otherwise: {
        teamId: 't1',
        rings: [{ afterSeconds: 1, fallback: 'close' as const, webhookUrl: 'http://localhost:81/fallback' }],
      },
    },
  });
  const privately = 'http://10.0.0.7/hook';
  const tokens = ['a', 'b'].map((token) => `${privately}?token=${token}`);
  expect(findFlowHints(hooked('https://example.com/hook', ...tokens), surroundings)).toEqual([
    expect.stringContaining(`The webhook ${privately} `),
    expect.stringContaining('The webhook http://localhost:81/fallback '),
  ]);
});
