import {
  compileCondition,
  compilePattern,
  evaluateBound,
  type BoundFacts,
  type Condition,
  type ConditionScope,
  type Evaluation,
  type PatternResult,
} from './condition.ts';
import { cutText, MAX_MESSAGE_TEXT_CHARS, type RoutingFacts } from './facts.ts';
import type { FlowBranch, FlowDocument } from './flow-schema.ts';
import type { EnrichmentStep } from './step-schemas.ts';
import { compileTemplate, fillTemplate, type TemplateResult } from './template.ts';

/**
 * A flow with its conditions, patterns and templates compiled: each when it is first needed, and once for as long as the document is held. The
 * documents of published versions are kept and never change. What does not compile (which can come only from a newer, stricter version of this
 * code) counts as false and tells why.
 */
export function compileFlow(document: FlowDocument): CompiledFlow {
  const known = compiledFlows.get(document);
  if (known !== undefined) return known;
  const trigger = once(() => conditionOf(document.trigger.condition, { for: 'trigger' }));
  const templates = new Map<string, TemplateResult>();
  const compiled: CompiledFlow = {
    get trigger() {
      return trigger();
    },
    steps: document.enrichment.map(compiledStep),
    branches: document.routing.branches.map(compiledBranch),
    templateOf(source) {
      let template = templates.get(source);
      if (template === undefined) templates.set(source, (template = compileTemplate(source)));
      return template;
    },
  };
  compiledFlows.set(document, compiled);
  return compiled;
}

const compiledFlows = new WeakMap<FlowDocument, CompiledFlow>();

/** By the positions of the document's lists. */
export interface CompiledFlow {
  readonly trigger: CompiledCondition;
  readonly steps: readonly CompiledStep[];
  readonly branches: readonly CompiledBranch[];
  /** Of a text that stands in the document. */
  templateOf(source: string): TemplateResult;
}

export interface CompiledStep {
  /** Null where the step has none. */
  readonly when: CompiledCondition | null;
  /** Of an `ask` step. */
  readonly test: CompiledCondition | null;
  readonly pattern: PatternResult | null;
}

export interface CompiledBranch {
  readonly when: CompiledCondition;
}

export type CompiledCondition =
  { readonly ok: true; readonly condition: Condition } | { readonly ok: false; readonly error: string };

export function evaluateCompiled(compiled: CompiledCondition, bound: BoundFacts): Evaluation {
  return compiled.ok ? evaluateBound(compiled.condition, bound) : { value: false, error: compiled.error };
}

/** A text of the document with its names filled in. One that is no template any more is given as it stands. */
export function fillText(
  flow: CompiledFlow,
  source: string,
  { facts, escape }: { facts: RoutingFacts; escape?: 'url' | 'none' },
): string {
  const result = flow.templateOf(source);
  return result.ok ? fillTemplate(result.template, facts, escape) : source;
}

/** What the contact is sent: the text filled in, and null where nothing is left of it, as of names alone that nobody knows. */
export function fillMessage(flow: CompiledFlow, source: string, facts: RoutingFacts): string | null {
  const text = cutText(fillText(flow, source, { facts }), MAX_MESSAGE_TEXT_CHARS).trim();
  return text === '' ? null : text;
}

function compiledStep(step: EnrichmentStep): CompiledStep {
  const asked = step.kind === 'ask' ? step : undefined;
  const when = once(() => optionalConditionOf(step.when, { for: 'step' }));
  const test = once(() => optionalConditionOf(asked?.test, { for: 'answer' }));
  const pattern = once(() => (asked?.pattern === undefined ? null : compilePattern(asked.pattern)));
  return {
    get when() {
      return when();
    },
    get test() {
      return test();
    },
    get pattern() {
      return pattern();
    },
  };
}

function compiledBranch(branch: FlowBranch): CompiledBranch {
  const when = once(() => conditionOf(branch.when, { for: 'branch', team: branch.teamId !== undefined }));
  return {
    get when() {
      return when();
    },
  };
}

function optionalConditionOf(source: string | undefined, scope: ConditionScope): CompiledCondition | null {
  return source === undefined ? null : conditionOf(source, scope);
}

function conditionOf(source: string, scope: ConditionScope): CompiledCondition {
  const result = compileCondition(source, scope);
  if (result.ok) return result;
  return {
    ok: false,
    error: cutText(`the condition does not compile: ${result.faults[0]?.message ?? ''}`, MAX_ERROR_CHARS),
  };
}

const MAX_ERROR_CHARS = 200;

function once<Value>(compute: () => Value): () => Value {
  let known: { readonly value: Value } | undefined;
  return () => (known ??= { value: compute() }).value;
}
