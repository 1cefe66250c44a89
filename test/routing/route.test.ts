import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RoutingFacts } from '../../routing/facts.ts';
import { DEFAULT_TRIGGER, type FlowDocument } from '../../routing/flow-document.ts';
import type { FlowRequirements } from '../../routing/flow-requirements.ts';
import { noRequirements, skillsAfter } from '../../routing/requirements.ts';
import { decideRoute, decideTrigger } from '../../routing/route.ts';

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
  };
}

it('takes the first true branch and tells what it looked at', () => {
  expect(decideRoute(flow, factsWith({ purpose: 'billing' }))).toEqual({
    teamId: 't2',
    priority: 10,
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
  const decision = decideRoute(flow, factsWith({ purpose: 'other' }));
  expect(decision).toMatchObject({ teamId: 't0', priority: 0, branch: null });
  expect(decision.evaluated).toHaveLength(3);
});

it('treats a condition that no longer compiles as false', () => {
  const branches = [{ name: 'Old', when: 'gone == 1', teamId: 't1', priority: 1 }];
  const decision = decideRoute({ ...flow, routing: { ...flow.routing, branches } }, factsWith({}));
  expect(decision.branch).toBeNull();
  expect(decision.evaluated[0]?.error).toContain('does not compile');
});

it('keeps the explanation small', () => {
  const branches = [{ name: 'Long', when: `fields.a == '${'x'.repeat(1900)}'`, teamId: 't1', priority: 1 }];
  const decision = decideRoute({ ...flow, routing: { ...flow.routing, branches } }, factsWith({ a: 1 }));
  expect(JSON.stringify(decision).length).toBeLessThan(600);
});

it('runs only for conversations that the contact opened, unless the flow says otherwise', () => {
  expect(decideTrigger(flow, factsWith({}))).toEqual({ value: true });
  expect(decideTrigger(flow, factsWith({}, 'user'))).toEqual({ value: false });
  expect(decideTrigger({ ...flow, trigger: { ...DEFAULT_TRIGGER, condition: '(' } }, factsWith({})).value).toBe(false);
});

describe('requirements', () => {
  const asking = (asked: FlowRequirements, fields: RoutingFacts['fields'] = {}) => {
    const otherwise = { ...flow.routing.otherwise, ...asked } as FlowDocument['routing']['otherwise'];
    const { requirements, missingFields } = decideRoute(
      { ...flow, routing: { branches: [], otherwise } },
      factsWith(fields),
    );
    return { requirements, missingFields };
  };

  it('come from the branch that decides', () => {
    const branches = flow.routing.branches.map((branch) => ({
      ...branch,
      requirements: [{ skill: branch.name, level: 1 }],
    }));
    const decision = decideRoute(
      { ...flow, routing: { ...flow.routing, branches } },
      factsWith({ purpose: 'billing' }),
    );
    expect(decision.requirements).toEqual({ skills: [{ skill: 'Billing', level: 1, preferred: false }], rings: [] });
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
