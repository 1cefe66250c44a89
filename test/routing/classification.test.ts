import { expect, test } from 'vitest';
import { readClassification } from '../../routing/classification.ts';
import type { ClassifyStep } from '../../routing/step-schemas.ts';

const step: ClassifyStep = {
  kind: 'classify',
  field: 'topic',
  labels: [{ label: 'sales' }, { label: ' support ' }],
  otherwise: 'none',
  timeoutMs: 1000,
};
const sure: ClassifyStep = { ...step, minConfidence: 0.5 };

const found = (topic: string, confidence?: number) => ({
  fields: { topic },
  ...(confidence !== undefined && { confidence }),
  failures: [],
});
const failed = (failure: string) => ({ fields: {}, failures: [`the model ${failure}`] });

test.each<[unknown, ReturnType<typeof found>]>([
  [{ label: 'sales' }, found('sales')],
  [{ label: ' sales\n', confidence: 0 }, found('sales', 0)],
  [{ label: 'support', confidence: 1 }, found(' support ', 1)],
  [{ label: 'none', confidence: 0.9 }, found('none', 0.9)],
  [{ label: 'none' }, found('none')],
  [{ label: 'sales', confidence: 7 }, found('sales')],
  [{ label: 'sales', confidence: '0.9' }, found('sales')],
])('%j is an answer', (said, answer) => {
  expect(readClassification(step, said)).toEqual(answer);
});

test.each<[unknown, string]>([
  [{ label: 'Sales' }, 'answered with none of the labels'],
  [{ label: '' }, 'answered with none of the labels'],
  [{ label: ['sales'] }, 'answered with none of the labels'],
  [{}, 'answered with none of the labels'],
  [['sales'], 'answered with something else than JSON'],
  ['sales', 'answered with something else than JSON'],
  [null, 'answered with something else than JSON'],
  [undefined, 'answered with something else than JSON'],
])('%j is none, and there is no field', (said, failure) => {
  expect(readClassification(step, said)).toEqual(failed(failure));
});

test('where it must be sure, less is no failure, and not to tell is one', () => {
  expect(readClassification(sure, { label: 'sales', confidence: 0.5 })).toEqual(found('sales', 0.5));
  expect(readClassification(sure, { label: 'sales', confidence: 0.49 })).toEqual(found('none', 0.49));
  for (const confidence of [undefined, 7, -1, Number.NaN]) {
    expect(readClassification(sure, { label: 'sales', confidence })).toEqual(failed('did not tell how sure it is'));
  }
});
