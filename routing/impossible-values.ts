import { parse } from '@bufbuild/cel';
import { literalText, type Expr } from './condition-check.ts';
import { compileCondition } from './condition.ts';
import { cutText, type FieldValue } from './facts.ts';
import type { FlowDocument } from './flow-schema.ts';
import { fieldsSetBy } from './step-fields.ts';
import type { EnrichmentStep } from './step-schemas.ts';

/**
 * Comparisons of a field with a text that no step gives it, such as a misspelt choice: `fields.purpose == 'suport'`. Only where every step that sets
 * the field has its values written out; what another system, the contact or a language detector says may be anything.
 */
export function findImpossibleValues({ enrichment, routing }: FlowDocument): string[] {
  const found = new Map<string, string>();
  function search(where: string, condition: string | undefined, steps: readonly EnrichmentStep[]): void {
    if (condition === undefined) return;
    for (const { field, text } of comparisonsIn(condition)) {
      const values = valuesOf(field, steps);
      if (values === null || values.length === 0 || values.includes(text)) continue;
      const shown = values.slice(0, MAX_VALUES).map((value) => tell(value));
      const rest = values.length > MAX_VALUES ? ` and ${values.length - MAX_VALUES} more` : '';
      const sentence = `\`fields.${field}\` is never ${tell(text)}; it can be ${shown.join(', ')}${rest}.`;
      // The same mistake in several places is told once, with the first.
      if (!found.has(sentence)) found.set(sentence, `${where}: ${sentence}`);
    }
  }
  for (const [position, step] of enrichment.entries()) {
    const before = enrichment.slice(0, position);
    search(`Step ${position + 1}`, step.when, before);
    if (step.kind === 'ask') search(`Step ${position + 1}`, step.test, before);
  }
  for (const { name, when } of routing.branches) search(`Branch “${name}”`, when, enrichment);
  return [...found.values()];
}

const MAX_VALUES = 10;
const MAX_TOLD_CHARS = 100;

const tell = (value: FieldValue): string =>
  JSON.stringify(typeof value === 'string' ? cutText(value, MAX_TOLD_CHARS) : value);

/** All that the steps may make of the field, or null where one of them leaves that open. */
function valuesOf(field: string, steps: readonly EnrichmentStep[]): FieldValue[] | null {
  const all = new Set<FieldValue>();
  for (const { name, values } of steps.flatMap(fieldsSetBy)) {
    if (name !== field) continue;
    if (values === null) return null;
    for (const value of values) all.add(value);
  }
  return [...all];
}

interface Comparison {
  readonly field: string;
  readonly text: string;
}

function comparisonsIn(condition: string): Comparison[] {
  const found: Comparison[] = [];
  // An old version may hold what is not allowed any more, which says nothing.
  if (compileCondition(condition).ok) collect(parse(condition).expr, found);
  return found;
}

/** What loops go over is left alone: there, a name may stand for something else. */
function collect({ exprKind }: Expr, found: Comparison[]): void {
  if (exprKind.case !== 'callExpr') return;
  const { function: name, target, args } = exprKind.value;
  if (target !== undefined) collect(target, found);
  for (const argument of args) collect(argument, found);
  const [left, right] = args;
  if (name !== '_==_' || left === undefined || right === undefined) return;
  const field = fieldIn(left) ?? fieldIn(right);
  const text = literalText(left) ?? literalText(right);
  if (field !== null && text !== null) found.push({ field, text });
}

function fieldIn({ exprKind }: Expr): string | null {
  if (exprKind.case !== 'selectExpr' || exprKind.value.testOnly) return null;
  const operand = exprKind.value.operand?.exprKind;
  return operand?.case === 'identExpr' && operand.value.name === 'fields' ? exprKind.value.field : null;
}
