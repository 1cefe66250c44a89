/** Columns that a text takes in a terminal: letters of East Asia and emoji take two, marks over a letter none. */
export function measureText(text: string): number {
  let columns = 0;
  for (const letter of text) columns += measureLetter(letter);
  return columns;
}

/** Cuts a text to at most that many columns; what is cut off is told by an ellipsis. */
export function fitText(text: string, columns: number): string {
  if (measureText(text) <= columns) return text;
  let fitted = '';
  let used = 0;
  for (const letter of text) {
    used += measureLetter(letter);
    if (used > columns - 1) break;
    fitted += letter;
  }
  return columns < 1 ? '' : `${fitted}…`;
}

export function padText(text: string, columns: number): string {
  const fitted = fitText(text, columns);
  return fitted + ' '.repeat(columns - measureText(fitted));
}

function measureLetter(letter: string): number {
  if (/^[\p{Mark}\p{Control}\p{Format}]$/u.test(letter)) return 0;
  return /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\u3000-\u303f\uff01-\uff60]$|^\p{Emoji_Presentation}$/u.test(
    letter,
  )
    ? 2
    : 1;
}
