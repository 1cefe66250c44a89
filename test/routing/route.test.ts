import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RoutingFacts, TeamLoad } from '../../routing/facts.ts';
import { DEFAULT_TRIGGER, validateFlow } from '../../routing/flow-document.ts';
import type { FlowRequirements } from '../../routing/flow-requirements.ts';
import type { FlowDocument } from '../../routing/flow-schema.ts';
import { noRequirements, skillsAfter } from '../../routing/requirements.ts';
import { decideRoute, decideTrigger, loadsNeeded, type RouteDecision } from '../../routing/route.ts';

const flow: FlowDocument = {
  trigger: DEFAULT_TRIGGER,
  enrichment: [],
  routing: {
    branches: [
      { name: 'Missing', when: "fields.nowhere == 'x'", teamId: 't1', priority: 1 },
      { name: 'Billing', when: "fields.purpose == 'billing'", teamId: 't2', priority: 10 },
      { name: 'Also billing', when: "fields.purpose == 'billing'", teamId: 't3', priority: 20 },
    ],
    otherwise: { teamId: 't0', priority: 0 },
  },
};

function factsWith(fields: RoutingFacts['fields'], source: 'contact' | 'user' = 'contact'): RoutingFacts {
  return {
    conversation: { source, priority: 0 },
    contact: { id: 'c1', name: 'Ada', attributes: {} },
    channel: { key: 'chat', name: 'Chat' },
    message: { text: 'hi' },
    fields,
    nowMs: Date.UTC(2026, 0, 5, 12),
  };
}

const quiet = { loads: new Map<string, TeamLoad>(), gaveUpStep: null };

const routed = (routing: Partial<FlowDocument['routing']>): FlowDocument => ({
  ...flow,
  routing: { ...flow.routing, ...routing },
});

function teamRoute(decision: RouteDecision): RouteDecision & { kind: 'team' } {
  if (decision.kind !== 'team') throw new Error('goes to no team');
  return decision;
}

it('takes the first true branch and tells what it looked at', () => {
  expect(decideRoute(flow, factsWith({ purpose: 'billing' }), quiet)).toEqual({
    kind: 'team',
    teamId: 't2',
    priority: 10,
    slaSeconds: null,
    text: null,
    webhookUrl: null,
    branch: 'Billing',
    requirements: noRequirements,
    missingFields: [],
    evaluated: [
      { name: 'Missing', when: "fields.nowhere == 'x'", value: false, error: 'field not found: nowhere' },
      { name: 'Billing', when: "fields.purpose == 'billing'", value: true },
    ],
  });
});

it('falls back to otherwise', () => {
  const decision = decideRoute(flow, factsWith({ purpose: 'other' }), quiet);
  expect(decision).toMatchObject({ teamId: 't0', priority: 0, branch: null });
  expect(decision.evaluated).toHaveLength(3);
});

it('treats a condition that no longer compiles as false', () => {
  const branches = [{ name: 'Old', when: 'gone == 1', teamId: 't1', priority: 1 }];
  const decision = decideRoute(routed({ branches }), factsWith({}), quiet);
  expect(decision.branch).toBeNull();
  expect(decision.evaluated[0]?.error).toContain('does not compile');
});

it('keeps the explanation small', () => {
  const branches = [{ name: 'Long', when: `fields.a == '${'x'.repeat(1900)}'`, teamId: 't1', priority: 1 }];
  const decision = decideRoute(routed({ branches }), factsWith({ a: 1 }), quiet);
  expect(JSON.stringify(decision).length).toBeLessThan(600);
});

it('runs only for conversations that the contact opened, unless the flow says otherwise', () => {
  expect(decideTrigger(flow, factsWith({}))).toEqual({ value: true });
  expect(decideTrigger(flow, factsWith({}, 'user'))).toEqual({ value: false });
  expect(decideTrigger({ ...flow, trigger: { ...DEFAULT_TRIGGER, condition: '(' } }, factsWith({})).value).toBe(false);
});

