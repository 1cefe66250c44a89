import { expect, it } from 'vitest';
import { cutText, joinMessageText, MAX_MESSAGE_TEXT_CHARS } from '../../routing/facts.ts';

it('joins the first texts and leaves out messages without text', () => {
  expect(joinMessageText(['hello', null, '', 'my invoice'])).toBe('hello\nmy invoice');
});

it('cuts the joined text to what conditions see', () => {
  expect(joinMessageText(['x'.repeat(3000), 'y'.repeat(3000)])).toHaveLength(MAX_MESSAGE_TEXT_CHARS);
});

it('does not cut through a character', () => {
  expect(cutText('ab😀', 3)).toBe('ab');
  expect(cutText('ab😀', 4)).toBe('ab😀');
});
