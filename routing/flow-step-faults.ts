import { Check } from 'typebox/value';
import type { FieldType } from './condition.ts';
import { foldText } from './words.ts';
import { askFaults } from './flow-ask-faults.ts';
import { conditionFaults, type StepScope } from './flow-expression-faults.ts';
import { createFirstPlaces, type FlowFault } from './flow-faults.ts';
import { httpFaults } from './flow-http-faults.ts';
import { MAX_STEPS } from './flow-schema.ts';
import { isObject, itemsAt, valueAt } from './json-walk.ts';
import { fieldTypesOf } from './step-fields.ts';
import { MAX_KEYWORDS, MAX_LABELS, MAX_RULES, STEP_SCHEMAS, type EnrichmentStep } from './step-schemas.ts';

/**
 * Finds what a schema cannot tell about the enrichment steps, each by what is known before it, and the fields that are known after them. Values of
 * the wrong shape are passed over: their fault is known.
 */
export function checkSteps(document: unknown, surroundings: Omit<StepScope, 'fields'>): CheckedSteps {
  const steps = itemsAt(document, '/enrichment', MAX_STEPS);
  const items = steps.map(([, step]) => step);
  const faults = steps.flatMap(([path, step], index) =>
    faultsOfStep(path, step, { ...surroundings, ...knownFields(items.slice(0, index)) }),
  );
  const all = valueAt(document, '/enrichment');
  // Of a list that is too long, the rest may set any field.
  const isWhole = Array.isArray(all) && all.length <= MAX_STEPS;
  return { faults, ...(isWhole ? knownFields(items) : {}) };
}

export interface CheckedSteps {
  readonly faults: FlowFault[];
  /** Left out where a step does not tell what it sets: then a condition may name any field. */
  readonly fields?: ReadonlyMap<string, FieldType>;
}

/** The kind whose schema a step goes by. */
export function kindOfStep(step: unknown): keyof typeof STEP_SCHEMAS | null {
  const kind = isObject(step) ? step['kind'] : undefined;
  return typeof kind === 'string' && Object.hasOwn(STEP_SCHEMAS, kind) ? (kind as keyof typeof STEP_SCHEMAS) : null;
}

/** A step with a fault somewhere still tells which fields it sets, so that those who name them are not blamed. */
function knownFields(steps: readonly unknown[]): Pick<CheckedSteps, 'fields'> {
  const whole = steps.filter(isStep);
  const fields = new Map<string, FieldType>(fieldTypesOf(whole));
  for (const step of steps) {
    if (isStep(step)) continue;
    const names = namesSetBy(step);
    if (names.length === 0) return {};
    for (const name of names) fields.set(name, 'any');
  }
  return { fields };
}

function isStep(step: unknown): step is EnrichmentStep {
  const kind = kindOfStep(step);
  return kind !== null && Check(STEP_SCHEMAS[kind], step);
}

function namesSetBy(step: unknown): string[] {
  if (kindOfStep(step) === null) return [];
  const fields = valueAt(step, '/fields');
  const single = [valueAt(step, '/field'), valueAt(step, '/confidenceField')];
  return [...single.filter((name) => typeof name === 'string'), ...(isObject(fields) ? Object.keys(fields) : [])];
}

function faultsOfStep(path: string, step: unknown, scope: StepScope): FlowFault[] {
  const faults = conditionFaults(`${path}/when`, valueAt(step, '/when'), { for: 'step', ...scope });
  const kind = kindOfStep(step);
  switch (kind) {
    case 'keywords':
      return [...faults, ...emptyKeywordFaults(path, step)];
    case 'language':
      return [...faults, ...confidenceFaults(path, step)];
    case 'ask':
      return [...faults, ...askFaults(path, step, scope)];
    case 'http':
      return [...faults, ...httpFaults(path, step, scope)];
    case 'classify':
      return [...faults, ...labelFaults(path, step)];
    case 'set':
    case 'contact':
    case null:
      return faults;
    default:
      return kind satisfies never;
  }
}

function emptyKeywordFaults(path: string, step: unknown): FlowFault[] {
  return itemsAt(step, '/rules', MAX_RULES).flatMap(([rulePath, rule]) =>
    itemsAt(rule, '/keywords', MAX_KEYWORDS)
      .filter(([, keyword]) => typeof keyword === 'string' && keyword !== '' && foldText(keyword) === '')
      .map(([keywordPath]) => ({
        path: `${path}${rulePath}${keywordPath}`,
        message: 'has nothing to look for',
        mend: 'Give a keyword with letters, digits or signs.',
      })),
  );
}

function confidenceFaults(path: string, step: unknown): FlowFault[] {
  const field = valueAt(step, '/confidenceField');
  if (field === undefined || field !== valueAt(step, '/field')) return [];
  const message = 'is the field of the language too';
  return [{ path: `${path}/confidenceField`, message, mend: 'Give the confidence a field of its own.' }];
}

function labelFaults(path: string, step: unknown): FlowFault[] {
  const firstPlace = createFirstPlaces();
  return itemsAt(step, '/labels', MAX_LABELS).flatMap(([labelPath, item]): FlowFault[] => {
    const label = valueAt(item, '/label');
    if (typeof label !== 'string') return [];
    const first = firstPlace(foldText(label), `${path}${labelPath}`);
    if (first === null) return [];
    const message = 'is, but for case and accents, also the label at';
    return [{ path: `${path}${labelPath}/label`, message, at: first, mend: 'Give every label once.' }];
  });
}
