/** What a run found, for people as a table and for programs as JSON. */
import { percentile } from '../../ops/demo/percentile.ts';

export interface ScenarioReport {
  readonly tables: readonly Table[];
  /** Everything that the tables say, and more. */
  readonly figures: unknown;
  readonly verdicts: readonly Verdict[];
  /** Invariants found broken at the end: the run has failed, whatever its figures. Null where there are no conversations to check. */
  readonly faults: readonly string[] | null;
}

export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** A figure that has to stay at or below a bar, or to reach it. */
export interface Verdict {
  readonly what: string;
  readonly value: number;
  readonly bar: number;
  /** `at most` unless told otherwise. */
  readonly bound?: 'at most' | 'at least';
}

export function median(values: readonly number[]): number {
  const value = percentile(values, 50);
  if (value === null) throw new Error('nothing was measured');
  return value;
}

export const formatRate = (perSecond: number): string =>
  perSecond >= 1_000 ? Math.round(perSecond).toLocaleString('en') : perSecond.toPrecision(3);

/** Two digits below 10 ms, where a whole number says too little. */
export const formatFineMs = (ms: number): string => `${ms < 10 ? ms.toFixed(2) : ms.toFixed(1)} ms`;

export const formatRatio = (ratio: number): string => `${ratio.toFixed(2)} ×`;

export function renderTable({ title, columns, rows }: Table): string {
  const widths = columns.map((column, index) => Math.max(column.length, ...rows.map((row) => row[index]!.length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, index) => (index === 0 ? cell.padEnd(widths[index]!) : cell.padStart(widths[index]!)))
      .join('  ')
      .trimEnd();
  return [title, line(columns), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}

export function renderVerdict({ what, value, bar, bound = 'at most' }: Verdict): string {
  const isMet = bound === 'at most' ? value <= bar : value >= bar;
  return `${isMet ? 'met   ' : 'MISSED'}  ${what}: ${value.toFixed(2)} (${bound} ${bar})`;
}