it('tells what the branch says to the contact, whom it tells, and what wait it aims at', () => {
  const otherwise = {
    teamId: 't0',
    slaSeconds: 60,
    text: 'Hello {{contact.name}}, {{fields.purpose}}{{fields.nothing}}.',
    webhookUrl: 'https://hooks.example',
  };
  expect(decideRoute(routed({ otherwise }), factsWith({ purpose: 'sales' }), quiet)).toMatchObject({
    ...{ kind: 'team', teamId: 't0', priority: 0, slaSeconds: 60 },
    ...{ text: 'Hello Ada, sales.', webhookUrl: 'https://hooks.example' },
  });
});

it('closes where the branch does, in its hours', () => {
  const hours = { office: { timeZone: 'UTC', weekly: { monday: [{ from: '08:00', to: '12:30' }] } } };
  const branches = [
    { name: 'Closed', when: '!hours.office.open', close: true as const, text: 'Closed, {{contact.name}}' },
  ];
  const office: FlowDocument = { ...routed({ branches }), hours };
  expect(decideRoute(office, factsWith({}), quiet)).toMatchObject({ kind: 'team', teamId: 't0' });
  const later = { ...factsWith({}), nowMs: Date.UTC(2026, 0, 5, 12, 30) };
  expect(decideRoute(office, later, quiet)).toEqual({
    ...{ kind: 'close', branch: 'Closed', text: 'Closed, Ada', webhookUrl: null },
    evaluated: [{ name: 'Closed', when: '!hours.office.open', value: true }],
  });
});

describe('the load of a team', () => {
  const branches = [
    { name: 'Free', when: 'team.waiting < 3 && team.onlineAgents > 0', teamId: 't1' },
    { name: 'Also free', when: 'team.waiting < 3', teamId: 't2' },
    { name: 'Fields', when: "fields.purpose == 'team'", teamId: 't3' },
    { name: 'Again', when: 'team.longestWaitSeconds < 60', teamId: 't2' },
  ];
  const loads = (...entries: [string, number][]) =>
    new Map(entries.map(([teamId, waiting]) => [teamId, { waiting, onlineAgents: 1, longestWaitSeconds: 90 }]));

  it('is asked for each team of whose load a condition speaks', () => {
    expect(loadsNeeded(routed({ branches }))).toEqual(['t1', 't2']);
    expect(loadsNeeded(flow)).toEqual([]);
  });

  it('is that of the branch’s own team', () => {
    const decide = (...entries: [string, number][]) =>
      decideRoute(routed({ branches }), factsWith({ purpose: 'x' }), { ...quiet, loads: loads(...entries) });
    expect(decide(['t1', 0], ['t2', 0])).toMatchObject({ teamId: 't1' });
    expect(decide(['t1', 5], ['t2', 2])).toMatchObject({ teamId: 't2', branch: 'Also free' });
    expect(decide(['t1', 5], ['t2', 5])).toMatchObject({ teamId: 't0', branch: null });
  });

  it('counts as a condition that fails where it is not known', () => {
    const decision = decideRoute(routed({ branches }), factsWith({ purpose: 'x' }), quiet);
    expect(decision).toMatchObject({ teamId: 't0' });
    expect(decision.evaluated.map(({ error }) => error !== undefined)).toEqual([true, true, false, true]);
  });
});

describe('a split', () => {
  const split = [
    { percent: 70, teamId: 't1' },
    { percent: 30, teamId: 't2' },
  ];
  const shared = routed({ branches: [{ name: 'Shared', when: 'true', split }], otherwise: { split } });
  const routeOf = (id: string, from = shared) => {
    const facts = factsWith({});
    return teamRoute(decideRoute(from, { ...facts, contact: { ...facts.contact, id } }, quiet));
  };

  it('gives each team its share of the contacts, and a contact always the same', () => {
    const teams = Array.from({ length: 10_000 }, (_, index) => routeOf(`contact-${index}`).teamId);
    const first = teams.filter((teamId) => teamId === 't1').length;
    expect(first).toBeGreaterThan(6_800);
    expect(first).toBeLessThan(7_200);
    expect(Array.from({ length: 100 }, (_, index) => routeOf(`contact-${index}`).teamId)).toEqual(teams.slice(0, 100));
  });

  it('tells the hundredth, which another branch draws anew', () => {
    const others = routed({ branches: [], otherwise: { split } });
    const ids = Array.from({ length: 100 }, (_, index) => `contact-${index}`);
    const shares = ids.map((id) => [routeOf(id).share, routeOf(id, others).share] as const);
    expect(shares.filter(([one, other]) => one !== other).length).toBeGreaterThan(80);
    for (const id of ids) expect(routeOf(id).teamId).toBe(routeOf(id).share! < 70 ? 't1' : 't2');
  });

  it('goes by the hundredth that is given, where one is', () => {
    const teams = [0, 69, 70, 99].map((share) => decideRoute(shared, factsWith({}), { ...quiet, share }));
    expect(teams).toMatchObject(['t1', 't1', 't2', 't2'].map((teamId) => ({ teamId })));
    expect(teams.map((route) => teamRoute(route).share)).toEqual([0, 69, 70, 99]);
  });
});

