/** Steps of load as tables and as JSON. */
import { percentile } from '../../ops/demo/percentile.ts';
import { formatRate, median, type Table } from './figures.ts';
import type { MeasuredStep } from './load.ts';

/** A step without its single latencies. */
export interface StepFigures {
  readonly rate: number;
  readonly completedPerSecond: number;
  readonly completedShare: number;
  readonly openToAssignedMs: Percentiles;
  readonly openToSeenMs: Percentiles;
  readonly postToAnswerMs: Percentiles;
  readonly closeToClosedMs: Percentiles;
  readonly underWay: { readonly first: number; readonly last: number };
  readonly newContacts: number;
  readonly refusals: Readonly<Record<string, number>>;
  readonly waited: number;
  readonly unfinished: number;
  /** CPU-ms per conversation by component. */
  readonly cpuPerConversationMs: Readonly<Record<string, number>>;
}

export interface Percentiles {
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
}

export function summarizeStep(rate: number, step: MeasuredStep): StepFigures {
  const { seconds, offered, completed, underWay, newContacts, refusals, waited, unfinished, cpu } = step;
  // What the load itself does to the system is the same for all that were on the way, so completed ones are what counts.
  const perConversation = cpu.map(({ name, cpuMs }): [string, number] => [name, cpuMs / Math.max(1, completed)]);
  return {
    rate,
    completedPerSecond: completed / seconds,
    completedShare: completed / Math.max(1, offered),
    openToAssignedMs: summarizeMs(step.openToAssigned),
    openToSeenMs: summarizeMs(step.openToSeen),
    postToAnswerMs: summarizeMs(step.postToAnswer),
    closeToClosedMs: summarizeMs(step.closeToClosed),
    underWay: { first: mean(firstThird(underWay)), last: mean(firstThird(underWay.toReversed())) },
    ...{ newContacts, refusals, waited, unfinished },
    cpuPerConversationMs: Object.fromEntries(perConversation),
  };
}

export const summarizeMs = (values: readonly number[]): Percentiles => ({
  p50: percentile(values, 50),
  p95: percentile(values, 95),
  p99: percentile(values, 99),
});

export type Cost = Pick<StepFigures, 'cpuPerConversationMs'>;

/** A row a component, a column a step, several runs of the same step as their median. Null where the system tells nothing. */
export function tableCpu(title: string, steps: ReadonlyMap<string, readonly Cost[]>): Table | null {
  const columns = [...steps].filter(([, runs]) => runs.length > 0);
  const names = new Set(columns.flatMap(([, runs]) => runs.flatMap((run) => Object.keys(run.cpuPerConversationMs))));
  if (names.size === 0) return null;
  const cell = (runs: readonly Cost[], value: (run: Cost) => number | undefined) => {
    const values = runs.map(value).filter((ms) => ms !== undefined);
    return values.length === 0 ? '–' : median(values).toFixed(2);
  };
  const rows = [...names].map((name) => [
    // Threads stand below their process, and are in its figure.
    name.includes(': ') ? `  ${name.slice(name.indexOf(': ') + 2)}` : name,
    ...columns.map(([, runs]) => cell(runs, (run) => run.cpuPerConversationMs[name])),
  ]);
  const totals = columns.map(([, runs]) => cell(runs, ({ cpuPerConversationMs }) => addUpCpu(cpuPerConversationMs)));
  return {
    title,
    columns: ['CPU-ms per conversation', ...columns.map(([name]) => name)],
    rows: [...rows, ['in all', ...totals]],
  };
}

/** Without the threads, which are in their process's figure already. */
export const addUpCpu = (cpu: StepFigures['cpuPerConversationMs']): number =>
  Object.entries(cpu).reduce((sum, [name, ms]) => (name.includes(': ') ? sum : sum + ms), 0);

export const formatRoundMs = (ms: number | null): string => (ms === null ? '–' : `${Math.round(ms)} ms`);

export const formatPercentileCells = ({ p50, p95, p99 }: Percentiles): string[] => [p50, p95, p99].map(formatRoundMs);

export function medianPercentiles(runs: readonly Percentiles[]): Percentiles {
  const medianOf = (pick: (run: Percentiles) => number | null) => {
    const values = runs.map(pick).filter((ms) => ms !== null);
    return values.length === 0 ? null : median(values);
  };
  return { p50: medianOf(({ p50 }) => p50), p95: medianOf(({ p95 }) => p95), p99: medianOf(({ p99 }) => p99) };
}

const firstThird = (values: readonly number[]): readonly number[] => values.slice(0, Math.ceil(values.length / 3));

const mean = (values: readonly number[]): number =>
  values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;

export function describeStep(step: StepFigures): string {
  const { rate, completedPerSecond, openToAssignedMs, refusals, unfinished } = step;
  const parts = [
    `${formatRate(rate)}/s offered, ${formatRate(completedPerSecond)}/s completed`,
    `open→assigned p50, p95, p99 ${formatPercentileCells(openToAssignedMs).join(', ')}`,
  ];
  if (Object.keys(refusals).length > 0) parts.push(`refused ${JSON.stringify(refusals)}`);
  if (unfinished > 0) parts.push(`${unfinished} unfinished`);
  return parts.join('; ');
}

export function tableSteps(
  title: string,
  steps: readonly StepFigures[],
  keepsUp: (step: StepFigures) => boolean,
): Table {
  const columns = ['offered', 'completed', 'keeps up', 'open→assigned p50', 'p95', 'p99', 'post→202 p50'];
  return {
    title,
    columns: [...columns, 'close→closed p50', 'under way', 'new contacts'],
    rows: steps.map((step) => [
      `${formatRate(step.rate)}/s`,
      `${formatRate(step.completedPerSecond)}/s`,
      keepsUp(step) ? 'yes' : 'no',
      ...formatPercentileCells(step.openToAssignedMs),
      formatRoundMs(step.postToAnswerMs.p50),
      formatRoundMs(step.closeToClosedMs.p50),
      `${step.underWay.first.toFixed(0)} → ${step.underWay.last.toFixed(0)}`,
      String(step.newContacts),
    ]),
  };
}
