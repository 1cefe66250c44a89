import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AssignmentExplanation, ExplainedCandidate } from '../../routing/explanation.ts';
import { decideAgain, matchWaiting } from '../../routing/matching.ts';
import { inputArb, largeTeamArb } from './matching-inputs.ts';

describe('the record of any decision', () => {
  it('decides the same again from any record, also from its JSON', () => {
    fc.assert(
      fc.property(fc.oneof(inputArb, largeTeamArb), (input) => {
        for (const { agentId, explanation } of matchWaiting(input)) {
          expect(decideAgain(explanation)).toBe(agentId);
          expect(decideAgain(JSON.parse(JSON.stringify(explanation)) as AssignmentExplanation)).toBe(agentId);
        }
      }),
    );
  });

  it('finds again, from a record, what kept each candidate away', () => {
    fc.assert(
      fc.property(inputArb, (input) => {
        for (const { explanation } of matchWaiting(input)) {
          for (const candidate of explanation.candidates) {
            const alone = decideAgain({ ...explanation, candidates: [candidate] });
            expect(alone).toBe(candidate.excluded === undefined ? candidate.agentId : null);
          }
        }
      }),
    );
  });

  it('tells from a record that it was damaged', () => {
    const damages = new Set<string>();
    fc.assert(
      fc.property(inputArb, fc.nat(), (input, pick) => {
        for (const { explanation } of matchWaiting(input)) {
          expect(isSound(explanation)).toBe(true);
          for (const [damage, damaged] of Object.entries(damagesOf(explanation, pick))) {
            expect({ damage, isSound: isSound(damaged) }).toEqual({ damage, isSound: false });
            damages.add(damage);
          }
        }
      }),
      { numRuns: 500 },
    );
    expect([...damages].toSorted()).toEqual([
      'another chosen',
      'nobody chosen',
      'the chosen one had no room',
      'the chosen one was not there',
      'the full one had room',
      'the least loaded had more than the next',
    ]);
  });
});

/** What can be checked of a record without anything besides: it decides as it says, and keeps away whom it says. */
function isSound(record: AssignmentExplanation): boolean {
  return (
    decideAgain(record) === record.chosen &&
    record.candidates.every((candidate) => {
      const alone = decideAgain({ ...record, candidates: [candidate] });
      return alone === (candidate.excluded === undefined ? candidate.agentId : null);
    })
  );
}

/** The record, damaged in every way that it has room for. */
function damagesOf(record: AssignmentExplanation, pick: number): Record<string, AssignmentExplanation> {
  const { candidates, chosen, units } = record;
  const damages: Record<string, AssignmentExplanation> = {};
  const withLoad = ({ agentId }: ExplainedCandidate, load: number): AssignmentExplanation => ({
    ...record,
    candidates: candidates.map((candidate) => (candidate.agentId === agentId ? { ...candidate, load } : candidate)),
  });
  const others = candidates.filter(({ agentId }) => agentId !== chosen);
  if (others.length > 0) damages['another chosen'] = { ...record, chosen: others[pick % others.length]!.agentId };
  const full = candidates.find(({ excluded }) => excluded === 'full');
  if (full !== undefined) damages['the full one had room'] = withLoad(full, full.capacity! - units);
  if (chosen === null) return damages;
  const [best, next] = candidates as [ExplainedCandidate, ExplainedCandidate | undefined];
  damages['nobody chosen'] = { ...record, chosen: null };
  damages['the chosen one was not there'] = { ...record, candidates: others };
  const most = best.capacity! - units;
  damages['the chosen one had no room'] = withLoad(best, most + 1);
  const isByLoad =
    record.strategy === 'least_loaded' &&
    chosen !== record.preferredAgentId &&
    next !== undefined &&
    next.excluded === undefined &&
    next.preferredMet === best.preferredMet;
  if (isByLoad && most / best.capacity! > next.load! / next.capacity!) {
    damages['the least loaded had more than the next'] = withLoad(best, most);
  }
  return damages;
}
