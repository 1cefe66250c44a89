/** What a step may do to the fields: one list, from which conditions are checked and those are found that can never be true. */
import type { FieldType } from './condition.ts';
import type { FieldValue } from './facts.ts';
import type { EnrichmentStep } from './step-schemas.ts';
import type { ContactSource } from './text-forms.ts';

export interface SettableField {
  readonly name: string;
  readonly type: FieldType;
  /** All that the step may make of it; null where another system, the contact or a language detector has a say. */
  readonly values: readonly FieldValue[] | null;
}

export function fieldsSetBy(step: EnrichmentStep): SettableField[] {
  switch (step.kind) {
    case 'set':
      return [oneOf(step.field, [step.value])];
    case 'keywords':
      return [oneOf(step.field, [...step.rules.map(({ value }) => value), ...given(step.otherwise)])];
    case 'language':
      return [anyOf(step.field, 'string'), ...given(step.confidenceField).map((name) => anyOf(name, 'number'))];
    case 'contact':
      return Object.entries(step.fields).map(([name, source]) => anyOf(name, CONTACT_TYPES.get(source) ?? 'any'));
    case 'ask': {
      const instead = given(step.giveUp?.value);
      return step.choices === undefined
        ? [anyOf(step.field, typeOf(['', ...instead]))]
        : [oneOf(step.field, [...step.choices.map(({ value }) => value), ...instead])];
    }
    case 'http':
      return Object.keys(step.fields).map((name) => anyOf(name, 'any'));
    case 'classify':
      return [oneOf(step.field, [...step.labels.map(({ label }) => label), step.otherwise])];
    default:
      return step satisfies never;
  }
}

/** The fields that the steps may have set, with what they are; two steps that differ about a field leave it open. */
export function fieldTypesOf(steps: readonly EnrichmentStep[]): Map<string, FieldType> {
  const types = new Map<string, FieldType>();
  for (const { name, type } of steps.flatMap(fieldsSetBy)) {
    const before = types.get(name);
    types.set(name, before === undefined || before === type ? type : 'any');
  }
  return types;
}

const oneOf = (name: string, values: readonly FieldValue[]): SettableField => ({ name, type: typeOf(values), values });

const anyOf = (name: string, type: FieldType): SettableField => ({ name, type, values: null });

const given = <Value extends FieldValue>(value: Value | undefined): Value[] => (value === undefined ? [] : [value]);

/** Attributes, of which the lifecycle is one, may be anything. */
const CONTACT_TYPES: ReadonlyMap<string, FieldType> = new Map<ContactSource, FieldType>([
  ['name', 'string'],
  ['conversationCount', 'number'],
  ['lastAgentId', 'string'],
  ['lastCategory', 'string'],
]);

function typeOf(values: readonly FieldValue[]): FieldType {
  const [type, ...others] = new Set(values.map((value): FieldType => typeof value as FieldType));
  return type !== undefined && others.length === 0 ? type : 'any';
}
