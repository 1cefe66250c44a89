import { compileCondition, type ConditionScope, type FieldType } from './condition.ts';
import type { FlowFault } from './flow-faults.ts';
import { compileTemplate } from './template.ts';
import { MAX_CONDITION_CHARS } from './text-forms.ts';

/** What a condition or a template at some place of a flow may name. */
export interface NameScope {
  /** Left out where it is not known which fields there are: any name may be one. */
  readonly fields?: ReadonlyMap<string, FieldType>;
}

export interface StepScope extends NameScope {
  readonly teamIds: ReadonlySet<string>;
  /** Names of business hours. */
  readonly hours: ReadonlySet<string>;
}

/** Of a value that is no text, or too long for one, the fault is known. */
export function conditionFaults(path: string, source: unknown, scope: ConditionScope): FlowFault[] {
  if (typeof source !== 'string' || source === '' || source.length > MAX_CONDITION_CHARS) return [];
  const result = compileCondition(source, scope);
  if (result.ok) return [];
  return result.faults.map(({ message, position, mend }) => ({
    path,
    message: withPosition(message, position),
    mend: mend ?? "Correct the expression; an example is fields.purpose == 'billing'.",
  }));
}

const MAX_TEMPLATE_CHARS = 16_384;

export function templateFaults(path: string, source: unknown, { fields }: NameScope): FlowFault[] {
  if (typeof source !== 'string' || source.length > MAX_TEMPLATE_CHARS) return [];
  const result = compileTemplate(source, fields);
  if (result.ok) return [];
  return result.faults.map(({ message, position }) => ({
    path,
    message: withPosition(message, position),
    mend: 'Correct what stands between {{ and }}; an example is {{contact.name}}.',
  }));
}

const withPosition = (message: string, position: number | undefined): string =>
  position === undefined ? message : `${message} (at character ${position + 1})`;
