/** What the README prints is what the API answers now. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { ConversationView } from '../../api/views.ts';
import { readFences } from './assignment-example.ts';

const fences = readFences(readFileSync(new URL('../../README.md', import.meta.url), 'utf8'));

test('the conversation in the README has the members of the API’s, in their order', () => {
  const shown = fences.filter(({ info }) => info === 'json').map(({ text }) => JSON.parse(text));
  const [conversation] = shown.flatMap(({ items = [] }) => items);
  expect(Object.keys(conversation)).toEqual(Object.keys(ConversationView.properties));
});
