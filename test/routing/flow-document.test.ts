import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asksContact, DEFAULT_TRIGGER, needsHistory, usesNetwork, validateFlow } from '../../routing/flow-document.ts';
import type { FlowDocument } from '../../routing/flow-schema.ts';
import type { EnrichmentStep } from '../../routing/step-schemas.ts';

const TEAM = '0198a5b0-0000-7000-8000-000000000001';
const OTHER_TEAM = '0198a5b0-0000-7000-8000-000000000002';
const THIRD_TEAM = '0198a5b0-0000-7000-8000-000000000003';
const known = { teamIds: new Set([TEAM, THIRD_TEAM]), skills: new Set(['spanish', 'german', 'Überweisung']) };

function example(): any {
  return {
    trigger: { on: 'conversation.opened', condition: "conversation.source == 'contact'" },
    enrichment: [
      { kind: 'set', field: 'tier', value: 'gold' },
      {
        kind: 'keywords',
        field: 'purpose',
        rules: [{ value: 'billing', keywords: ['invoice', 'rechnung'] }],
        otherwise: 'general',
      },
      { kind: 'http', url: 'https://crm.example/lookup', timeoutMs: 2000, fields: { tier: '/customer/tier' } },
    ],
    routing: {
      branches: [{ name: 'Billing', when: "fields.purpose == 'billing'", teamId: TEAM, priority: 10 }],
      otherwise: { teamId: TEAM, priority: 0 },
    },
  };
}

function pathsOf(document: unknown): string[] {
  const result = validateFlow(document, known);
  return result.ok ? [] : result.faults.map((fault) => fault.path);
}

function changed(change: (document: any) => void): unknown {
  const document = example();
  change(document);
  return document;
}

it('accepts the example as it is', () => {
  expect(validateFlow(example(), known)).toEqual({ ok: true, flow: example() });
});

it('fills in trigger and enrichment left out', () => {
  const { routing } = example();
  routing.branches[0].when = "contact.name == 'Ada'";
  expect(validateFlow({ routing }, known)).toEqual({
    ok: true,
    flow: { trigger: DEFAULT_TRIGGER, enrichment: [], routing },
  });
  expect(validateFlow({ trigger: { condition: 'true' }, routing }, known)).toMatchObject({
    ok: true,
    flow: { trigger: { on: 'conversation.opened', condition: 'true' } },
  });
});

it('tells whether a step leaves the house', () => {
  const all = validateFlow(example(), known);
  const none = validateFlow(
    changed((flow) => flow.enrichment.pop()),
    known,
  );
  expect(all.ok && usesNetwork(all.flow)).toBe(true);
  expect(none.ok && usesNetwork(none.flow)).toBe(false);
});

it.each<[EnrichmentStep, 'leaves' | 'asks' | 'looks back' | null]>([
  [{ kind: 'set', field: 'tier', value: 1 }, null],
  [{ kind: 'language', field: 'language' }, null],
  [{ kind: 'ask', field: 'purpose', text: 'Why?', timeoutSeconds: 60 }, 'asks'],
  [{ kind: 'contact', fields: { tier: 'attributes/tier', name: 'name' } }, null],
  [{ kind: 'contact', fields: { tier: 'attributes/conversationCount' } }, null],
  [{ kind: 'contact', fields: { tier: 'lifecycle', earlier: 'conversationCount' } }, 'looks back'],
  [{ kind: 'contact', fields: { agent: 'lastAgentId' } }, 'looks back'],
  [{ kind: 'contact', fields: { category: 'lastCategory' } }, 'looks back'],
  [{ kind: 'http', url: 'https://crm.example', timeoutMs: 100, fields: { tier: '/tier' } }, 'leaves'],
  [
    {
      kind: 'classify',
      field: 'purpose',
      labels: [{ label: 'sales' }, { label: 'support' }],
      otherwise: 'sales',
      timeoutMs: 100,
    },
    'leaves',
  ],
])('tells what a flow with %j needs', (step, need) => {
  const flow: FlowDocument = { ...(example() as FlowDocument), enrichment: [step] };
  expect([usesNetwork(flow), asksContact(flow), needsHistory(flow)]).toEqual([
    need === 'leaves',
    need === 'asks',
    need === 'looks back',
  ]);
});

