import type { RequestAnswer } from './flow-interpreter.ts';
import { isObject } from './json-walk.ts';
import type { ClassifyStep } from './step-schemas.ts';

/**
 * What the model's answer means for a `classify` step: `{label, confidence}`, of which nothing is trusted. Without a usable label there is no
 * field, which is a failure; where the model is not sure enough the field is the step's `otherwise`, which is none. No failure repeats what the model
 * said: it may be what the contact wrote.
 * @param said undefined where it was no JSON
 */
export function readClassification(step: ClassifyStep, said: unknown): RequestAnswer {
  const failed = (failure: string): RequestAnswer => ({ fields: {}, failures: [`the model ${failure}`] });
  if (!isObject(said)) return failed('answered with something else than JSON');
  const chosen = typeof said['label'] === 'string' ? said['label'].trim() : '';
  const label = labelsOf(step).find((known) => known.trim() === chosen);
  if (label === undefined) return failed('answered with none of the labels');
  const told = said['confidence'];
  const confidence = typeof told === 'number' && told >= 0 && told <= 1 ? told : undefined;
  if (confidence === undefined && step.minConfidence !== undefined) return failed('did not tell how sure it is');
  const isSure = step.minConfidence === undefined || (confidence ?? 0) >= step.minConfidence;
  return {
    fields: { [step.field]: isSure ? label : step.otherwise },
    ...(confidence !== undefined && { confidence }),
    failures: [],
  };
}

/** That nothing fits is an answer, too. */
export function labelsOf({ labels, otherwise }: ClassifyStep): string[] {
  return [...new Set([...labels.map(({ label }) => label), otherwise])];
}
