/** How far the flow of one conversation has come: what PostgreSQL keeps between two turns. */
import type { FieldValue, Fields } from './facts.ts';

export interface FlowProgress {
  /** Position of the enrichment step that is next, from 0. */
  readonly step: number;
  readonly fields: Fields;
  readonly sources: FieldSources;
  /** How many questions the `ask` step at `step` has sent. */
  readonly questions: number;
  /** Position of the `ask` step that gave up towards a team or a close: the rest of the enrichment is left out. */
  readonly gaveUpStep: number | null;
}

export const noProgress: FlowProgress = { step: 0, fields: {}, sources: {}, questions: 0, gaveUpStep: null };

/** Where each field comes from, by its name. */
export type FieldSources = Readonly<Record<string, FieldSource>>;

export interface FieldSource {
  readonly type: 'string' | 'number' | 'boolean';
  /** Position of the step that set it, and its kind. */
  readonly step: number;
  readonly kind: string;
  /** 0 to 1, where the step tells. */
  readonly confidence?: number;
}

export const typeOfField = (value: FieldValue): FieldSource['type'] => typeof value as FieldSource['type'];

/** What one step came to, for the record. */
export interface StepTrace {
  readonly position: number;
  readonly kind: string;
  readonly outcome: 'done' | 'skipped' | 'failed' | 'asked' | 'answered' | 'gave_up';
  /** Why it was skipped, failed or gave up; of a condition that could not be decided, its error. */
  readonly reason?: string;
}