it('finds every fault at once', () => {
  const document = {
    trigger: { on: 'never', condition: 'foo' },
    enrichment: [
      { kind: 'set', field: 'Tier', value: null },
      { kind: 'dance' },
      { kind: 'keywords', field: 'purpose', rules: [{ value: 1, keywords: ['', 'ok', '\u0301'] }] },
      { kind: 'http', url: 'ftp://x', timeoutMs: 5, fields: { Bad: '/a', good: 'a' } },
    ],
    routing: {
      branches: [
        { name: 'A', when: 'true', teamId: TEAM, priority: 101 },
        { name: ' a ', when: 'fields.', teamId: OTHER_TEAM, priority: 1.5 },
        { name: 'C', when: 'bar == 1', teamId: 'x', priority: 0, extra: 1 },
      ],
    },
    surprise: true,
  };
  const result = validateFlow(document, known);
  if (result.ok) throw new Error('must be refused');
  expect([...new Set(result.faults.map((fault) => fault.path))].toSorted()).toEqual(
    [
      '/surprise',
      '/trigger/on',
      '/trigger/condition',
      '/enrichment/0/field',
      '/enrichment/0/value',
      '/enrichment/1/kind',
      '/enrichment/2/rules/0/keywords/0',
      '/enrichment/2/rules/0/keywords/2',
      '/enrichment/3/url',
      '/enrichment/3/timeoutMs',
      '/enrichment/3/fields/Bad',
      '/enrichment/3/fields/good',
      '/routing/branches/0/priority',
      '/routing/branches/1/name',
      '/routing/branches/1/when',
      '/routing/branches/1/teamId',
      '/routing/branches/1/priority',
      '/routing/branches/2/when',
      '/routing/branches/2/teamId',
      '/routing/branches/2/extra',
      '/routing/otherwise',
    ].toSorted(),
  );
  for (const fault of result.faults) {
    expect(fault.message).not.toBe('');
    expect(fault.mend).toMatch(/\.$/);
  }
});

describe('limits', () => {
  it.each<[string, (flow: any) => void]>([
    ['/enrichment', (flow) => (flow.enrichment = Array(21).fill(flow.enrichment[0]))],
    ['/enrichment/1/rules', (flow) => (flow.enrichment[1].rules = Array(51).fill(flow.enrichment[1].rules[0]))],
    ['/enrichment/1/rules', (flow) => (flow.enrichment[1].rules = [])],
    ['/enrichment/1/rules/0/keywords', (flow) => (flow.enrichment[1].rules[0].keywords = Array(51).fill('a'))],
    ['/enrichment/1/rules/0/keywords/0', (flow) => (flow.enrichment[1].rules[0].keywords = ['x'.repeat(101)])],
    ['/enrichment/1/otherwise', (flow) => (flow.enrichment[1].otherwise = [])],
    ['/enrichment/2/fields', (flow) => (flow.enrichment[2].fields = {})],
    ['/enrichment/2/timeoutMs', (flow) => (flow.enrichment[2].timeoutMs = 10_001)],
    ['/enrichment/2/url', (flow) => (flow.enrichment[2].url = 'https://user:secret@crm.example')],
    ['/enrichment/0/value', (flow) => (flow.enrichment[0].value = 'a\0b')],
    ['/enrichment/0/field', (flow) => (flow.enrichment[0].field = 'x'.repeat(65))],
    [
      '/routing/branches',
      (flow) =>
        (flow.routing.branches = Array.from({ length: 51 }, (_, index) => ({
          ...flow.routing.branches[0],
          name: `${index}`,
        }))),
    ],
    ['/routing/branches/0/name', (flow) => (flow.routing.branches[0].name = '  ')],
    ['/routing/branches/0/when', (flow) => (flow.routing.branches[0].when = `fields.a == '${'x'.repeat(2048)}'`)],
    ['/routing/otherwise/teamId', (flow) => (flow.routing.otherwise.teamId = OTHER_TEAM)],
    ['/routing/otherwise/priority', (flow) => (flow.routing.otherwise.priority = -1)],
    ['/routing/otherwise', (flow) => delete flow.routing.otherwise.teamId],
  ])('%s', (path, change) => {
    expect(pathsOf(changed(change))).toEqual([path]);
  });

  it.each(['http://localhost:8080', 'https://crm.example/a/b?c=d', 'http://[::1]:80/x'])('takes %s', (url) => {
    expect(pathsOf(changed((flow) => (flow.enrichment[2].url = url)))).toEqual([]);
  });

  it('names each of very many faults', () => {
    const keywords = Array(50).fill('');
    expect(pathsOf(changed((flow) => (flow.enrichment[1].rules[0].keywords = keywords)))).toHaveLength(50);
  });
});

