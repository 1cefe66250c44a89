import { expect, test } from 'vitest';
import { readRetryAfterMs } from '../../platform/retry-after.ts';

const nowMs = Date.parse('2026-03-02T09:00:00Z');

test.each([
  ['1', 1_000],
  [' 120 ', 120_000],
  ['999999999', 999_999_999_000],
  ['Mon, 02 Mar 2026 09:00:07 GMT', 7_000],
  [' Mon, 02 Mar 2026 10:00:00 GMT ', 3_600_000],
])('%j asks for %d ms', (value, ms) => {
  expect(readRetryAfterMs(value, nowMs)).toBe(ms);
});

test.each([undefined, '', ' ', '0', '-5', '1.5', 'soon', '1234567890', 'Mon, 02 Mar 2026 08:59:59 GMT'])(
  '%j asks for nothing',
  (value) => {
    expect(readRetryAfterMs(value, nowMs)).toBeNull();
  },
);
