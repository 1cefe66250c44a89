import { expect, test } from 'vitest';
import type { Board } from '../../ops/demo/board.ts';
import { formatPercentiles, percentile } from '../../ops/demo/percentile.ts';
import { fitText, measureText, padText } from '../../ops/demo/text-width.ts';
import { createView, renderBoard } from '../../ops/demo/views.ts';

const board: Board = {
  phase: 'Agents come, answer and close; contacts write again',
  elapsedMs: 12_345,
  contacts: { written: 20, expected: 40, served: 10 },
  accepted: 120,
  duplicates: 31,
  counts: { opening: 1, waiting: 5, assigned: 4, closing: 0, closed: 10, opened: 20, open: 10 },
  assignedAfterMs: [20, 30, 4000],
  agents: [
    { name: 'Ana Costa', presence: 'online', load: 5, capacity: 5 },
    { name: '健太', presence: 'away', load: 0, capacity: 100 },
  ],
  feed: Array.from({ length: 30 }, (_, index) => `“ さくら: 営業時間を教えてください ${index}`),
};

test.each([20, 40, 79, 200])('no line is wider than a terminal of %i columns', (columns) => {
  const lines = renderBoard(board, { columns, rows: 30, isColored: false });
  expect(Math.max(...lines.map(measureText))).toBeLessThanOrEqual(columns);
});

test('a picture is no higher than the terminal, and its colours can be left out', () => {
  const plain = renderBoard(board, { columns: 80, rows: 12, isColored: false });
  expect(plain.length).toBeLessThanOrEqual(12);
  expect(plain.join('')).not.toContain('\x1b');
  expect(renderBoard(board, { columns: 80, rows: 12, isColored: true }).join('')).toContain('\x1b[');
});

test('a terminal is redrawn in place and gets its cursor back; what is no terminal gets plain lines', () => {
  const written: string[] = [];
  const write = (text: string) => written.push(text);
  const live = createView({ isTTY: true, columns: 80, rows: 40, write }, () => board);
  live.announce('one');
  live.announce('two');
  live.end();
  live.end();
  const pictures = written.filter((text) => text.includes('Switchyard demo'));
  expect(pictures).toHaveLength(3);
  const lines = pictures[0]!.split('\n').length - 1;
  expect(pictures[1]).toContain(`\x1b[${lines}A`);
  expect(written.at(-1)).toBe('\x1b[?25h');

  written.length = 0;
  const plain = createView({ write }, () => board);
  plain.announce('one');
  plain.end();
  expect(written[0]).toBe('one\n');
  expect(written[1]).toContain('waiting 5, assigned 4');
  expect(written.join('')).not.toContain('\x1b');
});

test('text is measured in columns', () => {
  expect(measureText('Zoé')).toBe(3);
  expect(measureText('健太')).toBe(4);
  expect(measureText('👍')).toBe(2);
  expect(measureText('e\u0301')).toBe(1);
  expect(fitText('健太健太', 5)).toBe('健太…');
  expect(measureText(padText('健太', 18))).toBe(18);
});

test('percentiles are values that were measured', () => {
  expect(percentile([], 50)).toBeNull();
  expect(percentile([3, 1, 2], 50)).toBe(2);
  expect(percentile([5, 1], 95)).toBe(5);
  expect(formatPercentiles([12, 1500])).toBe('p50 12 ms, p95 1.5 s');
});