describe('requirements and rings', () => {
  function asking(change: (branch: any) => void): unknown {
    const branch = {
      requirements: [
        { skill: 'spanish', level: 4 },
        { skillFromField: 'purpose', level: 2, preferred: true },
      ],
      rings: [
        { afterSeconds: 30, relax: [{ skill: 'spanish', level: 2 }] },
        {
          afterSeconds: 90,
          relax: [
            { skill: 'spanish', level: 0 },
            { skillFromField: 'purpose', level: 1 },
          ],
        },
        { afterSeconds: 180, overflowTeamId: THIRD_TEAM },
        { afterSeconds: 600, fallback: 'close' },
      ],
    };
    change(branch);
    return changed((flow) => Object.assign(flow.routing.branches[0], branch));
  }

  const faultsOf = (document: unknown) => {
    const result = validateFlow(document, known);
    return result.ok ? [] : result.faults;
  };

  it('accepts them on a branch and on otherwise, and keeps them as they are', () => {
    const document = asking(() => {}) as any;
    const { requirements, rings } = document.routing.branches[0];
    Object.assign(document.routing.otherwise, { requirements, rings });
    expect(validateFlow(document, known)).toEqual({ ok: true, flow: document });
    expect(faultsOf(asking((branch) => (branch.rings = [])))).toEqual([]);
    const ringsOnly = asking((branch) => {
      branch.requirements = [];
      branch.rings.splice(0, 2);
    });
    expect(faultsOf(ringsOnly)).toEqual([]);
  });

  it.each<[string, string, RegExp, (branch: any) => void]>([
    ['an unknown skill', '/requirements/0/skill', /no agent .* has this skill/, (b) => renameSkill(b, 'klingon')],
    [
      'a skill twice',
      '/requirements/2/skill',
      /already, at \/routing\/branches\/0\/requirements\/0$/,
      (b) => b.requirements.push(skill(1)),
    ],
    [
      'a field twice',
      '/requirements/2/skillFromField',
      /asked for already/,
      (b) => b.requirements.push({ skillFromField: 'purpose', level: 1 }),
    ],
    ['no skill named', '/requirements/2', /names no skill/, (b) => b.requirements.push({ level: 1 })],
    [
      'a skill named twice over',
      '/requirements/2',
      /names a skill twice/,
      (b) => b.requirements.push({ skill: 'german', skillFromField: 'topic', level: 1 }),
    ],
    ['level 0', '/requirements/0/level', /less than 1/, (b) => setLevel(b, 0)],
    ['level 6', '/requirements/0/level', /more than 5/, (b) => (b.requirements[0].level = 6)],
    ['a level between', '/requirements/0/level', /whole number/, (b) => (b.requirements[0].level = 2.5)],
    ['no field name', '/requirements/1/skillFromField', /no field name/, renameField],
    ['an unknown member', '/requirements/0/weight', /not known here/, (b) => (b.requirements[0].weight = 1)],
    ['no list', '/requirements', /a list/, withoutRelaxing((b) => (b.requirements = 'spanish'))],
    ['11 requirements', '/requirements', /10/, (b) => (b.requirements = manySkills(11))],
    ['21 rings', '/rings', /20/, (b) => (b.rings = manyRings(21))],
    ['a ring without end', '/rings', /have no end/, (b) => b.rings.pop()],
    ['a ring after the end', '/rings/3', /would never happen/, (b) => b.rings.splice(2, 0, wait(170))],
    ['a ring that changes nothing', '/rings/0', /changes nothing/, (b) => delete b.rings[0].relax],
    ['a ring of two changes', '/rings/0', /several things/, (b) => (b.rings[0].overflowTeamId = OTHER_TEAM)],
    ['a ring not later', '/rings/1/afterSeconds', /not later/, (b) => (b.rings[1].afterSeconds = 30)],
    ['a ring at once', '/rings/0/afterSeconds', /less than 1/, (b) => (b.rings[0].afterSeconds = 0)],
    ['a ring after a week', '/rings/3/afterSeconds', /more than 604800/, (b) => (b.rings[3].afterSeconds = 604_801)],
    ['a ring without time', '/rings/0/afterSeconds', /is required/, (b) => delete b.rings[0].afterSeconds],
    ['an unknown fallback', '/rings/3/fallback', /not one of the allowed/, (b) => (b.rings[3].fallback = 'shout')],
    ['an unknown team', '/rings/2/overflowTeamId', /no team/, (b) => (b.rings[2].overflowTeamId = OTHER_TEAM)],
    ['no team id', '/rings/2/overflowTeamId', /no id/, (b) => (b.rings[2].overflowTeamId = 'x')],
    ['back to the branch', '/rings/2/overflowTeamId', /circle/, (b) => (b.rings[2].overflowTeamId = TEAM)],
    [
      'back to an overflow',
      '/rings/3/overflowTeamId',
      /circle: .* by \/routing\/branches\/0\/rings\/2$/,
      (b) => b.rings.splice(3, 0, { afterSeconds: 200, overflowTeamId: THIRD_TEAM }),
    ],
    ['an unasked skill', '/rings/0/relax/0/skill', /not asked for/, (b) => (b.rings[0].relax[0].skill = 'german')],
    ['a level not lower', '/rings/0/relax/0/level', /not lower .* 4/, (b) => (b.rings[0].relax[0].level = 4)],
    ['a level that rises again', '/rings/1/relax/0/level', /not lower .* 2/, (b) => (b.rings[1].relax[0].level = 3)],
    [
      'a dropped skill',
      '/rings/2/relax/0/level',
      /dropped before/,
      (b) => b.rings.splice(2, 0, { afterSeconds: 100, relax: [skill(0)] }),
    ],
    ['a skill relaxed twice', '/rings/0/relax/1/skill', /by this ring/, (b) => b.rings[0].relax.push(skill(1))],
    ['nothing to relax', '/rings/0/relax', /is empty/, (b) => (b.rings[0].relax = [])],
    ['11 to relax', '/rings/0/relax', /10/, (b) => (b.rings[0].relax = manyRelaxed(11))],
    ['a blank skill', '/requirements/2/skill', /blank/, (b) => b.requirements.push({ skill: ' ', level: 1 })],
    ['text that is not stored', '/requirements/0/skill', /cannot be stored/, (b) => renameSkill(b, 'a\0')],
    [
      'deep text that is not stored',
      '/rings/0/relax/0/skill',
      /cannot be stored/,
      (b) => (b.rings[0].relax[0].skill = '\ud800'),
    ],
  ])('names %s', (_, path, message, change) => {
    const faults = faultsOf(asking(change));
    const found = faults.find(
      (fault) => fault.path === `/routing/branches/0${path}` && message.test(`${fault.message} ${fault.at ?? ''}`),
    );
    expect(found, JSON.stringify(faults)).toBeDefined();
    expect(found?.mend).toMatch(/\.$/);
  });

  it('names a skill of more than 100 characters once, and tells the place of each fault in otherwise', () => {
    const document = changed((flow) => (flow.routing.otherwise.requirements = [{ skill: 'x'.repeat(101), level: 1 }]));
    expect(pathsOf(document)).toEqual(['/routing/otherwise/requirements/0/skill']);
  });

  it('names every fault of a branch at once', () => {
    const document = asking((branch) => {
      branch.requirements.push({ skill: 'klingon', level: 9 });
      branch.rings = [
        { afterSeconds: 30, relax: [{ skill: 'german', level: 2 }] },
        { afterSeconds: 30, overflowTeamId: TEAM },
        { afterSeconds: 20, overflowTeamId: OTHER_TEAM },
      ];
    });
    expect(pathsOf(document).toSorted()).toEqual(
      [
        '/requirements/2/level',
        '/requirements/2/skill',
        '/rings',
        '/rings/0/relax/0/skill',
        '/rings/1/afterSeconds',
        '/rings/1/overflowTeamId',
        '/rings/2/afterSeconds',
        '/rings/2/overflowTeamId',
      ].map((path) => `/routing/branches/0${path}`),
    );
  });

  it.each([
    ['spansih', 'The nearest known skill is "spanish".'],
    ['GERMAN', 'The nearest known skill is "german".'],
    ['uberweisung', 'The nearest known skill is "Überweisung".'],
    ['x', 'Give an agent this skill first, or ask for one that is known: "spanish", "german", "Überweisung".'],
  ])('tells for %s what was perhaps meant', (asked, mend) => {
    const document = changed((flow) => (flow.routing.otherwise.requirements = [{ skill: asked, level: 1 }]));
    expect(faultsOf(document)).toMatchObject([{ mend }]);
  });

  it('tells that no agent has any skill', () => {
    const document = changed((flow) => (flow.routing.otherwise.requirements = [skill(1)]));
    const result = validateFlow(document, { ...known, skills: new Set() });
    expect(result).toMatchObject({ ok: false, faults: [{ mend: expect.stringContaining('no agent has any') }] });
  });

  it('stays quick with as many names as a workspace can have', () => {
    const skills = new Set(Array.from({ length: 20_000 }, (_, index) => `${'s'.repeat(90)}${index}`));
    const document = changed((flow) => {
      flow.routing.branches = Array.from({ length: 50 }, (_, branch) => ({
        ...flow.routing.branches[0],
        name: `${branch}`,
        requirements: Array.from({ length: 10 }, (_, index) => ({
          skill: `${'s'.repeat(90)}x${branch}y${index}`,
          level: 1,
        })),
      }));
    });
    const startedAt = performance.now();
    const result = validateFlow(document, { ...known, skills });
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    expect(result.ok ? 0 : result.faults.length).toBe(500);
  });

  function skill(level: number) {
    return { skill: 'spanish', level };
  }

  function wait(afterSeconds: number) {
    return { afterSeconds, fallback: 'wait' };
  }

  function renameSkill(branch: any, name: string) {
    branch.requirements[0].skill = name;
  }

  function renameField(branch: any) {
    branch.requirements[1].skillFromField = 'No field';
  }

  function setLevel(branch: any, level: number) {
    branch.requirements[0].level = level;
  }

  function withoutRelaxing(change: (branch: any) => void) {
    return (branch: any) => {
      branch.rings = [];
      change(branch);
    };
  }

  function manySkills(count: number) {
    return Array.from({ length: count }, (_, index) => ({ skillFromField: `f${index}`, level: 1 }));
  }

  function manyRelaxed(count: number) {
    return manySkills(count).map((one) => ({ ...one, level: 0 }));
  }

  function manyRings(count: number) {
    return Array.from({ length: count }, (_, index) => wait(index + 1));
  }
});

