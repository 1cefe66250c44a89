import { expect, test } from 'vitest';
import { Problem } from '../../api/problems.ts';
import { decodeCursor, encodeCursor, toPage } from '../../api/schemas.ts';

const ids = [1, 2, 3].map((n) => `01980a5e-7c1b-7d52-9a43-00000000000${n}`);
const rows = ids.map((id) => ({ id }));
const viewId = (row: { id: string }): string => row.id;

test('a page that is not the last one leads to the next one', () => {
  const page = toPage(rows, 2, viewId);
  expect(page.items).toEqual(ids.slice(0, 2));
  expect(decodeCursor(page.nextCursor ?? undefined)).toBe(ids[1]);
});

test('the last page says so, also when it is full or empty', () => {
  expect(toPage(rows, 3, viewId)).toEqual({ items: ids, nextCursor: null });
  expect(toPage([], 3, viewId)).toEqual({ items: [], nextCursor: null });
});

test('no cursor means the beginning', () => {
  expect(decodeCursor(undefined)).toBeNull();
});

test.each(['', 'abc', encodeCursor('1'), encodeCursor(`${ids[0]}\u0000`)])('%j is refused as a cursor', (cursor) => {
  expect(() => decodeCursor(cursor)).toThrow(Problem);
});