describe('a question that gave up', () => {
  const ask = { kind: 'ask' as const, field: 'purpose', text: 'Why?', timeoutSeconds: 60 };
  const asking = (giveUp: object): FlowDocument => ({ ...flow, enrichment: [{ ...ask, giveUp }] });
  const givenUp = { ...quiet, gaveUpStep: 0 };

  it('decides before every branch; its text was sent when it gave up', () => {
    const facts = factsWith({ purpose: 'billing' });
    expect(decideRoute(asking({ teamId: 't9', priority: 3, text: 'Bye' }), facts, givenUp)).toEqual({
      ...{ kind: 'team', teamId: 't9', priority: 3, slaSeconds: null, requirements: noRequirements, missingFields: [] },
      ...{ branch: null, evaluated: [], gaveUpStep: 0, text: null, webhookUrl: null },
    });
    expect(decideRoute(asking({ close: true }), facts, givenUp)).toMatchObject({ kind: 'close', gaveUpStep: 0 });
  });

  it('leaves it to the branches where it leads nowhere', () => {
    const facts = factsWith({ purpose: 'billing' });
    for (const flow of [asking({}), asking({ value: 'x' })]) {
      expect(decideRoute(flow, facts, givenUp)).toMatchObject({ teamId: 't2' });
    }
    expect(decideRoute(flow, facts, { ...quiet, gaveUpStep: 7 })).toMatchObject({ teamId: 't2' });
  });
});

it('decides for any facts, and always the same', () => {
  const teamId = '0198a5b0-0000-7000-8000-000000000001';
  const other = '0198a5b0-0000-7000-8000-000000000002';
  const when = fc.constantFrom(
    "fields.purpose == 'sales'",
    'fields.score > 3',
    "contact.attributes.plan == 'gold'",
    'contact.attributes.list[0].size() > 2',
    'team.waiting > 3',
    'hours.office.open',
    "message.text.matches('(a+)+b')",
  );
  const goal = fc.constantFrom<object>(
    { teamId },
    {
      teamId,
      text: '{{fields.purpose}} {{contact.attributes.plan}}',
      requirements: [{ skillFromField: 'purpose', level: 1 }],
    },
    { close: true, text: 'Bye {{contact.name}}' },
    {
      split: [
        { percent: 1, teamId },
        { percent: 99, teamId: other },
      ],
    },
  );
  const branches = fc.array(fc.record({ when, goal }), { maxLength: 5 });
  const value = fc.oneof(fc.string(), fc.double(), fc.boolean());
  const facts = fc.record({
    purpose: value,
    score: value,
    attributes: fc.dictionary(fc.constantFrom('plan', 'list'), fc.jsonValue()),
    name: fc.option(fc.string()),
    text: fc.string(),
    nowMs: fc.integer(),
    hasLoad: fc.boolean(),
  });
  let accepted = 0;
  fc.assert(
    fc.property(
      branches,
      goal,
      facts,
      (some, otherwise, { purpose, score, attributes, name, text, nowMs, hasLoad }) => {
        const document = {
          hours: { office: { timeZone: 'Europe/Berlin', weekly: { monday: [{ from: '00:00', to: '24:00' }] } } },
          enrichment: [
            { kind: 'http', url: 'https://x.example', timeoutMs: 100, fields: { purpose: '/p', score: '/s' } },
          ],
          routing: { branches: some.map(({ when, goal }, index) => ({ name: `${index}`, when, ...goal })), otherwise },
        };
        const valid = validateFlow(document, { teamIds: new Set([teamId, other]), skills: new Set() });
        if (!valid.ok) return;
        accepted++;
        const given: RoutingFacts = {
          ...factsWith({ purpose, score }),
          contact: { id: 'c1', name, attributes },
          message: { text },
          nowMs,
        };
        const load = { waiting: 5, onlineAgents: 0, longestWaitSeconds: 1 };
        const circumstances = { loads: new Map(hasLoad ? [[teamId, load]] : []), gaveUpStep: null };
        const decision = decideRoute(valid.flow, given, circumstances);
        expect(decideRoute(structuredClone(valid.flow), given, circumstances)).toEqual(decision);
        if (decision.kind === 'team') expect([teamId, other]).toContain(decision.teamId);
        const last = decision.evaluated.at(-1);
        expect(decision.branch).toBe(last?.value === true ? last.name : null);
        expect(typeof decideTrigger(valid.flow, given).value).toBe('boolean');
      },
    ),
    { numRuns: 300 },
  );
  expect(accepted).toBeGreaterThan(50);
});

