/** Faults and hints as lines of the terminal: where, what, and what to do about it. */

/** As the API tells them. */
export interface FieldFault {
  /** JSON pointer into what was sent; empty: all of it. */
  readonly field: string;
  readonly message: string;
  readonly mend?: string;
}

/** Such as `/name: is empty. Give a name.` */
export function describeFault({ field, message, mend = '' }: FieldFault): string {
  return `${field}: ${message}. ${mend}`.trim();
}

/** Each in one line, as pipelines show them, whatever it quotes. */
export function linesOfFaults(path: string, faults: readonly string[]): string[] {
  return faults.map((fault) => `${path}: ${fault.replaceAll(/\s*[\r\n]\s*/g, ' ')}`);
}

export function printFaults(path: string, faults: readonly string[]): void {
  for (const line of linesOfFaults(path, faults)) console.error(line);
}

export function printHints(path: string, hints: Iterable<string>): void {
  for (const hint of hints) console.log(`${path}: hint: ${hint}`);
}
