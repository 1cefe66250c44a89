import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { describeSkill, queueKeyText, skillsAfter, type Requirements } from '../../routing/requirements.ts';
import { prefers, requires } from './matching-inputs.ts';

const requirements: Requirements = {
  skills: [requires('spanish', 4), prefers('vip', 3), requires('billing', 1)],
  rings: [
    { afterSeconds: 30, kind: 'relax', levels: [{ skill: 'spanish', level: 2 }] },
    {
      afterSeconds: 90,
      kind: 'relax',
      levels: [
        { skill: 'spanish', level: 0 },
        { skill: 'vip', level: 1 },
      ],
    },
    { afterSeconds: 180, kind: 'overflow', teamId: 't2' },
    { afterSeconds: 600, kind: 'fallback', then: 'close' },
  ],
};

describe('skillsAfter', () => {
  it('relaxes ring by ring, level 0 drops the skill, and other rings change no skill', () => {
    const [spanish, vip, billing] = requirements.skills;
    const relaxed = [{ ...vip, level: 1 }, billing];
    expect([0, 1, 2, 3, 4, 9].map((ring) => skillsAfter(requirements, ring))).toEqual([
      [spanish, vip, billing],
      [{ ...spanish, level: 2 }, vip, billing],
      relaxed,
      relaxed,
      relaxed,
      relaxed,
    ]);
  });

  it('never asks for a skill that was not asked for', () => {
    const rings = [{ afterSeconds: 1, kind: 'relax' as const, levels: [{ skill: 'other', level: 1 }] }];
    expect(skillsAfter({ skills: [], rings }, 1)).toEqual([]);
  });
});

it('describes a skill as people write it', () => {
  expect(describeSkill(requires('german', 3))).toBe('german ≥ 3');
  expect(describeSkill(prefers('german', 3))).toBe('german ≥ 3 preferred');
});

describe('the key of a queue', () => {
  const nameArb = fc.oneof(fc.constantFrom('a', 'b', 'a","b', ']', ''), fc.string({ unit: 'binary', maxLength: 3 }));
  const askedArb = fc.record({
    skills: fc.uniqueArray(
      fc.record({ skill: nameArb, level: fc.integer({ min: 1, max: 2 }), preferred: fc.boolean() }),
      { selector: ({ skill }) => skill, maxLength: 3 },
    ),
    units: fc.integer({ min: 1, max: 2 }),
    channel: fc.option(nameArb),
    passedOver: fc.uniqueArray(nameArb, { maxLength: 3 }),
  });
  const canonical = (asked: typeof askedArb extends fc.Arbitrary<infer Asked> ? Asked : never) => ({
    ...asked,
    skills: asked.skills.toSorted((left, right) => (left.skill < right.skill ? -1 : 1)),
    passedOver: asked.passedOver.toSorted(),
  });

  it('is equal exactly where the same is asked, in whatever order', () => {
    fc.assert(
      fc.property(askedArb, askedArb, (left, right) => {
        const isSame = JSON.stringify(canonical(left)) === JSON.stringify(canonical(right));
        expect(queueKeyText(left) === queueKeyText(right)).toBe(isSame);
        const reversed = { ...left, skills: left.skills.toReversed(), passedOver: left.passedOver.toReversed() };
        expect(queueKeyText(reversed)).toBe(queueKeyText(left));
      }),
      { numRuns: 1_000 },
    );
  });

  it('can be read, and holds nothing that a text column refuses', () => {
    const asked = { skills: [requires('spanish', 2), prefers('a\0b', 1)], units: 1, channel: 'web', passedOver: ['x'] };
    expect(queueKeyText(asked)).toBe('[1,"web",[["a\\u0000b",1,"preferred"],["spanish",2,"required"]],["x"]]');
  });
});