describe('requirements', () => {
  const asking = (asked: FlowRequirements, fields: RoutingFacts['fields'] = {}) => {
    const otherwise = { ...flow.routing.otherwise, ...asked } as FlowDocument['routing']['otherwise'];
    const route = decideRoute(routed({ branches: [], otherwise }), factsWith(fields), quiet);
    const { requirements, missingFields } = teamRoute(route);
    return { requirements, missingFields };
  };

  it('come from the branch that decides', () => {
    const branches = flow.routing.branches.map((branch) => ({
      ...branch,
      requirements: [{ skill: branch.name, level: 1 }],
    }));
    const decision = decideRoute(routed({ branches }), factsWith({ purpose: 'billing' }), quiet);
    expect(teamRoute(decision).requirements).toEqual({
      skills: [{ skill: 'Billing', level: 1, preferred: false }],
      rings: [],
    });
  });

  it('are stored with the skills that the fields name, and the rings in the order of time', () => {
    expect(
      asking(
        {
          requirements: [
            { skill: 'spanish', level: 4 },
            { skillFromField: 'topic', level: 2, preferred: true },
          ],
          rings: [
            { afterSeconds: 30, relax: [{ skill: 'spanish', level: 2 }] },
            {
              afterSeconds: 90,
              relax: [
                { skill: 'spanish', level: 0 },
                { skillFromField: 'topic', level: 1 },
              ],
            },
            { afterSeconds: 180, overflowTeamId: 't2' },
            { afterSeconds: 600, fallback: 'close' },
          ],
        },
        { topic: 'billing' },
      ),
    ).toEqual({
      requirements: {
        skills: [
          { skill: 'spanish', level: 4, preferred: false },
          { skill: 'billing', level: 2, preferred: true },
        ],
        rings: [
          { afterSeconds: 30, kind: 'relax', levels: [{ skill: 'spanish', level: 2 }] },
          {
            afterSeconds: 90,
            kind: 'relax',
            levels: [
              { skill: 'spanish', level: 0 },
              { skill: 'billing', level: 1 },
            ],
          },
          { afterSeconds: 180, kind: 'overflow', teamId: 't2' },
          { afterSeconds: 600, kind: 'fallback', then: 'close' },
        ],
      },
      missingFields: [],
    });
  });

  it('keep what the fallback says and whom it tells, filled with the fields as they are now', () => {
    const rings = [
      {
        afterSeconds: 60,
        fallback: 'close' as const,
        text: 'Sorry, {{contact.name}}: {{fields.topic}}',
        webhookUrl: 'https://hooks.example',
      },
    ];
    expect(asking({ rings }, { topic: 'late' }).requirements.rings).toEqual([
      {
        ...{ afterSeconds: 60, kind: 'fallback', then: 'close' },
        ...{ text: 'Sorry, Ada: late', webhookUrl: 'https://hooks.example' },
      },
    ]);
  });

  it.each([[{}], [{ topic: 3 }], [{ topic: true }], [{ topic: ' ' }], [{ topic: 'x'.repeat(101) }]])(
    'of a field without the text of a skill are left out and told: %j',
    (fields) => {
      expect(
        asking(
          {
            requirements: [{ skillFromField: 'topic', level: 2 }],
            rings: [
              { afterSeconds: 30, relax: [{ skillFromField: 'topic', level: 0 }] },
              { afterSeconds: 60, fallback: 'wait' },
            ],
          },
          fields as RoutingFacts['fields'],
        ),
      ).toEqual({
        requirements: { skills: [], rings: [{ afterSeconds: 60, kind: 'fallback', then: 'wait' }] },
        missingFields: ['topic'],
      });
    },
  );

  it('of a field that is named like a member of every object are left out', () => {
    expect(asking({ requirements: [{ skillFromField: 'constructor', level: 1 }] }).missingFields).toEqual([
      'constructor',
    ]);
  });

  it('that name the same skill in two ways hold both, each relaxed by its own rings', () => {
    const { requirements } = asking(
      {
        requirements: [
          { skill: 'spanish', level: 4 },
          { skillFromField: 'topic', level: 2 },
        ],
        rings: [
          { afterSeconds: 10, relax: [{ skillFromField: 'topic', level: 1 }] },
          { afterSeconds: 20, relax: [{ skill: 'spanish', level: 0 }] },
          { afterSeconds: 30, relax: [{ skillFromField: 'topic', level: 0 }] },
          { afterSeconds: 40, fallback: 'wait' },
        ],
      },
      { topic: 'spanish' },
    );
    expect(requirements.skills).toEqual([{ skill: 'spanish', level: 4, preferred: false }]);
    expect(requirements.rings).toMatchObject([
      { afterSeconds: 20, levels: [{ skill: 'spanish', level: 1 }] },
      { afterSeconds: 30, levels: [{ skill: 'spanish', level: 0 }] },
      { afterSeconds: 40 },
    ]);
  });

  it('are required when one of two that name the same skill is', () => {
    const requirements = [
      { skill: 'spanish', level: 2 },
      { skillFromField: 'topic', level: 4, preferred: true },
    ];
    expect(asking({ requirements }, { topic: 'spanish' }).requirements.skills).toEqual([
      { skill: 'spanish', level: 2, preferred: false },
    ]);
  });

  it('at any moment ask, skill by skill, what the rings written in the flow have left of them', () => {
    const names = fc.constantFrom(
      { skill: 'spanish' },
      { skill: 'german' },
      { skillFromField: 'topic' },
      { skillFromField: 'other' },
    );
    const relax = fc.array(fc.tuple(names, fc.nat(4)), { minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(
        fc.uniqueArray(names, { selector: (name) => JSON.stringify(name) }),
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 4, maxLength: 4 }),
        fc.array(relax, { maxLength: 5 }),
        fc.constantFrom('spanish', 'german', 'french'),
        (named, levels, changes, topic) => {
          const requirements = named.map((name, index) => ({ ...name, level: levels[index]! }));
          const rings = changes.map((change, index) => ({
            afterSeconds: index + 1,
            relax: change.map(([name, level]) => ({ ...name, level })),
          }));
          const stored = asking({ requirements, rings }, { topic }).requirements;
          // What each name asks for, by the flow's own words.
          const nameOf = (name: object) => JSON.stringify(name);
          const asked = new Map(named.map((name, index) => [nameOf(name), levels[index]!]));
          for (const [index, change] of [[], ...changes].entries()) {
            for (const [name, level] of change) if (asked.has(nameOf(name))) asked.set(nameOf(name), level);
            const expected: Record<string, number> = {};
            for (const name of named) {
              const skill = 'skill' in name ? name.skill : name.skillFromField === 'topic' ? topic : null;
              if (skill === null) continue;
              expected[skill] = Math.max(expected[skill] ?? 0, asked.get(nameOf(name))!);
            }
            const passed = stored.rings.filter((ring) => ring.afterSeconds <= index).length;
            const now = Object.fromEntries(skillsAfter(stored, passed).map(({ skill, level }) => [skill, level]));
            expect(now).toEqual(Object.fromEntries(Object.entries(expected).filter(([, level]) => level > 0)));
          }
        },
      ),
    );
  });
});
