/** Nearest rank: a value that was measured, never one between two. Null where there is none. */
export function percentile(values: readonly number[], percent: number): number | null {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? null;
}

export function formatMs(ms: number | null): string {
  if (ms === null) return '–';
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function formatPercentiles(values: readonly number[]): string {
  return `p50 ${formatMs(percentile(values, 50))}, p95 ${formatMs(percentile(values, 95))}`;
}