it.each([
  null,
  undefined,
  1,
  'x',
  [],
  {},
  { routing: null },
  { trigger: [], enrichment: {}, routing: { branches: {} } },
])('refuses %j without throwing', (document) => {
  expect(pathsOf(document).length).toBeGreaterThan(0);
});

it('refuses whatever is no flow, and never throws', () => {
  fc.assert(fc.property(fc.jsonValue(), (document) => !validateFlow(document, known).ok));
  let deep: unknown = 1;
  for (let depth = 0; depth < 20_000; depth++) deep = [deep];
  expect(
    validateFlow(
      changed((flow) => (flow.deep = deep)),
      known,
    ).ok,
  ).toBe(false);
});

describe('whatever is asked for', () => {
  const level = fc.oneof(
    { weight: 5, arbitrary: fc.integer({ min: 0, max: 6 }) },
    { weight: 1, arbitrary: fc.jsonValue() },
  );
  const skillName = fc.constantFrom('spanish', 'german', 'klingon', '', 'a/b', 'x'.repeat(101), '\0');
  const field = fc.constantFrom('purpose', 'tier', 'No field');
  const teamId = fc.constantFrom(TEAM, OTHER_TEAM, THIRD_TEAM, 'x');
  const named = { skill: skillName, skillFromField: field, level, preferred: fc.boolean(), 'odd/~': fc.constant(1) };
  const requirement = fc.record(named, { requiredKeys: [] });
  const list = (item: fc.Arbitrary<unknown>, maxLength: number) =>
    fc.oneof(
      { weight: 8, arbitrary: fc.array(fc.oneof({ weight: 9, arbitrary: item }, fc.jsonValue()), { maxLength }) },
      { weight: 1, arbitrary: fc.jsonValue() },
    );
  const ring = fc.record(
    {
      afterSeconds: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constant(1e9)),
      relax: list(requirement, 12),
      overflowTeamId: teamId,
      fallback: fc.constantFrom('wait', 'close', 'shout'),
    },
    { requiredKeys: [] },
  );
  const asked = fc.record({ requirements: list(requirement, 12), rings: list(ring, 22) }, { requiredKeys: [] });

  it('never throws, and every fault names a place that is there or is missing', () => {
    fc.assert(
      fc.property(asked, asked, (branch, otherwise) => {
        const document = changed((flow) => {
          Object.assign(flow.routing.branches[0], branch);
          Object.assign(flow.routing.otherwise, otherwise);
        });
        const result = validateFlow(document, known);
        const astray = (result.ok ? [] : result.faults).filter(({ path, message, mend }) => {
          const owner = valueAtPointer(document, path.slice(0, path.lastIndexOf('/')));
          if (typeof owner !== 'object' || owner === null) return true;
          if (message !== 'is required' && valueAtPointer(document, path) === undefined) return true;
          return [message, mend].some((text) => text === '' || text.length > 1000);
        });
        expect(astray).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  it('what is accepted ends, goes through no team twice, and only ever asks for less', () => {
    const seconds = fc.uniqueArray(fc.integer({ min: 1, max: 604_800 }), { maxLength: 6 });
    const change = fc.oneof(
      fc.record({
        relax: fc.array(fc.record({ skill: fc.constantFrom('spanish', 'german'), level: fc.nat(4) }), { maxLength: 2 }),
      }),
      fc.record({ overflowTeamId: fc.constantFrom(TEAM, THIRD_TEAM) }),
      fc.record({ fallback: fc.constantFrom('wait', 'close') }),
    );
    const rings = fc.tuple(seconds, fc.array(change, { maxLength: 6 })).map(([times, changes]) =>
      times
        .toSorted((a, b) => a - b)
        .slice(0, changes.length)
        .map((afterSeconds, index) => ({ afterSeconds, ...changes[index] })),
    );
    let accepted = 0;
    fc.assert(
      fc.property(rings, (some) => {
        const requirements = [
          { skill: 'spanish', level: 5 },
          { skill: 'german', level: 3 },
        ];
        const document = changed((flow) => Object.assign(flow.routing.otherwise, { requirements, rings: some }));
        if (!validateFlow(document, known).ok) return;
        accepted++;
        if (some.length > 0) expect(some.findIndex((one) => 'fallback' in one)).toBe(some.length - 1);
        const teams = [TEAM, ...some.flatMap((one) => ('overflowTeamId' in one ? [one.overflowTeamId] : []))];
        expect(new Set(teams).size).toBe(teams.length);
        const levels: Record<string, number> = { spanish: 5, german: 3 };
        for (const { skill, level: lower } of some.flatMap((one) => ('relax' in one ? (one.relax ?? []) : []))) {
          expect(lower).toBeLessThan(levels[skill]!);
          levels[skill] = lower;
        }
      }),
      { numRuns: 1000 },
    );
    expect(accepted).toBeGreaterThan(20);
  });

  function valueAtPointer(value: any, pointer: string): unknown {
    const names = pointer.split('/').slice(1);
    return names.reduce((owner, name) => owner?.[name.replaceAll('~1', '/').replaceAll('~0', '~')], value);
  }
});
