/** How deep brackets stand in each other, those inside string literals and comments not counted. */
export function bracketDepth(source: string): number {
  let depth = 0;
  let deepest = 0;
  for (const char of source.replace(LITERALS_AND_COMMENTS, ' ')) {
    if (char === '(' || char === '[' || char === '{') deepest = Math.max(deepest, ++depth);
    else if (char === ')' || char === ']' || char === '}') depth--;
  }
  return deepest;
}

export const MAX_NESTING = 32;

const LITERALS_AND_COMMENTS = new RegExp(
  [
    String.raw`\/\/[^\n]*`,
    String.raw`(?:[rR][bB]?|[bB][rR])(?:"""[^]*?"""|'''[^]*?'''|"[^"\n]*"|'[^'\n]*')`,
    String.raw`"""(?:\\[^]|[^\\])*?"""|'''(?:\\[^]|[^\\])*?'''`,
    String.raw`"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'`,
  ].join('|'),
  'g',
);
