/** Milliseconds that a Retry-After asks for, by seconds or by a date; null: it asks for nothing. */
export function readRetryAfterMs(value: string | undefined, nowMs = Date.now()): number | null {
  const text = value?.trim() ?? '';
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - nowMs;
  return Number.isFinite(ms) && ms > 0 ? ms : null;
}
