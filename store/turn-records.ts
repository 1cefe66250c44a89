/** What is recorded of a turn of a flow. */
import type { FlowProgress, StepTrace } from '../routing/flow-progress.ts';

/** For people, at `GET /v1/conversations/{id}/decisions`. */
export const recordOf = ({ progress: { fields }, trace }: TurnRecord) => ({
  fields,
  failures: failuresOf(trace),
  steps: trace,
});

export interface TurnRecord {
  readonly progress: FlowProgress;
  readonly trace: readonly StepTrace[];
}

export const failuresOf = (trace: readonly StepTrace[]): string[] =>
  trace.filter(({ outcome }) => outcome === 'failed').map(({ kind, reason }) => reason ?? `${kind} failed`);

/** How the question that was open came to its end, if it did. */
export function answeredIn(trace: readonly StepTrace[]): { step: number; outcome: string } | null {
  const ended = trace.find(({ outcome }) => outcome === 'answered' || outcome === 'gave_up');
  return ended === undefined ? null : { step: ended.position, outcome: ended.outcome };
}
